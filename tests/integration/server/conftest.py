"""One server for all, and others that lend its model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import openai
import pytest

from gollama import AsyncLLM
from gollama.server import Pool
from tests.support import tiny
from tests.support.access import OWN, TEMPLATE, Site, site
from tests.support.answers import wait_until
from tests.support.raw import ASK, CHAT
from tests.support.server import Running, running

LOADING = {"context_size": 1024, "max_sequences": 8, "threads": 1}


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    with running("smollm2", loading=LOADING, stored_responses=8) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: Running) -> Iterator[openai.OpenAI]:
    """OpenAI's own; it tries nothing twice."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def http(server: Running) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as http:
        yield http


class Lent:
    """Another server's pool, which is not closed."""

    def __init__(self, pool: Pool) -> None:
        self.get, self.status, self.unload = pool.get, pool.status, pool.unload

    async def close(self) -> None:
        pass


@pytest.fixture
def lent(server: Running) -> Callable[..., AbstractContextManager[Running]]:
    """Makes servers with other settings and the same model."""
    def make(**settings: Any) -> AbstractContextManager[Running]:
        return running("smollm2", pool=Lent(server.pool), **settings)

    return make


@pytest.fixture
def llm(server: Running) -> AsyncLLM:
    """The model behind it."""
    found = server.service.models()[0].llm
    assert found is not None
    return AsyncLLM(found)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.write(tmp_path_factory.mktemp("model") / "tiny.gguf", context=2048, template=TEMPLATE))


@pytest.fixture(scope="module")
def guarded(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tiny_model, tmp_path_factory.mktemp("access"), api_key=OWN) as made:
        yield made


@pytest.fixture
def unharmed(server: Running, llm: AsyncLLM) -> Iterator[None]:
    """For clients that mean harm: after each of them the server answers as before and the engine is idle."""
    yield
    wait_until(lambda: (llm.stats().running, llm.stats().waiting) == (0, 0), 20)
    wait_until(lambda: server.service.metrics.in_flight._value.get() == 0, 20)
    reply = httpx2.post(f"{server.url}{CHAT}", json={"messages": ASK, "max_tokens": 2, "ignore_eos": True}, timeout=60)
    assert reply.json()["usage"]["completion_tokens"] == 2
    wait_until(lambda: llm.stats().running == 0)
