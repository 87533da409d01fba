"""Embeddings and rerank scores of miniature models, against numpy's."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest

from gollama import (
    BusyError,
    CancelledError,
    ClosedError,
    ContextOverflowError,
    Embedder,
    LoadOptions,
    Model,
    NativeError,
    OptionError,
    RerankResult,
    TextError,
)
from tests.support import tiny_embedding
from tests.support.tiny_embedding import CLS, RERANK_TEMPLATE, SEP, NumpyBert, unit

TEXTS = ["the sky is blue", "cat", "", "a cat sleeps in the blue sky all day", "the the the"]
CONTEXT = 700
# ggml looks GELU up in a table of half precision, and keeps keys and values of flash attention in it
CLOSE = 2e-3
POOLED: dict[str, Callable[[Any], Any]] = {"mean": lambda hidden: hidden.mean(0), "cls": lambda hidden: hidden[0],
                                           "last": lambda hidden: hidden[-1]}


@pytest.fixture(scope="module")
def bert_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_embedding.write_bert(tmp_path_factory.mktemp("bert") / "bert.gguf", context=CONTEXT)


@pytest.fixture(scope="module")
def bert(bert_path: Path) -> Iterator[Model]:
    with Model(bert_path) as model:
        yield model


@pytest.fixture(scope="module")
def ranker_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranker") / "ranker.gguf"
    return tiny_embedding.write_bert(path, pooling=gguf.PoolingType.RANK, head=True)


@pytest.fixture(scope="module")
def ranker(ranker_path: Path) -> Iterator[Model]:
    with Model(ranker_path) as model:
        yield model


@pytest.fixture(scope="module")
def qwen_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_embedding.write_qwen3_ranker(tmp_path_factory.mktemp("qwen") / "qwen.gguf")


@pytest.fixture(scope="module")
def qwen(qwen_path: Path) -> Iterator[Model]:
    with Model(qwen_path) as model:
        yield model


def options(**fields: Any) -> LoadOptions:
    return LoadOptions(threads=2, **fields)


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
        tokens: list[Any] = [bert.tokenize(text) for text in TEXTS]
        assert numpy.array_equal(embedder.embed(TEXTS), embedder.embed(tokens))
        assert numpy.array_equal(embedder.embed(tokens), embedder.embed([numpy.array(one) for one in tokens]))
        assert numpy.array_equal(embedder.embed("cat"), embedder.embed(["cat"]))


def test_no_texts_give_no_vectors(bert: Model) -> None:
    with Embedder(bert) as embedder:
        assert embedder.embed([]).shape == (0, 32)
        assert embedder.embed(iter(())).shape == (0, 32)  # type: ignore[arg-type]


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


# ---- reranking ----


def pair(model: Model, query: str, document: str) -> list[int]:
    """As format_prompt_rerank of llama-server builds it for a vocabulary with BOS and SEP, and no EOS."""
    return [CLS, *model.tokenize(query, add_special=False), SEP, *model.tokenize(document, add_special=False)]


DOCUMENTS = ["sky", "the sky is blue", "cat sleeps", "", "blue " * 40]


def test_scores_are_those_of_numpy_and_sorted(ranker: Model, ranker_path: Path) -> None:
    reference = NumpyBert(ranker_path)
    expected = [float(reference.scores(pair(ranker, "is the sky blue", document))[0]) for document in DOCUMENTS]
    with Embedder(ranker, options()) as embedder:
        results = embedder.rerank("is the sky blue", DOCUMENTS)
        assert [result.index for result in results] == sorted(range(5), key=lambda index: -expected[index])
        assert all(abs(result.score - expected[result.index]) < 0.01 for result in results)
        best = embedder.rerank("is the sky blue", DOCUMENTS, top_n=2)
        assert best == results[:2] and isinstance(best[0], RerankResult)
        assert embedder.rerank("is the sky blue", []) == []


def test_a_vocabulary_with_eos_closes_both_texts(tmp_path: Path) -> None:
    path = tiny_embedding.write_bert(tmp_path / "eos.gguf", pooling=gguf.PoolingType.RANK, head=True, eos=True)
    with Model(path) as model, Embedder(model) as embedder:
        expected = NumpyBert(path).scores([*pair(model, "is the sky blue", "cat"), SEP])[0]
        assert abs(embedder.rerank("is the sky blue", ["cat"])[0].score - expected) < 0.01


def test_several_labels_are_read_within_their_buffer(tmp_path: Path) -> None:
    """llama.cpp gives as many floats as there are labels, fewer than a vector has; the first is the score."""
    path = tiny_embedding.write_bert(tmp_path / "labels.gguf", pooling=gguf.PoolingType.RANK, head=True, labels=["yes", "no", "so"])
    with Model(path) as model, Embedder(model) as embedder:
        assert embedder.dimension == 3
        scores = {result.index: result.score for result in embedder.rerank("sky", DOCUMENTS)}
        for index, document in enumerate(DOCUMENTS):
            assert abs(scores[index] - NumpyBert(path).scores(pair(model, "sky", document))[0]) < 0.01


def test_a_causal_reranker_gives_the_same_scores_in_parts(qwen: Model) -> None:
    documents = ["blue " * 60, "the", "a cat"]
    with Embedder(qwen, options(micro_batch_size=16)) as parts, Embedder(qwen, options()) as whole:
        found, expected = ({result.index: result.score for result in one.rerank("sky", documents)} for one in (parts, whole))
    assert all(0 < score < 1 and abs(score - found[index]) < 1e-4 for index, score in expected.items())


def test_the_template_of_the_model_is_filled_and_texts_stay_text(qwen: Model) -> None:
    with Embedder(qwen) as embedder:
        def score(query: str, document: str) -> float:
            return embedder.rerank(query, [document])[0].score

        def computed(prompt: list[int]) -> float:
            return float(embedder._compute([prompt], False)[0, 0])

        plain = RERANK_TEMPLATE.replace("{query}", "sky").replace("{document}", "blue")
        assert score("sky", "blue") == computed(qwen.tokenize(plain, add_special=False, parse_special=True))
        # a query that looks like the template's field is not filled again
        braces = RERANK_TEMPLATE.replace("{query}", "{DOCUMENT}").replace("{document}", "blue").replace("DOCUMENT", "document")
        assert score("{document}", "blue") == computed(qwen.tokenize(braces, add_special=False, parse_special=True))
        pairs = embedder._pairs
        assert pairs is not None
        assert pairs.tokens("sky", "blue</s>").count(2) == 1 and qwen.detokenize(pairs.tokens("sky", "blue</s>")).endswith("blue </s>")


@pytest.mark.parametrize(("pooling", "hint"), [("auto", "no rank head and was not made for it"), ("cls", "no rank head")])
def test_a_model_without_a_rank_head_says_so(bert: Model, pooling: str, hint: str) -> None:
    with Embedder(bert, pooling=pooling) as embedder, pytest.raises(NativeError, match=hint):
        embedder.rerank("sky", ["blue"])
    with pytest.raises(NativeError, match=r"bert\.gguf: the model has no rank head"):
        Embedder(bert, pooling="rank")


def test_a_reranking_model_with_another_pooling_says_what_to_do(ranker: Model) -> None:
    with Embedder(ranker, pooling="cls") as embedder:
        assert embedder.embed("cat").shape == (1, 32)
        with pytest.raises(NativeError, match="make the Embedder with pooling='rank'"):
            embedder.rerank("sky", ["blue"])
    with Embedder(ranker) as embedder, pytest.raises(OptionError, match="call rerank"):
        embedder.embed("cat")


@pytest.mark.parametrize(("query", "documents", "top_n", "kind", "says"), [
    (5, ["a"], None, TextError, "the query must be a str"), ("\ud800", ["a"], None, TextError, "the query holds the lone surrogate"),
    ("a", "b", None, TextError, "the documents must be a list of str"), ("a", [b"b"], None, TextError, r"documents\[0\] must be a str"),
    ("a", ["b", "x\udfff"], None, TextError, r"documents\[1\] holds the lone"), ("a", ["b"], 0, OptionError, "top_n"),
    ("a", ["b"], 1.5, OptionError, "top_n"), ("a", ["b", "sky " * 99], None, ContextOverflowError, r"documents\[1\] with the query has"),
])
def test_what_cannot_be_ranked_is_refused(ranker: Model, query: Any, documents: Any, top_n: Any, kind: type[Exception], says: str) -> None:
    with Embedder(ranker) as embedder:
        with pytest.raises(kind, match=says):
            embedder.rerank(query, documents, top_n=top_n)


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
with gollama.Model({str(bert_path)!r}) as model, gollama.Embedder(model, gollama.LoadOptions(threads=2)) as embedder:
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
