"""What installing costs, and choosing a backend: sizes of wheels, an empty environment to the first token, selection cold and cached.

    python -m benchmarks.install --wheels FOLDER [--rounds N] [--output docs/benchmarks/install.json]

FOLDER holds the core's wheel and, for the rows about selection, a backend's. What they require comes from the index or pip's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import report
from benchmarks.figures import Bar, Line, alone
from gollama import models

BEGIN = "import sys, gollama\nwith gollama.LLM(sys.argv[1]) as llm: print(llm.generate('The sky is', max_tokens=1).text)"
# what choosing costs a process that computes on the CPU anyway: the backends are found, asked (or known) and chosen among
SELECTION = """
import json, logging, time, gollama
from gollama import backends
logging.disable()
backends.cpu()  # llama.cpp itself is loaded
start = time.perf_counter()
backends.choose(gollama.LoadOptions())
print(json.dumps(1000 * (time.perf_counter() - start)))
"""


def environment(folder: Path) -> Path:
    """An empty environment; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return folder / "bin" / "python"


def first_token(wheels: Path, model: Path) -> float:
    """Seconds from `pip install` to the first token of a model that is already here."""
    with tempfile.TemporaryDirectory() as scratch:
        python = environment(Path(scratch) / "environment")
        start = time.perf_counter()
        install(python, wheels, "gollama-cpu")
        subprocess.run([str(python), "-c", BEGIN, str(model)], check=True, capture_output=True)
        return time.perf_counter() - start


def install(python: Path, wheels: Path, *names: str) -> None:
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--find-links", str(wheels), *names], check=True)


def selection(python: Path, rounds: int) -> Iterator[Line]:
    def once(home: str) -> float:
        told = subprocess.run([str(python), "-c", SELECTION], check=True, capture_output=True, text=True,
                              env={**os.environ, "GOLLAMA_HOME": home}).stdout
        return float(json.loads(told.splitlines()[-1]))

    colds, cached = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as home:
            colds.append(once(home))
            cached.append(once(home))
    yield alone("-", "choosing a backend, never tried here, ms", colds, Bar(2000, at_most=True))
    yield alone("-", "choosing a backend, known, ms", cached, Bar(50, at_most=True))


def measure(wheels: Path, rounds: int) -> Iterator[Line]:
    for wheel in sorted(wheels.glob("*.whl")):
        bar = Bar(20, at_most=True) if wheel.name.startswith("gollama_cpu") else None
        yield alone("-", f"{wheel.name}, MB", [wheel.stat().st_size / 1e6], bar)
    model = models.resolve("smollm2")
    yield alone("smollm2", "pip install to first token, s", [first_token(wheels, model) for _ in range(rounds)], Bar(15, at_most=True))
    backends = sorted({wheel.name.split("-")[0].replace("_", "-") for wheel in wheels.glob("*.whl")} - {"gollama-cpu"})
    if backends:
        with tempfile.TemporaryDirectory() as scratch:
            python = environment(Path(scratch) / "environment")
            install(python, wheels, *backends)
            yield from selection(python, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args()
    lines = list(measure(arguments.wheels.resolve(), arguments.rounds))
    print(report.table(lines))
    if arguments.output:
        report.write_json(arguments.output, {"machine": platform.machine(), "python": platform.python_version()}, lines)


if __name__ == "__main__":
    main()
