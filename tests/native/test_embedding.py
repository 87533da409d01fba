"""Embeddings and rerank scores of miniature models, against numpy's."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from gollama import (
    LLM,
    BusyError,
    CancelledError,
    ClosedError,
    ContextOverflowError,
    Embedder,
    LoadOptions,
    Model,
    NativeError,
    OptionError,
    TextError,
)
from tests.support.tiny_embedding import CONTEXT, SEP, NumpyBert, unit

TEXTS = ["the sky is blue", "cat", "", "a cat sleeps in the blue sky all day", "the the the"]
# ggml looks GELU up in a table of half precision, and keeps keys and values of flash attention in it
CLOSE = 2e-3
POOLED: dict[str, Callable[[Any], Any]] = {"mean": lambda hidden: hidden.mean(0), "cls": lambda hidden: hidden[0],
                                           "last": lambda hidden: hidden[-1]}


def options(**fields: Any) -> LoadOptions:
    return LoadOptions(threads=1, **fields)


# ---- what comes out ----


@pytest.mark.parametrize("flash_attention", ["on", "off"])
@pytest.mark.parametrize("pooling", POOLED)
def test_vectors_are_those_of_numpy(bert: Model, bert_path: Path, pooling: str, flash_attention: str) -> None:
    reference = NumpyBert(bert_path)
    expected = unit(numpy.stack([POOLED[pooling](reference.hidden(bert.tokenize(text))) for text in TEXTS]))
    with Embedder(bert, options(flash_attention=flash_attention), pooling=pooling) as embedder:
        found = embedder.embed(TEXTS)
    assert found.shape == (5, 32) and found.dtype == numpy.float32
    assert numpy.abs(found - expected).max() < CLOSE


def test_an_encoder_does_not_continue_text(bert: Model, bert_path: Path) -> None:
    assert not bert.is_generative
    with LLM(bert_path, threads=1) as llm, pytest.raises(NativeError, match="not a model that continues text"):
        llm.generate("a")


def test_auto_is_the_pooling_of_the_model(bert: Model) -> None:
    with Embedder(bert) as automatic, Embedder(bert, pooling="mean") as mean:
        assert (automatic.pooling, mean.pooling, automatic.dimension, automatic.context_size) == ("mean", "mean", 32, CONTEXT)
        assert numpy.array_equal(automatic.embed(TEXTS), mean.embed(TEXTS))


def test_vectors_have_length_1_unless_told_otherwise(bert: Model, bert_path: Path) -> None:
    with Embedder(bert) as embedder:
        plain = embedder.embed(TEXTS, normalize=False)
        assert numpy.allclose(numpy.linalg.norm(embedder.embed(TEXTS), axis=1), 1, atol=1e-6)
    reference = NumpyBert(bert_path).hidden(bert.tokenize(TEXTS[0])).mean(0)
    assert numpy.allclose(plain[0], reference, atol=5e-3) and abs(numpy.linalg.norm(plain[0]) - 1) > 0.1


def test_many_at_once_are_one_by_one_and_in_order(bert: Model) -> None:
    texts = [f"the {'sky ' * (index % 7)} is {'blue' * (index % 3)}" for index in range(300)]
    with Embedder(bert, options(micro_batch_size=64)) as embedder:
        together = embedder.embed(texts)
        alone = numpy.concatenate([embedder.embed(text) for text in texts])
    assert together.shape == (300, 32) and numpy.abs(together - alone).max() < CLOSE
    assert numpy.abs(together[0] - together[1]).max() > 0.01


def test_texts_and_tokens_give_the_same(bert: Model) -> None:
    with Embedder(bert) as embedder:
        tokens = [bert.tokenize(text) for text in TEXTS]
        assert numpy.array_equal(embedder.embed(TEXTS), embedder.embed(tokens))
        assert numpy.array_equal(embedder.embed(tokens), embedder.embed([numpy.array(one) for one in tokens]))
        assert numpy.array_equal(embedder.embed("cat"), embedder.embed(["cat"]))


def test_no_texts_give_no_vectors(bert: Model) -> None:
    with Embedder(bert) as embedder:
        assert embedder.embed([]).shape == (0, 32)
        assert embedder.embed(iter(())).shape == (0, 32)


def test_vectors_of_tokens(bert: Model, bert_path: Path) -> None:
    reference = NumpyBert(bert_path)
    with Embedder(bert, pooling="none") as embedder:
        found = embedder.embed_tokens(TEXTS)
        assert [one.shape for one in found] == [(len(bert.tokenize(text)), 32) for text in TEXTS]
        for text, vectors in zip(TEXTS, found, strict=True):
            assert numpy.abs(vectors - unit(reference.hidden(bert.tokenize(text)))).max() < 2 * CLOSE
        with pytest.raises(OptionError, match="pooling='mean' or 'last', or call embed_tokens"):
            embedder.embed("cat")


# ---- long texts ----


def test_an_encoder_takes_texts_up_to_its_positions(bert: Model, bert_path: Path) -> None:
    reference = NumpyBert(bert_path)
    texts = ["cat", "sky " * (CONTEXT - 2), "blue " * 300, "the"]
    with Embedder(bert, options(micro_batch_size=32, flash_attention="off")) as embedder:
        assert numpy.abs(embedder.embed("cat") - embedder.embed(texts)[:1]).max() < CLOSE
        found = embedder.embed(texts)
    for text, vector in zip(texts, found, strict=True):
        assert numpy.abs(vector - unit(reference.hidden(bert.tokenize(text)).mean(0))).max() < CLOSE


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_decoder_takes_long_texts_in_parts(tiny_model: Model, pooling: str) -> None:
    """100 tokens in micro-batches of 16 are 100 tokens in one."""
    texts = [[1, *range(100, 199)], [1, 2, 3], [1, *range(30, 109)], [1, 77]]
    with Embedder(tiny_model, options(micro_batch_size=16), pooling=pooling) as parts, Embedder(tiny_model, pooling=pooling) as whole:
        expected = whole.embed(texts, normalize=False)
        assert numpy.abs(parts.embed(texts, normalize=False) - expected).max() < 1e-3 < numpy.abs(expected).max()
        assert numpy.abs(parts.embed(texts) - whole.embed(texts)).max() < 1e-4


def test_the_tokens_of_a_long_text_in_parts(tiny_model: Model) -> None:
    texts = [[5, 6], [1, *range(100, 199)], [7]]
    with Embedder(tiny_model, options(micro_batch_size=16), pooling="none") as parts, Embedder(tiny_model, pooling="none") as whole:
        for one, other in zip(parts.embed_tokens(texts), whole.embed_tokens(texts), strict=True):
            assert one.shape == other.shape and numpy.abs(one - other).max() < 1e-4


def test_a_text_that_is_too_long_is_told_with_what_helps(bert: Model, tiny_model: Model) -> None:
    with Embedder(bert) as embedder:
        with pytest.raises(ContextOverflowError, match=r"texts\[1\] has 902 tokens, and 700 fit: .* truncate=True"):
            embedder.embed(["cat", "sky " * 900])
        with pytest.raises(ContextOverflowError, match=r"texts\[0\] has 701 tokens"):
            embedder.embed([[5] * 701])
    with Embedder(tiny_model, options(context_size=20), pooling="mean") as embedder:
        with pytest.raises(ContextOverflowError, match="a context_size of up to 128"):
            embedder.embed([[5] * 21])
        assert embedder.embed([[5] * 20]).shape == (1, 32)


def test_truncation_keeps_the_end_token(bert: Model) -> None:
    with Embedder(bert) as embedder:
        kept = bert.tokenize("sky " * 900)[: CONTEXT - 1]
        assert numpy.array_equal(embedder.embed("sky " * 900, truncate=True), embedder.embed([[*kept, SEP]]))
        assert numpy.array_equal(embedder.embed([[5] * 800], truncate=True), embedder.embed([[5] * CONTEXT]))


# ---- what is refused ----


@pytest.mark.parametrize(("texts", "kind", "says"), [
    (5, TextError, "the texts must be a str or a list, not int"), (b"x", TextError, "not bytes"), ({"a": 1}, TextError, "not dict"),
    ([b"x"], TextError, r"texts\[0\] must be a str or a list of token ids, not bytes"), ([5, 6], TextError, r"texts\[0\] .* not int"),
    (["a", None], TextError, r"texts\[1\]"), ([["a"]], TextError, r"texts\[0\]"),
    (["a", "b\ud83d"], TextError, r"texts\[1\] holds the lone"), (["a", []], TextError, r"texts\[1\] is empty: it has no tokens"),
    ([[5], [99999]], OptionError, "token 99999 is not in the vocabulary"),
    ([[-1]], OptionError, "token -1"), ([[1.5]], TextError, r"texts\[0\]"),
])
def test_what_is_no_text_is_refused_by_its_place(bert: Model, texts: Any, kind: type[Exception], says: str) -> None:
    with Embedder(bert) as embedder:
        with pytest.raises(kind, match=says):
            embedder.embed(texts)
        assert embedder.embed("cat").shape == (1, 32)


def test_a_pooling_that_there_is_not_is_refused(bert: Model) -> None:
    with pytest.raises(OptionError, match="pooling must be one of 'auto', 'none', 'mean'"):
        Embedder(bert, pooling="max")


def test_a_vocabulary_embeds_nothing(bert_path: Path) -> None:
    with Model(bert_path, vocab_only=True) as model, pytest.raises(OptionError, match="only the vocabulary"):
        Embedder(model)


# ---- threads and lifetimes ----


def test_a_closed_embedder_says_so(bert: Model) -> None:
    with Embedder(bert) as embedder:
        embedder.embed("cat")
    embedder.close()
    embedder.cancel()
    for texts in (["cat"], []):
        with pytest.raises(ClosedError):
            embedder.embed(texts)


def test_closing_the_model_closes_its_embedders(bert_path: Path) -> None:
    with Model(bert_path) as model:
        embedder = Embedder(model)
    assert embedder.closed


MANY = [[5 + index % 20] * 60 for index in range(20_000)]


def test_a_second_thread_is_told_that_it_is_busy_and_cancels(bert: Model) -> None:
    with Embedder(bert, options()) as embedder:
        caught: list[Exception] = []

        def work() -> None:
            try:
                embedder.embed(MANY)
            except CancelledError as error:
                caught.append(error)

        embedder.cancel()  # nothing runs: nothing happens
        worker = threading.Thread(target=work)
        worker.start()
        while not embedder._handle._computing:
            assert worker.is_alive()
        with pytest.raises(BusyError, match="in use by another thread"):
            embedder.embed("cat")
        embedder.cancel()
        worker.join()
        assert len(caught) == 1
        assert embedder.embed("cat").shape == (1, 32)


class Later(threading.Event):
    """Is set when it has been asked so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("times", [0, 3, 11, 15])  # in the midst of the texts, and between two of the 6 batches
def test_who_sets_stop_ends_that_call(bert: Model, times: int) -> None:
    texts = [[5 + index] * 60 for index in range(12)]
    with Embedder(bert, options(micro_batch_size=128)) as embedder:
        whole = embedder.embed(texts, stop=Later(18))
        with pytest.raises(CancelledError, match="stop"):
            embedder.embed(texts, stop=Later(times))
        assert (embedder.embed(texts, stop=threading.Event()) == whole).all()


def test_an_exception_of_a_signal_handler_ends_it(bert: Model) -> None:
    def interrupt(*details: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Embedder(bert, options()) as embedder:
            embedder.embed("cat")
            inputs = embedder._inputs(MANY, False)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                while True:
                    embedder._compute(inputs, True)
            assert embedder.embed("cat").shape == (1, 32)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_forked_child_embeds_and_nothing_is_printed(bert_path: Path) -> None:
    code = f"""
import os, gollama, numpy
with gollama.Model({str(bert_path)!r}) as model, gollama.Embedder(model, gollama.LoadOptions(threads=1)) as embedder:
    vector = embedder.embed("cat")
    child = os.fork()
    same = numpy.array_equal(embedder.embed("cat"), vector)
    if child == 0:
        os._exit(0 if same else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and same
"""
    result = subprocess.run([sys.executable, "-W", "error", "-X", "dev", "-c", code], capture_output=True, text=True, timeout=60)
    ignored = [line for line in result.stderr.splitlines() if "fork" not in line and line.strip()]
    assert (result.returncode, result.stdout, ignored) == (0, "", [])
