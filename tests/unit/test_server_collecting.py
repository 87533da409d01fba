"""Full garbage collections of a server's process come when few requests run, or after long."""

from __future__ import annotations

import gc
import weakref

import pytest

from gollama.server import collecting
from gollama.server.collecting import Collector
from tests.support.answers import wait_until


class Ring:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.other = self


def old_garbage() -> weakref.ref[Ring]:
    """A ring that nobody has, out of the small collections' reach."""
    ring = Ring()
    gc.collect(0)
    gc.collect(1)
    return weakref.ref(ring)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "PERIOD", 0.01)


def test_while_many_requests_run_nothing_old_is_collected() -> None:
    running = 1000
    asked: list[None] = []

    def count() -> int:
        asked.append(None)
        return running

    with Collector(count):
        left = old_garbage()
        [[] for _ in range(100_000)]  # a hundred small collections, of which some would have been full ones
        wait_until(lambda: len(asked) > 5)
        assert left() is not None
        running = collecting.FEW
        wait_until(lambda: left() is None)


def test_after_long_it_is_all_the_same_how_many_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "LONGEST", 0.05)
    with Collector(lambda: 1000):
        left = old_garbage()
        wait_until(lambda: left() is None)


def test_what_was_there_is_left_out_and_afterwards_all_is_as_before() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    with Collector(lambda: 0):
        assert gc.get_freeze_count() > 10_000
    assert (gc.get_threshold(), gc.get_freeze_count()) == before
