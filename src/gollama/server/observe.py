"""Each request as it is told of: the access log, its metrics and its trace."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gollama.server.metrics import Metrics
from gollama.server.record import CLIENT_GONE, RECORD, RequestRecord
from gollama.server.tracing import Tracer

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

access = logging.getLogger("gollama.access")


class Observe:
    """ASGI: makes the record, and tells of it when the request has ended."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, tracer: Tracer, log: str) -> None:
        self._app, self._metrics, self._tracer, self._log = app, metrics, tracer, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = _begun(scope)
        scope[RECORD] = record

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", record.id.encode()), *record.headers]
            await send(message)

        self._metrics.in_flight.inc()
        try:
            with self._tracer.request(record, scope["headers"]):
                await self._app(scope, receive, send_noted)
        finally:
            self._metrics.in_flight.dec()
            record.route = getattr(scope.get("route"), "path", "other")
            record.status = record.status or CLIENT_GONE
            seconds = time.perf_counter() - record.started
            self._metrics.observe(record, seconds)
            if self._log != "off":
                self._tell(record, seconds)

    def _tell(self, record: RequestRecord, seconds: float) -> None:
        if not access.isEnabledFor(logging.INFO):
            return
        known = record.as_dict(seconds)
        # JSON also in plain lines, so that no character of a path begins a line of its own
        words = (f"{name}={json.dumps(value)}" for name, value in known.items())
        access.info("%s", json.dumps(known) if self._log == "json" else " ".join(words))


def _begun(scope: Scope) -> RequestRecord:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    request_id = given.decode() if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    client = scope.get("client")
    return RequestRecord(request_id, scope["method"], scope["path"], client[0] if client else "-", time.perf_counter())
