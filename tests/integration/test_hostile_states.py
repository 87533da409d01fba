"""State files made to harm: their digests are right, so that llama.cpp's own reader gets what is wrong in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gollama import LLM
from tests.support import tiny_memory

COUNT = 200
SOURCES = Path(__file__).parents[2]


def survive(model: str, folder: Path, prompt: list[int]) -> str:
    """Save a state, and load it with COUNT damages in a process of its own; what that says."""
    file = folder / "state"
    with LLM(model, context_size=512, threads=1, max_sequences=2) as llm:
        llm.generate([prompt, prompt[:40] + [7] * 40], max_tokens=2, temperature=0)
        assert llm.save_state(file) >= 2
    command = [sys.executable, "-m", "tests.support.hostile_states", model, str(file), json.dumps(prompt), "1", str(COUNT)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=SOURCES)
    assert result.returncode == 0 and result.stdout.endswith("alive\n"), (result.returncode, result.stdout[-500:], result.stderr[-2000:])
    return result.stdout


def test_no_state_of_smollm2_kills_the_process(tmp_path: Path) -> None:
    assert "cached [" in survive("smollm2", tmp_path, list(range(100, 180)))


@pytest.mark.parametrize("kind", tiny_memory.WRITERS)
def test_no_state_of_another_memory_kills_the_process(tmp_path: Path, kind: str) -> None:
    model = tiny_memory.WRITERS[kind](tmp_path / "model.gguf")
    assert "cached [" in survive(str(model), tmp_path, list(range(100, 200)))
