"""The models that a server answers with."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from gollama.aio import AsyncLLM
from gollama.llm import LLM
from gollama.pool import AsyncModelPool
from gollama.server.config import ServerConfig


class Status(Protocol):
    """What a pool tells of one of its models."""

    @property
    def state(self) -> str:
        """`loaded`, or what is the matter instead."""


class Pool(Protocol):
    """Gives models by name, and keeps them while they are used: an AsyncModelPool, or what is like one."""

    def get(self, model: str, /) -> AbstractAsyncContextManager[AsyncLLM]:
        """A block in which the model stays loaded. ModelNotFoundError."""

    def status(self) -> Mapping[str, Status]:
        """All models by name."""

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


def make_pool(config: ServerConfig) -> Pool:
    """A pool of the models that are to be served."""
    options = {source: config.load_options(name) for name, source in config.served.items()}
    return AsyncModelPool(options, memory=config.memory, ttl=config.model_ttl, timeout=config.load_timeout, any_model=False)
