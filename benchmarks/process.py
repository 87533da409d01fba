"""Starting contenders, asking them in turn, and what a process took in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
PAUSE = 0.3  # seconds in which the last contender's threads go to sleep: those of two at once slow each other up to a hundred times

Figure = TypeVar("Figure")


class ContenderError(RuntimeError):
    """A contender died or could not start; its last words are in the message."""


class Contender:
    """A process that runs benchmarks.contender. A `with` block."""

    def __init__(self, kind: str, model: Path, options: Mapping[str, Any], python: str = sys.executable) -> None:
        self.kind = kind
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 (until close); a pipe that nobody reads would fill up
        command = [python, "-m", "benchmarks.contender", kind, str(model), json.dumps(options)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words, text=True, cwd=ROOT)
        hello = self._answer()
        self.load: float = hello["load"]
        self.about: str = hello["about"]

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def run(self, prompts: list[Any], count: int, **more: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"prompts": prompts, "count": count, **more}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer, or its lack, says more
        return self._answer()

    def close(self) -> int:
        """End the process; its peak memory in bytes."""
        if self._process.returncode is None:
            self._peak = reap(self._process)
        self._words.close()
        return self._peak

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._peak = reap(self._process)
            raise ContenderError(f"{self.kind} ended with code {self._process.returncode}: {last_words(self._words)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def run_tool(command: list[str]) -> tuple[str, int]:
    """What a program printed, and its peak memory in bytes."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as words:
        process = subprocess.Popen(command, stdout=output, stderr=words)
        peak = reap(process)
        if process.returncode:
            raise ContenderError(f"{command[0]} ended with code {process.returncode}: {last_words(words)}")
        output.seek(0)
        return output.read().decode(), peak


def reap(process: subprocess.Popen[Any]) -> int:
    """Wait for the end of a child; its peak memory in bytes.

    Linux starts a child's peak at what its parent held when it was made, so the process that calls this must stay small: it loads no model.
    """
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * 1024


def last_words(words: IO[bytes]) -> str:
    words.seek(0)
    return "\n".join(words.read().decode(errors="replace").strip().splitlines()[-5:])


def interleave(rounds: int, measures: Mapping[str, Callable[[int], Figure]]) -> dict[str, list[Figure]]:
    """`rounds` figures of each, measured in turn; each function gets the number of the round. Who goes first alternates."""
    figures: dict[str, list[Figure]] = {name: [] for name in measures}
    order = list(measures)
    for number in range(rounds):
        for name in order:
            figures[name].append(measures[name](number))
            time.sleep(PAUSE)
        order.reverse()  # the machine's speed drifts
    return figures
