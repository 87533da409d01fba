"""Adapters and control vectors on a real model: requests of several sets at once get what each gets alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gollama import LLM, Context, SamplingParams, _native, models
from gollama.engine import Adapters
from tests.support.answers import assert_same_or_tied
from tests.support.tiny_adapters import write_adapter, write_vector

GREEDY: dict[str, Any] = {"max_tokens": 16, "temperature": 0, "ignore_eos": True}
SETS: tuple[dict[str, Any], ...] = ({}, {"adapters": {"style": 0.02}}, {"control_vectors": {"calm": 0.3}})
KINDS = (_native.AdapterHandle, _native.ControlVectorHandle)
PROMPTS = [f"{number} boats lay in the harbour, and" for number in ("Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")]


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    folder: Path = tmp_path_factory.mktemp("adapters")
    tensors = {f"blk.{layer}.attn_q.weight": (576, 576) for layer in range(30)}
    style = write_adapter(folder / "style.gguf", tensors=list(tensors), shapes=tensors)
    calm = write_vector(folder / "calm.gguf", layers=range(1, 30), width=576)
    with LLM(models.fetch("smollm2"), context_size=256, threads=1, max_sequences=8, adapters={"style": style},
             control_vectors={"calm": calm}) as llm:
        yield llm


def test_three_sets_from_eight_threads_each_get_what_they_get_alone(llm: LLM) -> None:
    asked = [(prompt, SETS[number % 3]) for number, prompt in enumerate(PROMPTS)]
    alone = [llm.generate(prompt, **GREEDY, cache_prompt=False, **one).tokens for prompt, one in asked]
    before = llm.stats()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda one: llm.generate(one[0], **GREEDY, cache_prompt=False, **one[1]).tokens, asked))
    after = llm.stats()
    assert after.steps - before.steps < 3 * (16 + 8)  # those of a set are computed together
    for (prompt, one), mine, right in zip(asked, together, alone):
        used = llm.intake.adapters.chosen(SamplingParams(**one))

        def prepare(context: Context, used: Adapters = used) -> None:
            context._handle.set_adapters(*([each for each in used if isinstance(each[0], kind)] for kind in KINDS))

        assert_same_or_tied(llm.model, llm.tokenize(prompt), mine, right, prepare)


def test_adapters_in_a_chat(llm: LLM) -> None:
    message = [{"role": "user", "content": "Say hello."}]
    answers = {llm.chat(message, **GREEDY, **one).text for one in SETS}
    assert len(answers) == len(SETS)
    first = [llm.chat(message, choices=["yes", "no"], temperature=0, **one).probabilities for one in SETS]
    assert first[0] != first[1] != first[2]
    assert next(iter(llm.stream_chat(message, **GREEDY, adapters={"style": 0.02})))
