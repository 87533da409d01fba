"""Greedy text equals what llama.cpp's own tool prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from gollama import LLM
from tests.support import reference

PROMPTS = ("The capital of France is", "def fibonacci(n):", "Once upon a time, in a small village")
COUNT = 32


@pytest.fixture(scope="module")
def tool(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference.build(source_tree, tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text(llm: LLM, tool: Path, prompt: str) -> None:
    ours = llm.generate(prompt, max_tokens=COUNT, temperature=0).text
    theirs = reference.greedy(tool, llm.model.path, prompt, COUNT)
    assert len(ours) > 40
    assert theirs.rstrip("\n") == ours.rstrip("\n")
