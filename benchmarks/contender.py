"""One contender in a process of its own, which measures when it is told to.

    PYTHON -m benchmarks.contender KIND MODEL OPTIONS

KIND is a module of benchmarks.contenders, OPTIONS a JSON object for its Contender. Reads one JSON request a line, the arguments of
`run`, and answers each with one JSON line, which also has the peak memory; the first line tells of loading. Runs in any Python that
has what the contender needs: separate processes keep one contender's threads, libraries and memory out of the other's figures.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time


def main() -> None:
    kind, path, options = sys.argv[1:]
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # a library that prints must not print into the answers
        start = time.perf_counter()
        contender = importlib.import_module(f"benchmarks.contenders.{kind}").Contender(path, **json.loads(options))
        print(json.dumps({"load": time.perf_counter() - start, "about": contender.about}), file=answers, flush=True)
        for line in sys.stdin:
            result = contender.run(**json.loads(line))
            rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps({**result, "rss": rss}), file=answers, flush=True)


if __name__ == "__main__":
    main()
