"""The bare loop as a contender: one prompt at a time."""

from __future__ import annotations

from typing import Any

from benchmarks.bare_loop import ALL, BareLoop


class Contender:
    about = "cffi calls to llama.h"

    def __init__(self, path: str, context_size: int, threads: int, backend: str = "cpu") -> None:
        if backend != "cpu":
            import gollama

            gollama.devices()  # loads the installed backends; llama.cpp takes their GPUs by itself
        self._loop = BareLoop(path, context_size=context_size, threads=threads, gpu_layers=0 if backend == "cpu" else ALL)

    def run(self, prompts: list[list[int]], count: int) -> dict[str, Any]:
        (prompt,) = prompts
        seconds = self._loop.generate(prompt, count)
        return {"requests": [{"first": seconds["prompt"], "end": seconds["prompt"] + seconds["decode"], "tokens": count}]}
