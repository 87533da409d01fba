"""Vectors equal those of llama.cpp's own llama-embedding."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from gollama import Embedder, LoadOptions, Model, _native, models
from tests.support import minilm, reference, tiny_embedding

# the tool stands on the prebuilt libraries; another compiler's round otherwise, which Q4_1 passes on
ROUNDING = 1e-5 if _native.build()["provider"] == "prebuilt" else 1e-2
TEXTS = ["The capital of France is Paris.", "A cat sleeps on the mat, and the dog beside it.", "def fibonacci(n):"]


@pytest.fixture(scope="module")
def tool(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference.build_embedding(source_tree, tmp_path_factory.mktemp("embedding"))


@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
@pytest.mark.parametrize("name", ["smollm2", "gemma3:270m"])
def test_a_decoder(tool: Path, name: str, pooling: str) -> None:
    path = models.fetch(name)
    with Model(path) as model, Embedder(model, LoadOptions(context_size=512, threads=1), pooling=pooling) as embedder:
        ours = embedder.embed(TEXTS)
    theirs = numpy.array(reference.embeddings(tool, path, TEXTS, "--pooling", pooling))
    assert ours.shape == theirs.shape and numpy.abs(ours - theirs).max() < ROUNDING


def test_an_encoder(tool: Path, tmp_path: Path) -> None:
    path = tiny_embedding.write_bert(tmp_path / "bert.gguf", context=512)
    texts = ["the sky is blue", "cat", "a cat sleeps all day"]
    with Model(path) as model, Embedder(model, LoadOptions(threads=1)) as embedder:
        ours = embedder.embed(texts)
    assert numpy.abs(ours - numpy.array(reference.embeddings(tool, path, texts))).max() < 1e-5


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_long_text_in_parts_is_the_long_text_in_one(pooling: str) -> None:
    text = "The quick brown fox jumps over the lazy dog, and the dog sleeps on. " * 40
    with Model(models.fetch("smollm2")) as model:
        count = len(model.tokenize(text))
        assert 512 < count < 1024
        vectors = []
        for size in (128, 512, 1024):
            with Embedder(model, LoadOptions(context_size=1024, micro_batch_size=size, threads=1), pooling=pooling) as embedder:
                vectors.append(embedder.embed(text)[0])
    # the weights are quantized, and so are the activations, by blocks that differ
    assert vectors[0] @ vectors[2] > 0.999 and vectors[1] @ vectors[2] > 0.999


def test_vectors_mean_something() -> None:
    with Model(models.fetch("smollm2")) as model, Embedder(model, LoadOptions(context_size=512, threads=1), pooling="mean") as embedder:
        cat, kitten, contract = embedder.embed(["A cat sat on the mat.", "A kitten sat on the rug.", "The contract ends in March 2019."])
    assert cat @ kitten > cat @ contract


@pytest.fixture(scope="module")
def minilm_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minilm")
    return minilm.convert(minilm.fetch(folder), folder / "all-MiniLM-L6-v2.gguf")


@pytest.mark.slow
def test_minilm_gives_the_published_similarities(minilm_path: Path) -> None:
    """Those of the quickstart on sbert.net, for this model."""
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    with Model(minilm_path) as model, Embedder(model, LoadOptions(threads=1)) as embedder:
        vectors = embedder.embed(texts)
    published = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
    assert numpy.abs(vectors @ vectors.T - published).max() < 2e-3


@pytest.mark.slow
def test_minilm_is_numpys_and_the_tools(minilm_path: Path, tool: Path) -> None:
    reference_model = tiny_embedding.NumpyBert(minilm_path, heads=12)
    texts = [*TEXTS, "Größe, naïve café, 東京", "word " * 200]
    with Model(minilm_path) as model, Embedder(model, LoadOptions(threads=1)) as embedder:
        ours = embedder.embed(texts)
        expected = tiny_embedding.unit(numpy.stack([reference_model.hidden(model.tokenize(text)).mean(0) for text in texts]))
    assert numpy.sum(ours * expected, axis=1).min() > 0.9999
    assert numpy.abs(ours - numpy.array(reference.embeddings(tool, minilm_path, texts))).max() < 1e-5
