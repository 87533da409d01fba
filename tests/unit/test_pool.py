"""ModelPool and AsyncModelPool over a loader that loads nothing."""

from __future__ import annotations

import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gollama import DownloadError, LoadOptions, ModelNotFoundError, OptionError, OutOfMemoryError
from gollama.pool import ModelPool, PoolEvent
from gollama.pool.budget import Budget
from gollama.pool.entries import LEASE, LOAD
from tests.support.answers import wait_until
from tests.support.fake_loader import MIB, SIZES, FakeLoader, pool_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


# ---- loading and making room ----


def test_a_model_is_loaded_once_and_given_again() -> None:
    loader = FakeLoader(SIZES)
    with pool_of(loader) as pool:
        with pool.get("a") as first, pool.get("a") as second:
            assert first is second and pool.status()["a"].leases == 2
        assert (pool.status()["a"].state, pool.status()["a"].leases) == ("loaded", 0)
    assert loader.done("load") == ["a"] and loader.done("unload") == ["a"]


def test_threads_that_ask_at_once_load_it_once() -> None:
    loader = FakeLoader(SIZES, seconds=0.05)
    with pool_of(loader) as pool, ThreadPoolExecutor(16) as threads:
        leases = list(threads.map(lambda _: pool.get("a"), range(16)))
        assert pool.status()["a"].leases == 16
        for lease in leases:
            lease.close()
    assert loader.done("load") == ["a"]


def test_the_longest_unused_makes_room() -> None:
    loader = FakeLoader(SIZES)
    with pool_of(loader) as pool:
        for name in ("a", "b", "a", "c"):
            pool.get(name).close()
        assert loader.done("unload") == ["b"]


def test_what_is_leased_stays_and_an_older_lease_does_not_matter() -> None:
    loader = FakeLoader(SIZES)
    with pool_of(loader) as pool, pool.get("a"):
        pool.get("b").close()
        pool.get("c").close()
        assert loader.done("unload") == ["b"]


def test_what_is_pinned_stays() -> None:
    loader = FakeLoader(SIZES)
    with pool_of(loader) as pool:
        pool.pin("a")
        for name in ("a", "b", "c"):
            pool.get(name).close()
        assert loader.done("unload") == ["b"] and pool.status()["a"].pinned
        with pytest.raises(OutOfMemoryError, match=r"needs 90 MiB of host.*pinned.*a holds 40 MiB of host"):
            pool.get("large")
        pool.unpin("a")
        pool.get("large").close()


def test_a_load_waits_for_leases() -> None:
    with pool_of() as pool, ThreadPoolExecutor(1) as threads:
        lease = pool.get("a")
        waiting = threads.submit(pool.get, "large")
        wait_until(lambda: pool.status()["large"].state == "waiting")
        assert not waiting.done()
        lease.close()
        waiting.result(30).close()
        assert pool.status()["a"].state == "unloaded"


def test_who_keeps_asking_for_one_model_does_not_keep_others_out() -> None:
    stop = threading.Event()

    def use(pool: ModelPool, name: str) -> None:
        while not stop.is_set():
            with pool.get(name) as llm:
                stop.wait(0.002)
                assert not llm.closed

    with pool_of() as pool, ThreadPoolExecutor(4) as threads:
        users = [threads.submit(use, pool, "a") for _ in range(4)]
        for _ in range(3):
            pool.get("large", timeout=30).close()
        stop.set()
        for user in users:
            user.result(30)


def test_who_asked_before_the_one_that_waits_for_memory_is_served_before() -> None:
    loader = FakeLoader({**SIZES, "larger": 95})
    served: list[object] = []
    with pool_of(loader, models=None) as pool:
        pool.load("larger")  # which measures it
        with pool.get("a"):
            first = pool._ask("large", LOAD, served.append)
            wait_until(lambda: pool._core.entries["a"].draining)
            pool._ask("a", LEASE, lambda outcome: served.append("a"))
            pool._ask("larger", LOAD, served.append)
            wait_until(lambda: pool._core.entries["larger"].path is not None)
            assert served == []
            pool._keeper.withdraw(first)
            wait_until(lambda: served == ["a"])
            assert pool._core.entries["a"].leases == 2


def test_no_more_than_needed_make_room_and_rather_the_older() -> None:
    loader = FakeLoader({"old": 20, "newer": 20, "newest": 60, "next": 80})
    with pool_of(loader, models=None) as pool:
        for name in ("old", "newer", "newest", "next"):
            pool.load(name)
        assert sorted(loader.done("unload")) == ["newest", "old"]


def test_what_can_never_fit_is_an_error_with_figures() -> None:
    with pool_of() as pool, pytest.raises(OutOfMemoryError, match=r"giant needs 200 MiB of host, and the pool may take 100 MiB of host"):
        pool.get("giant")


def test_fewer_sequences_where_not_all_fit() -> None:
    loader = FakeLoader({"a": 40, "b": 20}, growing=20)
    with pool_of(loader, models={"a": LoadOptions(max_sequences=8), "b": LoadOptions(max_sequences=2)}) as pool:
        pool.load("a")
        status = pool.status()["a"]
        assert (loader.sequences["a"], status.sequences, status.memory["host"]) == (4, 4, 100 * MIB)
        pool.load("b")
        assert (loader.sequences["b"], pool.status()["a"].state) == (2, "unloaded")


def test_a_load_that_finds_no_memory_takes_that_of_idle_ones() -> None:
    loader = FakeLoader(SIZES)
    with pool_of(loader) as pool:
        pool.load("a")
        loader.failing["b"] = OutOfMemoryError("nothing left")
        with pytest.raises(OutOfMemoryError, match="nothing left"):
            pool.load("b")
        assert loader.done("load") == ["a", "b", "b"] and loader.done("unload") == ["a"]


def test_a_model_is_measured_once() -> None:
    loader = FakeLoader(SIZES)
    with pool_of(loader) as pool:
        for name in ("large", "a", "large", "a"):
            pool.load(name)
    assert loader.done("measure") == ["large", "a"]


# ---- time ----


def test_ttl_unloads_what_was_not_used_for_as_long() -> None:
    clock, loader = Clock(), FakeLoader(SIZES)
    with pool_of(loader, ttl=10, clock=clock) as pool:
        lease = pool.get("a")
        pool.get("b", ttl=None).close()
        clock.now = 50
        pool._keeper.change(lambda: None)
        lease.close()
        clock.now = 59
        pool._keeper.change(lambda: None)
        pool.load("b")
        assert pool.status()["a"].state == "loaded"
        clock.now = 60
        wait_until(lambda: pool.status()["a"].state == "unloaded")
        assert pool.status()["b"].state == "loaded" and loader.done("unload") == ["a"]


def test_ttl_0_unloads_at_once() -> None:
    with pool_of() as pool:
        pool.get("a", ttl=0).close()
        wait_until(lambda: pool.status()["a"].state == "unloaded")


# ---- names, options, what is told ----


def test_only_named_models_unless_any() -> None:
    loader = FakeLoader(SIZES)
    with pool_of(loader, models=["a", "b"]) as pool:
        with pytest.raises(ModelNotFoundError, match="the pool has no model 'c'; it has: a, b"):
            pool.get("c")
    with pool_of(loader, models={"a": None}, any_model=True) as pool:
        pool.load("c")
        with pytest.raises(ModelNotFoundError):
            pool.load("nobody")
        pool.unload("nothing")
        assert list(pool.status()) == ["a", "c"]  # names that lead nowhere do not gather


def test_own_options_and_default_ones() -> None:
    own = LoadOptions(context_size=99)
    with pool_of(models={"a": own, "b": None}, default=LoadOptions(context_size=77)) as pool:
        assert [status.options.context_size for status in pool.status().values()] == [99, 77]
    with pool_of() as pool:
        assert pool.status()["a"].options.max_sequences == 4


@pytest.mark.parametrize("name", ["", "a\nb", "\x00", "x" * 5000, "\x1b[31m", b"a"])
def test_what_is_no_name(name: Any) -> None:
    with pool_of(models=None) as pool, pytest.raises(ModelNotFoundError):
        pool.get(name)


@pytest.mark.parametrize("options", [
    {"models": "a"}, {"models": {"a": 3}}, {"models": [3]}, {"default": 3}, {"ttl": -1}, {"ttl": True}, {"timeout": float("nan")},
    {"preload": "a"}, {"memory": 0}, {"memory": True}, {"memory": 1.5}, {"memory": {"host": "1"}}, {"memory": {3: 1}}, {"memory": "1"}])
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        ModelPool(**{"models": None, **options})


def test_devices_that_are_not_there_have_no_budget() -> None:
    from gollama import BackendError

    with pytest.raises(BackendError, match="'CUDA99'; the devices here are: 'host'"):
        ModelPool(memory={"CUDA99": 100})


def test_without_a_word_a_share_of_what_is_free() -> None:
    budget = Budget()
    assert budget.limits["host"] > 0 and budget.limits_for({"GPU0": 100}) == {"GPU0": 80}
    budget.learn({"GPU0": 100})
    budget.learn({"GPU0": 50})
    assert budget.limits["GPU0"] == 80


def test_events_tell_what_happens_in_order() -> None:
    events: list[PoolEvent] = []
    with pool_of(FakeLoader(SIZES, failing={"b": DownloadError("no")}), on_event=events.append) as pool:
        pool.load("a")
        pool.load("large")
        with pytest.raises(DownloadError):
            pool.load("b")
    assert [(event.kind, event.model, event.reason) for event in events] == [
        ("loading", "a", None), ("loaded", "a", None), ("unloading", "a", "memory"), ("unloaded", "a", "memory"),
        ("loading", "large", None), ("loaded", "large", None), ("unloading", "large", "memory"), ("unloaded", "large", "memory"),
        ("loading", "b", None), ("failed", "b", None)]
    assert all(event.memory for event in events[:-1]) and isinstance(events[-1].error, DownloadError)
    assert [event.kind for event in events if event.seconds is not None] == ["loaded", "unloaded", "loaded", "unloaded", "failed"]


def test_a_listener_that_fails_harms_nobody_and_may_be_taken_back(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[PoolEvent] = []

    def fail(event: PoolEvent) -> None:
        raise ValueError("mine")

    with pool_of(on_event=fail) as pool:
        stop = pool.listen(heard.append)
        pool.load("a")
        wait_until(lambda: len(heard) == 2)
        stop()
        stop()
    assert len(heard) == 2 and "a listener of the pool failed at loading of a" in caplog.text


def test_preloading_returns_at_once() -> None:
    loader = FakeLoader(SIZES, gate=threading.Event())
    with pool_of(loader, preload=["a"]) as pool:
        wait_until(lambda: pool.status()["a"].state == "loading")
        assert loader.gate is not None
        loader.gate.set()
        wait_until(lambda: pool.status()["a"].state == "loaded")
        (use,) = pool.memory()
        assert (use.device, use.limit, use.used, use.free) == ("host", 100 * MIB, 40 * MIB, 60 * MIB)


def test_a_child_has_what_nobody_used_and_loads_the_rest_anew() -> None:
    loader = FakeLoader(SIZES)

    def in_child(pool: ModelPool) -> int:
        if pool.status()["a"].leases or pool.status()["b"].state != "loaded":
            return 1
        pool.get("b").close()
        pool.get("a", timeout=20).close()
        pool.close()
        return 0 if loader.done("load") == ["a", "b", "a"] else 2

    with pool_of(loader) as pool, pool.get("a"):
        pool.load("b")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, if the pool's thread has not ended yet
            child = os.fork()
        if child == 0:
            code = 9
            try:
                code = in_child(pool)
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
