"""The application: routes, what goes around them, and what happens when it starts and ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from gollama.server import llamacpp, operations
from gollama.server.config import MIB, ServerConfig
from gollama.server.documents import document
from gollama.server.errors import ApiError, ErrorForms
from gollama.server.limits import BodyLimit, HostCheck, OriginCheck, Refusals
from gollama.server.observe import Observe
from gollama.server.openai import chat, completions, embeddings, models, responses
from gollama.server.page import router as page
from gollama.server.pool import Pool
from gollama.server.service import Service
from gollama.server.tracing import make_tracer
from gollama.version import __version__

HTTP_NOT_FOUND = 404


def create_app(pool: Pool, config: ServerConfig | None = None) -> FastAPI:
    """The server's application, for uvicorn or any other ASGI server. It closes the pool when it ends.

    >>> from gollama.pool import AsyncModelPool
    >>> from gollama.server import create_app
    >>> app = create_app(AsyncModelPool(["smollm2"]))
    """
    config = config or ServerConfig()
    forms = ErrorForms()
    service = Service(pool, config, make_tracer(config.otlp_endpoint), forms)
    app = FastAPI(title="gollama", version=__version__, lifespan=_lifespan, docs_url=None, redoc_url=None,
                  middleware=_middleware(service))
    app.state.service = service
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    app.add_exception_handler(HTTPException, _unrouted)
    for room in (chat, completions, embeddings, models, responses, llamacpp, operations):
        app.include_router(room.router)
    if config.page:
        app.include_router(page)
    return app


def _middleware(service: Service) -> list[Middleware]:
    """From the outside to the inside."""
    config = service.config
    layers = [Middleware(Observe, metrics=service.metrics, tracer=service.tracer, log=config.access_log),
              Middleware(Refusals, forms=service.forms),
              Middleware(HostCheck, hosts=config.hosts)]
    if config.cors_origins:
        layers.append(Middleware(CORSMiddleware, allow_origins=list(config.cors_origins), allow_methods=["GET", "POST", "DELETE"],
                                 allow_headers=["authorization", "content-type", "x-api-key"], expose_headers=["x-request-id"]))
    return [*layers, Middleware(OriginCheck, origins=config.cors_origins), Middleware(BodyLimit, most=config.max_body * MIB)]


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    loading = asyncio.create_task(_preload(service))
    try:
        yield
    finally:
        service.draining = True
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading
        await service.pool.close()
        await asyncio.to_thread(service.tracer.close)


async def _preload(service: Service) -> None:
    """Load what is to be loaded first. A model that cannot be leaves the server not ready, and its requests tell why."""
    if service.config.preload:
        for name in service.names():
            try:
                async with service.leased(name):
                    pass
            except ApiError:  # which was logged
                service.failed = True
                service.on_failure()
                return
    service.ready = True


async def _unrouted(_: Request, error: Exception) -> Response:
    """There is no such route, or not with this method."""
    assert isinstance(error, HTTPException)
    raise ApiError(error.status_code, str(error.detail), code="not_found" if error.status_code == HTTP_NOT_FOUND else "refused",
                   headers=dict(error.headers or {}))
