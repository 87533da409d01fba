"""One contender in a process of its own, which measures when it is told to.

    python -m benchmarks.contender bare|gollama MODEL

Reads one JSON request a line, {"prompt": tokens, "decode": tokens}, and answers with one JSON object of seconds a line;
the first line tells of loading. Separate processes keep one contender's threads and memory out of the other's figures.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

PROMPT_START = 1000
CONTEXT_SIZE = 2048
THREADS = 2

Measure = Callable[[list[int], int], dict[str, float]]


def bare(path: str) -> Measure:
    from benchmarks.bare_loop import BareLoop

    return BareLoop(path, context_size=CONTEXT_SIZE, threads=THREADS).generate


def gollama(path: str) -> Measure:
    import gollama
    from gollama.generation import Generation, collect

    llm = gollama.LLM(path, context_size=CONTEXT_SIZE, threads=THREADS)

    def generate(tokens: list[int], count: int) -> dict[str, float]:
        params = gollama.SamplingParams(temperature=0, max_tokens=count, ignore_eos=True)
        # what LLM.stream does once it has the tokens; both contenders get the same ones
        timings = collect(llm._iterate(Generation(llm.model, llm.context, tokens, params))).timings
        return {"prompt": timings.prompt_seconds, "decode": timings.decode_seconds}

    return generate


def main() -> None:
    kind, path = sys.argv[1:]
    start = time.perf_counter()
    measure = {"bare": bare, "gollama": gollama}[kind](path)
    print(json.dumps({"load": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        result = measure(list(range(PROMPT_START, PROMPT_START + request["prompt"])), request["decode"])
        print(json.dumps({**result, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)


if __name__ == "__main__":
    main()
