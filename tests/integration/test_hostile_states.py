"""State files made to harm: their digests are right, so that llama.cpp's own reader gets what is wrong in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gollama import LLM, BrokenError, states
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


HEADER = 8  # bytes of a state: magic and sequence
CELLS = {  # kind of memory: where a number lies behind them, what is put there, and what is said of it
    "recurrent": (0, 2**31, "more tokens than the context"),
    "sliding window": (8, 2**32 - 5, "positions that are not in the context"),  # behind the streams and the cells: the first position
}


@pytest.mark.parametrize("kind", CELLS)
def test_a_state_whose_cells_cannot_be_is_refused_before_it_is_read(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place, number, message = CELLS[kind]
    file, prompt = tmp_path / "state", list(range(100, 200))
    with LLM(tiny_memory.WRITERS[kind](tmp_path / "model.gguf"), context_size=512, threads=1) as llm:
        wanted = llm.generate(prompt, max_tokens=4, temperature=0, ignore_eos=True, logprobs=0).logprobs
        llm.save_state(file)
        llm.clear_cache()
        header, _, rest = file.read_bytes()[len(states.MAGIC) :].partition(b"\n")
        found = json.loads(header)
        start = 0
        for entry in found["prefixes"]:
            end = start + 4 * entry["tokens"] + entry["bytes"]
            word = start + 4 * entry["tokens"] + HEADER + place
            rest = rest[:word] + number.to_bytes(4, "little") + rest[word + 4 :]
            entry["sha256"] = states.digest(entry, rest[start:end])
            start = end
        file.write_bytes(states.MAGIC + json.dumps(found).encode() + b"\n" + rest)
        llm.load_state(file)
        again = llm.generate(prompt, max_tokens=4, temperature=0, ignore_eos=True, logprobs=0)
        assert again.usage.cached_tokens == 0
        assert again.logprobs == wanted
        assert message in caplog.text


def test_no_state_of_smollm2_kills_the_process(tmp_path: Path) -> None:
    assert "cached [" in survive("smollm2", tmp_path, list(range(100, 140)), 60)


@pytest.mark.parametrize("kind", tiny_memory.WRITERS)
def test_no_state_of_another_memory_kills_the_process(tmp_path: Path, kind: str) -> None:
    model = tiny_memory.WRITERS[kind](tmp_path / "model.gguf")
    assert "cached [" in survive(str(model), tmp_path, list(range(100, 200)))


@pytest.mark.parametrize("settings", [{"flash_attention": "off"}, {}], ids=["attention", "recurrent"])
def test_numbers_that_are_none_spoil_no_later_answer(tmp_path: Path, tiny_path: Path, settings: dict[str, Any]) -> None:
    file, prompt, other = tmp_path / "state", list(range(100, 200)), list(range(20, 140))
    model = tiny_path if settings else tiny_memory.WRITERS["recurrent"](tmp_path / "model.gguf")
    with LLM(model, context_size=512, threads=1, max_sequences=2, **settings) as llm:
        def ask(tokens: list[int]) -> list[int]:
            return llm.generate(tokens, max_tokens=4, temperature=0, ignore_eos=True).tokens

        wanted = [ask(prompt), ask(other)]
        llm.save_state(file)
        header, _, rest = file.read_bytes()[len(states.MAGIC) :].partition(b"\n")
        found = json.loads(header)
        start = 0
        for entry in found["prefixes"]:
            end = start + 4 * entry["tokens"] + entry["bytes"]
            middle = end - entry["bytes"] // 2
            rest = rest[:middle] + b"\xff" * (end - middle) + rest[end:]
            entry["sha256"] = states.digest(entry, rest[start:end])
            start = end
        file.write_bytes(states.MAGIC + json.dumps(found).encode() + b"\n" + rest)
        llm.clear_cache()
        llm.load_state(file)
        neighbour = llm.stream(list(range(30, 60)), ignore_eos=True)
        next(neighbour)
        with pytest.raises(BrokenError, match="no number"):
            ask(prompt)
        assert [ask(prompt), ask(other)] == wanted
        next(neighbour)
        neighbour.close()
