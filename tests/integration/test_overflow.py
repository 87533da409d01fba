"""What happens when the context is full: error, truncate, shift."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gollama import LLM, Completion, ContextOverflowError, OptionError, SamplingParams
from tests.support.answers import assert_same_or_tied

SIZE = 256


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM("smollm2", context_size=SIZE, threads=1, max_sequences=2) as llm:
        yield llm


@pytest.fixture(scope="module")
def words(llm: LLM) -> list[int]:
    """Tokens that differ from each other, more than the context holds."""
    return llm.tokenize(" ".join(str(number) for number in range(1000, 1200)))


def greedy(llm: LLM, prompt: list[int], **options: Any) -> Completion:
    return llm.generate(prompt, temperature=0, ignore_eos=True, **options)


# ---- error ----


def test_an_answer_ends_at_the_end_of_the_context(llm: LLM, words: list[int]) -> None:
    completion = greedy(llm, words[:200])
    assert (completion.finish_reason, completion.usage.total_tokens) == ("length", SIZE)


def test_a_prompt_that_leaves_no_room_is_an_error(llm: LLM, words: list[int]) -> None:
    for length in (SIZE, SIZE + 1, 3 * SIZE):
        with pytest.raises(ContextOverflowError, match=f"the prompt has {length} tokens and the context {SIZE}"):
            greedy(llm, words[:length])


def test_a_prompt_that_leaves_room_for_one_token_gets_one(llm: LLM, words: list[int]) -> None:
    completion = greedy(llm, words[: SIZE - 1])
    assert (completion.finish_reason, completion.usage.completion_tokens) == ("length", 1)


# ---- truncate ----


@pytest.mark.parametrize("overflow", ["truncate", "shift"])
def test_a_prompt_that_fits_is_left_whole(llm: LLM, words: list[int], overflow: str) -> None:
    completion = greedy(llm, words[: SIZE - 1], overflow=overflow, max_tokens=1)
    assert completion.usage.prompt_tokens == SIZE - 1


@pytest.mark.parametrize(("max_tokens", "left"), [(None, SIZE - SIZE // 4), (10, SIZE - 10), (1, SIZE - 1),
                                                    (200, SIZE // 2), (9999, SIZE // 2)])
def test_truncation_leaves_room_for_the_answer(llm: LLM, words: list[int], max_tokens: int | None, left: int) -> None:
    completion = greedy(llm, words[:300], overflow="truncate", max_tokens=max_tokens)
    assert completion.usage.prompt_tokens == left
    assert completion.finish_reason == "length"
    assert completion.usage.completion_tokens == min(max_tokens or SIZE, SIZE - left)


def test_truncation_drops_the_oldest(llm: LLM, words: list[int]) -> None:
    completion = greedy(llm, words[:400], overflow="truncate", max_tokens=16, cache_prompt=False)
    kept = words[:400][-(SIZE - 16) :]
    assert_same_or_tied(llm.model, kept, greedy(llm, kept, max_tokens=16, cache_prompt=False).tokens, completion.tokens)


def test_truncation_spares_what_is_to_be_kept(llm: LLM, words: list[int]) -> None:
    completion = greedy(llm, words[:400], overflow="truncate", keep=20, max_tokens=16, cache_prompt=False)
    kept = words[:20] + words[:400][-(SIZE - 16 - 20) :]
    assert_same_or_tied(llm.model, kept, greedy(llm, kept, max_tokens=16, cache_prompt=False).tokens, completion.tokens)


@pytest.mark.parametrize("overflow", ["truncate", "shift"])
def test_keeping_everything_is_refused(llm: LLM, words: list[int], overflow: str) -> None:
    with pytest.raises(OptionError, match="leaves no room"):
        greedy(llm, words[:400], overflow=overflow, keep=SIZE, max_tokens=5)


def test_prompt_logprobs_of_a_truncated_prompt_are_those_of_what_is_left(llm: LLM, words: list[int]) -> None:
    scores = greedy(llm, words[:400], overflow="truncate", max_tokens=16, prompt_logprobs=0).prompt_logprobs
    assert [score.token for score in scores or []] == words[:400][-(SIZE - 17) :]


# ---- shift ----


def test_shift_goes_far_beyond_the_context(llm: LLM, words: list[int]) -> None:
    completion = greedy(llm, words[:50], overflow="shift", max_tokens=2 * SIZE)
    assert (completion.finish_reason, completion.usage.completion_tokens) == ("length", 2 * SIZE)
    assert len(completion.tokens) == 2 * SIZE and completion.text == llm.detokenize(completion.tokens)


def test_up_to_the_end_of_the_context_a_shifted_answer_is_the_unshifted_one(llm: LLM, words: list[int]) -> None:
    prompt = words[: SIZE - 30]
    shifted = greedy(llm, prompt, overflow="shift", max_tokens=60, cache_prompt=False).tokens
    plain = greedy(llm, prompt, cache_prompt=False).tokens
    assert shifted[: len(plain)] == plain and len(shifted) == 60


def test_a_long_prompt_is_cut_before_it_is_shifted(llm: LLM, words: list[int]) -> None:
    completion = greedy(llm, words[:400], overflow="shift", max_tokens=160)
    assert completion.usage.prompt_tokens == SIZE // 2 and completion.usage.completion_tokens == 160


@pytest.mark.parametrize("keep", [0, 40, 5000])
def test_any_number_of_tokens_may_be_kept(llm: LLM, words: list[int], keep: int) -> None:
    completion = greedy(llm, words[:150], overflow="shift", keep=keep, max_tokens=150)
    assert (completion.finish_reason, completion.usage.completion_tokens) == ("length", 150)


def test_a_shifted_answer_serves_no_other_prompt(llm: LLM, words: list[int]) -> None:
    prompt = words[:60]
    first = greedy(llm, prompt, overflow="shift", max_tokens=SIZE)
    assert_same_or_tied(llm.model, prompt, first.tokens[:20], greedy(llm, prompt, max_tokens=20).tokens)
    follow = (prompt + first.tokens)[:200]
    fresh = greedy(llm, follow, max_tokens=12, cache_prompt=False).tokens
    assert_same_or_tied(llm.model, follow, fresh, greedy(llm, follow, max_tokens=12).tokens)


def test_what_is_kept_serves_the_next_prompt(llm: LLM, words: list[int]) -> None:
    llm.clear_cache()
    greedy(llm, words[:150], overflow="shift", keep=100, max_tokens=120)
    completion = greedy(llm, words[:120], max_tokens=4)
    assert completion.usage.cached_tokens == 100
    assert_same_or_tied(llm.model, words[:120], greedy(llm, words[:120], max_tokens=4, cache_prompt=False).tokens, completion.tokens)


def test_shifting_beside_others_leaves_them_alone(llm: LLM, words: list[int]) -> None:
    prompts = [words[:150], words[150:200]]
    shifted = llm.generate(prompts, params=SamplingParams(temperature=0, ignore_eos=True, overflow="shift", max_tokens=120))
    plain = greedy(llm, prompts[1], max_tokens=120, cache_prompt=False)
    assert shifted[0].usage.completion_tokens == 120
    assert_same_or_tied(llm.model, prompts[1], plain.tokens, shifted[1].tokens)


def test_choices_are_shifted_each_by_itself(llm: LLM, words: list[int]) -> None:
    completion = llm.generate(words[:150], n=2, temperature=1, seed=1, ignore_eos=True, overflow="shift", max_tokens=150)
    assert [choice.usage.completion_tokens for choice in completion.choices] == [150, 150]


def test_a_stream_may_be_shifted_without_an_end(llm: LLM, words: list[int]) -> None:
    count = 0
    with llm.stream(words[:200], overflow="shift", ignore_eos=True, temperature=0) as stream:
        for chunk in stream:
            count += len(chunk.tokens)
            if count > SIZE:
                break
    assert count > SIZE


def test_overflow_has_three_ways(llm: LLM) -> None:
    with pytest.raises(OptionError, match="overflow"):
        llm.generate("a", overflow="wrap")
