"""Several answers to one prompt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gollama import LLM, OptionError
from tests.support.answers import assert_same_or_tied, wait_until

PROMPT = "Write a line about the sea. The sea is"


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM("smollm2", context_size=512, threads=1, max_sequences=4) as llm:
        yield llm


def test_choices_differ(llm: LLM) -> None:
    completion = llm.generate(PROMPT, n=4, max_tokens=16, temperature=1.2, seed=3)
    assert [choice.index for choice in completion.choices] == [0, 1, 2, 3]
    assert len({choice.text for choice in completion.choices}) == 4
    assert completion.choices[0].text == completion.text and completion.choices[0].tokens == completion.tokens


def test_the_same_seed_gives_the_same_choices(llm: LLM) -> None:
    def texts(seed: int) -> list[str]:
        return [choice.text for choice in llm.generate(PROMPT, n=3, max_tokens=12, seed=seed, temperature=1, cache_prompt=False).choices]

    first = texts(5)
    assert texts(5) == first and texts(6) != first


def test_the_prompt_of_all_choices_is_computed_once(llm: LLM) -> None:
    before = llm.stats()
    completion = llm.generate(PROMPT, n=4, max_tokens=2, cache_prompt=False, ignore_eos=True)
    after = llm.stats()
    length = len(llm.tokenize(PROMPT))
    assert after.prompt_tokens - before.prompt_tokens == length == completion.usage.prompt_tokens
    assert after.requests - before.requests == 1


def test_greedy_choices_are_all_the_same_and_those_of_a_single_one(llm: LLM) -> None:
    single = llm.generate(PROMPT, max_tokens=12, temperature=0, ignore_eos=True, cache_prompt=False)
    for choice in llm.generate(PROMPT, n=3, max_tokens=12, temperature=0, ignore_eos=True).choices:
        assert_same_or_tied(llm.model, llm.tokenize(PROMPT), single.tokens, choice.tokens)


def test_more_choices_than_sequences_take_turns(llm: LLM) -> None:
    completion = llm.generate(PROMPT, n=10, max_tokens=5, temperature=1, ignore_eos=True)
    assert [choice.usage.completion_tokens for choice in completion.choices] == [5] * 10
    assert llm.stats().sequences == 4


def test_the_chunks_of_a_stream_tell_their_choice(llm: LLM) -> None:
    chunks = list(llm.stream(PROMPT, n=3, max_tokens=10, temperature=1, seed=5, cache_prompt=False))
    whole = llm.generate(PROMPT, n=3, max_tokens=10, temperature=1, seed=5, cache_prompt=False)
    assert {chunk.index for chunk in chunks} == {0, 1, 2}
    for choice in whole.choices:
        own = [chunk for chunk in chunks if chunk.index == choice.index]
        assert "".join(chunk.text for chunk in own) == choice.text
        assert [token for chunk in own for token in chunk.tokens] == choice.tokens
        assert [chunk.finish_reason is not None for chunk in own] == [False] * (len(own) - 1) + [True]


def test_a_list_of_prompts_with_choices_each(llm: LLM) -> None:
    completions = llm.generate([PROMPT, "One, two,"], n=3, max_tokens=4, temperature=1, ignore_eos=True)
    assert [len(completion.choices) for completion in completions] == [3, 3]


def test_choices_with_stop_strings_end_each_by_itself(llm: LLM) -> None:
    completion = llm.generate(PROMPT, n=4, max_tokens=40, temperature=1.5, seed=1, stop=[" a", " the", "."])
    assert not any(stop in choice.text for choice in completion.choices for stop in (" a", " the", "."))


def test_leaving_a_stream_ends_all_its_choices(llm: LLM) -> None:
    with llm.stream(PROMPT, n=8, ignore_eos=True) as stream:
        next(stream)
    wait_until(lambda: llm.stats().running == 0)
    assert llm.generate(PROMPT, max_tokens=2, ignore_eos=True).usage.completion_tokens == 2


def test_logprobs_come_with_each_choice(llm: LLM) -> None:
    completion = llm.generate(PROMPT, n=3, max_tokens=6, temperature=1, logprobs=2, prompt_logprobs=0, ignore_eos=True)
    for choice in completion.choices:
        assert choice.logprobs is not None and [score.token for score in choice.logprobs] == choice.tokens
    assert completion.prompt_logprobs is not None and len(completion.prompt_logprobs) == len(llm.tokenize(PROMPT)) - 1


def test_choices_of_a_full_context_end(llm: LLM) -> None:
    prompt = llm.tokenize("word " * 505)[:505]
    completion = llm.generate(prompt, n=3, ignore_eos=True, temperature=1)
    assert [(choice.finish_reason, choice.usage.total_tokens) for choice in completion.choices] == [("length", 512)] * 3


@pytest.mark.parametrize("n", [0, -1, 257, True, 2.0])
def test_a_number_of_choices_that_cannot_be_is_refused(llm: LLM, n: object) -> None:
    with pytest.raises(OptionError, match="n must be"):
        llm.generate(PROMPT, n=n)
