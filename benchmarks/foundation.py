"""What gollama costs over a bare cffi loop: decode, prompt, import, load, memory, sizes. All in one run, interleaved.

    python -m benchmarks.foundation [--rounds N] [--output docs/benchmarks/foundation.json]

Prints a table of medians and ratios; each ratio is the median over rounds of the two contenders' figures in that round.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import workloads
from benchmarks.figures import compared, one_after_another_rate, spans
from benchmarks.process import Contender, interleave
from gollama import _native, models

KINDS = {"bare": "bare", "gollama": "gollama_engine"}
OPTIONS: dict[str, Any] = {"context_size": 2048, "threads": 2}
OWN = {"gollama": {"prefix_cache": 0}}  # the bare loop keeps no prompts either


def compare(name: str, rounds: int) -> list[dict[str, Any]]:
    """Rows for one model: load in seconds, prompt and decode in tokens a second, peak memory in bytes."""
    model = models.resolve(name)

    def load(kind: str, _: int) -> float:
        with Contender(KINDS[kind], model, {**OPTIONS, **OWN.get(kind, {})}) as contender:
            return contender.load

    def prompt_rate(contender: Contender, number: int) -> float:
        return 512 / spans(contender.run([workloads.prompt(512, number)], 1))[0].first  # a new one each time: none of it is reused

    def decode_rate(contender: Contender, _: int) -> float:
        return one_after_another_rate(spans(contender.run([workloads.prompt(16)], 128)))

    def each(measure: Callable[[Any, int], float], subjects: Mapping[str, Any], times: int) -> dict[str, list[float]]:
        return interleave(times, {kind: partial(measure, subject) for kind, subject in subjects.items()})

    figures = {"load, s": each(load, {kind: kind for kind in KINDS}, max(4, rounds // 2))}
    contenders = {kind: Contender(started, model, {**OPTIONS, **OWN.get(kind, {})}) for kind, started in KINDS.items()}
    for contender in contenders.values():
        contender.run([workloads.prompt(64, -1)], 8)  # warm-up
    figures["prompt 512, tokens/s"] = each(prompt_rate, contenders, rounds)
    figures["decode 128, tokens/s"] = each(decode_rate, contenders, rounds)
    figures["peak memory, MB"] = {kind: [contender.close() / 1e6] for kind, contender in contenders.items()}
    return [row(name, what, both["gollama"], both["bare"]) for what, both in figures.items()]


def row(model: str, what: str, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    line = compared(model, what, ours, "bare loop", theirs, None)
    return {"model": model, "what": what, "gollama": line.figure, "bare": line.other, "ratio": line.ratio, "rounds": line.rounds}


def import_cost(rounds: int) -> dict[str, Any]:
    """Milliseconds of `import gollama` beyond those of starting Python."""

    def once(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return 1000 * (time.perf_counter() - start)

    once("import gollama")
    pairs = [(once("import gollama"), once("pass")) for _ in range(rounds)]
    return {"model": "-", "what": "import, ms beyond python -c pass", "gollama": statistics.median(a - b for a, b in pairs),
            "bare": 0.0, "ratio": None, "rounds": rounds}


def installed_size() -> dict[str, Any]:
    package = Path(_native.__file__).parent.parent
    size = sum(file.stat().st_size for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {"model": "-", "what": "installed package, MB", "gollama": size / 1e6, "bare": 0.0, "ratio": None, "rounds": 1}


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| model | what | gollama | bare loop | ratio |", "|---|---|---|---|---|"]
    for entry in rows:
        ratio = "–" if entry["ratio"] is None else f"{entry['ratio']:.3f}"
        bare = "–" if entry["ratio"] is None else f"{entry['bare']:.4g}"
        lines.append(f"| {entry['model']} | {entry['what']} | {entry['gollama']:.4g} | {bare} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--models", nargs="+", default=["smollm2", "gemma3:270m"])
    parser.add_argument("--output", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args()
    rows = [entry for name in arguments.models for entry in compare(name, arguments.rounds)]
    rows += [import_cost(arguments.rounds), installed_size()]
    print(table(rows))
    if arguments.output:
        facts = {"machine": platform.machine(), "cpu_variant": _native.library().cpu_variant, "llama_cpp": _native.library().release}
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
