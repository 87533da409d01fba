"""Adapters and control vectors by name, request by request: who is computed with which, and what is remembered of it."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gollama import LLM, AdapterNotFoundError, AsyncLLM, InvalidModelError, LoadOptions, ModelNotFoundError, OptionError, SamplingParams
from tests.support.tiny_adapters import write_adapter, write_vector

SETS: tuple[dict[str, Any], ...] = (
    {}, {"adapters": {"style": 1.0}}, {"adapters": {"style": 0.5, "other": -1.0}}, {"control_vectors": {"calm": 1.0}},
    {"adapters": {"other": 1.0}, "control_vectors": {"calm": 0.5}})
GREEDY: dict[str, Any] = {"max_tokens": 12, "temperature": 0, "ignore_eos": True}
PROMPT = "the sky is blue and a cat sat on the mat while the dog ran"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    return {"adapters": {"style": write_adapter(tmp_path / "style.gguf"), "other": write_adapter(tmp_path / "other.gguf", seed=2)},
            "control_vectors": {"calm": write_vector(tmp_path / "calm.gguf")}}


@pytest.fixture
def llm(tiny_path: Path, files: dict[str, Any]) -> Iterator[LLM]:
    with LLM(tiny_path, context_size=128, threads=1, **files) as llm:
        yield llm


def answer(llm: LLM, prompt: str = PROMPT, **options: Any) -> list[int]:
    tokens: list[int] = llm.generate(prompt, **GREEDY, **options).tokens
    return tokens


def test_each_request_has_its_own(llm: LLM) -> None:
    assert (llm.adapters, llm.control_vectors) == (("style", "other"), ("calm",))
    answers = [answer(llm, **one) for one in SETS]
    assert len({tuple(tokens) for tokens in answers}) == len(SETS)
    assert [answer(llm, **one) for one in reversed(SETS)] == answers[::-1]  # out of the prefix cache, each its own


def test_a_scale_of_zero_and_an_empty_mapping_are_the_model_as_it_is(llm: LLM) -> None:
    plain = answer(llm)
    none: list[dict[str, Any]] = [{"adapters": {}}, {"adapters": {"style": 0}}, {"adapters": {"style": 0, "other": -0.0}},
                                  {"adapters": {"style": 0}, "control_vectors": {"calm": 0}}]
    for one in none:
        completion = llm.generate(PROMPT, **GREEDY, **one)
        assert completion.tokens == plain and completion.usage.cached_tokens > 0


def test_threads_with_different_sets_get_what_they_get_alone(llm: LLM) -> None:
    asked = [(f"{PROMPT} {number}", SETS[number % 3]) for number in range(40)]
    alone = [answer(llm, prompt, cache_prompt=False, **one) for prompt, one in asked]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda one: answer(llm, one[0], **one[1]), asked))
    assert got == alone
    assert llm.stats().adapter_switches > 3


def test_every_way_to_ask_takes_them(llm: LLM) -> None:
    for one in SETS[1:]:
        right = answer(llm, **one)
        assert [token for chunk in llm.stream(PROMPT, **GREEDY, **one) for token in chunk.tokens] == right
        assert llm.generate([PROMPT] * 2, **GREEDY, **one)[1].tokens == right
        assert llm.score(PROMPT, **one).perplexity != llm.score(PROMPT).perplexity
        assert llm.perplexity(PROMPT * 3, window=16, **one) != llm.perplexity(PROMPT * 3, window=16)


def test_asyncio_takes_them(llm: LLM) -> None:
    alone = [answer(llm, **one) for one in SETS]

    async def together() -> list[list[int]]:
        answers = await asyncio.gather(*(AsyncLLM(llm).generate(PROMPT, **GREEDY, **one) for one in SETS))
        return [completion.tokens for completion in answers]

    assert asyncio.run(together()) == alone


def test_what_is_set_holds_for_requests_that_name_none(llm: LLM) -> None:
    plain, styled = answer(llm), answer(llm, **SETS[1])
    llm.set_adapters({"style": 1.0})
    assert answer(llm) == styled and answer(llm, adapters={}) == plain
    llm.set_adapters()
    assert answer(llm) == plain


def test_a_name_that_there_is_not_is_told_with_those_there_are(llm: LLM, tiny_path: Path) -> None:
    asked = partial(answer, llm, adapters={"stile": 1.0})
    for ask in (asked, partial(llm.set_adapters, {"stile": 1.0}), partial(llm.unload_adapter, "stile")):
        with pytest.raises(AdapterNotFoundError, match="no adapter 'stile'; there are: 'style', 'other'"):
            ask()
    with pytest.raises(AdapterNotFoundError, match="no control vector 'style'; there are: 'calm'"):
        answer(llm, control_vectors={"style": 1.0})


def test_loading_and_unloading_go_on_beside_a_running_request(llm: LLM, files: dict[str, Any]) -> None:
    styled = answer(llm, **SETS[1])
    with llm.stream(PROMPT, max_tokens=100, temperature=0, ignore_eos=True, adapters={"style": 1.0}) as running:
        next(running)
        llm.load_adapter("third", files["adapters"]["style"])
        assert answer(llm, adapters={"third": 1.0}) == styled
        llm.unload_adapter("third")
        unloading = threading.Thread(target=llm.unload_adapter, args=("style",))
        unloading.start()
        assert sum(len(chunk.tokens) for chunk in running) > 90  # to the end, though it goes
    unloading.join(30)
    assert not unloading.is_alive() and llm.adapters == ("other",)
    with pytest.raises(AdapterNotFoundError):
        answer(llm, **SETS[1])
    llm.load_adapter("style", files["adapters"]["style"])
    assert answer(llm, **SETS[1]) == styled


def test_a_file_that_cannot_be_had_changes_nothing(llm: LLM, tiny_path: Path, tmp_path: Path, files: dict[str, Any]) -> None:
    before = [answer(llm, **one) for one in SETS]
    for load in (llm.load_adapter, llm.load_control_vector):
        with pytest.raises(InvalidModelError):
            load("new", tiny_path)
        with pytest.raises(ModelNotFoundError):
            load("new", tmp_path / "nothing.gguf")
    with pytest.raises(OptionError, match="already"):
        llm.load_adapter("style", files["adapters"]["other"])
    for layers in ((0, 1), (2, 1), (1,), [1, 1], (1, True)):
        with pytest.raises(OptionError, match="layers"):
            llm.load_control_vector("new", files["control_vectors"]["calm"], layers=layers)  # type: ignore[arg-type]
    assert llm.adapters == ("style", "other") and [answer(llm, **one) for one in SETS] == before
    with pytest.raises(InvalidModelError):
        LLM(tiny_path, adapters={"new": tiny_path})


def test_saved_states_serve_only_where_their_adapters_are(llm: LLM, tiny_path: Path, tmp_path: Path, files: dict[str, Any]) -> None:
    answers = [answer(llm, **one) for one in SETS]
    assert llm.save_state(tmp_path / "state") == len(SETS)
    renamed = {"s": files["adapters"]["style"], "wrong": files["adapters"]["other"]}
    with LLM(tiny_path, context_size=128, threads=1, adapters=renamed) as other:
        assert other.load_state(tmp_path / "state") == 3
        again = other.generate(PROMPT, **GREEDY, adapters={"s": 1.0})
        assert again.tokens == answers[1] and again.usage.cached_tokens > 0
        assert other.generate(PROMPT, **GREEDY, adapters={"s": 0.9}).usage.cached_tokens == 0


def test_drafts_are_checked_by_the_model_with_its_adapters(llm: LLM, tiny_path: Path, files: dict[str, Any]) -> None:
    alone = [answer(llm, **one) for one in SETS]
    with LLM(tiny_path, context_size=128, threads=1, speculative=str(tiny_path), **files) as drafting:
        with ThreadPoolExecutor() as pool:
            got = list(pool.map(lambda one: answer(drafting, **one), SETS))
        assert drafting.stats().drafted_tokens > 0
    assert got == alone


# ---- the options ----


def test_they_are_options_like_others() -> None:
    one = SamplingParams(adapters={"style": 1, "other": 0.5}, control_vectors={"calm": 2})
    same = SamplingParams(adapters={"other": 0.5, "style": 1.0}, control_vectors={"calm": 2.0})
    assert one == same and hash(one) == hash(same) and pickle.loads(pickle.dumps(one)) == one
    assert SamplingParams(adapters={}) != SamplingParams()
    loading = LoadOptions(adapters={"style": "a.gguf"})
    assert pickle.loads(pickle.dumps(loading)) == loading and hash(loading) != hash(LoadOptions())


@pytest.mark.parametrize("value", [5, ["style"], {"style": "1"}, {"style": None}, {"style": True}, {"style": float("nan")}, {"style": 1e39},
                                   {"": 1.0}, {"a\nb": 1.0}, {"x" * 200: 1.0}, {1: 1.0}])
@pytest.mark.parametrize("field", ["adapters", "control_vectors"])
def test_a_wrong_value_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(OptionError, match=field):
        SamplingParams(**{field: value})
    if not isinstance(value, dict) or value != {"style": "1"}:
        with pytest.raises(OptionError, match=field):
            LoadOptions(**{field: value})
