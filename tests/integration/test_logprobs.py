"""Log probabilities, scores and perplexity, against numpy and llama.cpp's own tool."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest

from gollama import LLM, Context, ContextOverflowError, LoadOptions, OptionError, SamplingParams
from gollama.engine import device
from gollama.results import TokenLogprob
from tests.conftest import MODELS
from tests.support import reference

PROMPT = "The capital of France is Paris, and the capital of Italy is"
NEAR = 1e-4
WINDOW = 128  # of perplexity


@pytest.fixture(scope="module", params=MODELS)
def llm(request: pytest.FixtureRequest) -> Iterator[LLM]:
    with LLM(request.param, context_size=1024, threads=1, max_sequences=2) as llm:
        yield llm


@pytest.fixture(scope="module")
def tool(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference.build_perplexity(source_tree, tmp_path_factory.mktemp("perplexity"))


def log_softmax(logits: numpy.ndarray) -> numpy.ndarray:
    wide = logits.astype(numpy.float64)
    shifted = wide - wide.max()
    return numpy.asarray(shifted - numpy.log(numpy.exp(shifted).sum()))


def computed(llm: LLM, prompt: list[int], following: Sequence[int] = ()) -> list[numpy.ndarray]:
    """log softmax of llama.cpp's logits: of the token behind the prompt, computed at once, then of each one behind it."""
    with Context(llm.model, LoadOptions(context_size=1024, threads=1)) as context:
        context.decode(prompt)
        rows = [log_softmax(context.logits())]
        for token in following:
            context.decode([token])
            rows.append(log_softmax(context.logits()))
        return rows


def batch_error(llm: LLM, tokens: list[int]) -> float:
    """How far log probabilities of the same prompt lie apart that were computed in batches of one and of all tokens.

    llama.cpp's kernels differ for one row and for several; numbers of batches of different shapes are as far apart as that.
    """
    single = computed(llm, tokens[:1], tokens[1:])
    lengths = range(2, len(tokens) + 1, 3)
    return NEAR + 2 * max(float(numpy.abs(computed(llm, tokens[:length])[0] - single[length - 1]).max()) for length in lengths)


def assert_scores(scores: Sequence[TokenLogprob], tokens: Sequence[int], rows: Sequence[numpy.ndarray], k: int) -> None:
    assert [score.token for score in scores] == list(tokens)
    for score, row in zip(scores, rows):
        assert score.logprob == pytest.approx(row[score.token], abs=NEAR)
        assert [logprob for _, logprob in score.top] == pytest.approx(sorted(row, reverse=True)[:k], abs=NEAR)
        assert all(logprob == pytest.approx(row[token], abs=NEAR) for token, logprob in score.top)


@pytest.mark.parametrize("k", [0, 1, 7, 100])
def test_logprobs_are_those_of_the_logits(llm: LLM, k: int) -> None:
    completion = llm.generate(PROMPT, max_tokens=5, temperature=0, ignore_eos=True, logprobs=k, cache_prompt=False)
    rows = computed(llm, llm.tokenize(PROMPT), completion.tokens)
    assert completion.logprobs is not None
    assert_scores(completion.logprobs, completion.tokens, rows, k)


def test_logprobs_are_the_model_s_whatever_the_samplers_do(llm: LLM) -> None:
    params = SamplingParams(max_tokens=5, temperature=3, top_k=5, repeat_penalty=1.5, logit_bias={300: 5.0}, ignore_eos=True, seed=2,
                            logprobs=3, cache_prompt=False)
    completion = llm.generate(PROMPT, params=params)
    assert completion.logprobs is not None
    assert_scores(completion.logprobs, completion.tokens, computed(llm, llm.tokenize(PROMPT), completion.tokens), 3)


def test_greedy_takes_the_likeliest(llm: LLM) -> None:
    completion = llm.generate(PROMPT, max_tokens=8, temperature=0, logprobs=1)
    assert completion.logprobs is not None and len(completion.logprobs) == len(completion.tokens) > 0
    assert all(score.top[0] == (score.token, score.logprob) for score in completion.logprobs)


def test_the_texts_joined_are_the_answer(llm: LLM) -> None:
    completion = llm.generate(PROMPT, max_tokens=8, temperature=0, logprobs=0)
    assert "".join(score.text for score in completion.logprobs or []) == completion.text


def test_the_whole_vocabulary_sums_to_one(llm: LLM) -> None:
    completion = llm.generate(PROMPT, max_tokens=1, temperature=0, ignore_eos=True, logprobs=llm.model.n_vocab)
    assert completion.logprobs is not None
    top = completion.logprobs[0].top
    assert sorted(token for token, _ in top) == list(range(llm.model.n_vocab))
    assert math.fsum(math.exp(logprob) for _, logprob in top) == pytest.approx(1, abs=NEAR)


def test_more_than_the_vocabulary_is_refused(llm: LLM) -> None:
    more = llm.model.n_vocab + 1
    for name, params in (("logprobs", SamplingParams(logprobs=more)), ("prompt_logprobs", SamplingParams(prompt_logprobs=more))):
        with pytest.raises(OptionError, match=f"{name} must be at most {llm.model.n_vocab}"):
            llm.generate(PROMPT, params=params)


def test_none_are_told_unasked(llm: LLM) -> None:
    completion = llm.generate(PROMPT, max_tokens=2)
    assert completion.logprobs is None and completion.prompt_logprobs is None


def test_streamed_logprobs_joined_are_those_of_the_answer(llm: LLM) -> None:
    options: dict[str, Any] = {"max_tokens": 8, "temperature": 0, "logprobs": 2, "cache_prompt": False}
    whole = llm.generate(PROMPT, **options)
    assert [score for chunk in llm.stream(PROMPT, **options) for score in chunk.logprobs or []] == whole.logprobs


def test_prompt_logprobs_are_those_of_the_logits(llm: LLM) -> None:
    tokens = llm.tokenize(PROMPT)
    scores = llm.generate(tokens, max_tokens=1, prompt_logprobs=4).prompt_logprobs
    rows = computed(llm, tokens[:1], tokens[1:])[:-1]
    assert scores is not None
    assert [score.token for score in scores] == tokens[1:]
    error = batch_error(llm, tokens)
    for score, row in zip(scores, rows):
        assert score.logprob == pytest.approx(row[score.token], abs=error)
        assert [logprob for _, logprob in score.top] == pytest.approx(sorted(row, reverse=True)[:4], abs=error)


def test_the_prompt_s_logprobs_of_a_narrow_batch_are_exactly_those_of_the_logits(llm: LLM) -> None:
    tokens = llm.tokenize(PROMPT)
    with LLM(llm.model.path, context_size=512, threads=1, batch_size=1, micro_batch_size=1, max_sequences=1) as narrow:
        scores = narrow.generate(tokens, max_tokens=1, prompt_logprobs=4).prompt_logprobs
    assert scores is not None
    assert_scores(scores, tokens[1:], computed(llm, tokens[:1], tokens[1:])[:-1], 4)


def test_prompt_logprobs_do_not_depend_on_how_the_prompt_is_cut(llm: LLM) -> None:
    tokens = llm.tokenize(PROMPT * 4)  # more than the rows that one step keeps the logits of
    whole = llm.generate(tokens, max_tokens=1, prompt_logprobs=0).prompt_logprobs
    with LLM(llm.model.path, context_size=512, threads=1, batch_size=24, micro_batch_size=24) as narrow:
        cut = narrow.generate(tokens, max_tokens=1, prompt_logprobs=0).prompt_logprobs
    assert whole is not None and cut is not None and len(whole) == len(cut) == len(tokens) - 1
    assert [score.logprob for score in cut] == pytest.approx([score.logprob for score in whole], abs=batch_error(llm, tokens))


def test_prompt_logprobs_beside_others_are_the_same(llm: LLM) -> None:
    alone = llm.generate(PROMPT, max_tokens=1, prompt_logprobs=0).prompt_logprobs
    both = llm.generate([PROMPT, "One, two, three"], max_tokens=1, prompt_logprobs=0)[0].prompt_logprobs
    assert alone is not None and both is not None
    error = batch_error(llm, llm.tokenize(PROMPT))
    assert [score.logprob for score in both] == pytest.approx([score.logprob for score in alone], abs=error)


def test_a_score_is_the_sum_of_its_tokens(llm: LLM) -> None:
    score = llm.score(PROMPT)
    scores = llm.generate(PROMPT, max_tokens=1, prompt_logprobs=0).prompt_logprobs
    assert [token.token for token in score.tokens] == llm.tokenize(PROMPT)[1:] and scores == score.tokens
    assert score.logprob == pytest.approx(math.fsum(token.logprob for token in scores))
    assert score.perplexity == pytest.approx(math.exp(-score.logprob / len(scores)))


def test_a_likelier_text_scores_higher(llm: LLM) -> None:
    assert llm.score("The sky is blue.").logprob > llm.score("The sky is cheese.").logprob


def test_a_text_of_the_whole_context_is_scored_and_a_longer_one_refused(llm: LLM) -> None:
    tokens = llm.tokenize("word " * 300)
    with LLM(llm.model.path, context_size=256, threads=1) as small:
        assert len(small.score(tokens[:256]).tokens) == 255
        with pytest.raises(ContextOverflowError, match="257 tokens"):
            small.score(tokens[:257])


def test_a_single_token_has_an_empty_score(llm: LLM) -> None:
    score = llm.score([400])
    assert score.tokens == [] and score.logprob == 0 and math.isnan(score.perplexity)


@pytest.fixture(scope="module")
def text() -> str:
    return (Path(__file__).parents[2] / "README.md").read_text()[:2000]


@pytest.fixture(scope="module")
def stated(llm: LLM, tool: Path, text: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[float, float]:
    """What the tool says: perplexity and its error."""
    file = tmp_path_factory.mktemp("text") / "text"
    file.write_text(text)
    return reference.perplexity(tool, llm.model.path, file, WINDOW)


def test_perplexity_is_within_the_error_that_llama_perplexity_states(llm: LLM, text: str, stated: tuple[float, float]) -> None:
    value, error = stated
    ours = llm.perplexity(text, window=WINDOW)
    # it is the same text, so that only the shapes of batches make a difference, which is much smaller than that error
    assert ours.value == pytest.approx(value, abs=error / 10) and ours.error == pytest.approx(error, rel=0.1)
    assert ours.n_tokens == len(llm.tokenize(text)) // WINDOW * (WINDOW - 1 - WINDOW // 2)


def test_perplexity_in_batches_of_the_tool_s_shape_is_the_tool_s(
        llm: LLM, text: str, stated: tuple[float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "SCORED_ROWS", WINDOW)  # so that a window is computed at once
    with LLM(llm.model.path, context_size=WINDOW, threads=1, max_sequences=1) as whole:
        ours = whole.perplexity(text, window=WINDOW)
    # to its four decimals, but that it computes the logits of 64 rows where we have 63, which Gemma's Q4_K kernels take in fours
    near = 1e-5 if llm.model.path.name.startswith("Smol") else 2e-3
    assert (ours.value, ours.error) == pytest.approx(stated, rel=near)


def test_a_text_shorter_than_a_window_has_no_perplexity(llm: LLM) -> None:
    with pytest.raises(ContextOverflowError, match="a window 512"):
        llm.perplexity(PROMPT)


@pytest.mark.parametrize("window", [3, 1025, 0, True, 12.0])
def test_a_window_that_cannot_be_is_refused(llm: LLM, window: int) -> None:
    with pytest.raises(OptionError, match="window must be"):
        llm.perplexity(PROMPT, window=window)
