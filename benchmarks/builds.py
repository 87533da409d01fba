"""The libraries themselves: a core of the other provider beside this one, and each CPU library that runs here beside the chosen one.

    python -m benchmarks.builds [--other PYTHON] [--rounds N] [--output docs/benchmarks/builds.json]

PYTHON is an interpreter whose environment has the other core, as `GOLLAMA_NATIVE=source pip install .` makes it.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import report, workloads
from benchmarks.figures import Bar, Line, compared, one_after_another_rate, spans
from benchmarks.process import Contender, interleave
from gollama import _native, models

OPTIONS: dict[str, Any] = {"context_size": 1024, "threads": 2, "prefix_cache": 0}
KIND = "gollama_engine"
LEAST = 0.95  # of the best variant's rate: what two runs of one library differ by


def prompt_rate(contender: Contender, number: int) -> float:
    return 512 / spans(contender.run([workloads.prompt(512, number)], 1))[0].first


def decode_rate(contender: Contender, _: int) -> float:
    return one_after_another_rate(spans(contender.run([workloads.prompt(16)], 64)))


MEASURES = {"prompt 512, tokens/s": prompt_rate, "decode 64, tokens/s": decode_rate}


def rates(contenders: Mapping[str, Contender], rounds: int) -> dict[str, dict[str, list[float]]]:
    """For each measure, the rounds of each contender."""
    for contender in contenders.values():
        contender.run([workloads.prompt(64, -1)], 8)  # warm-up
    return {what: interleave(rounds, {name: partial(measure, contender) for name, contender in contenders.items()})
            for what, measure in MEASURES.items()}


def variants() -> dict[str, int]:
    """llama.cpp's score of each CPU library that this processor can run, by the file's name."""
    loaded = _native.library()
    error = loaded.ffi.new("gollama_error *")
    folder = Path(_native.__file__).parents[1] / "lib"
    scores = {name: int(loaded.lib.gollama_backend_score(os.fsencode(folder / name), error)) for name in _native.build()["cpu_variants"]}
    return {name: score for name, score in scores.items() if score > 0}


def compare_providers(name: str, other: str, rounds: int) -> Iterator[Line]:
    model = models.resolve(name)
    with ExitStack() as stack:
        both = {python: stack.enter_context(Contender(KIND, model, OPTIONS, python)) for python in (sys.executable, other)}
        for what, figures in rates(both, rounds).items():
            yield compared(name, f"the other provider's core, {what}", figures[other], "this core", figures[sys.executable], None)


def compare_variants(name: str, rounds: int) -> Iterator[Line]:
    model, chosen = models.resolve(name), _native.library().cpu_variant
    with ExitStack() as stack:
        contenders = {variant: stack.enter_context(Contender(KIND, model, {**OPTIONS, "cpu_variant": variant})) for variant in variants()}
        ours = next(variant for variant in contenders if variant.endswith((f"-{chosen}.so", f"-{chosen}.dll")))
        for what, figures in rates(contenders, rounds).items():
            for variant, theirs in figures.items():
                if variant != ours:
                    yield compared(name, f"{chosen}, which is chosen, {what}", figures[ours], variant, theirs, Bar(LEAST))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=["smollm2", "gemma3:270m"])
    parser.add_argument("--output", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args()
    lines = [line for name in arguments.models if arguments.other for line in compare_providers(name, arguments.other, arguments.rounds)]
    lines += [line for name in arguments.models for line in compare_variants(name, arguments.rounds)]
    print(report.table(lines))
    if arguments.output:
        facts = {"machine": platform.machine(), "cpu_variant": _native.library().cpu_variant, "provider": _native.build()["provider"]}
        report.write_json(arguments.output, facts, lines)


if __name__ == "__main__":
    main()
