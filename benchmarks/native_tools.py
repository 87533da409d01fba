"""llama.cpp's own llama-bench and llama-batched-bench as contenders. Each measurement is a process, which warms up by itself.

Both decode random tokens and sample nothing, so they are upper bounds of what a program that generates text can reach.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process import run_tool
from benchmarks.workloads import CONTEXT_SIZE, THREADS

BENCH, BATCHED = "llama-bench", "llama-batched-bench"
SIZES = ["-b", "2048", "-ub", "512", "-t", str(THREADS)]  # batch sizes are gollama's and llama.cpp's defaults; f16, flash attention auto


@dataclass(frozen=True)
class NativeTools:
    """The folder with the two programs."""

    folder: Path

    @property
    def complete(self) -> bool:
        return all((self.folder / name).is_file() for name in (BENCH, BATCHED))

    def decode_rate(self, model: Path, steps: int) -> float:
        """Tokens a second of one stream, from an empty context on. llama-bench makes its context as small as the test."""
        output, _ = run_tool([str(self.folder / BENCH), "-m", str(model), "-p", "0", "-n", str(steps), "-r", "1", "-o", "jsonl", *SIZES])
        return float(last_record(output)["avg_ts"])

    def batch(self, model: Path, sequences: int, prompt: int, steps: int, *, unified: bool = False) -> tuple[float, int]:
        """Tokens a second of all sequences while decoding (S_TG: sequences x steps / time), and the peak memory in bytes.

        `unified`: one KV buffer for all sequences, where the default divides it among them.
        """
        output, peak = run_tool([str(self.folder / BATCHED), "-m", str(model), "-c", str(CONTEXT_SIZE), *SIZES, "-npp", str(prompt),
                                 "-ntg", str(steps), "-npl", str(sequences), "--output-format", "jsonl", *(["-kvu"] if unified else [])])
        return float(last_record(output)["speed_tg"]), peak


def last_record(output: str) -> dict[str, Any]:
    """The last JSON line among what a tool printed."""
    record: dict[str, Any] = json.loads([line for line in output.splitlines() if line.startswith("{")][-1])
    return record
