"""Each request as it is told of: its record, the access log, its metrics and its trace."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gollama.results import Timings, Usage
from gollama.server.metrics import Metrics
from gollama.server.tracing import Tracer

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
RECORD = "gollama.record"
CLIENT_GONE = 499  # nginx's word for it, in the log only

access = logging.getLogger("gollama.access")


@dataclass(slots=True)
class RequestRecord:
    """What is known of a request so far. Handlers add to it; no text of a prompt or an answer belongs here."""

    id: str
    method: str
    path: str
    client: str
    started: float  # time.perf_counter()
    status: int = 0
    route: str = "other"
    model: str | None = None
    key: str | None = None  # the id of the API key that was used
    stream: bool = False
    usages: list[Usage] = field(default_factory=list)
    timings: list[Timings] = field(default_factory=list)
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)  # to be added to the response

    def note(self, usage: Usage | None, timings: Timings | None) -> None:
        """An answer has ended."""
        if usage is not None:
            self.usages.append(usage)
        if timings is not None:
            self.timings.append(timings)

    def as_dict(self, seconds: float) -> dict[str, Any]:
        known: dict[str, Any] = {
            "id": self.id, "client": self.client, "method": self.method, "path": self.path, "status": self.status,
            "seconds": round(seconds, 6), "model": self.model, "key": self.key, "stream": self.stream or None}
        if self.usages:
            known |= {"prompt_tokens": sum(one.prompt_tokens for one in self.usages),
                      "completion_tokens": sum(one.completion_tokens for one in self.usages),
                      "cached_tokens": sum(one.cached_tokens for one in self.usages)}
        if self.timings:
            known |= {"queue_seconds": round(max(one.queue_seconds for one in self.timings), 6),
                      "time_to_first_token": round(max(one.time_to_first_token for one in self.timings), 6)}
        return {name: value for name, value in known.items() if value is not None}


def record_of(scope: Scope) -> RequestRecord:
    """The record of the request that is being answered."""
    found: RequestRecord = scope[RECORD]
    return found


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
