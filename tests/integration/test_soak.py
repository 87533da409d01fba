"""Thousands of requests from threads and asyncio tasks at once, a fifth of them cancelled: `pytest -m soak`.

GOLLAMA_SOAK_REQUESTS in the environment sets another number of them.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import resource
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gollama import LLM, AsyncLLM, Completion
from tests.support.answers import wait_until

REQUESTS = int(os.environ.get("GOLLAMA_SOAK_REQUESTS", "2000"))
THREADS, TASKS = 16, 64
CANCELLED = 0.2
MOST_GROWTH = 32 * 2**20  # bytes; the allocator's own unrest is about half of it
WORDS = ["the", "harbour", "lay", "quiet", "in", "morning", "two", "boats", "came", "home", "with", "apples", "letters", "wood", "rain"]

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Load:
    """Requests to be made, and what became of each."""

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self.ends: Counter[int] = Counter()  # by the request's number
        self.kinds: Counter[str] = Counter()
        self.memory: dict[int, int] = {}  # resident bytes after so many requests
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def numbers(self) -> Iterator[int]:
        while True:
            with self._lock:
                number = next(self._numbers)
            if number >= REQUESTS:
                return
            yield number

    def ended(self, number: int, kind: str) -> None:
        with self._lock:
            self.ends[number] += 1
            self.kinds[kind] += 1
            count = sum(self.kinds.values())
            if count % max(1, REQUESTS // 20) == 0:
                self.memory[count] = resident()

    def prompt(self, choose: random.Random) -> str:
        return " ".join(choose.choices(WORDS, k=choose.randint(1, 12)))

    def work(self) -> None:
        """One thread: whole answers, and streams of which some are left early."""
        for number in self.numbers():
            choose = random.Random(number)
            limit = choose.randint(1, 8)
            if choose.random() < CANCELLED:
                with self.llm.stream(self.prompt(choose), max_tokens=100, ignore_eos=True) as stream:
                    for _ in itertools.islice(stream, choose.randint(0, 3)):
                        pass
                self.ended(number, "left")
            else:
                completion = self.llm.generate(self.prompt(choose), max_tokens=limit, ignore_eos=True, n=choose.choice([1, 1, 1, 2]))
                self.ended(number, self.checked(completion, limit))

    async def task(self, llm: AsyncLLM) -> None:
        """One asyncio task: answers, some of which are cancelled at any moment."""
        for number in self.numbers():
            choose = random.Random(number)
            limit = choose.randint(1, 8)
            if choose.random() < CANCELLED:
                doomed = asyncio.create_task(llm.generate(self.prompt(choose), max_tokens=100, ignore_eos=True))
                await asyncio.sleep(choose.random())
                doomed.cancel()
                [end] = await asyncio.gather(doomed, return_exceptions=True)
                self.ended(number, "cancelled" if isinstance(end, asyncio.CancelledError) else "done")
            else:
                self.ended(number, self.checked(await llm.generate(self.prompt(choose), max_tokens=limit, ignore_eos=True), limit))

    async def tasks(self) -> None:
        await asyncio.gather(*(self.task(AsyncLLM(self.llm)) for _ in range(TASKS)))

    def checked(self, completion: Completion, limit: int) -> str:
        for choice in completion.choices or (completion,):
            assert (choice.finish_reason, len(choice.tokens), choice.usage.completion_tokens) == ("length", limit, limit)
        return "done"


def engine_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gollama-engine"]


def test_every_request_ends_once_and_memory_stays_flat() -> None:
    failures: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    with LLM("smollm2", context_size=256, threads=1, max_sequences=16, queue_size=2 * (THREADS + TASKS), prefix_cache=16) as llm:
        llm.generate(["the"] * 16, max_tokens=2)  # so that all sequences are there
        load = Load(llm)
        threads = [threading.Thread(target=guarded, args=(load.work,)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        guarded(lambda: asyncio.run(load.tasks()))
        for thread in threads:
            thread.join()
        assert not failures, failures
        assert load.ends == Counter(range(REQUESTS))
        assert load.kinds["left"] + load.kinds["cancelled"] > REQUESTS * CANCELLED / 2
        wait_until(lambda: not engine_threads())
        stats = llm.stats()
        assert (stats.running, stats.waiting) == (0, 0)
        counts = sorted(load.memory)
        assert load.memory[counts[-1]] - load.memory[counts[len(counts) // 4]] < MOST_GROWTH, load.memory
        assert llm.generate("The capital of France is", max_tokens=3, ignore_eos=True).usage.completion_tokens == 3
    wait_until(lambda: not engine_threads())
