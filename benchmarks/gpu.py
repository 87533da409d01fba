"""A GPU by the wheels that a user installs: offload, limits, a memory that is too small, and decode beside the bare loop.

    python -m benchmarks.gpu --wheels FOLDER --install gollama-cuda12 [--output docs/benchmarks/gpu.json]

Makes an empty environment, installs the wheel and its core from FOLDER (what else they require comes from the index), and
measures there. Without --install it measures in the environment that runs it. Fails where a check does.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import report, workloads
from benchmarks.figures import Bar, Line, alone, compared, one_after_another_rate, spans
from benchmarks.install import environment, install
from benchmarks.process import ROOT, Contender, interleave

MIB = 2**20
BAR = Bar(0.97)
HUGE_CONTEXT = 2**26  # tokens: hundreds of GiB for any model
QUESTION = "The capital of France is"


def install_and_measure(wheels: Path, name: str, arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        python = environment(Path(scratch) / "environment")
        install(python, wheels, name)
        return subprocess.run([str(python), "-m", "benchmarks.gpu", *arguments], cwd=ROOT, check=False).returncode


class Checks:
    """What must hold, each told as it is found."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}

    def add(self, name: str, good: bool, told: str) -> None:
        self.found[name] = {"good": good, "told": told}
        print(f"{'ok  ' if good else 'FAIL'} {name}: {told}", flush=True)


def check(model: Path, backend: str, tokens: int) -> tuple[Checks, list[Any]]:
    """Offload, limits and errors, in this process."""
    import gollama

    checks = Checks()
    devices = [device for device in gollama.devices() if device.backend == backend]
    told = ", ".join(f"{device.name} {device.description}, {device.memory_free // MIB} of {device.memory_total // MIB} MiB free"
                     for device in devices)
    checks.add("devices", bool(devices), told or f"none of {[one.name for one in gollama.devices()]}")
    if not devices:
        return checks, devices

    def load(**options: Any) -> gollama.LLM:
        return gollama.LLM(model, **{"backend": backend, "context_size": 1024, "max_sequences": 1, **options})

    texts = {}
    cases: dict[str, dict[str, Any]] = {"cpu": {"backend": "cpu"}, "all": {"gpu_layers": "all"}, "half": {"gpu_layers": 8}}
    for name, options in cases.items():
        with load(**options) as llm:
            rows = {row.device: row for row in llm.memory()}
            texts[name] = (llm.generate(QUESTION, max_tokens=tokens, temperature=0).text, rows)
    same = [name for name, (text, _) in texts.items() if text == texts["cpu"][0]]
    checks.add("greedy text", texts["all"][0].split()[:1] == texts["cpu"][0].split()[:1], f"the CPU's in full: {', '.join(same)}")
    weights = {name: sum(row.weights for device, row in rows.items() if device != "host") for name, (_, rows) in texts.items()}
    checks.add("offload", 0 == weights["cpu"] < weights["half"] < weights["all"],
               ", ".join(f"{name} {size // MIB} MiB of weights on devices" for name, size in weights.items()))

    limit = max(1, weights["all"] // 2 // MIB)
    with load(gpu_memory=limit) as llm:
        taken = sum(row.needed for row in llm.memory() if row.device != "host")
    checks.add("memory limit", 0 < taken <= limit * MIB * len(devices), f"{taken // MIB} MiB taken of {limit} MiB allowed on each device")
    try:
        load(gpu_layers="all", context_size=HUGE_CONTEXT).close()
        checks.add("out of memory", False, "nothing was refused")
    except gollama.OutOfMemoryError as error:
        with load() as llm:
            alive = llm.generate(QUESTION, max_tokens=1, temperature=0).text
        checks.add("out of memory", bool(alive), str(error))

    estimated = {row.device: row.needed for row in gollama.LLM.estimate(model, backend=backend, context_size=1024, max_sequences=1).devices}
    real = {device: row.needed for device, row in texts["all"][1].items()}
    close = all(abs(estimated[device.name] / real[device.name] - 1) <= 0.1 for device in devices if real.get(device.name))
    checks.add("estimate", close, f"estimated {estimated}, taken {real}")
    return checks, devices


def rates(name: str, model: Path, backend: str, rounds: int) -> Iterator[Line]:
    """Decode with everything on the devices, gollama and the bare loop in turn."""
    common: dict[str, Any] = {"context_size": 2048, "threads": workloads.THREADS}
    kinds = {"gollama": ("gollama_engine", {**common, "backend": backend, "gpu_layers": "all", "prefix_cache": 0}),
             "bare": ("bare", {**common, "backend": backend})}
    contenders = {kind: Contender(started, model, options) for kind, (started, options) in kinds.items()}

    def decode(contender: Contender, _: int) -> float:
        return one_after_another_rate(spans(contender.run([workloads.prompt(16)], 128)))

    def prompt(contender: Contender, number: int) -> float:
        return 512 / spans(contender.run([workloads.prompt(512, number)], 1))[0].first

    for contender in contenders.values():
        contender.run([workloads.prompt(512, -1)], 8)  # warm-up: a device compiles its kernels
    for what, measure, bar in (("decode 128, tokens/s", decode, BAR), ("prompt 512, tokens/s", prompt, None)):
        figures = interleave(rounds, {kind: partial(measure, contender) for kind, contender in contenders.items()})
        yield compared(name, what, figures["gollama"], "bare loop", figures["bare"], bar)
    yield alone(name, "peak memory of the process, MB", [contenders["gollama"].close() / 1e6])
    contenders["bare"].close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, help="a folder with the core's wheel and the backend's")
    parser.add_argument("--install", metavar="DISTRIBUTION", help="the wheel to install from there: gollama-cuda12")
    parser.add_argument("--backend", default="cuda")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=32, help="generated to compare with the CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="write figures and checks as JSON")
    arguments = parser.parse_args()
    if arguments.install:
        rest = ["--backend", arguments.backend, "--model", arguments.model, "--tokens", str(arguments.tokens)]
        rest += ["--rounds", str(arguments.rounds)]
        rest += ["--output", str(arguments.output.resolve())] if arguments.output else []
        sys.exit(install_and_measure(arguments.wheels.resolve(), arguments.install, rest))
    from gollama import models

    model = models.resolve(arguments.model)
    checks, devices = check(model, arguments.backend, arguments.tokens)
    lines = list(rates(arguments.model, model, arguments.backend, arguments.rounds)) if devices else []
    print(report.table(lines))
    if arguments.output:
        facts = {"machine": platform.machine(), "devices": [device.description for device in devices], "checks": checks.found}
        report.write_json(arguments.output, facts, lines)
    sys.exit(any(not found["good"] for found in checks.found.values()))


if __name__ == "__main__":
    main()
