"""The engine over a device that computes nothing: what goes wrong harms nobody who has no part in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gollama import BrokenError, BusyError, CancelledError, ClosedError, GollamaError, NativeError, OptionError
from gollama.engine import Prefixes, members
from gollama.errors import OutOfMemoryError
from tests.support.fake_device import FakeDevice
from tests.support.fake_requests import Asked, Failing, Gate, Maker, ask

Error = Callable[[], BaseException]


def native() -> BaseException:
    return NativeError("no")


@pytest.fixture
def make() -> Iterator[Maker]:
    maker = Maker()
    yield maker
    maker.finish()


# ---- steps ----


@pytest.mark.parametrize("error", [OptionError, NativeError, OutOfMemoryError, MemoryError, CancelledError, RuntimeError])
@pytest.mark.parametrize("recurrent", [False, True])
def test_a_step_that_failed_once_is_computed_again(make: Maker, error: type[Exception], recurrent: bool) -> None:
    engine, device = make(FakeDevice(recurrent=recurrent))
    device.fault = Failing("step", lambda: error("no"), (1, 20, 40, 60))
    asked = [ask(engine, range(number, number + 40), n=2, max_tokens=20, prompt_logprobs=1) for number in range(4)]
    for one in asked:
        one.wait().check(device)
        assert one.heard.reasons == ["length"] * 2


def test_steps_that_fail_as_a_whole_are_counted_and_told_of_once(make: Maker, caplog: pytest.LogCaptureFixture) -> None:
    engine, device = make()
    device.fault = Failing("step", native, (1, 20, 40))
    for number in range(3):
        ask(engine, range(number, number + 40), max_tokens=20).wait().check(device)
    assert engine.stats().failed_steps == 3
    assert [record.getMessage()[:40] for record in caplog.records] == ["a step failed as a whole (NativeError), "]


def test_only_he_who_is_to_blame_for_a_failing_step_ends(make: Maker) -> None:
    engine, device = make()
    bad = 333  # a token of one prompt alone
    check = device._check

    def refuse(tokens: Any, runs: Any) -> Any:
        if bad in tokens:
            raise OptionError("what a token")
        return check(tokens, runs)

    device._check = refuse  # type: ignore[method-assign]
    asked = [ask(engine, [*range(30), bad if number == 2 else 7], seed=number, n=2, max_tokens=10) for number in range(4)]
    for number, one in enumerate(asked):
        one.wait().check(device)
        assert one.heard.reasons == ["error" if number == 2 else "length"] * 2


@pytest.mark.parametrize("seed", [20, 21, 22])
def test_a_sampler_that_fails_ends_its_choice(make: Maker, seed: int) -> None:
    engine, device = make()
    device.bad = lambda one: one == seed
    asked, neighbour = ask(engine, range(30), n=3, seed=20, max_tokens=9), ask(engine, range(30), max_tokens=9)
    for one in (asked, neighbour):
        one.wait().check(device)
    assert asked.heard.reasons == ["error" if 20 + index == seed else "length" for index in range(3)]


def test_a_broken_device_ends_those_at_work_and_serves_the_next(make: Maker) -> None:
    engine, device = make(FakeDevice(context_size=64), max_sequences=4)
    device.fault = Failing("step", lambda: BrokenError("assertion"), (60,))
    asked = [ask(engine, range(number, number + 40), n=3, shift=True) for number in range(4)]
    for one in asked[:1]:
        one.wait().check(device)
        assert one.heard.reasons == ["error"] * 3 and isinstance(one.error, BrokenError)
    for one in asked[1:]:
        engine.cancel(one.request)
        one.wait().check(device)
    ask(engine, range(40), max_tokens=9).wait().check(device)


def test_a_broken_device_that_cannot_be_made_anew_is_tried_again_later(make: Maker) -> None:
    engine, device = make()
    ask(engine, range(40), max_tokens=9).wait()

    def fault(operation: str) -> BaseException | None:
        return {"step": BrokenError("assertion"), "resize": OutOfMemoryError("no memory")}.get(operation)

    device.fault = fault
    asked = [ask(engine, range(40), n=2) for _ in range(3)]
    for one in asked:
        one.wait().check(device)
        assert one.reason == "error"
    device.fault = lambda operation: None
    ask(engine, range(40), max_tokens=9).wait().check(device)


# ---- memory ----


@pytest.mark.parametrize("operation", ["save", "load"])
@pytest.mark.parametrize("error", [NativeError, OutOfMemoryError, MemoryError])
@pytest.mark.parametrize("kind", [{}, {"recurrent": True}, {"window": 24}])
def test_memory_that_cannot_be_copied_is_computed_again(make: Maker, operation: str, error: type[Exception], kind: Any) -> None:
    engine, device = make(FakeDevice(**kind), cache_bytes=4000)
    device.fault = lambda name: error("no") if name == operation else None
    common = list(range(100))
    asked = [ask(engine, common[: 20 * number] + [500 + number] * 9, n=number, max_tokens=5 * number, prompt_logprobs=number - 3)
             for number in range(1, 6)]
    for one in asked:
        one.wait().check(device)
        assert set(one.heard.reasons) == {"length"}
    again = ask(engine, [*common, 7], max_tokens=4).wait()
    again.check(device)


def test_what_could_not_be_copied_is_not_counted_as_cached(make: Maker) -> None:
    engine, device = make(FakeDevice(sequences=2), max_sequences=2)
    device.fault = lambda name: NativeError("no") if name == "load" else None
    others: list[Asked] = []

    def on_token(choice: int, token: int) -> bool:
        if not others:
            others.append(ask(engine, [*range(30), 7], max_tokens=3))
        return False

    ask(engine, range(40), max_tokens=9, on_token=on_token).wait()
    others[0].wait().check(device)
    assert others[0].cached == 0


@pytest.mark.parametrize("error", [OutOfMemoryError, MemoryError, NativeError])
def test_a_device_that_cannot_grow_serves_one_after_another(make: Maker, error: type[Exception]) -> None:
    engine, device = make()
    gate = Gate()
    device.fault = lambda name: error("no") if name == "resize" else gate(name)
    asked = [ask(engine, range(30), max_tokens=9)]
    assert gate.entered.wait()
    asked += [ask(engine, range(number, 30 + number), n=2, max_tokens=9) for number in range(5)]
    gate.open()
    for one in asked:
        one.wait().check(device)
        assert one.reason == "length"
    assert device.sequences == 1


def test_a_device_that_could_not_grow_is_asked_again(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, device = make()
    failures = iter([OutOfMemoryError("no")] * 3)
    device.fault = lambda name: next(failures, None) if name == "resize" else None
    ask(engine, range(30), n=8, max_tokens=9).wait().check(device)
    assert device.sequences == 1
    ask(engine, range(30), n=8, max_tokens=9).wait().check(device)
    assert device.sequences == 1  # it has only just failed
    monkeypatch.setattr(members, "GROWTH_PAUSE", 0.0)
    engine._batch._grown_until = 0.0
    ask(engine, range(30), n=8, max_tokens=9).wait().check(device)
    assert device.sequences == 8


def test_a_device_that_cannot_grow_as_far_as_wanted_grows_half_as_far(make: Maker) -> None:
    engine, device = make()
    failures = iter([OutOfMemoryError("no")])
    device.fault = lambda name: next(failures, None) if name == "resize" else None
    for _ in range(2):
        ask(engine, range(30), n=8, max_tokens=9).wait().check(device)
        assert device.sequences == 4


# ---- admission ----


def test_a_sampler_that_cannot_be_pinned_ends_its_request(make: Maker) -> None:
    engine, device = make()
    neighbour = ask(engine, range(30), shift=True)
    assert neighbour.heard.started.wait()
    asked = Asked(range(30), n=3)
    asked.samplers[1].close()
    engine.submit(asked.request)
    asked.wait()
    assert asked.heard.reasons == ["error"] * 3 and isinstance(asked.error, ClosedError)
    assert neighbour.reason is None
    engine.cancel(neighbour.request)
    neighbour.wait().check(device)


@pytest.mark.parametrize("operation", ["cut", "first_position", "save", "resume", "pin", "shift"])
@pytest.mark.parametrize("error", [NativeError, BrokenError, OptionError, RuntimeError])
def test_whatever_fails_everybody_ends_once(make: Maker, operation: str, error: type[Exception],
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    engine, device = make(FakeDevice(window=0 if operation == "shift" else 24, context_size=128), cache_bytes=4000, max_sequences=4)
    for start in range(12):
        device.fault = Failing(operation, lambda: error("no"), (start, start + 3))
        shift = operation == "shift"
        asked = [ask(engine, range(number, number + 90), n=2, max_tokens=60, shift=shift) for number in range(0, 60, 10)]
        if operation == "resume":
            engine.cancel_all()
        for one in asked:
            one.wait().check(device)
    device.fault = lambda name: None
    ask(engine, range(40), max_tokens=9).wait().check(device)


def test_a_thread_that_cannot_be_started(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, device = make()

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    asked = Asked(range(9))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="new thread"):
            engine.submit(asked.request)
        with pytest.raises(RuntimeError, match="new thread"):
            engine.call(Prefixes.forget)
    assert asked.samplers[0].closed and engine.stats().waiting == 0
    ask(engine, range(9), max_tokens=4).wait().check(device)


# ---- listeners ----


@pytest.mark.parametrize("method", ["token", "prompt", "finished"])
def test_a_listener_that_raises_ends_only_its_own(make: Maker, method: str) -> None:
    engine, device = make()
    neighbours = [ask(engine, range(number, 30 + number), shift=True) for number in range(3)]
    for one in neighbours:
        assert one.heard.started.wait()
    asked = Asked(range(30), n=2, max_tokens=9, prompt_logprobs=1)
    raised = threading.Event()

    def fail(*arguments: object) -> bool:
        raised.set()
        raise KeyError("somebody else's code")

    setattr(asked.heard, method, fail)
    engine.submit(asked.request)
    assert raised.wait()
    if method != "finished":
        asked.wait()
        assert isinstance(asked.error, KeyError)
    others = [ask(engine, range(number, 30 + number), max_tokens=9) for number in range(3)]
    for one in others:
        one.wait().check(device)
    for one in neighbours:
        assert one.reason is None
        engine.cancel(one.request)
        one.wait().check(device)
    assert all(sampler.closed for sampler in asked.samplers)


def test_a_listener_may_submit_and_cancel_but_not_wait(make: Maker) -> None:
    engine, device = make()
    refused: list[GollamaError] = []
    others: list[Asked] = []

    def on_token(choice: int, token: int) -> bool:
        try:
            engine.call(Prefixes.forget)
        except BusyError as error:
            refused.append(error)
        engine.wait()
        others.append(ask(engine, range(9), max_tokens=2))
        if len(asked.tokens) == 5:
            engine.cancel(asked.request)
        return False

    asked = Asked(range(9), shift=True, on_token=on_token)
    engine.submit(asked.request)
    asked.wait().check(device)
    assert asked.reason == "cancelled" and len(refused) == len(asked.tokens) == 5
    for one in others:
        one.wait().check(device)
