"""Server-sent events: what a generation tells, to a reader who may be slow or leave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gollama.server.errors import ApiError, as_api_error
from gollama.server.record import CLIENT_GONE, record_of
from gollama.server.waiting import gone

PING_SECONDS = 15.0  # so that nothing between server and client takes a long prompt for a dead connection
ABORT = "gollama.abort"  # of the scope: closes the connection, whatever waits to be written
PING = b": ping\n\n"
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}

Events = AsyncGenerator[bytes, None]


class EventStream(Response):
    """Sends pieces as they come. The block in `held`, a model's above all, is left at the end, however that comes.

    One piece is in the hands of the socket at a time; the next is asked for when that is taken. A reader who takes nothing for
    `write_timeout` seconds is cut off. When the client leaves, `stop` is called, which ends the generation. While nothing is to be told
    for long, `ping` is; empty for none.
    """

    media_type = "text/event-stream"

    def __init__(self, events: Events, *, held: contextlib.AsyncExitStack, stop: Callable[[], Any], write_timeout: float,
                 error_event: Callable[[ApiError], bytes], media_type: str | None = None, ping: bytes = PING) -> None:
        super().__init__(None, 200, HEADERS, media_type or self.media_type)
        del self.headers["content-length"]
        self._events, self._held, self._stop = events, held, stop
        self._write_timeout, self._error_event, self._ping = write_timeout, error_event, ping
        self._sending: float | None = None  # since when
        self._sent = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record_of(scope).stream = True
        loop = asyncio.get_running_loop()
        abort = scope.get(ABORT, lambda: None)
        watching = [loop.create_task(self._until_gone(scope, receive)), loop.create_task(self._watch(abort, send))]
        try:
            async with self._held, contextlib.aclosing(self._events):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await self._send_all(send)
        finally:
            for task in watching:
                task.cancel()

    async def _send_all(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        try:
            async for piece in self._events:
                self._sending = loop.time()
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                self._sent, self._sending = loop.time(), None
            last = b""
        except asyncio.CancelledError:  # the server ends, and so does its patience
            await self._stop()
            if self._sending is None:  # the reader takes what it gets
                last = self._error_event(ApiError(503, "the server ends", type="server_error", code="unavailable"))
                with contextlib.suppress(Exception):
                    await send({"type": "http.response.body", "body": last, "more_body": False})
            raise
        except Exception as error:
            last = self._error_event(as_api_error(error))
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _until_gone(self, scope: Scope, receive: Receive) -> None:
        await gone(receive)
        record_of(scope).status = CLIENT_GONE
        await self._stop()

    async def _watch(self, abort: Callable[[], Any], send: Send) -> None:
        loop = asyncio.get_running_loop()
        self._sent = loop.time()
        while True:
            await asyncio.sleep(min(self._write_timeout / 2, PING_SECONDS))
            if self._sending is not None:
                if loop.time() - self._sending > self._write_timeout:
                    await self._stop()
                    abort()  # which ends the waiting, too
                    return
            elif self._ping and loop.time() - self._sent >= PING_SECONDS:
                self._sent = loop.time()
                await send({"type": "http.response.body", "body": self._ping, "more_body": True})


def data_event(data: bytes) -> bytes:
    """An event without a name."""
    return b"data: " + data + b"\n\n"


def named_event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
