"""The engine over a device that computes nothing: how requests end, closing, forking, leaving, and calls in the midst of others."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gollama import Chunk, ClosedError
from gollama._native.handles import Handle
from gollama.engine import Prefixes
from gollama.generation import Generation
from gollama.jobs import Inbox, Stream
from gollama.options import SamplingParams
from tests.support.fake_requests import Asked, Gate, Maker, ask

ROOT = Path(__file__).resolve().parents[2]
BEGINNING = """
import os
from gollama.engine import Engine, Prefixes
from tests.support.fake_device import FakeDevice
from tests.support.fake_requests import Asked, ask
device = FakeDevice(pause=0.001)
engine = Engine(device, cache_bytes=10**6)
"""


@pytest.fixture
def make() -> Iterator[Maker]:
    maker = Maker()
    yield maker
    maker.finish()


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", BEGINNING + program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


# ---- ends ----


def test_a_deadline_passes_in_the_queue_and_in_the_midst(make: Maker) -> None:
    engine, device = make(max_sequences=1)
    running = Asked(range(9), n=2, shift=True, deadline=time.perf_counter() + 1)
    engine.submit(running.request)
    assert running.heard.started.wait()
    waiting = Asked(range(9), n=2, shift=True, deadline=time.perf_counter() + 0.1)
    engine.submit(waiting.request)
    for asked in (waiting, running):
        asked.wait().check(device)
        assert asked.heard.reasons == ["timeout"] * 2
    assert running.tokens and not waiting.tokens and time.perf_counter() >= running.request.deadline


@pytest.mark.parametrize("n", [1, 4])
def test_cancelling_ends_all_choices(make: Maker, n: int) -> None:
    engine, device = make(max_sequences=2)
    asked = ask(engine, range(9), n=n, shift=True)
    assert asked.heard.started.wait()
    engine.cancel(asked.request)
    asked.wait().check(device)
    assert asked.heard.reasons == ["cancelled"] * n


def test_cancelling_breaks_off_the_step(make: Maker) -> None:
    engine, device = make(cache_bytes=2**20)
    device.fault = gate = Gate()
    asked = ask(engine, range(50))
    assert gate.entered.wait()
    engine.cancel(asked.request)
    gate.open()
    asked.wait().check(device)
    assert asked.reason == "cancelled" and not asked.tokens
    ask(engine, range(50), max_tokens=5).wait().check(device)


def test_cancelling_twice_or_too_late_is_nothing(make: Maker) -> None:
    engine, device = make()
    asked = ask(engine, range(9), max_tokens=2).wait()
    for _ in range(2):
        engine.cancel(asked.request)
    ask(engine, range(9), max_tokens=2).wait().check(device)


# ---- closing ----


def test_closing_cancels_those_at_work_and_in_the_queue(make: Maker) -> None:
    engine, device = make(max_sequences=1)
    asked = [ask(engine, range(9), n=2, shift=True) for _ in range(3)]
    assert asked[0].heard.started.wait()
    engine.close()
    for one in asked:
        one.check(device)
        assert one.heard.reasons == ["cancelled"] * 2


def test_draining_lets_them_finish(make: Maker) -> None:
    engine, device = make(max_sequences=1)
    asked = [ask(engine, range(9), n=2, max_tokens=20) for _ in range(3)]
    engine.close(drain=True)
    for one in asked:
        one.check(device)
        assert one.heard.reasons == ["length"] * 2


def test_a_closed_engine_takes_nothing(make: Maker) -> None:
    engine, _device = make()
    engine.close()
    asked = Asked(range(9), n=2)
    with pytest.raises(ClosedError):
        engine.submit(asked.request)
    with pytest.raises(ClosedError):
        engine.call(Prefixes.forget)
    assert all(sampler.closed for sampler in asked.samplers)
    engine.close()


def test_a_listener_may_close_the_engine(make: Maker) -> None:
    engine, device = make()

    def on_token(choice: int, token: int) -> bool:
        engine.close()
        return False

    asked = ask(engine, range(9), shift=True, on_token=on_token).wait()
    asked.check(device)
    assert asked.reason == "cancelled" and len(asked.tokens) == 1


def test_a_model_closed_while_all_decode_is_noticed(make: Maker) -> None:
    engine, device = make()
    asked = [ask(engine, range(number, 30), shift=True) for number in range(3)]
    for one in asked:
        assert one.heard.started.wait()
    device.close()
    for one in asked:
        one.wait().check(device)
        assert one.reason == "cancelled"


def test_a_model_closed_while_one_is_let_in_ends_it_as_cancelled(make: Maker) -> None:
    engine, device = make()
    device.fault = lambda operation: device.close() if operation == "resize" else None
    with engine._lock:  # so that all are there before the device is
        asked = [ask(engine, range(number, 30), n=3) for number in range(3)]
    for one in asked:
        one.wait().check(device)
        assert one.heard.reasons == ["cancelled"] * 3


def test_cancelling_one_that_came_in_just_now(make: Maker) -> None:
    engine, device = make()
    device.fault = gate = Gate("resize")
    asked = [ask(engine, range(number, 30), n=3, shift=True) for number in range(3)]
    assert gate.entered.wait()
    for one in asked:
        engine.cancel(one.request)
    gate.open()
    for one in asked:
        one.wait().check(device)
        assert one.heard.reasons == ["cancelled"] * 3


# ---- locks ----


def test_a_thread_cancels_in_the_midst_of_its_own_call(make: Maker) -> None:
    engine, device = make()
    asked = ask(engine, range(9), shift=True)
    with engine._lock:  # as a signal's handler may find it
        engine.cancel(asked.request)
    asked.wait().check(device)
    handle = Handle("a context", 1, lambda pointer: None)
    with handle._lock, handle.use():
        pass
    handle.close()


def test_a_forgotten_stream_takes_no_lock(make: Maker) -> None:
    engine, device = make()
    asked = ask(engine, range(9), shift=True)
    inbox = Inbox()
    generation = Generation(SamplingParams(), inbox.put, whole=False)

    def withdraw(generation: Generation, *, forgotten: bool = False) -> None:
        (engine.drop if forgotten else engine.cancel)(asked.request)

    forgotten: list[Stream[Chunk]] = [Stream(withdraw, generation, inbox)]
    forgetting = threading.Thread(target=forgotten.clear)
    with engine._lock:
        forgetting.start()
        forgetting.join(3)
        assert not forgetting.is_alive()
    asked.wait().check(device)
    assert asked.reason == "cancelled"


# ---- processes ----


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.parametrize("busy", [True, False])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_begins_anew(busy: bool) -> None:
    told = run(f"""
parent = ask(engine, range(50), shift={busy}, max_tokens=None if {busy} else 3)
parent.heard.started.wait()
if not {busy}:
    parent.wait()
    engine.wait()
child = os.fork()
one = ask(engine, range(40), n=3, max_tokens=5).wait()
one.check(device)
engine.call(Prefixes.forget)
if child == 0:
    engine.close()
    print(one.heard.reasons, flush=True)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert parent.reason == (None if {busy} else "length")
print(one.heard.reasons)
""")
    assert told.splitlines() == ["['length', 'length', 'length']"] * 2


def test_leaving_the_interpreter_ends_those_at_work() -> None:
    told = run("""
import atexit
atexit.register(lambda: None)
asked = [ask(engine, range(number, 60), n=2, shift=True) for number in range(4)]
asked[0].heard.started.wait()
import gollama.engine.engine as module
atexit.unregister(module._exiting)
atexit.register(lambda: print(sorted({reason for one in asked for reason in one.heard.reasons})))
atexit.register(module._exiting)
""")
    assert told == "['cancelled']\n"
