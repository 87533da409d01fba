"""gollama as a contender. The only file of the benchmarks that generates with it."""

from __future__ import annotations

from typing import Any

import gollama
from gollama import _native

COUNTERS = ("steps", "step_seconds", "decode_seconds", "sample_seconds")


class Contender:
    def __init__(self, path: str, *, context_size: int, max_sequences: int = 1, cpu_variant: str | None = None, **options: Any) -> None:
        if cpu_variant:  # this library, and not the one that scores best
            _native.build()["cpu_variants"] = [cpu_variant]
        # llama.cpp's context is that of all sequences together, gollama's that of each
        self._llm = gollama.LLM(path, context_size=context_size // max_sequences, max_sequences=max_sequences, **options)
        self.about = f"gollama {gollama.__version__}"

    def run(self, prompts: Any, count: int, **sampling: Any) -> dict[str, Any]:
        """As for every contender, plus `counters`: what the engine counted meanwhile, and `tokens`, what it generated.

        `first` and `end` are the engine's own Timings, from when it got each prompt. All are handed over in one call, so they share its
        start but for that call's own time, by which the later ones seem to end early; that counts against gollama, a little.
        """
        # gollama refuses a grammar together with ignore_eos; the grammar of the benchmark cannot end
        params = gollama.SamplingParams(temperature=0, max_tokens=count, ignore_eos="grammar" not in sampling, **sampling)
        before = self._counters()
        completions = self._llm.generate(prompts, params=params)
        after = self._counters()
        requests = []
        for completion in completions:
            first = completion.timings.time_to_first_token
            steps = len(completion.tokens) + (completion.finish_reason == "stop")  # the token that ends an answer takes a step, too
            requests.append({"first": first, "end": first + completion.timings.decode_seconds, "tokens": steps,
                             "cached": completion.usage.cached_tokens})
        return {"requests": requests, "counters": {name: after[name] - before[name] for name in COUNTERS},
                "tokens": [completion.tokens for completion in completions]}

    def _counters(self) -> dict[str, float]:
        stats = self._llm.stats()
        return {name: getattr(stats, name) for name in COUNTERS}
