"""ASGI: what is refused before anybody looks at a request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gollama.server.errors import ApiError, ErrorForms, as_api_error
from gollama.server.replies import json_response

PATIENCE = 0.5  # seconds for the rest of a body that is refused


class Refusals:
    """ASGI: whatever comes out of the routes and the layers around them as an answer, in the form of the API that the path belongs to."""

    def __init__(self, app: ASGIApp, *, forms: ErrorForms) -> None:
        self._app, self._forms = app, forms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def send_noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception as error:
            if scope["type"] != "http":
                raise
            told = as_api_error(error)  # which logs what was not foreseen, without anybody's text
            if not begun:
                await json_response(self._forms.of(scope["path"])(told), told.status, told.headers)(scope, receive, send)


class Turns:
    """ASGI: one request after another comes in, however many come at once; who only looks (GET) comes in between."""

    def __init__(self, app: ASGIApp, *, turn: Callable[[], Awaitable[None]]) -> None:
        self._app, self._turn = app, turn

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            await self._turn()
        await self._app(scope, receive, send)


class HostCheck:
    """ASGI: a request must call the server by one of its names, so that no page of another origin reaches it by a name of its own."""

    def __init__(self, app: ASGIApp, *, hosts: tuple[str, ...]) -> None:
        self._app, self._hosts = app, frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and sum(name == b"host" for name, _ in scope["headers"]) > 1:
            raise ApiError(400, "a request names one host", code="invalid_host", headers={"Connection": "close"})
        if scope["type"] == "http" and self._hosts and _host(scope) not in self._hosts:
            raise ApiError(421, "this server does not answer to that host name (allowed_hosts)", code="host_not_allowed")
        await self._app(scope, receive, send)


def _host(scope: Scope) -> str:
    given: str = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    if given.startswith("["):
        return given[1:].partition("]")[0].lower()
    return given.partition(":")[0].lower()


class OriginCheck:
    """ASGI: what a browser sends on behalf of a page of another origin is refused, unless the origin is allowed."""

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        self._app, self._origins = app, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name: value for name, value in scope["headers"] if name in (b"origin", b"host")}
            origin = headers.get(b"origin", b"").decode("latin-1")
            own = origin.partition("://")[2] == headers.get(b"host", b"").decode("latin-1")
            if origin and not own and origin not in self._origins and "*" not in self._origins:
                raise ApiError(403, "pages of other origins may not use this server (cors_origins)", code="origin_not_allowed")
        await self._app(scope, receive, send)


class BodyLimit:
    """ASGI: a body may have so many bytes, counted while it is read."""

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not announced.isdigit() or int(announced[:20]) > self._most:
            raise self._too_large()
        read = 0

        async def receive_counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read <= self._most:
                return message
            with contextlib.suppress(asyncio.TimeoutError):  # a client that still sends does not read yet
                while message.get("more_body") and read <= 2 * self._most:
                    message = await asyncio.wait_for(receive(), PATIENCE)
                    read += len(message.get("body", b""))
            raise self._too_large()

        await self._app(scope, receive_counted, send)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body may have {self._most} bytes at most (max_body)", code="body_too_large",
                        headers={"Connection": "close"})
