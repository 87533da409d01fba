"""Miniature models that embed and rank."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest

from gollama import Model
from tests.support import tiny_embedding


@pytest.fixture(scope="session")
def bert_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_embedding.write_bert(tmp_path_factory.mktemp("bert") / "bert.gguf", context=tiny_embedding.CONTEXT)


@pytest.fixture(scope="module")
def bert(bert_path: Path) -> Iterator[Model]:
    with Model(bert_path) as model:
        yield model


@pytest.fixture(scope="session")
def ranker_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranker") / "ranker.gguf"
    return tiny_embedding.write_bert(path, pooling=gguf.PoolingType.RANK, head=True)


@pytest.fixture(scope="module")
def ranker(ranker_path: Path) -> Iterator[Model]:
    with Model(ranker_path) as model:
        yield model


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tiny_embedding.write_qwen3_ranker(tmp_path_factory.mktemp("qwen") / "qwen.gguf")
    with Model(path) as model:
        yield model
