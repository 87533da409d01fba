"""The prefix cache on models whose memory cannot be cut, or forgets: recurrent, hybrid, sliding window. All in miniature.

Each answer is compared with one of a fresh LLM that reuses nothing.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from gollama import LLM, OptionError
from tests.support import tiny_memory
from tests.support.answers import assert_same_or_tied

KINDS = list(tiny_memory.WRITERS)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("memories")
    return {kind: write(folder / f"{kind}.gguf") for kind, write in tiny_memory.WRITERS.items()}


def some_tokens(seed: int, count: int) -> list[int]:
    return random.Random(seed).choices(range(3, 259), k=count)


def load(path: Path, **options: Any) -> LLM:
    fields: dict[str, Any] = {"context_size": 512, "threads": 1, "max_sequences": 2, **options}
    return LLM(path, **fields)


def answer(llm: LLM, prompt: list[int], count: int = 12) -> tuple[list[int], int]:
    completion = llm.generate(prompt, max_tokens=count, temperature=0, ignore_eos=True)
    return completion.tokens, completion.usage.cached_tokens


def assert_as_fresh(llm: LLM, prompt: list[int], tokens: list[int]) -> None:
    with load(llm.model.path, prefix_cache=0) as fresh:
        assert_same_or_tied(llm.model, prompt, answer(fresh, prompt, len(tokens))[0], tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_a_repeated_prompt(paths: dict[str, Path], kind: str) -> None:
    prompt = some_tokens(1, 300)
    with load(paths[kind]) as llm:
        answer(llm, prompt)
        tokens, cached = answer(llm, prompt)
        assert 290 < cached < 300
        assert_as_fresh(llm, prompt, tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_an_extended_prompt(paths: dict[str, Path], kind: str) -> None:
    prompt = some_tokens(2, 300)
    with load(paths[kind]) as llm:
        first, _ = answer(llm, prompt)
        longer = prompt + first + some_tokens(3, 40)
        tokens, cached = answer(llm, longer)
        assert cached >= len(prompt) + len(first) - 1
        assert_as_fresh(llm, longer, tokens)


@pytest.mark.parametrize("length", [1, 17, 100, 230, 250, 296, 299])
@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_that_parts_in_the_middle(paths: dict[str, Path], kind: str, length: int) -> None:
    prompt = some_tokens(4, 300)
    with load(paths[kind]) as llm:
        answer(llm, prompt, 40)
        other = prompt[:length] + some_tokens(5, 30)
        tokens, _ = answer(llm, other)
        assert_as_fresh(llm, other, tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_any_order_of_prompts_that_share_beginnings(paths: dict[str, Path], kind: str) -> None:
    """Twenty prompts out of a tree, through sequences, host memory and copies of running ones."""
    choose = random.Random(6)
    trunk = some_tokens(7, 200)
    prompts = []
    for seed in range(20):
        branch = trunk[: choose.choice([0, 60, 130, 200])] + some_tokens(choose.choice([10, 11]), choose.randint(1, 120))
        prompts.append(branch + some_tokens(seed, choose.randint(1, 40)))
    with load(paths[kind], max_sequences=3, prefix_cache=1) as llm:
        for start in range(0, 20, 4):
            group = prompts[start : start + 4]
            completions = llm.generate(group, max_tokens=10, temperature=0, ignore_eos=True)
            for prompt, completion in zip(group, completions):
                assert_as_fresh(llm, prompt, completion.tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_growing_in_mid_generation(paths: dict[str, Path], kind: str) -> None:
    prompt = some_tokens(8, 120)
    others = [some_tokens(seed, 50) for seed in range(20, 27)]
    with load(paths[kind], max_sequences=8) as llm:
        tokens: list[int] = []
        with llm.stream(prompt, max_tokens=300, temperature=0, ignore_eos=True) as stream:
            while len(tokens) < 5:
                tokens += next(stream).tokens
            completions = llm.generate(others, max_tokens=10, temperature=0, ignore_eos=True)
            tokens += [token for chunk in stream for token in chunk.tokens]
        assert llm.stats().sequences == 8 and len(tokens) == 300
        for one, completion in zip(others, completions):
            assert_as_fresh(llm, one, completion.tokens)
        assert_as_fresh(llm, prompt, tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_choices_share_the_prompt(paths: dict[str, Path], kind: str) -> None:
    prompt = some_tokens(9, 150)
    with load(paths[kind], max_sequences=4) as llm:
        completion = llm.generate(prompt, n=3, max_tokens=10, temperature=0, ignore_eos=True)
        for choice in completion.choices:
            assert_as_fresh(llm, prompt, choice.tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_states_go_through_a_file(paths: dict[str, Path], kind: str, tmp_path: Path) -> None:
    prompts = [some_tokens(seed, 200) for seed in (30, 31)]
    with load(paths[kind]) as llm:
        for prompt in prompts:
            answer(llm, prompt, 5)
        assert llm.save_state(tmp_path / "state") >= 2
    with load(paths[kind], max_sequences=4) as llm:
        llm.load_state(tmp_path / "state")
        for prompt in prompts:
            longer = prompt + some_tokens(32, 5)
            tokens, cached = answer(llm, longer)
            assert cached >= 190
            assert_as_fresh(llm, longer, tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cancelled_prompt_leaves_nothing_wrong_behind(paths: dict[str, Path], kind: str) -> None:
    prompt = some_tokens(33, 400)
    with load(paths[kind], micro_batch_size=32, batch_size=32) as llm:
        for _ in range(5):
            with llm.stream(prompt, ignore_eos=True):
                pass
        tokens, _ = answer(llm, prompt)
        assert_as_fresh(llm, prompt, tokens)


def test_a_shifted_recurrent_memory_forgets_nothing(paths: dict[str, Path]) -> None:
    """It knows no positions: its state stays as it is, whatever the size of the context."""
    prompt = some_tokens(34, 100)
    with load(paths["recurrent"], context_size=256) as llm:
        completion = llm.generate(prompt, max_tokens=600, temperature=0, ignore_eos=True, overflow="shift")
    with load(paths["recurrent"], context_size=1024) as fresh:
        assert completion.tokens == answer(fresh, prompt, 600)[0]


def test_a_shifted_hybrid_memory_goes_on(paths: dict[str, Path]) -> None:
    with load(paths["hybrid"], context_size=256) as llm:
        prompt = some_tokens(35, 100)
        completion = llm.generate(prompt, max_tokens=600, temperature=0, ignore_eos=True, overflow="shift", keep=10)
        assert (completion.finish_reason, completion.usage.completion_tokens) == ("length", 600)
        tokens, _ = answer(llm, prompt)
        assert_as_fresh(llm, prompt, tokens)


def test_a_window_that_is_not_all_of_the_context_cannot_be_shifted(paths: dict[str, Path]) -> None:
    with load(paths["sliding window"], context_size=1024) as llm:
        with pytest.raises(OptionError, match="gemma3 models cannot be shifted"):
            llm.generate([5, 6], overflow="shift")
        assert answer(llm, [5, 6])[0]
