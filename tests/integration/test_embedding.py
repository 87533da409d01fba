"""Vectors equal those of llama.cpp's own llama-embedding."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from gollama import Embedder, LoadOptions, Model, models
from tests.support import reference, tiny_embedding

TEXTS = ["The capital of France is Paris.", "A cat sleeps on the mat, and the dog beside it.", "def fibonacci(n):"]


@pytest.fixture(scope="module")
def tool(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference.build_embedding(source_tree, tmp_path_factory.mktemp("embedding"))


@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
@pytest.mark.parametrize("name", ["smollm2", "gemma3:270m"])
def test_a_decoder(tool: Path, name: str, pooling: str) -> None:
    path = models.fetch(name)
    with Model(path) as model, Embedder(model, LoadOptions(context_size=512, threads=2), pooling=pooling) as embedder:
        ours = embedder.embed(TEXTS)
    theirs = numpy.array(reference.embeddings(tool, path, TEXTS, "--pooling", pooling))
    assert ours.shape == theirs.shape and numpy.abs(ours - theirs).max() < 1e-5


def test_an_encoder(tool: Path, tmp_path: Path) -> None:
    path = tiny_embedding.write_bert(tmp_path / "bert.gguf", context=512)
    texts = ["the sky is blue", "cat", "a cat sleeps all day"]
    with Model(path) as model, Embedder(model, LoadOptions(threads=2)) as embedder:
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
            with Embedder(model, LoadOptions(context_size=1024, micro_batch_size=size, threads=2), pooling=pooling) as embedder:
                vectors.append(embedder.embed(text)[0])
    # the weights are quantized, and so are the activations, by blocks that differ
    assert vectors[0] @ vectors[2] > 0.999 and vectors[1] @ vectors[2] > 0.999


def test_vectors_mean_something() -> None:
    with Model(models.fetch("smollm2")) as model, Embedder(model, LoadOptions(context_size=512, threads=2), pooling="mean") as embedder:
        cat, kitten, contract = embedder.embed(["A cat sat on the mat.", "A kitten sat on the rug.", "The contract ends in March 2019."])
    assert cat @ kitten > cat @ contract
