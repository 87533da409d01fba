"""ModelPool where something fails, is given up or is left."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gollama import BusyError, ClosedError, DownloadError
from gollama.pool import PoolEvent
from gollama.pool.core import MEASURE, Job
from gollama.pool.entries import LOAD, Ticket
from gollama.pool.keeper import Keeper
from tests.support.answers import wait_until
from tests.support.fake_loader import SIZES, FakeLoader, pool_of


def test_a_failure_is_told_to_all_who_wait_and_tried_again_by_the_next() -> None:
    loader = FakeLoader(SIZES, gate=threading.Event(), failing={"a": DownloadError("no network")})
    with pool_of(loader) as pool, ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(pool.get, "a") for _ in range(4)]
        wait_until(lambda: pool.status()["a"].waiting == 4)
        assert loader.gate is not None
        loader.gate.set()
        errors = [one.exception(30) for one in waiting]
        assert [str(error) for error in errors] == ["no network"] * 4 and len({id(error) for error in errors}) == 4
        assert (pool.status()["a"].error, pool.status()["a"].state) == ("no network", "unloaded")
        loader.failing.clear()
        pool.get("a").close()
        assert pool.status()["a"].error is None


def test_a_get_that_gives_up_leaves_the_load_to_the_next() -> None:
    loader = FakeLoader(SIZES, gate=threading.Event())
    with pool_of(loader) as pool:
        with pytest.raises(BusyError, match=r"within 0.05 s: it is loading, 50% done, which goes on"):
            pool.get("a", timeout=0.05)
        assert loader.gate is not None
        loader.gate.set()
        pool.get("a").close()
        assert loader.done("load") == ["a"]


def test_a_file_that_comes_when_nobody_waits_is_looked_for_again() -> None:
    here = threading.Event()

    class Slow(FakeLoader):
        def fetch(self, name: str, on_progress: Callable[[float], bool]) -> tuple[Path, Any]:
            here.wait(10)
            return super().fetch(name, on_progress)

    loader = Slow(SIZES)
    with pool_of(loader) as pool:
        with pytest.raises(BusyError):
            pool.get("a", timeout=0.05)
        here.set()
        wait_until(lambda: pool.status()["a"].state == "unloaded")
        pool.get("a").close()
    assert loader.done("fetch") == ["a", "a"]


def test_whoever_leaves_as_a_measurement_begins_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tickets: list[Ticket] = []
    events: list[PoolEvent] = []
    do = Keeper._do

    def after_leaving(keeper: Keeper, job: Job) -> None:
        if job.kind == MEASURE:
            keeper.withdraw(tickets[0])
        do(keeper, job)

    monkeypatch.setattr(Keeper, "_do", after_leaving)
    loader = FakeLoader(SIZES)
    with pool_of(loader, on_event=events.append) as pool:
        with pool._keeper.lock:
            tickets.append(pool._ask("a", LOAD, lambda outcome: None))
        wait_until(lambda: pool._keeper._thread is None)
        assert loader.done("measure") == ["a"] and not events


def test_a_get_that_gives_up_waiting_for_memory_names_who_has_it_and_takes_nothing() -> None:
    loader = FakeLoader(SIZES)
    with pool_of(loader) as pool:
        with pool.get("a"):
            with pytest.raises(BusyError, match=r"waits for 90 MiB of host, and a \(1 leases\) holds 40 MiB of host"):
                pool.get("large", timeout=0.05)
            pool.get("a").close()  # it gives leases again
        assert loader.done("unload") == [] and pool.status()["large"].waiting == 0


def test_an_unload_waits_for_leases_or_gives_up() -> None:
    loader = FakeLoader(SIZES)
    with pool_of(loader) as pool, ThreadPoolExecutor(2) as threads:
        lease = pool.get("a")
        with pytest.raises(BusyError, match="could not be unloaded within 0.05 s: it has 1 leases"):
            pool.unload("a", timeout=0.05)
        unloading = threads.submit(pool.unload, "a")
        wait_until(lambda: bool(pool._core.entries["a"].dismissing))
        later = threads.submit(pool.get, "a")
        wait_until(lambda: pool.status()["a"].waiting == 1)
        lease.close()
        unloading.result(30)
        later.result(30).close()
        assert loader.done("load") == ["a", "a"]
        pool.pin("a")
        pool.unload("a")
        pool.unload("b")
        assert pool.status()["a"].state == "unloaded"


def test_closing_ends_all_who_wait_and_stops_a_load() -> None:
    loader = FakeLoader(SIZES, gate=threading.Event())
    with ThreadPoolExecutor(2) as threads:
        with pool_of(loader) as pool:
            waiting = [threads.submit(pool.get, name) for name in ("a", "large")]
            wait_until(lambda: pool.status()["a"].state == "loading")
        for one in waiting:
            assert isinstance(one.exception(30), ClosedError)
    assert not loader.loaded and pool.closed
    pool.close()
    with pytest.raises(ClosedError):
        pool.get("a")


def test_a_forgotten_lease_warns_and_is_given_back() -> None:
    with pool_of() as pool:
        with pytest.warns(ResourceWarning, match="a lease of a was never closed"):
            pool.get("a")
            gc.collect()
        pool.get("large", timeout=30).close()
