"""Many clients at once: no answer is lost, none is another's, and nothing stays behind.

The small ones always run. `pytest -m soak -s tests/integration/server/test_load.py` runs 64 streams for a minute and 500 connections, of
which a third vanish, against a server that is a process of its own, and prints what was measured; GOLLAMA_LOAD_SECONDS sets another time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support import tiny
from tests.support.answers import wait_until
from tests.support.server import running
from tests.support.streams import Streamed, pulse, stream

SECONDS = float(os.environ.get("GOLLAMA_LOAD_SECONDS", "60"))
MOST_GROWTH = 48 * 2**20  # bytes; the allocator's own unrest is about half of it
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def body_of(client: int, number: int) -> tuple[dict[str, Any], str]:
    """A request that no other equals, and its answer: a grammar has it say who asked, and what."""
    choose = random.Random(f"{client}-{number}")
    answer = f"client {client} asks {number}: " + " ".join("".join(choose.choices(LETTERS, k=4)) for _ in range(4))
    prompt = f"I am {client}. Say {answer}" + " please" * (client % 7)
    return {"messages": [{"role": "user", "content": prompt}], "grammar": f'root ::= "{answer}"', "max_tokens": 120, "temperature": 1,
            "stream_options": {"include_usage": True}}, answer


@dataclass
class Load:
    """What became of the requests."""

    port: int
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    prompts: dict[str, int] = field(default_factory=dict)  # tokens of each prompt that was answered
    first: list[float] = field(default_factory=list)
    tokens: int = 0

    async def ask(self, client: int, number: int, *, leave_after: int | None = None) -> None:
        body, answer = body_of(client, number)
        found = await stream(self.port, body, leave_after=leave_after, reset=bool(client % 2))
        if leave_after is not None:
            self.kinds["left"] += 1
            if not answer.startswith(found.text):
                self.wrong.append(f"{found.text!r} is not the beginning of {answer!r}")
            return
        self.kinds["answered"] += 1
        if (found.status, found.text, found.finish_reason, found.done) != (200, answer, "stop", True):
            self.wrong.append(f"not {answer!r}: {found}")
        else:
            self._count(body["messages"][0]["content"], found)

    def _count(self, prompt: str, found: Streamed) -> None:
        self.prompts[prompt] = found.usage["prompt_tokens"]
        self.first.append(found.arrivals[0])
        self.tokens += found.usage["completion_tokens"]

    async def keep_asking(self, client: int, until: float) -> None:
        number = 0
        while time.monotonic() < until:
            await self.ask(client, number)
            number += 1

    async def many(self, clients: int, seconds: float) -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(self.keep_asking(client, until) for client in range(clients)))

    async def crowd(self, connections: int) -> None:
        """All at once; every third leaves, after its first pieces or before."""
        await asyncio.gather(*(self.ask(client, 0, leave_after=client // 3 % 5 if client % 3 == 0 else None)
                               for client in range(connections)))

    def check(self, tokens_of: Callable[[str], int]) -> None:
        """Every answer is right, and each prompt was counted as its own; a sample of them, which is counted again."""
        assert not self.wrong, (len(self.wrong), self.wrong[:3])
        for prompt in list(self.prompts)[:: max(1, len(self.prompts) // 50)]:
            assert self.prompts[prompt] == tokens_of(prompt)


def with_pulse(port: int, work: Callable[[], Awaitable[None]]) -> list[float]:
    """Do the work; the seconds that /health took meanwhile."""
    async def main() -> list[float]:
        ends = asyncio.Event()
        beating = asyncio.create_task(pulse(port, ends))
        try:
            await work()
        finally:
            ends.set()
        return await beating

    return asyncio.run(main())


def test_eight_streams_are_each_their_own(tmp_path: Path) -> None:
    model = tiny.write(tmp_path / "tiny.gguf", context=512, template=TEMPLATE)
    with running(f"tiny={model}", loading={"context_size": 512, "max_sequences": 4, "threads": 1}, access_log="off") as server:
        load = Load(server.port)
        beats = with_pulse(server.port, lambda: load.many(8, 3))
        with_pulse(server.port, lambda: load.crowd(30))
        llm = server.service.models()[0].llm
        assert llm is not None
        wait_until(lambda: (llm.stats().running, llm.stats().waiting) == (0, 0))
        load.check(lambda prompt: len(llm.tokenize(llm.render_chat([{"role": "user", "content": prompt}]).text, parse_special=True)))
        assert load.kinds["answered"] >= 8 + 20 and load.kinds["left"] == 10 and len(beats) > 5
        wait_until(lambda: len(server.server.server_state.connections) == 0)


# ---- the long ones ----


@dataclass
class Process:
    """A server that is a process of its own."""

    port: int
    pid: int
    http: httpx2.Client

    def resident(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    def gauge(self, name: str) -> float:
        found = re.search(rf'^{name}\{{model="smollm2"\}} (.+)$', self.http.get("/metrics").text, re.M)
        assert found, name
        return float(found[1])

    def tokens_of(self, prompt: str) -> int:
        text = self.http.post("/apply-template", json={"messages": [{"role": "user", "content": prompt}]}).json()["prompt"]
        return len(self.http.post("/tokenize", json={"content": text, "parse_special": True, "add_special": False}).json()["tokens"])


@contextlib.contextmanager
def cores(*which: int) -> Iterator[None]:
    """This process, and what it starts, on these of its cores."""
    before = os.sched_getaffinity(0)
    usable = sorted(before)
    os.sched_setaffinity(0, {usable[one % len(usable)] for one in which})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """The server has one core, the clients another."""
    command = [sys.executable, "-m", "gollama", "serve", "smollm2", "--port", "0", "--access-log", "off", "--context-size", "512",
               "--max-sequences", "32", "--prefix-cache", "16", "--queue-size", "4096", "--threads", "1"]
    with cores(0):
        child = subprocess.Popen(command, stderr=(tmp_path / "log").open("w"))
    try:
        wait_until(lambda: "running on http" in (tmp_path / "log").read_text(), 60)
        port = int(re.findall(r"running on http://127\.0\.0\.1:(\d+)", (tmp_path / "log").read_text())[0])
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http, cores(1):
            wait_until(lambda: http.get("/ready").status_code == 200, 120)
            yield Process(port, child.pid, http)
    finally:
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_no_answer_is_lost_or_another_s(process: Process, capsys: pytest.CaptureFixture[str]) -> None:
    warm, load = Load(process.port), Load(process.port)
    with_pulse(process.port, lambda: warm.many(64, min(10, SECONDS / 4)))
    before = process.resident()
    beats = with_pulse(process.port, lambda: load.many(64, SECONDS))
    tell(capsys, "64 streams", load, beats, process, before, SECONDS)
    settled(process)
    load.check(process.tokens_of)
    assert process.resident() - before < MOST_GROWTH and load.kinds["answered"] >= 64
    before = process.resident()
    crowd = Load(process.port)
    begun = time.monotonic()
    beats = with_pulse(process.port, lambda: crowd.crowd(500))
    tell(capsys, "500 connections", crowd, beats, process, before, time.monotonic() - begun)
    settled(process)
    crowd.check(process.tokens_of)
    assert crowd.kinds == {"answered": 333, "left": 167} and process.resident() - before < MOST_GROWTH


def settled(process: Process) -> None:
    wait_until(lambda: process.gauge("llamacpp:requests_processing") == process.gauge("llamacpp:requests_deferred") == 0, 30)


def tell(capsys: pytest.CaptureFixture[str], what: str, load: Load, beats: list[float], process: Process, before: int,
         seconds: float) -> None:
    beats, first = sorted(beats), sorted(load.first)
    with capsys.disabled():
        print("\n" + json.dumps({
            "what": what, **load.kinds, "wrong": len(load.wrong), "tokens/s": round(load.tokens / seconds, 1), "seconds": round(seconds, 1),
            "first token, s, median": round(statistics.median(first), 3), "first token, s, 99 %": round(first[len(first) * 99 // 100], 3),
            "/health, ms, median": round(statistics.median(beats) * 1e3, 2),
            "/health, ms, 99 %": round(beats[len(beats) * 99 // 100] * 1e3, 2),
            "/health, ms, most": round(beats[-1] * 1e3, 2), "/health asked": len(beats),
            "memory, MB": round(process.resident() / 1e6, 1), "grown, MB": round((process.resident() - before) / 1e6, 1)}))
