"""The models that a server answers with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from gollama.aio import AsyncLLM
from gollama.errors import BusyError, ModelNotFoundError
from gollama.llm import LLM
from gollama.options import LoadOptions
from gollama.server.config import ServerConfig


class Status(Protocol):
    """What a pool tells of one of its models."""

    @property
    def state(self) -> str:
        """`loaded`, or what is the matter instead."""


class Pool(Protocol):
    """Gives models by name, and keeps them while they are used: an AsyncModelPool, or a FixedPool."""

    def get(self, model: str, /) -> AbstractAsyncContextManager[AsyncLLM]:
        """A block in which the model stays loaded. ModelNotFoundError."""

    def status(self) -> Mapping[str, Status]:
        """All models by name."""

    async def load(self, model: str, /) -> object:
        """Have it loaded."""

    async def unload(self, model: str, /) -> None:
        """Free it, once nobody uses it."""

    async def close(self) -> None:
        """Free all."""


@dataclass(frozen=True)
class ServedModel:
    """A model by its name in requests. `llm` is there if it is loaded and was used since."""

    name: str
    state: str
    llm: LLM | None = None


@dataclass(frozen=True)
class FixedStatus:
    """A model of a FixedPool; `users` are in its blocks."""

    state: str  # "unloaded", "loading", "loaded"
    users: int = 0


def make_pool(config: ServerConfig) -> Pool:
    """A pool of the models that are to be served."""
    return FixedPool(dict.fromkeys(config.served.values(), config.load_options()))


class FixedPool:
    """A few models that are loaded when they are first needed, and stay. One event loop."""

    def __init__(self, models: Mapping[str, LoadOptions | None]) -> None:
        """By name or path, each with its options."""
        self._options = {name: options or LoadOptions() for name, options in models.items()}
        self._loaded: dict[str, AsyncLLM] = {}
        self._users = dict.fromkeys(models, 0)
        self._locks = {name: asyncio.Lock() for name in models}

    def _require(self, model: str) -> None:
        if model not in self._options:
            raise ModelNotFoundError(f"the pool has no model {model!r}; it has: {', '.join(self._options)}")

    @contextlib.asynccontextmanager
    async def _use(self, model: str) -> AsyncIterator[AsyncLLM]:
        self._require(model)
        self._users[model] += 1
        try:
            yield self._loaded.get(model) or await self._load(model)
        finally:
            self._users[model] -= 1

    def get(self, model: str, /) -> AbstractAsyncContextManager[AsyncLLM]:
        """As Pool.get."""
        return self._use(model)

    def status(self) -> dict[str, FixedStatus]:
        """As Pool.status."""
        return {name: FixedStatus(self._state(name), self._users[name]) for name in self._options}

    def _state(self, model: str) -> str:
        return "loaded" if model in self._loaded else "loading" if self._locks[model].locked() else "unloaded"

    async def load(self, model: str, /) -> None:
        """As Pool.load."""
        self._require(model)
        await self._load(model)

    async def _load(self, model: str) -> AsyncLLM:
        async with self._locks[model]:
            if model not in self._loaded:
                self._loaded[model] = await AsyncLLM.load(model, options=self._options[model])
            return self._loaded[model]

    async def unload(self, model: str, /) -> None:
        """As Pool.unload. BusyError where it is used."""
        self._require(model)
        async with self._locks[model]:
            if self._users[model]:
                raise BusyError(f"{self._users[model]} requests use the model {model!r}: try again when they have ended")
            llm = self._loaded.pop(model, None)
            if llm is not None:
                await llm.close()

    async def close(self) -> None:
        """As Pool.close; what runs is cancelled."""
        while self._loaded:
            _, llm = self._loaded.popitem()
            await llm.close()
