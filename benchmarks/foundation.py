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
from pathlib import Path
from typing import Any

from gollama import _native, models

PAUSE = 0.3  # seconds in which the other contender's threads go to sleep


class Contender:
    def __init__(self, kind: str, model: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.contender", kind, str(model)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.load = self._answer()["load"]

    def _answer(self) -> dict[str, float]:
        assert self.process.stdout is not None
        answer: dict[str, float] = json.loads(self.process.stdout.readline())
        return answer

    def measure(self, prompt: int, decode: int) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"prompt": prompt, "decode": decode}) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        time.sleep(PAUSE)
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(name: str, rounds: int) -> list[dict[str, Any]]:
    """Rows for one model: decode and prompt in tokens a second, load in seconds, peak memory in bytes."""
    model = models.resolve(name)
    figures: dict[str, dict[str, list[float]]] = {kind: {} for kind in ("bare", "gollama")}

    def note(kind: str, what: str, value: float) -> None:
        figures[kind].setdefault(what, []).append(value)

    kinds = list(figures)
    for _ in range(max(4, rounds // 2)):
        kinds.reverse()  # who goes first takes turns, since the machine's speed drifts
        for kind in kinds:
            contender = Contender(kind, model)
            note(kind, "load, s", contender.load)
            contender.close()
    contenders = {kind: Contender(kind, model) for kind in figures}
    for contender in contenders.values():
        contender.measure(64, 8)  # warm-up
    for _ in range(rounds):
        kinds.reverse()
        for kind in kinds:
            note(kind, "prompt 512, tokens/s", 512 / contenders[kind].measure(512, 1)["prompt"])
        for kind in kinds:
            result = contenders[kind].measure(16, 128)
            note(kind, "decode 128, tokens/s", 127 / result["decode"])
            figures[kind]["peak memory, MB"] = [result["rss"] / 1e6]
    for contender in contenders.values():
        contender.close()
    return [row(name, what, figures["gollama"][what], figures["bare"][what]) for what in figures["bare"]]


def row(model: str, what: str, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"model": model, "what": what, "gollama": statistics.median(ours), "bare": statistics.median(theirs),
            "ratio": statistics.median(ratios), "rounds": len(ratios)}


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
