"""Pools of real models: switching, leases while others are wanted, many users, forks and the interpreter's exit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import gollama
from gollama import AsyncModelPool, BusyError, InvalidModelError, LoadOptions, ModelNotFoundError, ModelPool, OutOfMemoryError
from tests.support import tiny, tiny_embedding
from tests.support.answers import wait_until

SMALL = LoadOptions(context_size=256, max_sequences=4, prefix_cache=0, threads=1, micro_batch_size=64)
NAMES = ("smollm2", "gemma3:270m")
ANSWER: dict[str, Any] = {"max_tokens": 6, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
MIB = 2**20


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    return [str(tiny.write(folder / f"tiny{seed}.gguf", seed=seed)) for seed in range(3)]


@pytest.fixture(scope="module")
def expected() -> dict[str, list[int]]:
    """What each model says when nothing else is there."""
    found = {}
    for name in NAMES:
        with gollama.LLM(name, options=SMALL) as llm:
            found[name] = llm.generate("The capital of France is", **ANSWER).tokens
    return found


@pytest.fixture
def pool() -> Iterator[ModelPool]:
    """With room for one of the two models."""
    with ModelPool(dict.fromkeys(NAMES, SMALL), memory=370) as pool:
        yield pool


def test_switching_there_and_back(pool: ModelPool, expected: dict[str, list[int]]) -> None:
    for name in (*NAMES, *NAMES):
        with pool.get(name) as llm:
            assert llm.generate("The capital of France is", **ANSWER).tokens == expected[name]
        (use,) = pool.memory()
        assert use.used <= use.limit
        assert [status.state for status in pool.status().values()].count("loaded") == 1


def test_what_is_told_is_what_is_taken(pool: ModelPool) -> None:
    for name in NAMES:
        with pool.get(name) as llm:
            llm.generate(["The", "A", "One", "In"], **ANSWER)  # a context for each of the sequences
            (row,) = llm.memory()
            assert llm.stats().sequences == 4
            assert row.needed <= pool.status()[name].memory["host"] <= 1.1 * row.needed


def test_a_model_that_generates_is_not_unloaded(pool: ModelPool, expected: dict[str, list[int]]) -> None:
    with ThreadPoolExecutor(1) as threads:
        with pool.get("smollm2") as llm:
            stream = llm.stream("Once upon a time", ignore_eos=True, max_tokens=40)
            next(stream)
            waiting = threads.submit(pool.get, "gemma3:270m")
            wait_until(lambda: pool.status()["gemma3:270m"].state == "waiting")
            assert sum(len(chunk.tokens) for chunk in stream) == 39 and not waiting.done()
        with waiting.result(60) as other:
            assert other.generate("The capital of France is", **ANSWER).tokens == expected["gemma3:270m"]
            assert llm.closed


def test_a_wait_for_a_generating_model_ends_in_an_error_with_figures(pool: ModelPool) -> None:
    pool.load("gemma3:270m")  # which measures it
    with pool.get("smollm2") as llm:
        with pytest.raises(BusyError, match=r"gemma3:270m could not be had within 0\.2 s: .* MiB of host, and smollm2 \(1 leases\)"):
            pool.get("gemma3:270m", timeout=0.2)
        assert llm.generate("The", max_tokens=2).usage.completion_tokens


def test_an_unload_waits_for_what_is_generated(pool: ModelPool) -> None:
    with ThreadPoolExecutor(1) as threads:
        with pool.get("smollm2") as llm:
            unloading = threads.submit(pool.unload, "smollm2")
            wait_until(lambda: bool(pool._core.entries["smollm2"].dismissing))
            assert llm.generate("One, two,", **ANSWER).usage.completion_tokens == 6
        unloading.result(60)
        assert pool.status()["smollm2"].state == "unloaded" and llm.closed


def test_sixteen_threads_over_three_models(tiny_models: list[str]) -> None:
    options = LoadOptions(context_size=64, max_sequences=2, prefix_cache=0, threads=1)
    alone = {}
    for path in tiny_models:
        with gollama.LLM(path, options=options) as llm:
            alone[path] = llm.generate("the sky", **ANSWER).tokens
    size = int(1.1 * gollama.LLM.estimate(tiny_models[0], sequences=2, options=options).devices[-1].needed / MIB) + 1
    with ModelPool(dict.fromkeys(tiny_models, options), memory=2 * size) as pool, ThreadPoolExecutor(16) as threads:
        def use(number: int) -> bool:
            path = tiny_models[number % 3]
            with pool.get(path) as llm:
                return bool(llm.generate("the sky", **ANSWER).tokens == alone[path])

        assert all(threads.map(use, range(96)))
        (memory,) = pool.memory()
        assert memory.used <= memory.limit and all(status.leases == status.waiting == 0 for status in pool.status().values())


def test_thirty_two_tasks_over_three_models(tiny_models: list[str], expected: dict[str, list[int]]) -> None:
    models = ["smollm2", *tiny_models[:2]]

    async def main() -> None:
        async with AsyncModelPool(dict.fromkeys(models, SMALL), memory=210) as pool:
            async def use(number: int) -> None:
                async with pool.get(models[number % 3]) as llm:
                    reply = await llm.generate("The capital of France is", **ANSWER)
                    assert reply.tokens == expected["smollm2"] or number % 3

            await asyncio.wait_for(asyncio.gather(*(use(number) for number in range(32))), 120)
            assert all(status.leases == 0 for status in pool.status().values())

    asyncio.run(main())


def test_errors_are_those_of_loading(tmp_path: Path) -> None:
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF" + bytes(40))
    with ModelPool({str(tmp_path / "none.gguf"): SMALL, str(tmp_path / "damaged.gguf"): SMALL, "smollm2": SMALL}, memory=100) as pool:
        with pytest.raises(ModelNotFoundError):
            pool.get(tmp_path / "none.gguf")
        with pytest.raises(InvalidModelError):
            pool.get(tmp_path / "damaged.gguf")
        with pytest.raises(OutOfMemoryError, match=r"smollm2 needs \d+ MiB of host, and the pool may take 100 MiB of host"):
            pool.get("smollm2")
        assert all(status.error for status in pool.status().values()) and not any(use.used for use in pool.memory())


def test_a_model_that_makes_vectors_is_pooled_too(tmp_path: Path) -> None:
    path = tiny_embedding.write_bert(tmp_path / "bert.gguf")
    with ModelPool([str(path)]) as pool, pool.get(path) as llm:
        assert llm.embed("hello").shape[0] == 1


PROGRAM = """
import asyncio, os, threading, time, gollama
from gollama import AsyncModelPool, LoadOptions, ModelPool
options = LoadOptions(context_size=256, threads=1, max_sequences=2, prefix_cache=0)
pool = ModelPool({{"smollm2": options, {path!r}: options}}, memory=800)
"""

LEAVING = {
    "while it loads": "threading.Thread(target=lambda: pool.get('smollm2'), daemon=True).start(); time.sleep(0.05)",
    "with a lease": "lease = pool.get({path!r})",
    "while a daemon generates": """
def ask():
    try:
        with pool.get({path!r}) as llm:
            llm.generate(["the"] * 5, ignore_eos=True)
    except gollama.ClosedError:  # the end may come between the two
        pass
threading.Thread(target=ask, daemon=True).start()
while not pool.status()[{path!r}].leases:
    time.sleep(0.001)
""",
    "with a ttl": "pool.get({path!r}, ttl=1000).close()",
    "while a task waits": """
async def main():
    asyncio.ensure_future(AsyncModelPool(pool).load("smollm2"))
    await asyncio.sleep(0.02)
asyncio.run(main())
""",
}


@pytest.mark.parametrize("way", LEAVING)
def test_the_interpreter_exits(tiny_path: Path, way: str) -> None:
    code = (PROGRAM + LEAVING[way]).format(path=str(tiny_path))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


FORKING = PROGRAM + """
pool.load({path!r})
with pool.get({path!r}) as llm:
    expected = llm.generate("the sky", max_tokens=4, temperature=0).tokens
pool.preload("smollm2")
for moment in range(8):
    time.sleep(0.02)
    child = os.fork()
    if child == 0:
        with pool.get({path!r}, timeout=30) as llm:
            same = llm.generate("the sky", max_tokens=4, temperature=0).tokens == expected
        pool.close()
        os._exit(0 if same and pool.closed else 3)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, (moment, status)
pool.close()
"""


def test_a_fork_while_a_model_is_measured_and_loaded(tiny_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", FORKING.format(path=str(tiny_path))], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
