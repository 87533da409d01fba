"""The application: routes, what goes around them, and what happens when it starts and ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from gollama.server import llamacpp, llamacpp_completion, operations
from gollama.server.access.gate import Accounting, Gate
from gollama.server.access.service import Access
from gollama.server.anthropic import messages
from gollama.server.anthropic.events import error_form as anthropic_form
from gollama.server.config import MIB, ServerConfig
from gollama.server.documents import document
from gollama.server.errors import ApiError, ErrorForms, as_api_error
from gollama.server.heads import Heads
from gollama.server.limits import BodyLimit, HostCheck, OriginCheck, Refusals, Turns
from gollama.server.observe import Observe
from gollama.server.ollama import answers, vectors
from gollama.server.ollama import models as ollama_models
from gollama.server.ollama.told import error_form as ollama_form
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
    forms.add(messages.PREFIX, anthropic_form)
    forms.add(answers.PREFIX, ollama_form)
    service = Service(pool, config, make_tracer(config.otlp_endpoint), forms)
    access = Access(config)
    app = FastAPI(title="gollama", version=__version__, lifespan=_lifespan, docs_url=None, redoc_url=None,
                  middleware=_middleware(service, access))
    app.state.service, app.state.access = service, access
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    app.add_exception_handler(HTTPException, _unrouted)
    for room in (chat, completions, embeddings, models, responses, messages, answers, vectors, ollama_models, llamacpp,
                 llamacpp_completion, operations):
        app.include_router(room.router)
    if config.page:
        app.include_router(page)
    return app


def _middleware(service: Service, access: Access) -> list[Middleware]:
    """From the outside to the inside."""
    config = service.config
    layers = [Middleware(Turns, turn=service.turn),
              Middleware(Observe, metrics=service.metrics, tracer=service.tracer, log=config.access_log),
              Middleware(Heads), Middleware(Accounting, access=access)]
    if config.cors_origins:  # outside of what refuses, so that a page may read why
        layers.append(Middleware(CORSMiddleware, allow_origins=list(config.cors_origins), allow_methods=["GET", "POST", "DELETE"],
                                 allow_headers=["authorization", "content-type", "x-api-key"], expose_headers=["x-request-id"]))
    return [*layers, Middleware(Refusals, forms=service.forms), Middleware(HostCheck, hosts=config.hosts),
            Middleware(OriginCheck, origins=config.cors_origins), Middleware(Gate, access=access),
            Middleware(BodyLimit, most=config.max_body * MIB)]


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    async with contextlib.AsyncExitStack() as ends:  # each of them, whatever becomes of the others
        ends.push_async_callback(asyncio.to_thread, app.state.access.close)
        ends.push_async_callback(asyncio.to_thread, service.tracer.close)
        ends.push_async_callback(service.pool.close)
        ends.callback(service.close)
        app.state.access.start()
        loading = asyncio.create_task(_preload(service))
        try:
            yield
        finally:
            service.draining = True
            loading.cancel()
            await asyncio.wait([loading])


async def _preload(service: Service) -> None:
    """Load what is to be loaded first. A model that cannot be leaves the server not ready, and its requests tell why."""
    if service.config.preload:
        for name in service.names():
            try:
                async with service.leased(name):
                    pass
            except Exception as error:
                as_api_error(error)  # which logs what was not foreseen
                service.failed = True
                service.on_failure()
                return
    service.ready = True


async def _unrouted(_: Request, error: Exception) -> Response:
    """There is no such route, or not with this method."""
    assert isinstance(error, HTTPException)
    raise ApiError(error.status_code, str(error.detail), code="not_found" if error.status_code == HTTP_NOT_FOUND else "refused",
                   headers=dict(error.headers or {}))
