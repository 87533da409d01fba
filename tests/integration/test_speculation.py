"""Speculation: the same text, sooner."""

from __future__ import annotations

from collections.abc import Iterator

import numpy
import pytest

import gollama
from gollama import LLM, Context, Model, OptionError, SamplingParams

TEXT = ("The quick brown fox jumps over the lazy dog near the riverbank. On a bright summer morning, children played along the shore while "
        "their parents prepared breakfast in the cottage. ")
PROMPT = f"Text:\n{TEXT}\n\nThe same text again:\n{TEXT[:30]}"


@pytest.fixture(scope="module")
def guessing() -> Iterator[LLM]:
    with LLM("smollm2", context_size=1024, max_sequences=4, speculative="ngram") as llm:
        yield llm


def test_the_greedy_text_is_the_same_and_guesses_come_true(smollm2: LLM, guessing: LLM) -> None:
    plain = smollm2.generate(PROMPT, max_tokens=48, temperature=0)
    guessed = guessing.generate(PROMPT, max_tokens=48, temperature=0)
    assert guessed.tokens == plain.tokens and guessed.finish_reason == plain.finish_reason
    assert guessed.timings.accepted_tokens > 10 and guessed.timings.drafted_tokens >= guessed.timings.accepted_tokens
    assert plain.timings.drafted_tokens == 0


def test_log_probabilities_are_the_same(smollm2: LLM, guessing: LLM) -> None:
    plain = smollm2.generate(PROMPT, max_tokens=32, temperature=0, logprobs=3).logprobs
    guessed = guessing.generate(PROMPT, max_tokens=32, temperature=0, logprobs=3).logprobs
    assert plain is not None and guessed is not None
    assert [entry.token for entry in guessed] == [entry.token for entry in plain]
    assert numpy.allclose([entry.logprob for entry in guessed], [entry.logprob for entry in plain], atol=1e-3)


def test_sampling_with_a_seed_is_the_same(smollm2: LLM, guessing: LLM) -> None:
    params = SamplingParams(max_tokens=40, seed=5, cache_prompt=False)
    assert guessing.generate(PROMPT, params=params).tokens == smollm2.generate(PROMPT, params=params).tokens


def test_many_at_once_and_a_stop_string_in_a_guess(smollm2: LLM, guessing: LLM) -> None:
    prompts = [PROMPT, TEXT * 2, "One, two, three, one, two, three, one,"]
    plain = [smollm2.generate(prompt, max_tokens=24, temperature=0, stop=["shore", "cottage"]) for prompt in prompts]
    together = guessing.generate(prompts, max_tokens=24, temperature=0, stop=["shore", "cottage"])
    assert [completion.text for completion in together] == [completion.text for completion in plain]
    assert [completion.finish_reason for completion in together] == [completion.finish_reason for completion in plain]


def test_what_was_guessed_wrong_is_not_reused(smollm2: LLM, guessing: LLM) -> None:
    first = guessing.generate(PROMPT, max_tokens=24, temperature=0)
    longer = PROMPT + first.text + "\n\nOne, two, three, four,"  # whose continuation is no tie
    again = guessing.generate(longer, max_tokens=6, temperature=0)
    assert again.usage.cached_tokens > 60
    assert again.tokens == smollm2.generate(longer, max_tokens=6, temperature=0, cache_prompt=False).tokens


def test_a_draft_model_guesses(smollm2: LLM) -> None:
    with LLM("smollm2", context_size=512, max_sequences=2, speculative="smollm2") as llm:
        guessed = llm.generate(["The capital of France is", "One, two,"], max_tokens=20, temperature=0)
    plain = smollm2.generate(["The capital of France is", "One, two,"], max_tokens=20, temperature=0)
    assert [completion.tokens for completion in guessed] == [completion.tokens for completion in plain]
    assert all(completion.timings.accepted_tokens > 3 for completion in guessed)


def logits_of_last(model: Model, tokens: list[int], width: int) -> numpy.ndarray:
    """The last token's logits, computed alone or together with those before it."""
    with Context(model) as context:
        context.decode(tokens[:-width], output=False)
        context.decode(tokens[-width:])
        return numpy.array(context.logits())


def test_gemma_parts_only_where_the_two_likeliest_tie_within_the_error_of_batches(gemma: LLM) -> None:
    # llama.cpp computes Q4_K otherwise for one token than for several, so that a tie may fall to either side
    with LLM("gemma3:270m", context_size=1024, max_sequences=1, speculative="ngram") as llm:
        guessed = llm.generate(PROMPT, max_tokens=48, temperature=0)
    plain = gemma.generate(PROMPT, max_tokens=48, temperature=0, cache_prompt=False)
    assert guessed.timings.accepted_tokens > 0
    if guessed.tokens != plain.tokens:
        same = next(index for index, (a, b) in enumerate(zip(guessed.tokens, plain.tokens, strict=False)) if a != b)
        tokens = gemma.tokenize(PROMPT) + plain.tokens[:same]
        alone, together = (logits_of_last(gemma.model, tokens, width) for width in (1, 8))
        error = 4 * numpy.abs(alone - together).max()  # of one token; those in memory differ likewise
        assert abs(alone[plain.tokens[same]] - alone[guessed.tokens[same]]) <= error


def test_wrong_draft_models_are_refused() -> None:
    with pytest.raises(OptionError, match="cannot be used with this model"):
        LLM("smollm2", speculative="gemma3:270m")
    with pytest.raises(gollama.ModelNotFoundError):
        LLM("smollm2", speculative="no-such-model")
