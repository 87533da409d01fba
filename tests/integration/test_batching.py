"""Many requests at once: the answers are those of each alone, and none harms another."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gollama import LLM, BusyError, ClosedError, Completion, GollamaError
from tests.conftest import MODELS
from tests.support.answers import assert_same_or_tied, wait_until

PROMPTS = ["The capital of France is", "One, two, three,", "def fibonacci(n):", "Once upon a time", "The sky is", "import numpy as",
           "Roses are red, violets are", "Dear Sir or Madam,"]
# after an "a" it allows no character at all, so that it dies in mid-generation
DEAD_END = 'root ::= "a" [^\\U00000000-\\U0010FFFF]'


@pytest.fixture(scope="module")
def batching() -> Iterator[LLM]:
    with LLM("smollm2", context_size=1024, threads=1, max_sequences=8) as llm:
        yield llm


@pytest.fixture
def single(tiny_path: Path) -> Iterator[LLM]:
    """Computes one at a time and lets two wait; its answers can be long."""
    with LLM(tiny_path, context_size=32768, threads=1, max_sequences=1, queue_size=2) as llm:
        yield llm


def alone(llm: LLM, prompt: str, max_tokens: int) -> list[int]:
    return llm.generate(prompt, max_tokens=max_tokens, temperature=0, ignore_eos=True, cache_prompt=False).tokens


# ---- together ----


@pytest.mark.parametrize("name", MODELS)
def test_a_list_equals_one_by_one(name: str) -> None:
    with LLM(name, context_size=512, threads=1) as llm:
        together = llm.generate(PROMPTS, max_tokens=12, temperature=0, ignore_eos=True)
        for prompt, completion in zip(PROMPTS, together):
            assert_same_or_tied(llm.model, llm.tokenize(prompt), alone(llm, prompt, 12), completion.tokens)


def test_a_list_is_computed_in_the_steps_of_one(batching: LLM) -> None:
    before = batching.stats().steps
    batching.generate(PROMPTS, max_tokens=20, temperature=0, ignore_eos=True)
    assert batching.stats().steps - before < 2 * 20


def test_threads_with_their_own_settings_share_an_llm(batching: LLM) -> None:
    def ask(index: int) -> Completion:
        return batching.generate(PROMPTS[index], max_tokens=4 + index, temperature=0, ignore_eos=True)

    with ThreadPoolExecutor(8) as pool:
        completions = list(pool.map(ask, range(8)))
    for index, (prompt, completion) in enumerate(zip(PROMPTS, completions)):
        assert_same_or_tied(batching.model, batching.tokenize(prompt), alone(batching, prompt, 4 + index), completion.tokens)


def test_more_prompts_than_sequences_take_turns(batching: LLM) -> None:
    prompts = [f"{number} plus one is" for number in range(20)]
    together = batching.generate(prompts, max_tokens=4, temperature=0, ignore_eos=True)
    for prompt, completion in zip(prompts, together):
        assert_same_or_tied(batching.model, batching.tokenize(prompt), alone(batching, prompt, 4), completion.tokens)
    assert batching.stats().sequences == 8


def test_a_list_longer_than_the_queue_is_computed(single: LLM) -> None:
    completions = single.generate(["the sky"] * 12, max_tokens=3, temperature=0, ignore_eos=True)
    assert [completion.tokens for completion in completions] == [completions[0].tokens] * 12


# ---- waiting ----


def test_a_full_queue_is_busy(single: LLM) -> None:
    with single.stream("the", ignore_eos=True):
        wait_until(lambda: single.stats().running == 1)
        with single.stream("a"), single.stream("sky"):
            with pytest.raises(BusyError, match="2 requests wait already"):
                single.stream("blue")
            with pytest.raises(BusyError):
                single.generate("blue")
    wait_until(lambda: single.stats().waiting == 0)
    assert single.generate("blue", max_tokens=2, ignore_eos=True).usage.completion_tokens == 2


def test_higher_priority_goes_first(single: LLM) -> None:
    with single.stream("the", ignore_eos=True):
        wait_until(lambda: single.stats().running == 1)
        low = single.stream("a", max_tokens=500, ignore_eos=True)
        high = single.stream("sky", max_tokens=500, ignore_eos=True, priority=1)
    ends = [list(stream)[-1].timings for stream in (low, high)]
    assert ends[0] is not None and ends[1] is not None
    # the low one came before, and waited until the high one had ended
    assert ends[0].queue_seconds > ends[1].queue_seconds


def test_a_timeout_ends_the_answer_as_it_is(batching: LLM) -> None:
    completion = batching.generate(PROMPTS[0], ignore_eos=True, timeout=0.5, temperature=0)
    assert completion.finish_reason == "timeout" and len(completion.tokens) == completion.usage.completion_tokens > 0
    assert batching.generate(PROMPTS[0], max_tokens=2).usage.completion_tokens <= 2


def test_a_timeout_ends_a_prompt_that_is_being_computed(batching: LLM) -> None:
    completion = batching.generate("word " * 1000, timeout=0.05, cache_prompt=False)
    assert (completion.finish_reason, completion.text, completion.usage.completion_tokens) == ("timeout", "", 0)


def test_a_timeout_holds_while_waiting_too(single: LLM) -> None:
    with single.stream("the", ignore_eos=True):
        wait_until(lambda: single.stats().running == 1)
        completion = single.generate("a", timeout=0.05)
    assert (completion.finish_reason, completion.usage.completion_tokens) == ("timeout", 0)


# ---- leaving ----


def test_cancel_ends_all_and_frees_their_sequences(batching: LLM) -> None:
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(batching.generate, PROMPTS * 2, ignore_eos=True)
        wait_until(lambda: batching.stats().running == 8)
        batching.cancel()
        assert {completion.finish_reason for completion in answers.result(60)} == {"cancelled"}
    stats = batching.stats()
    assert (stats.running, stats.waiting) == (0, 0)
    assert len(batching.generate(PROMPTS, max_tokens=2)) == 8


def test_streams_left_early_free_their_sequences(batching: LLM) -> None:
    streams = [batching.stream(prompt, ignore_eos=True) for prompt in PROMPTS]
    for stream in streams:
        next(stream)
    for stream in streams:
        stream.close()
        assert list(stream) == []
    wait_until(lambda: batching.stats().running == 0)


def test_the_end_of_a_with_block_ends_its_stream(batching: LLM) -> None:
    with batching.stream(PROMPTS[0], ignore_eos=True) as stream:
        next(stream)
    wait_until(lambda: batching.stats().running == 0)
    assert list(stream) == []


def test_a_forgotten_stream_ends(batching: LLM) -> None:
    next(batching.stream(PROMPTS[0], ignore_eos=True))
    wait_until(lambda: batching.stats().running == 0)


def test_close_ends_what_is_computed_and_what_waits(tiny_path: Path) -> None:
    llm = LLM(tiny_path, context_size=32768, threads=1, max_sequences=2)
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(llm.generate, ["the sky"] * 5, ignore_eos=True)
        wait_until(lambda: llm.stats().waiting == 3)
        llm.close()
        assert [completion.finish_reason for completion in answers.result(60)] == ["cancelled"] * 5
    with pytest.raises(ClosedError):
        llm.generate("the")


def test_ctrl_c_cancels_a_whole_list_and_the_llm_goes_on(batching: LLM) -> None:
    timer = threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        batching.generate(PROMPTS * 3, ignore_eos=True)
    timer.join()
    wait_until(lambda: batching.stats().running == batching.stats().waiting == 0)
    assert len(batching.generate(PROMPTS, max_tokens=2)) == 8


# ---- failing ----


def test_a_grammar_that_dies_in_mid_generation_harms_no_neighbour(batching: LLM) -> None:
    with ThreadPoolExecutor(1) as pool:
        neighbours = pool.submit(batching.generate, PROMPTS[:4], max_tokens=24, temperature=0, ignore_eos=True)
        for _ in range(3):
            with pytest.raises(GollamaError):
                batching.generate(PROMPTS[5], grammar=DEAD_END, max_tokens=10)
        completions = neighbours.result(60)
    for prompt, completion in zip(PROMPTS, completions):
        assert_same_or_tied(batching.model, batching.tokenize(prompt), alone(batching, prompt, 24), completion.tokens)


def test_one_bad_grammar_of_a_list_fails_the_list_and_nothing_goes_on(batching: LLM) -> None:
    with pytest.raises(GollamaError):
        batching.generate(PROMPTS, grammar=DEAD_END, max_tokens=10)
    wait_until(lambda: batching.stats().running == batching.stats().waiting == 0)
