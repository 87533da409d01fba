"""Rerank scores of miniature models, against numpy's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest

from gollama import ContextOverflowError, Embedder, LoadOptions, Model, NativeError, OptionError, RerankResult, TextError
from tests.support import tiny_embedding
from tests.support.tiny_embedding import CLS, RERANK_TEMPLATE, SEP, NumpyBert


def pair(model: Model, query: str, document: str) -> list[int]:
    """As format_prompt_rerank of llama-server builds it for a vocabulary with BOS and SEP, and no EOS."""
    return [CLS, *model.tokenize(query, add_special=False), SEP, *model.tokenize(document, add_special=False)]


DOCUMENTS = ["sky", "the sky is blue", "cat sleeps", "", "blue " * 40]


def test_scores_are_those_of_numpy_and_sorted(ranker: Model, ranker_path: Path) -> None:
    reference = NumpyBert(ranker_path)
    expected = [float(reference.scores(pair(ranker, "is the sky blue", document))[0]) for document in DOCUMENTS]
    with Embedder(ranker, LoadOptions(threads=1)) as embedder:
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


def test_a_head_without_its_last_layer_is_read_at_the_right_place(tmp_path: Path) -> None:
    """llama.cpp reads the scores of several sequences one float apart, where they lie a whole vector apart."""
    path = tiny_embedding.write_bert(tmp_path / "short.gguf", pooling=gguf.PoolingType.RANK, head=True, head_output=False)
    with Model(path) as model, Embedder(model) as embedder:
        for result in embedder.rerank("sky", DOCUMENTS):
            expected = NumpyBert(path).scores(pair(model, "sky", DOCUMENTS[result.index]))[0]
            assert abs(result.score - expected) < 0.01


def test_a_causal_reranker_gives_the_same_scores_in_parts(qwen: Model) -> None:
    documents = ["blue " * 60, "the", "a cat"]
    with Embedder(qwen, LoadOptions(threads=1, micro_batch_size=16)) as parts, Embedder(qwen, LoadOptions(threads=2)) as whole:
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
