"""What all routes share: the models, the settings, and what is counted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from gollama.aio import AsyncLLM
from gollama.errors import BusyError, GollamaError
from gollama.llm import LLM
from gollama.server.access.meter import metered
from gollama.server.access.principals import permitted
from gollama.server.config import ServerConfig
from gollama.server.errors import ApiError, ErrorForms, unavailable
from gollama.server.metrics import Metrics
from gollama.server.pool import Pool, ServedModel
from gollama.server.record import RequestRecord, record_of
from gollama.server.tracing import Tracer
from gollama.server.waiting import while_there
from gollama.version import version_info

logger = logging.getLogger("gollama.server")

COMPUTING = 4  # threads
Result = TypeVar("Result")


@dataclass
class Service:
    """One for each app, at `app.state.service`. Event loop only."""

    pool: Pool
    config: ServerConfig
    tracer: Tracer
    forms: ErrorForms
    ready: bool = False
    failed: bool = False  # a model that was to be loaded first cannot be
    draining: bool = False
    on_failure: Callable[[], object] = lambda: None
    rooms: dict[str, Any] = field(default_factory=dict)  # what the routers of single APIs keep

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.models)
        self._seen: dict[str, weakref.ref[LLM]] = {}
        self._computing = ThreadPoolExecutor(COMPUTING, "gollama-compute")
        self._turn = asyncio.Lock()

    async def turn(self) -> None:
        """Come back when this request's turn is: of hundreds that come at once the event loop has one each time around, so that those
        who ask for little, as for /health, need not wait for them all."""
        async with self._turn:
            await asyncio.sleep(0)

    async def compute(self, request: Request, work: Callable[[threading.Event], Result]) -> Result:
        """The result of what takes long, in a thread of few: it leaves the others to those who make prompts. The event tells it to stop,
        as the client has left, or its time is up: ApiError 503."""
        stop, limit = threading.Event(), self.config.request_timeout
        try:
            working = asyncio.get_running_loop().run_in_executor(self._computing, work, stop)
            return await while_there(request, asyncio.wait_for(working, limit))
        except asyncio.TimeoutError:
            raise unavailable(f"this took more than {limit:g} seconds (request_timeout): send less at once", "timeout") from None
        finally:
            stop.set()

    def close(self) -> None:
        self._computing.shutdown(wait=False, cancel_futures=True)

    # ---- models ----

    def names(self) -> dict[str, str]:
        """Each name that whoever asks may give, and the pool's name of it. The first is for requests that give none."""
        return permitted(self.config.served or {name: name for name in self.pool.status()})

    def model_name(self, asked: str | None) -> str:
        """The name of the model for a request; ApiError 404 for one that is not served."""
        names = self.names()
        if asked is not None and asked in names:
            return asked
        if not names:
            raise ApiError(404, "this server has no model", param="model", code="model_not_found")
        if not asked or self.config.any_model:
            return next(iter(names))
        raise ApiError(404, f"the model {asked[:200]!r} is not served here; there are: {', '.join(names)}", param="model",
                       code="model_not_found")

    def models(self) -> list[ServedModel]:
        """All that is served."""
        states = self.pool.status()
        return [self._served(name, states[source].state if source in states else "unloaded") for name, source in self.names().items()]

    def served(self, name: str) -> ServedModel:
        """One of them; ApiError 404."""
        for model in self.models():
            if model.name == name:
                return model
        raise ApiError(404, f"the model {name[:200]!r} is not served here", param="model", code="model_not_found")

    def _served(self, name: str, state: str) -> ServedModel:
        seen = self._seen.get(name)
        llm = None if seen is None or state != "loaded" else seen()
        return ServedModel(name, state, None if llm is None or llm.closed else llm)

    @contextlib.asynccontextmanager
    async def model(self, request: Request, asked: str | None) -> AsyncIterator[tuple[str, AsyncLLM]]:
        """The model for a request, which stays loaded in the block; its name goes into the request's record."""
        name = self.model_name(asked)
        noted = record_of(request.scope)
        noted.model, begun = name, time.perf_counter()
        async with self.leased(name) as llm:
            noted.load_seconds = time.perf_counter() - begun
            yield name, metered(request.scope, llm)

    @contextlib.asynccontextmanager
    async def generator(self, request: Request, asked: str | None) -> AsyncIterator[tuple[str, AsyncLLM]]:
        """As `model`; ApiError 400 for one that does not continue text."""
        async with self.model(request, asked) as (name, llm):
            if not llm.sync.model.is_generative:
                raise ApiError(400, f"the model {name} does not continue text", param="model", code="unsupported")
            yield name, llm

    @contextlib.asynccontextmanager
    async def leased(self, name: str) -> AsyncIterator[AsyncLLM]:
        """A model by its name in requests. ApiError 503 where it cannot be loaded."""
        async with contextlib.AsyncExitStack() as held:
            with self._told(name, "loaded"):
                llm = await held.enter_async_context(self.pool.get(self.names()[name]))
            self._seen[name] = weakref.ref(llm.sync)
            yield llm

    async def unload(self, name: str) -> None:
        """Free it, once nobody uses it. ApiError 503."""
        with self._told(name, "unloaded"):
            await self.pool.unload(self.names()[name])

    @contextlib.contextmanager
    def _told(self, name: str, what: str) -> Iterator[None]:
        """The pool's errors for whoever asks; what they say of paths and of other models is for the log."""
        try:
            yield
        except BusyError as error:
            logger.warning("the model %s waits to be %s: %s", name, what, error)
            raise unavailable(f"the model {name} could not be {what} in time: others use it, or its memory", "overloaded") from None
        except (GollamaError, OSError) as error:
            logger.error("the model %s cannot be %s: %s", name, what, error)
            raise unavailable(f"the model {name} cannot be {what}; the server's log says why", "model_unavailable") from None


def service_of(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


def record(request: Request) -> RequestRecord:
    return record_of(request.scope)


def fingerprint() -> str:
    """What OpenAI calls system_fingerprint: equal where equal seeds give equal texts."""
    info = version_info()
    return f"b{info.llama_cpp.lstrip('v')}-gollama-{info.gollama}"
