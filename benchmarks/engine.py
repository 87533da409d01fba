"""gollama's engine beside llama.cpp's own benchmarks and the other bindings. All in one run, interleaved.

    python -m benchmarks.engine [--rounds N] [--native FOLDER] [--llama-cpp-python PYTHON] [--xllamacpp PYTHON]

Prints a table of medians; each ratio is the median over rounds of the ratio of the two figures of that round. Who is not given is left out.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.figures import Line
from benchmarks.native_tools import NativeTools
from benchmarks.process import ContenderError
from benchmarks.report import plot, table, write_json
from benchmarks.rows import ROWS, Bench
from gollama import _native, models

PEERS = {"llama_cpp_python": "llama_cpp", "xllamacpp": "xllamacpp"}  # kind to what its Python must be able to import


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", nargs="+", default=["smollm2", "gemma3:270m"])
    parser.add_argument("--generated", type=int, choices=(64, 128), default=64, help="tokens of each request of a batch")
    parser.add_argument("--native", type=Path, metavar="FOLDER", help="where llama-bench and llama-batched-bench are")
    parser.add_argument("--llama-cpp-python", metavar="PYTHON", help="a Python that has llama-cpp-python")
    parser.add_argument("--xllamacpp", metavar="PYTHON", help="a Python that has xllamacpp")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    parser.add_argument("--plot", type=Path, help="write the ratios as SVG")
    return parser.parse_args()


def found(given: argparse.Namespace) -> tuple[NativeTools | None, dict[str, str]]:
    """Who takes part, of those given; says who was given and is not there."""
    native = NativeTools(given.native) if given.native else None
    if native and not native.complete:
        print(f"{given.native} lacks llama-bench or llama-batched-bench", file=sys.stderr)
        native = None
    peers = {}
    for kind, module in PEERS.items():
        python = getattr(given, kind)
        if python and subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0:
            peers[kind] = python
        elif python:
            print(f"{python} cannot import {module}", file=sys.stderr)
    return native, peers


def compare(given: argparse.Namespace) -> tuple[list[Line], dict[str, str], list[str]]:
    """The lines, which builds took part, and what failed."""
    native, peers = found(given)
    lines: list[Line] = []
    builds: dict[str, str] = {}
    failures: list[str] = []
    for model in given.models:
        bench = Bench(model, models.resolve(model), given.rounds, given.generated, native, peers, builds)
        for name in given.rows:
            print(f"{model}: {name}", file=sys.stderr, flush=True)
            try:
                lines += ROWS[name](bench)
            except (ContenderError, ArithmeticError) as error:  # what the other rows gave is kept
                failures.append(f"{model}: {name}: {error}")
    return lines, builds, failures


def main() -> None:
    given = arguments()
    lines, builds, failures = compare(given)
    print(table(lines))
    for failure in failures:
        print(failure, file=sys.stderr)
    if given.output:
        library = _native.library()
        facts: dict[str, Any] = {"machine": platform.machine(), "cpu_variant": library.cpu_variant, "llama_cpp": library.release,
                                 "rounds": given.rounds, "generated": given.generated, "builds": builds, "failures": failures}
        write_json(given.output, facts, lines)
    if given.plot:
        given.plot.parent.mkdir(parents=True, exist_ok=True)
        given.plot.write_text(plot(lines), encoding="utf-8")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
