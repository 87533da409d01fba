"""What takes long is done in threads, so that everybody else is answered meanwhile."""

from __future__ import annotations

import functools
import threading
from typing import Any

import httpx2
import pytest

from gollama.intake import Intake
from gollama.model import Model
from gollama.sampler import Sampler

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
