"""What takes long is done in threads, so that everybody else is answered meanwhile."""

from __future__ import annotations

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy
import pytest

from gollama import LLM
from gollama.intake import Intake
from gollama.model import Model
from gollama.sampler import Sampler
from tests.support.answers import wait_until
from tests.support.server import Running

ASK: list[Any] = [{"role": "user", "content": "Hello"}]
FEW = {"max_tokens": 1}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The threads that tokenized, made samplers, and put prompts for infill together."""
    found: dict[str, set[str]] = {"tokenize": set(), "sampler": set(), "infill": set()}

    def watched(kind: str, function: Any) -> Any:
        @functools.wraps(function)
        def run(*args: Any, **options: Any) -> Any:
            found[kind].add(threading.current_thread().name)
            return function(*args, **options)

        return run

    monkeypatch.setattr(Model, "tokenize", watched("tokenize", Model.tokenize))
    monkeypatch.setattr(Sampler, "__init__", watched("sampler", Sampler.__init__))
    monkeypatch.setattr(Intake, "infill_prompt", watched("infill", lambda *texts: [1, 2, 3]))
    return found


@pytest.mark.parametrize(("path", "body", "kinds"), [
    ("/v1/chat/completions", {"messages": ASK, **FEW}, {"tokenize", "sampler"}),
    ("/v1/chat/completions", {"messages": ASK, **FEW, "stream": True}, {"tokenize", "sampler"}),
    ("/v1/responses", {"input": "Hello", "max_output_tokens": 1}, {"tokenize", "sampler"}),
    ("/v1/completions", {"prompt": ["a", "b"], **FEW}, {"tokenize", "sampler"}),
    ("/v1/completions", {"prompt": "a", **FEW, "stream": True}, {"tokenize", "sampler"}),
    ("/completion", {"prompt": ["a", 5, "b"], **FEW}, {"tokenize", "sampler"}),
    ("/infill", {"input_prefix": "a", "input_suffix": "b", **FEW}, {"infill", "sampler"}),
    ("/v1/completions", {"prompt": "a", "suffix": "b", **FEW}, {"infill", "sampler"}),
    ("/tokenize", {"content": "a"}, {"tokenize"}),
    ("/v1/embeddings", {"input": "a"}, {"tokenize"}),
])
def test_nothing_long_runs_in_the_event_loop(http: httpx2.Client, ran: dict[str, set[str]], path: str, body: dict[str, Any],
                                             kinds: set[str]) -> None:
    assert http.post(path, json=body).status_code == 200
    assert {kind for kind, threads in ran.items() if threads} == kinds
    assert not any("gollama-server" in threads for threads in ran.values())


def test_a_reranking_s_tokens_are_counted_in_a_thread(http: httpx2.Client, ran: dict[str, set[str]],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gollama.llm.LLM.rerank", lambda *args, **options: [])
    assert http.post("/v1/rerank", json={"query": "a", "documents": ["b"]}).json()["usage"]["total_tokens"] == 2
    assert ran["tokenize"] and "gollama-server" not in ran["tokenize"]


def test_the_texts_of_biases_are_short(http: httpx2.Client) -> None:
    body = {"messages": ASK, **FEW, "logit_bias": [["a" * 4000, 1], ["b" * 100, 1]]}
    assert http.post("/v1/chat/completions", json=body).json()["error"]["code"] == "too_many"


def test_long_computations_leave_threads_to_others(http: httpx2.Client, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ends = threading.Semaphore(0), threading.Event()

    def slow(*args: Any, **options: Any) -> Any:
        begun.release()
        ends.wait(30)
        return numpy.zeros((1, 4), numpy.float32)

    monkeypatch.setattr("gollama.llm.LLM.embed", slow)
    with ThreadPoolExecutor(40) as clients:
        try:
            replies = [clients.submit(httpx2.post, f"{server.url}/v1/embeddings", json={"input": "a"}, timeout=60) for _ in range(40)]
            assert begun.acquire(timeout=10)
            wait_until(lambda: server.service.metrics.in_flight._value.get() == 40)
            assert httpx2.post(f"{server.url}/v1/chat/completions", json={"messages": ASK, **FEW}, timeout=10).status_code == 200
        finally:
            ends.set()
        assert {reply.result().status_code for reply in replies} == {200}


def test_a_busy_model_is_asked_once_what_it_takes(http: httpx2.Client, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, ends = [], threading.Event()

    def slow(llm: LLM) -> Any:
        asked.append(llm)
        ends.wait(30)
        return ()

    monkeypatch.setattr("gollama.llm.LLM.memory", slow)
    try:
        with ThreadPoolExecutor(20) as clients:
            replies = list(clients.map(lambda _: httpx2.get(f"{server.url}/metrics", timeout=60), range(20)))
        assert {reply.status_code for reply in replies} == {200} and len(asked) == 1
    finally:
        ends.set()
    monkeypatch.undo()
    wait_until(lambda: "gollama_weights_bytes{" in http.get("/metrics").text)


def test_of_many_who_come_at_once_one_comes_in_each_time_around(server: Running) -> None:
    service = server.service
    order: list[str] = []

    async def post() -> None:
        await service.turn()
        order.append("post")

    async def main() -> None:
        service._turn = asyncio.Lock()  # the server's own belongs to another loop
        many = [asyncio.create_task(post()) for _ in range(30)]
        for _ in range(10):
            await asyncio.sleep(0)
            order.append("look")
        await asyncio.gather(*many)

    before = service._turn
    try:
        asyncio.run(main())
    finally:
        service._turn = before
    last = len(order) - order[::-1].index("look")
    assert order.count("post") == 30 and order[:last].count("post") <= order[:last].count("look")
