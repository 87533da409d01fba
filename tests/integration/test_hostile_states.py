"""State files made to harm: their digests are right, so that llama.cpp's own reader gets what is wrong in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gollama import LLM, states
from tests.support import tiny_memory

COUNT = 200
SOURCES = Path(__file__).parents[2]


def survive(model: str, folder: Path, prompt: list[int], count: int = COUNT) -> str:
    """Save a state, and load it with so many damages in a process of its own; what that says."""
    file = folder / "state"
    with LLM(model, context_size=512, threads=1, max_sequences=2) as llm:
        llm.generate([prompt, prompt[:20] + [7] * 40], max_tokens=2, temperature=0)
        assert llm.save_state(file) >= 2
    command = [sys.executable, "-m", "tests.support.hostile_states", model, str(file), json.dumps(prompt), "1", str(count)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=SOURCES)
    assert result.returncode == 0 and result.stdout.endswith("alive\n"), (result.returncode, result.stdout[-500:], result.stderr[-2000:])
    return result.stdout


def test_a_state_of_more_cells_than_the_context_is_refused_before_memory_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, prompt = tmp_path / "state", list(range(100, 200))
    with LLM(tiny_memory.write_mamba(tmp_path / "model.gguf"), context_size=512, threads=1) as llm:
        llm.generate(prompt, max_tokens=2)
        llm.save_state(file)
        llm.clear_cache()
        header, _, rest = file.read_bytes()[len(states.MAGIC) :].partition(b"\n")
        found = json.loads(header)
        start = 0
        for entry in found["prefixes"]:
            end = start + 4 * entry["tokens"] + entry["bytes"]
            cells = start + 4 * entry["tokens"] + 8  # behind the magic and the sequence
            rest = rest[:cells] + (2**31).to_bytes(4, "little") + rest[cells + 4 :]
            entry["sha256"] = states.digest(entry, rest[start:end])
            start = end
        file.write_bytes(states.MAGIC + json.dumps(found).encode() + b"\n" + rest)
        llm.load_state(file)
        assert llm.generate(prompt, max_tokens=2, ignore_eos=True).usage.cached_tokens == 0
        assert "more tokens than the context" in caplog.text


def test_no_state_of_smollm2_kills_the_process(tmp_path: Path) -> None:
    assert "cached [" in survive("smollm2", tmp_path, list(range(100, 140)), 60)


@pytest.mark.parametrize("kind", tiny_memory.WRITERS)
def test_no_state_of_another_memory_kills_the_process(tmp_path: Path, kind: str) -> None:
    model = tiny_memory.WRITERS[kind](tmp_path / "model.gguf")
    assert "cached [" in survive(str(model), tmp_path, list(range(100, 200)))
