"""The prefix cache on real models: what it serves, and that it changes nothing but the work."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from gollama import LLM, Completion
from tests.support.answers import assert_same_or_tied, wait_until

STORY = ("The harbour lay quiet in the morning. Anna carried two baskets of apples along the pier, counted the boats, and thought of "
         "the letter that her brother had sent from the mountains. ")
OTHER = "In a laboratory far away, three engineers looked at a small machine that would not start, and argued about its oldest wire. "


@pytest.fixture
def small() -> Iterator[LLM]:
    with LLM("smollm2", context_size=1024, threads=1, max_sequences=2) as llm:
        yield llm


@pytest.fixture(scope="module")
def gemma1() -> Iterator[LLM]:
    with LLM("gemma3:270m", context_size=1024, threads=1, max_sequences=2) as llm:
        yield llm


@pytest.fixture(scope="module")
def plain() -> Iterator[LLM]:
    """What answers are compared with: it reuses nothing."""
    with LLM("smollm2", context_size=1024, threads=1, max_sequences=1, prefix_cache=0) as llm:
        yield llm


def greedy(llm: LLM, prompt: str | list[int], max_tokens: int = 8, *, cache: bool = True) -> Completion:
    return llm.generate(prompt, max_tokens=max_tokens, temperature=0, ignore_eos=True, cache_prompt=cache)


def assert_unchanged(llm: LLM, plain: LLM, prompt: str | list[int], completion: Completion) -> None:
    tokens = llm.tokenize(prompt) if isinstance(prompt, str) else prompt
    fresh = greedy(plain, prompt, len(completion.tokens), cache=False)
    assert fresh.usage.cached_tokens == 0
    assert_same_or_tied(llm.model, tokens, fresh.tokens, completion.tokens)


# ---- what is counted ----


def test_a_repeated_prompt_is_all_cached_but_its_last_token(small: LLM, plain: LLM) -> None:
    assert greedy(small, STORY).usage.cached_tokens == 0
    again = greedy(small, STORY)
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1
    assert_unchanged(small, plain, STORY, again)


def test_an_extended_prompt_computes_what_is_new(small: LLM, plain: LLM) -> None:
    first = small.tokenize(STORY)
    greedy(small, first, 1)
    longer = first + small.tokenize(OTHER)
    completion = greedy(small, longer)
    assert completion.usage.cached_tokens == len(first)
    assert_unchanged(small, plain, longer, completion)


def test_the_answer_is_cached_with_its_prompt(small: LLM, plain: LLM) -> None:
    first = greedy(small, STORY, 12)
    longer = small.tokenize(STORY) + first.tokens + small.tokenize(OTHER)
    completion = greedy(small, longer)
    assert completion.usage.cached_tokens >= first.usage.total_tokens - 1  # the last token of an answer is not computed
    assert_unchanged(small, plain, longer, completion)


def test_prompts_with_one_beginning_at_once(small: LLM, plain: LLM) -> None:
    greedy(small, STORY, 1)
    prompts = [STORY + "Anna said", STORY + "The boats"]
    completions = small.generate(prompts, max_tokens=8, temperature=0, ignore_eos=True)
    for prompt, completion in zip(prompts, completions):
        assert completion.usage.cached_tokens >= len(small.tokenize(STORY)) - 1
        assert_unchanged(small, plain, prompt, completion)


def test_a_running_sequence_lends_its_beginning(small: LLM, plain: LLM) -> None:
    with small.stream(STORY + "Anna", ignore_eos=True) as stream:
        next(stream)
        completion = greedy(small, STORY + "The boats")
    assert completion.usage.cached_tokens >= len(small.tokenize(STORY)) - 1
    assert_unchanged(small, plain, STORY + "The boats", completion)


def test_a_prompt_cut_back_into_the_middle(small: LLM, plain: LLM) -> None:
    greedy(small, STORY + OTHER)
    prompt = STORY + "It rained."
    completion = greedy(small, prompt)
    assert len(small.tokenize(STORY)) - 1 <= completion.usage.cached_tokens < completion.usage.prompt_tokens
    assert_unchanged(small, plain, prompt, completion)


def test_clear_cache_forgets(small: LLM) -> None:
    greedy(small, STORY)
    small.clear_cache()
    assert greedy(small, STORY).usage.cached_tokens == 0


def test_cache_prompt_false_takes_nothing_but_leaves_something(small: LLM) -> None:
    greedy(small, STORY)
    assert greedy(small, STORY, cache=False).usage.cached_tokens == 0
    assert greedy(small, STORY).usage.cached_tokens > 0


# ---- the host's memory ----


def prompts_of(count: int) -> list[str]:
    """Longer than what is not worth being kept (prefixes.BLOCK)."""
    return [f"Chapter {number}. {STORY} {OTHER} {STORY}" for number in range(count)]


@pytest.mark.parametrize("max_sequences", [1, 2])
def test_prompts_pushed_out_of_the_sequences_come_back_from_the_host(plain: LLM, max_sequences: int) -> None:
    with LLM("smollm2", context_size=512, threads=1, max_sequences=max_sequences, prefix_cache=64) as llm:
        for prompt in prompts_of(4):
            greedy(llm, prompt, 1)
        for prompt in prompts_of(4):
            completion = greedy(llm, prompt)
            assert completion.usage.cached_tokens == completion.usage.prompt_tokens - 1
            assert_unchanged(llm, plain, prompt, completion)


def test_without_host_memory_only_the_sequences_serve() -> None:
    with LLM("smollm2", context_size=512, threads=1, max_sequences=1, prefix_cache=0) as llm:
        for prompt in prompts_of(3):
            greedy(llm, prompt, 1)
        assert greedy(llm, prompts_of(3)[0], 1).usage.cached_tokens < 10
        assert llm.stats().saved_bytes == 0


def test_the_host_memory_keeps_to_its_size() -> None:
    with LLM("smollm2", context_size=512, threads=1, max_sequences=1, prefix_cache=4) as llm:
        for prompt in prompts_of(8):
            greedy(llm, prompt, 1)
            assert llm.stats().saved_bytes <= 4 * 2**20
        assert 0 < llm.stats().saved_prefixes < 7
        assert greedy(llm, prompts_of(8)[6], 1).usage.cached_tokens > 40  # the latest that was pushed out


def test_a_first_word_in_common_costs_no_prompt_its_place() -> None:
    # while there is an empty sequence, or host memory to keep it in
    with LLM("smollm2", context_size=512, threads=1, max_sequences=4, prefix_cache=0) as llm:
        llm.generate(["one", "two", "three", "four"], max_tokens=1)
        llm.clear_cache()
        for prompt in ("The harbour lay quiet in the morning, and Anna", "The engineers looked at a small machine that"):
            greedy(llm, prompt, 1)
        again = greedy(llm, "The harbour lay quiet in the morning, and Anna", 1)
        assert again.usage.cached_tokens == again.usage.prompt_tokens - 1


# ---- growth ----


def test_growing_in_mid_generation_changes_no_answer(plain: LLM) -> None:
    with LLM("smollm2", context_size=512, threads=1, max_sequences=16) as llm, ThreadPoolExecutor(16) as pool:
        prompts = [f"{number}. {OTHER}" for number in range(15)]
        long = pool.submit(greedy, llm, STORY, 40)
        wait_until(lambda: llm.stats().completion_tokens > 3)
        assert llm.stats().sequences == 1
        later: list[Future[Completion]] = []
        for count in (1, 2, 4, 8):  # 2, 4, 8 and 16 sequences in turn
            later += [pool.submit(greedy, llm, prompt, 8) for prompt in prompts[len(later) : len(later) + count]]
            wait_until(lambda count=count: llm.stats().sequences >= 2 * count or long.done())  # type: ignore[misc]
        answers = [long.result(120), *(one.result(120) for one in later)]
        assert llm.stats().sequences == 16
        for prompt, completion in zip([STORY, *prompts], answers):
            assert_unchanged(llm, plain, prompt, completion)


# ---- conversations ----


def test_a_turn_computes_only_what_is_new(small: LLM) -> None:
    conversation = small.conversation(system="You are brief.")
    first = conversation.send("Name a colour of the rainbow.", max_tokens=12, temperature=0)
    second = conversation.send("And another one?", max_tokens=12, temperature=0)
    assert second.usage.cached_tokens >= first.usage.prompt_tokens


def test_a_fork_shares_what_was_said_and_parts_from_it(small: LLM) -> None:
    conversation = small.conversation()
    conversation.send("My name is Anna. " + STORY, max_tokens=12, temperature=0)
    fork = conversation.fork()
    replies = [one.send(text, max_tokens=6, temperature=0) for one, text in ((fork, "Who are you?"), (conversation, "Who am I?"))]
    assert all(reply.usage.cached_tokens > 50 for reply in replies)
    assert fork.messages[:2] == conversation.messages[:2] and fork.messages[2:] != conversation.messages[2:]
    fork.messages[0]["content"] = "changed"
    assert conversation.messages[0]["content"] != "changed"


# ---- Gemma, whose window is 512 tokens ----


def long_prompt(llm: LLM, count: int) -> list[int]:
    return llm.tokenize("".join(f"Line {number}: {STORY}" for number in range(30)))[:count]


def test_gemma_takes_up_a_prompt_longer_than_its_window(gemma1: LLM) -> None:
    prompt = long_prompt(gemma1, 700)
    greedy(gemma1, prompt, 4)
    again = greedy(gemma1, prompt)
    assert again.usage.cached_tokens >= 690
    assert_unchanged(gemma1, gemma1, prompt, again)


@pytest.mark.parametrize("length", [150, 680])
def test_gemma_cut_back_into_the_middle_answers_the_same(gemma1: LLM, length: int) -> None:
    prompt = long_prompt(gemma1, 700)
    greedy(gemma1, prompt, 4)
    other = prompt[:length] + gemma1.tokenize(OTHER, add_special=False)
    assert_unchanged(gemma1, gemma1, other, greedy(gemma1, other))


def test_gemma_s_prompts_come_back_from_the_host(gemma1: LLM) -> None:
    prompts = [gemma1.tokenize(f"Book {number}.") + long_prompt(gemma1, 620) for number in range(3)]
    for prompt in prompts:
        greedy(gemma1, prompt, 1)
    completion = greedy(gemma1, prompts[0])
    assert completion.usage.cached_tokens >= 600
    assert_unchanged(gemma1, gemma1, prompts[0], completion)
