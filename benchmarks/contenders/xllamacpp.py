"""xllamacpp as a contender: llama.cpp's server in the process, one slot and one thread for each request."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import xllamacpp


class Contender:
    def __init__(self, path: str, context_size: int, threads: int, max_sequences: int) -> None:
        params = xllamacpp.CommonParams()
        params.model.path = path
        params.n_ctx, params.n_parallel = context_size, max_sequences
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.cache_ram_mib = 0  # else it copies every finished prompt aside, at the next one's expense
        self._server = xllamacpp.Server(params)
        self._pool = ThreadPoolExecutor(max_sequences)
        self.about = f"xllamacpp {xllamacpp.__version__}"

    def run(self, prompts: list[list[int]], count: int) -> dict[str, Any]:
        """Whole answers, not streams: a stream would have Python compete with the server for the cores.

        The end is when the answer has come; the first token lies before it by the server's own decode time, predicted_ms.
        """
        start = time.perf_counter()
        return {"requests": list(self._pool.map(lambda prompt: self._one(prompt, count, start), prompts))}

    def _one(self, prompt: list[int], count: int, start: float) -> dict[str, float]:
        answer = self._server.handle_completions({"prompt": prompt, "max_tokens": count, "temperature": 0, "ignore_eos": True,
                                                  "cache_prompt": False})
        end = time.perf_counter() - start
        if "timings" not in answer:
            raise RuntimeError(f"xllamacpp answered {answer}")
        return {"first": end - answer["timings"]["predicted_ms"] / 1000, "end": end, "tokens": answer["usage"]["completion_tokens"]}
