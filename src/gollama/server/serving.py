"""The application in uvicorn, with what uvicorn leaves open: slow or endless requests, and the end on a second signal."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gollama.errors import NativeError
from gollama.model import existing_file
from gollama.models import FileSource, ModelRegistry, parse
from gollama.server.app import create_app
from gollama.server.collecting import Collector
from gollama.server.config import ServerConfig
from gollama.server.pool import Pool, make_pool
from gollama.server.service import Service
from gollama.server.sse import ABORT

MOST_HEAD = 64 * 1024  # bytes of a request's first line and headers
MOST_HEADERS = 100
LEAST_RATE = 500  # bytes a second of a body, beyond the first `read_timeout` seconds
POLL_SECONDS = 0.01
REFUSAL = b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def protocol_of(read_timeout: float, write_timeout: float) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, where the head of a request must be there after `read_timeout` seconds and be of some size, each piece of the
    body follow within that time, and all of it come at some rate; and where a reader must take something within `write_timeout`."""

    class Protocol(HttpToolsProtocol):
        access_log = property(lambda self: False, lambda self, value: None)  # there is one of our own, without queries
        _timer: asyncio.TimerHandle | None = None
        _writing: asyncio.TimerHandle | None = None
        _body_since = 0.0
        _body = 0
        _refused = False
        _in_head = True
        _head = 0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            self._stop_watching()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._refused:
                return
            if self._in_head:
                self._head += len(data)
            elif self._timer is not None:
                self._body += len(data)
                left = self._body_since + read_timeout + self._body / LEAST_RATE - self.loop.time()
                self._wait(max(0.0, min(read_timeout, left)))
            super().data_received(data)
            if self._in_head and self._head > MOST_HEAD:
                self._refuse(b"431 Request Header Fields Too Large")
            elif self._in_head and self._timer is None and (self.cycle is None or self.cycle.response_complete):
                self._wait()  # empty lines begin no request, and ended uvicorn's patience with an idle connection

        def on_message_begin(self) -> None:
            self._in_head, self._head = True, 0
            if self._timer is None:
                self._wait()
            super().on_message_begin()
            self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]

        def on_headers_complete(self) -> None:
            self._in_head = False
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if len(self.headers) > MOST_HEADERS or size > MOST_HEAD:
                self._refuse(b"431 Request Header Fields Too Large")
                return
            self._body_since, self._body = self.loop.time(), 0
            self._wait()
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            if not self._refused:
                super().on_body(body)

        def on_message_complete(self) -> None:
            self._stop_waiting()
            self._in_head, self._head = True, 0
            if not self._refused:
                super().on_message_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch(self.transport.get_write_buffer_size())

        def resume_writing(self) -> None:
            self._stop_watching()
            super().resume_writing()

        def _watch(self, size: int) -> None:
            self._writing = self.loop.call_later(write_timeout, self._abort_if_stuck, size)

        def _abort_if_stuck(self, size: int) -> None:
            left = self.transport.get_write_buffer_size()
            if left >= size:  # nothing was taken; a stream adds nothing while it waits
                self.transport.abort()
            else:
                self._watch(left)

        def _stop_watching(self) -> None:
            if self._writing is not None:
                self._writing.cancel()
                self._writing = None

        def _wait(self, seconds: float = read_timeout) -> None:
            self._stop_waiting()
            self._timer = self.loop.call_later(seconds, self._refuse, b"408 Request Timeout")

        def _stop_waiting(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _refuse(self, status: bytes) -> None:
            self._stop_waiting()
            self._refused = True
            if not self.transport.is_closing():
                if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
                    self.transport.write(REFUSAL % status)
                self.transport.close()

    return Protocol


class Server(uvicorn.Server):
    """Ends when a signal comes, once what runs has ended; at once with the second. `on_drain` hears of the first."""

    def __init__(self, config: uvicorn.Config, on_drain: Callable[[], Any]) -> None:
        super().__init__(config)
        self._on_drain = on_drain

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if not self.should_exit:
            self.should_exit = True
            self._on_drain()
            return
        self.force_exit = True
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


def make_server(app: FastAPI, config: ServerConfig) -> Server:
    settings = uvicorn.Config(
        app, host=config.host, port=config.port, uds=config.uds, http=protocol_of(config.read_timeout, config.write_timeout), ws="none",
        lifespan="on", log_config=None, access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=config.keep_alive,
        timeout_graceful_shutdown=config.drain_timeout, ssl_certfile=config.tls_cert,
        ssl_keyfile=config.tls_key, limit_concurrency=config.max_connections + 1)

    def drain() -> None:
        app.state.service.draining = True

    return Server(settings, drain)


def run(config: ServerConfig) -> None:
    """Serve until a signal ends it. ModelNotFoundError for a path that is not there; NativeError where a model that is to be loaded
    first cannot be."""
    _look_for(config.served.values())
    set_up_logs(config)
    app = create_app(make_pool(config), config)
    server = make_server(app, config)
    service: Service = app.state.service

    def end() -> None:
        server.should_exit = True

    service.on_failure = end
    with Collector(lambda: len(server.server_state.tasks)):
        server.run()
    if service.failed:
        raise NativeError("a model cannot be loaded, as the log says; --no-preload serves without")


def _look_for(sources: Iterable[str]) -> None:
    """ModelNotFoundError for a path without a file, and for a name that nobody knows. Nothing is fetched."""
    registry = ModelRegistry()
    for source in sources:
        if not os.path.exists(source) and registry.locate(source, note=False) is None:
            name = parse(source)
            if isinstance(name, FileSource):
                existing_file(Path(name.path))


class Background:
    """A server in a thread of its own: a `with` block, which gives its address, or the path of its Unix socket. It logs nothing by itself.

    >>> from gollama.server import Background, ServerConfig
    >>> with Background(ServerConfig(models=["smollm2"], port=0, loading={"context_size": 512})) as url:
    ...     url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, config: ServerConfig, pool: Pool | None = None) -> None:
        """`pool` has the models, if they are not those of the config."""
        self.app = create_app(pool or make_pool(config), config)
        self.server = make_server(self.app, config)
        self._config = config
        self._thread = threading.Thread(target=self.server.run, name="gollama-server", daemon=True)

    def __enter__(self) -> str:
        """Once it listens, and the models are there. RuntimeError if it ends before: the address is taken, say."""
        self._thread.start()
        while not self.server.started or (self._config.preload and not self._settled):
            if not self._thread.is_alive():
                raise RuntimeError("the server ended before it listened; the log says why")
            time.sleep(POLL_SECONDS)
        if self._config.uds is not None:
            return self._config.uds
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        return f"{'http' if self._config.tls_cert is None else 'https'}://{host}:{self.port}"

    @property
    def _settled(self) -> bool:
        service = self.app.state.service
        return bool(service.ready or service.failed)

    @property
    def port(self) -> int:
        found: int = self.server.servers[0].sockets[0].getsockname()[1]
        return found

    def __exit__(self, *details: object) -> None:
        self.server.should_exit = True
        self._thread.join()


def set_up_logs(config: ServerConfig) -> None:
    """gollama's and uvicorn's messages on stderr; llama.cpp's own only if they are warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    bare = logging.StreamHandler(sys.stderr)
    bare.setFormatter(logging.Formatter("%(message)s" if config.access_log == "json" else "%(asctime)s %(message)s"))
    least = getattr(logging, config.log_level.upper())
    library = least if config.log_level == "debug" else max(least, logging.WARNING)
    for name, own, level in (("gollama", handler, library), ("uvicorn", handler, least), ("gollama.access", bare, logging.INFO)):
        logger = logging.getLogger(name)
        logger.handlers = [own]
        logger.propagate = False
        logger.setLevel(level)
    logging.getLogger("gollama.server").setLevel(least)
