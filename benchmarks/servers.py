"""gollama's server beside llama-server and llama-cpp-python's: tokens a second by clients, time to first token, memory beyond the engine.

Run as `python -m benchmarks.servers --llama-server FILE --llama-cpp-python PYTHON --output docs/benchmarks/server.json`. Who is not given
is left out. Each server is a process on one core with one thread, the clients are on another; all servers are up, and are asked in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gollama.models import fetch
from tests.support.streams import stream

MODEL, CONTEXT, SEQUENCES, TOKENS = "smollm2", 256, 32, 48
CLIENTS = {1: 2, 8: 2, 32: 1}  # how many at once, and how many requests each makes
ONE_AT_A_TIME = (8,)  # what is asked of a server that computes one request after another
STORY = ("Once upon a time there was a harbour where two boats came home in the morning, with apples and letters and wood for the winter, "
         "and the rain fell")
ENGINE = """
import sys
from pathlib import Path
from gollama import LLM
with LLM(sys.argv[1], context_size=int(sys.argv[2]), max_sequences=int(sys.argv[3]), threads=1) as llm:
    llm.generate(["the"] * 32, max_tokens=2)
    print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")))
"""


@dataclass
class Contender:
    """A server, and what was measured of it."""

    name: str
    command: list[str]
    clients: tuple[int, ...] = tuple(CLIENTS)
    port: int = 0
    pid: int = 0
    rates: dict[int, list[float]] = field(default_factory=dict)
    first: dict[int, list[float]] = field(default_factory=dict)

    def resident(self) -> float:
        """MB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) * 1024 / 1e6


def contenders(arguments: argparse.Namespace, model: str) -> list[Contender]:
    found = [Contender("gollama", [sys.executable, "-m", "gollama", "serve", f"{MODEL}={model}", "--threads", "1", "--access-log", "off",
                                   "--context-size", str(CONTEXT), "--max-sequences", str(SEQUENCES), "--port"])]
    if arguments.llama_server:
        found.append(Contender("llama-server", [arguments.llama_server, "-m", model, "-t", "1", "-tb", "1", "-np", str(SEQUENCES),
                                                "-c", str(CONTEXT * SEQUENCES), "--port"]))
    if arguments.llama_cpp_python:
        found.append(Contender("llama-cpp-python", [arguments.llama_cpp_python, "-m", "llama_cpp.server", "--model", model, "--n_threads",
                                                    "1", "--n_threads_batch", "1", "--n_ctx", str(CONTEXT), "--port"], ONE_AT_A_TIME))
    return found


@contextlib.contextmanager
def up(contender: Contender, core: int) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        contender.port = free.getsockname()[1]
    child = subprocess.Popen(["taskset", "-c", str(core), *contender.command, str(contender.port)], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    contender.pid = child.pid
    try:
        path = "/v1/models" if contender.clients == ONE_AT_A_TIME else "/health"
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{contender.port}{path}", timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        yield
    finally:
        child.terminate()
        child.wait(30)


async def ask(contender: Contender, label: str, tokens: int = TOKENS) -> tuple[int, float]:
    """Tokens of the answer, and seconds to the first."""
    body: dict[str, Any] = {"prompt": f"{label}: {STORY}", "max_tokens": tokens, "temperature": 0}
    if contender.clients != ONE_AT_A_TIME:
        body |= {"ignore_eos": True, "stream_options": {"include_usage": True}}
    found = await stream(contender.port, body, path="/v1/completions")
    if not found.arrivals or found.error:
        raise RuntimeError(f"{contender.name}: {found}")
    return found.usage.get("completion_tokens") or len(found.arrivals), found.arrivals[0]


async def warmed(contender: Contender) -> None:
    """As the engine alone is: all sequences are there."""
    await asyncio.gather(*(ask(contender, "warm", 2) for _ in range(SEQUENCES if contender.clients != ONE_AT_A_TIME else 1)))


async def measure(contender: Contender, clients: int, number: int) -> None:
    async def client(which: int) -> list[tuple[int, float]]:
        return [await ask(contender, f"{number}-{which}-{again}") for again in range(CLIENTS[clients])]

    begun = time.perf_counter()
    answers = [one for some in await asyncio.gather(*map(client, range(clients))) for one in some]
    seconds = time.perf_counter() - begun
    contender.rates.setdefault(clients, []).append(sum(tokens for tokens, _ in answers) / seconds)
    contender.first.setdefault(clients, []).append(statistics.median(first for _, first in answers))


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(ours, theirs))


def compared(all_of_them: list[Contender]) -> list[dict[str, Any]]:
    ours, *others = all_of_them
    rows = []
    for what, kind in (("tokens/s", "rates"), ("time to first token, s", "first")):
        for clients in CLIENTS:
            row: dict[str, Any] = {"what": f"{what}, {clients} clients", "gollama": statistics.median(getattr(ours, kind)[clients])}
            for other in others:
                if clients in other.clients:
                    row[other.name] = statistics.median(getattr(other, kind)[clients])
                    row[f"against {other.name}"] = ratio(getattr(ours, kind)[clients], getattr(other, kind)[clients])
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llama-server")
    parser.add_argument("--llama-cpp-python")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    model = str(fetch(MODEL))
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    found = contenders(arguments, model)
    with contextlib.ExitStack() as running:
        for contender in found:
            running.enter_context(up(contender, cores[0]))
            asyncio.run(warmed(contender))
        memory = found[0].resident()  # before its cache of prompts fills
        for number in range(arguments.rounds):
            for clients in CLIENTS:
                for contender in found if number % 2 == 0 else found[::-1]:
                    if clients in contender.clients:
                        asyncio.run(measure(contender, clients, number))
    engine = int(subprocess.run([sys.executable, "-c", ENGINE, model, str(CONTEXT), str(SEQUENCES)], check=True, capture_output=True,
                                text=True).stdout) * 1024 / 1e6
    rows = compared(found)
    rows.append({"what": "memory, MB", "gollama": memory, "engine": engine, "beyond the engine": memory - engine})
    result = {"model": MODEL, "rounds": arguments.rounds, "tokens": TOKENS, "clients": CLIENTS, "rows": rows}
    for row in rows:
        print(json.dumps({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
