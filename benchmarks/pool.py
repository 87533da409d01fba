"""What a pool costs: finding a model that is there, and switching between models over loading them by hand.

    python -m benchmarks.pool [--rounds N] [--output docs/benchmarks/pool.json]

The two models take turns in a pool that has room for one, and then in one for both. By hand: one LLM is closed, the other made.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.figures import Bar, Line, alone, compared
from benchmarks.process import interleave
from benchmarks.report import table, write_json
from gollama import LLM, LoadOptions, ModelPool, _native, models

NAMES = ("smollm2", "gemma3:270m")
OPTIONS = LoadOptions(context_size=1024, max_sequences=1, prefix_cache=0)
MIB = 2**20
LOOKUPS = 2000


def timed(function: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


class ByHand:
    """One model at a time, without a pool."""

    def __init__(self) -> None:
        self._llm: LLM | None = None

    def switch(self, name: str) -> None:
        self.close()
        self._llm = LLM(models.resolve(name), options=OPTIONS)

    def close(self) -> None:
        if self._llm is not None:
            self._llm.close()
            self._llm = None


def needed() -> dict[str, int]:
    """MiB of each model."""
    return {name: sum(row.needed for row in LLM.estimate(name, options=OPTIONS).devices) // MIB + 1 for name in NAMES}


def switching(rounds: int) -> list[Line]:
    """To the one model while the other is loaded and must go."""
    sizes = needed()
    hand = ByHand()
    with ModelPool(dict.fromkeys(NAMES, OPTIONS), memory=int(1.1 * max(sizes.values()))) as pool:
        for name in NAMES:  # their files are in memory, and what they need is known
            pool.load(name)
        pool.unload(NAMES[1])
        lines = []
        for index, name in enumerate(NAMES):
            other = NAMES[1 - index]

            def pooled(_: int, name: str = name, other: str = other) -> float:
                pool.load(other)
                seconds = timed(lambda: pool.load(name))
                pool.unload(name)
                return 1000 * seconds

            def by_hand(_: int, name: str = name, other: str = other) -> float:
                hand.switch(other)
                seconds = timed(lambda: hand.switch(name))
                hand.close()
                return 1000 * seconds

            figures = interleave(rounds, {"pool": pooled, "hand": by_hand})
            lines.append(compared(name, "switch to it, ms", figures["pool"], "by hand", figures["hand"], Bar(1.05, at_most=True)))
    return lines


def resident(rounds: int) -> list[Line]:
    """Models that are there: back to one of them, each call by itself; and many calls."""
    lines = []
    with ModelPool(dict.fromkeys(NAMES, OPTIONS), memory=int(1.1 * sum(needed().values()))) as pool:
        for name in NAMES:
            pool.load(name)
        for name in NAMES:
            back = [1000 * timed(partial(lookups, pool, name, 1)) for _ in range(20 * rounds)]
            lines.append(alone(name, "back to it while it is loaded, ms", back, Bar(1, at_most=True)))
        for name in NAMES:
            found = [1e6 * timed(partial(lookups, pool, name, LOOKUPS)) / LOOKUPS for _ in range(rounds)]
            lines.append(alone(name, "lookup, with the lease given back, µs", found, Bar(50, at_most=True)))
        threads = statistics.median(crowded(pool) for _ in range(rounds))
        lines.append(alone("both", "lookup while 8 threads do the same, µs of processor time", [threads], Bar(50, at_most=True)))
    return lines


def lookups(pool: ModelPool, name: str, count: int) -> None:
    for _ in range(count):
        pool.get(name).close()


def crowded(pool: ModelPool) -> float:
    """Microseconds of processor time for a lookup, with eight threads at it."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as threads:
        start = time.process_time()
        list(threads.map(lambda number: lookups(pool, NAMES[number % 2], LOOKUPS // 4), range(8)))
        return 1e6 * (time.process_time() - start) / (8 * (LOOKUPS // 4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    lines = [*switching(given.rounds), *resident(given.rounds)]
    print(table(lines))
    if given.output:
        library = _native.library()
        facts = {"machine": platform.machine(), "cpu_variant": library.cpu_variant, "llama_cpp": library.release, "rounds": given.rounds}
        write_json(given.output, facts, lines)


if __name__ == "__main__":
    main()
