"""AsyncModelPool over a loader that loads nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gollama import BusyError
from gollama.pool import AsyncModelPool, ModelPool
from tests.support.fake_loader import SIZES, FakeLoader


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, 60))


def test_tasks_share_one_load() -> None:
    loader = FakeLoader(SIZES, seconds=0.02)

    async def main() -> None:
        async with AsyncModelPool(ModelPool(list(SIZES), memory=100, loader=loader)) as pool:
            async def use(name: str) -> None:
                async with pool.get(name) as llm:
                    await asyncio.sleep(0.001)
                    assert not llm.sync.closed

            await asyncio.gather(*(use(name) for name in "abc" * 11))
            lease = await pool.get("a")
            assert (lease.closed, lease.llm.sync, pool.status()["a"].leases) == (False, lease.sync, 1)
            await lease.close()
            assert (await pool.load("large")).state == "loaded"
            await pool.unload("large")

    run(main())
    assert loader.most <= 100 and not loader.loaded


def test_a_cancelled_task_takes_its_wish_back() -> None:
    loader = FakeLoader(SIZES)

    async def main() -> None:
        async with AsyncModelPool(ModelPool(list(SIZES), memory=100, loader=loader)) as pool:
            async with pool.get("a"):
                task = asyncio.ensure_future(pool.load("large"))
                while not pool.status()["large"].waiting:
                    await asyncio.sleep(0.001)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert pool.status()["large"].waiting == 0
                with pytest.raises(BusyError):
                    await pool.get("large", timeout=0.02)
            assert loader.done("unload") == []

    run(main())


@pytest.mark.parametrize("steps", range(6))
def test_cancelled_at_any_step_no_lease_is_lost(steps: int) -> None:
    async def main() -> None:
        async with AsyncModelPool(ModelPool(list(SIZES), memory=100, loader=FakeLoader(SIZES))) as pool:
            async def get() -> None:
                async with pool.get("a"):
                    await asyncio.sleep(60)

            task = asyncio.ensure_future(get())
            for _ in range(steps):
                await asyncio.sleep(0.002)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while pool.status()["a"].waiting:
                await asyncio.sleep(0.001)
            assert pool.status()["a"].leases == 0

    run(main())


def test_both_have_the_same_methods() -> None:
    def public(kind: Callable[..., Any]) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(ModelPool) == public(AsyncModelPool)
