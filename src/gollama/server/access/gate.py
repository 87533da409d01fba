"""ASGI: nobody comes to a route who may not, and what was used is told."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Receive, Scope, Send

from gollama.server.access.buckets import today
from gollama.server.access.credentials import check_query
from gollama.server.access.meter import METER, Meter
from gollama.server.access.principals import Principal, current
from gollama.server.access.routes import INFERRING, OPEN, ROUTES, RULING, route_of
from gollama.server.access.service import Access
from gollama.server.access.usage import Use
from gollama.server.access.writer import Done, Spent
from gollama.server.errors import ApiError
from gollama.server.record import CLIENT_GONE, RequestRecord, record_of

POLICY_VIOLATION = 1008
NOBODY = "-"
QUOTA_ENDED = 429


class Gate:
    """Asks for a key, its scope and what is left to it, before the body is read."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none, and none gets by
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        principal = await self._admitted(scope)
        before = current.set(principal)
        try:
            await self._app(scope, receive, send)
        finally:
            current.reset(before)

    async def _admitted(self, scope: Scope) -> Principal | None:
        """Who it is; None where nobody is asked. ApiError for who may not."""
        check_query(scope)
        route = route_of(scope["path"])
        needed = None if route is None else ROUTES[route]
        principal = None
        if needed != OPEN and not self._access.open:
            principal = await self._access.identify(scope)
            record_of(scope).key = principal.id
            if needed is None:
                raise ApiError(404, "there is no such route for keys", code="not_found")
            if not principal.scopes & needed:
                raise ApiError(403, f"this needs a key with the scope {' or '.join(sorted(needed))}", type="permission_error",
                               code="insufficient_scope")
        if needed == INFERRING:
            self._charge(scope, principal)
        return principal

    def _charge(self, scope: Scope, principal: Principal | None) -> None:
        account = None if principal is None else self._access.account(principal)
        if account is not None:
            try:
                account.admit()
            finally:
                record_of(scope).headers += account.headers()
        if account is not None or self._access.records:
            scope[METER] = Meter(account)


class Accounting:
    """Around everything that answers: when a request has ended, what it cost goes to the account of its key and to the file."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                self._settle(scope, record_of(scope))

    def _settle(self, scope: Scope, record: RequestRecord) -> None:
        meter: Meter | None = scope.get(METER)
        if meter is not None:
            meter.settle(record.usages)
            if meter.account is not None and meter.account.limits.tokens_per_day is not None and record.key is not None:
                self._access.tell(Spent(record.key, today(time.time()), meter.total))
        if not self._access.records or (record.key is None and not self._access.open):
            return  # nor does who has no key fill the disk
        status = QUOTA_ENDED if meter is not None and meter.exhausted else record.status or CLIENT_GONE
        route = route_of(scope["path"])
        needed = None if route is None else ROUTES[route]
        if route is not None and needed == INFERRING:
            self._access.tell(_use(record, meter, route, status))
        elif needed == RULING:
            told = {"model": record.model, "status": status, "client": record.client}
            self._access.tell(Done(record.key or NOBODY, f"{record.method} {route}", told))


def _use(record: RequestRecord, meter: Meter | None, route: str, status: int) -> Use:
    firsts = [one.time_to_first_token for one in record.timings if one.completion_tokens]
    return Use(time.time(), record.key or NOBODY, record.model or NOBODY, route, status, time.perf_counter() - record.started,
               max(firsts, default=None), 0 if meter is None else meter.prompt_tokens, 0 if meter is None else meter.completion_tokens,
               sum(one.cached_tokens for one in record.usages))
