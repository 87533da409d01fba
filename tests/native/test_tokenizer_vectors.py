"""llama.cpp's own tokenizer vectors, read from the pinned bundle: models/ggml-vocab-*.gguf with .inp and .out."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

import gollama
from tools import natives

SEPARATOR = "\n__ggml_vocab_test__\n"


@functools.cache
def vocabularies() -> list[Path]:
    return sorted(natives.source_tree().glob("models/ggml-vocab-*.gguf"))


def with_vectors() -> list[Path]:
    return [file for file in vocabularies() if file.with_name(file.name + ".inp").exists()]


def test_the_bundle_has_nineteen_vocabularies() -> None:
    assert len(vocabularies()) == 19


@pytest.mark.parametrize("file", vocabularies(), ids=lambda file: file.stem)
def test_every_vocabulary_loads(file: Path) -> None:
    with gollama.Model(file, vocab_only=True) as model:
        assert model.n_vocab > 1000
        assert len(model.metadata) > 5


@pytest.mark.parametrize("file", vocabularies(), ids=lambda file: file.stem)
@pytest.mark.parametrize("character", ["-", "1", "中"])
def test_long_runs_of_one_character_are_tokenized(file: Path, character: str) -> None:
    # llama.cpp's regular expressions recurse for every character; on the main thread's stack this ended the process
    with gollama.Model(file, vocab_only=True) as model:
        if model.vocabulary_type == "BPE":
            assert len(model.tokenize(character * 60_000)) > 100


@pytest.mark.parametrize("file", with_vectors(), ids=lambda file: file.stem)
def test_tokens_equal_the_vectors(file: Path) -> None:
    texts = file.with_name(file.name + ".inp").read_bytes().decode().split(SEPARATOR)
    lines = file.with_name(file.name + ".out").read_text(encoding="utf-8").split("\n")
    expected = [[int(word) for word in line.split()] for line in lines][: len(texts)]
    assert len(texts) > 30
    with gollama.Model(file, vocab_only=True) as model:
        # as llama.cpp's tests/test-tokenizer-0.cpp does it: without special tokens, and not parsing any
        found = [model.tokenize(text, add_special=False) for text in texts]
    assert found == expected
