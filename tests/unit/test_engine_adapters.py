"""The engine with requests of several sets of adapters, of which a step has one, over a device that computes nothing."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gollama import NativeError
from gollama.engine import BASE, Adapters, Engine, Request
from gollama.engine.choice import Choice
from gollama.engine.scheduler import PRIORITY_TURNS, TURN_STEPS, Turns
from tests.support.fake_device import FakeDevice
from tests.support.fake_model import FakeSampler
from tests.support.fake_requests import Asked, Failing, Gate, Maker, ask, settle

ONE: Adapters = (("one", 1.0),)
SETS: tuple[Adapters, ...] = (BASE, ONE, (("one", 0.5),), (("one", 1.0), ("two", 2.0)))


@pytest.fixture
def make() -> Iterator[Maker]:
    maker = Maker()
    yield maker
    maker.finish()


def all_at_once(make: Maker, asked: list[Asked], **options: Any) -> FakeDevice:
    """Let an engine meet all these requests before its first step, and wait for them."""
    gate = Gate()
    engine, device = make(FakeDevice(context_size=512, step_tokens=options.pop("step_tokens", 64)), **options)
    device.fault = gate
    for one in asked:
        engine.submit(one.request)
    assert gate.entered.wait(9)
    gate.open()
    for one in asked:
        one.wait().check(device)
    return device


# ---- what is in memory ----


@pytest.mark.parametrize("sequences", [1, 4])
def test_a_prompt_is_never_reused_under_other_adapters(make: Maker, sequences: int) -> None:
    engine, _ = make(max_sequences=sequences, cache_bytes=10**6)
    cached = [ask(engine, range(90), adapters=adapters, max_tokens=3).wait().cached for adapters in (*SETS, *SETS)]
    assert cached[: len(SETS)] == [0] * len(SETS)
    assert all(length >= 80 for length in cached[len(SETS) :])


def test_what_was_computed_with_an_adapter_is_forgotten_with_it(make: Maker) -> None:
    engine, device = make(max_sequences=2, cache_bytes=10**6)
    for adapters in SETS:
        ask(engine, range(90), adapters=adapters, max_tokens=3).wait()
    assert engine.call(lambda prefixes: prefixes.release("one"))
    left = engine.call(lambda prefixes: {slot.adapters for slot in prefixes.slots} | {entry.adapters for entry in prefixes.saved})
    assert left == {BASE} and device.adapted == BASE


def test_an_adapter_at_work_is_not_let_go(make: Maker) -> None:
    engine, device = make(FakeDevice(pause=0.002))
    asked = ask(engine, range(9), adapters=ONE, max_tokens=100)
    assert asked.heard.started.wait(9)
    assert not engine.call(lambda prefixes: prefixes.release("one"))
    assert engine.any(lambda request: request.adapters == ONE)
    asked.wait().check(device)
    assert engine.call(lambda prefixes: prefixes.release("one"))


# ---- turns ----


def test_sets_take_turns_and_change_seldom(make: Maker) -> None:
    asked = [Asked(range(8), adapters=adapters, max_tokens=64, seed=number) for number in range(3) for adapters in SETS]
    device = all_at_once(make, asked, max_sequences=16)
    turns = [(adapters, len(list(steps))) for adapters, steps in groupby(device.used)]
    assert max(length for _, length in turns) <= TURN_STEPS + 1
    assert len(turns) <= len(SETS) * (64 // TURN_STEPS + 3)
    for adapters in SETS:  # nobody waits for more than a turn of each other while he has something to compute
        places = [place for place, used in enumerate(device.used) if used == adapters]
        assert max(numpy.diff(places)) <= (len(SETS) - 1) * TURN_STEPS + 1


def test_a_set_that_goes_on_is_not_taken_up_again(make: Maker) -> None:
    engine, device = make()
    for adapters in (BASE, BASE, ONE, ONE, ONE):
        ask(engine, range(30), adapters=adapters, max_tokens=20).wait().check(device)
    assert engine.stats().adapter_switches == 1


def test_a_step_that_fails_is_tried_again_for_its_own_set_only(make: Maker) -> None:
    asked = [Asked(range(20), adapters=adapters, max_tokens=30, seed=number) for number in range(2) for adapters in SETS]
    engine, device = make(max_sequences=8)
    device.fault = Failing("step", lambda: NativeError("once"), range(3, 200, 17))
    for one in asked:
        engine.submit(one.request)
    for one in asked:
        one.wait().check(device)
    assert any(one.reason == "length" for one in asked)


def test_a_long_prompt_is_a_turn_by_itself(make: Maker) -> None:
    asked = [Asked(range(400), adapters=ONE, max_tokens=1), Asked(range(9), max_tokens=120)]
    device = all_at_once(make, asked, max_sequences=4)
    prompt = [place for place, used in enumerate(device.used) if used == ONE]
    assert min(numpy.diff(prompt)[1:]) > 1


def test_a_higher_priority_has_its_turn_first(make: Maker) -> None:
    asked = [Asked(range(8), adapters=adapters, max_tokens=60, priority=5 * (adapters == ONE)) for adapters in SETS]
    device = all_at_once(make, asked, max_sequences=8)
    first_turns = [adapters for adapters, _ in groupby(device.used[2:])]
    assert first_turns[0] == ONE or first_turns[1] == ONE
    last = {adapters: max(place for place, used in enumerate(device.used) if used == adapters) for adapters in SETS}
    assert last[ONE] == min(last.values())


def test_those_of_a_set_are_neighbours(make: Maker) -> None:
    asked = [Asked(range(8), adapters=SETS[number % 4], max_tokens=40, seed=number) for number in range(12)]
    device = all_at_once(make, asked, max_sequences=16)
    steps = [[sequence for sequence, _ in runs] for runs in device.runs]
    assert all(sequences == list(range(sequences[0], sequences[0] + len(sequences))) for sequences in steps)
    assert max(map(len, steps)) == 3


wanted = st.lists(st.tuples(st.sampled_from(SETS), st.integers(-3, 3)), min_size=1, max_size=4)


@given(st.lists(wanted, min_size=1, max_size=60))
def test_a_turn_is_overtaken_by_a_bounded_number(rounds: list[list[tuple[Adapters, int]]]) -> None:
    turns = Turns()
    waiting: dict[Adapters, int] = {}
    for present in rounds:
        choices = [Choice(Request([1], [FakeSampler()], Asked([1]).heard, adapters=adapters, priority=priority), 0, 1)
                   for adapters, priority in present]
        chosen = turns.next(choices, False)
        assert chosen in {adapters for adapters, _ in present}
        waiting = {adapters: waiting.get(adapters, 0) + 1 for adapters, _ in present if adapters != chosen}
        assert max(waiting.values(), default=0) <= PRIORITY_TURNS * 6 + len(SETS)


# ---- whatever happens ----


def test_adapters_that_cannot_be_used_concern_those_who_asked_for_them(make: Maker) -> None:
    device = FakeDevice()
    device.unfit = ONE.__eq__
    engine, _ = make(device)
    asked = [ask(engine, range(20), adapters=adapters, n=2, max_tokens=30) for adapters in (*SETS, *SETS)]
    for one in asked:
        one.wait().check(device)
        assert (one.reason == "error") == (one.request.adapters == ONE)
        assert one.reason != "error" or isinstance(one.error, NativeError)


wishes = st.fixed_dictionaries({
    "prompt": st.builds(lambda common, own: [*range(common), *range(500, 500 + own)], st.integers(0, 60), st.integers(1, 30)),
    "adapters": st.sampled_from(SETS), "n": st.integers(1, 3), "seed": st.integers(0, 3), "max_tokens": st.integers(0, 30),
    "priority": st.integers(-2, 2), "logprobs": st.integers(-1, 1), "prompt_logprobs": st.sampled_from([-1, -1, 1]),
})


@settings(max_examples=60, deadline=None)
@given(st.lists(wishes, min_size=1, max_size=12), st.sampled_from([1, 2, 5, 16]), st.sampled_from([0, 3000, 10**6]),
       st.sampled_from([{}, {"recurrent": True}, {"window": 24}]), st.sampled_from([3, 16, 64]))
def test_nobody_is_computed_with_anothers_adapters(asked: list[dict[str, Any]], most: int, cache: int, kind: dict[str, Any],
                                                   step_tokens: int) -> None:
    device = FakeDevice(context_size=128, step_tokens=step_tokens, **kind)
    engine = Engine(device, max_sequences=most, cache_bytes=cache)
    made = [Asked(**wish) for wish in asked]
    for one in made:
        engine.submit(one.request)
    for one in made:
        one.wait().check(device)
        assert set(one.heard.reasons) == {"length"}, one.heard.errors
    settle(engine, device)
    engine.close()


@pytest.mark.parametrize("seed", range(3))
def test_threads_ask_with_adapters_and_cancel_at_random(seed: int) -> None:
    device = FakeDevice(context_size=128, step_tokens=32, pause=0.0002, seed=seed)
    engine = Engine(device, max_sequences=6, cache_bytes=5000)
    made: list[Asked] = []

    def work(number: int) -> None:
        chance = random.Random(10 * seed + number)
        for _ in range(12):
            one = ask(engine, range(chance.randint(1, 60)), adapters=chance.choice(SETS), n=chance.randint(1, 3), seed=chance.randint(0, 3),
                      max_tokens=chance.randint(0, 40), priority=chance.randint(-1, 1))
            made.append(one)
            if chance.random() < 0.3:
                one.heard.started.wait(0.01)
                engine.cancel(one.request)
            elif chance.random() < 0.3:
                one.wait()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for one in made:
        one.wait().check(device)
    settle(engine, device)
    engine.close()
