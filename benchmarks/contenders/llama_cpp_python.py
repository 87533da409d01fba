"""llama-cpp-python as a contender: it has no batches, so its requests run one after another, by its token generator."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

import llama_cpp

N_BATCH = 2048


class Contender:
    def __init__(self, path: str, context_size: int, threads: int) -> None:
        # flash attention on, as llama.cpp's own default ends up on a CPU; the binding's default is off
        self._llama = llama_cpp.Llama(path, n_ctx=context_size, n_batch=N_BATCH, n_threads=threads, n_threads_batch=threads,
                                      flash_attn=True, verbose=False)
        self.about = f"llama-cpp-python {llama_cpp.__version__}, {llama_cpp.llama_print_system_info().decode().strip(' |')}"

    def run(self, prompts: list[list[int]], count: int) -> dict[str, Any]:
        """`Llama.generate` never looks at the end of text and makes no text, which is in its favour."""
        start = time.perf_counter()
        return {"requests": [self._one(prompt, count, start) for prompt in prompts]}

    def _one(self, prompt: list[int], count: int, start: float) -> dict[str, float]:
        tokens = islice(self._llama.generate(prompt, temp=0.0), count)
        next(tokens)
        first = time.perf_counter()
        made = 1 + sum(1 for _ in tokens)
        return {"first": first - start, "end": time.perf_counter() - start, "tokens": made}
