"""The engine over a device that computes nothing: what holds whatever is asked, whoever cancels and whatever fails."""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gollama import BrokenError, BusyError, CancelledError, ClosedError, NativeError, OptionError
from gollama.engine import BASE, Engine, Request, scheduler
from gollama.engine.choice import Choice, Slot
from gollama.engine.drafts import Drafts
from gollama.engine.plan import make_plan
from gollama.errors import OutOfMemoryError
from tests.support.fake_device import FakeDevice
from tests.support.fake_model import expected
from tests.support.fake_requests import PATIENCE, Asked, settle

ERRORS: tuple[Callable[[str], BaseException], ...] = (NativeError, OptionError, BrokenError, OutOfMemoryError, MemoryError)
FAULTS = {"step": (*ERRORS, CancelledError), "save": ERRORS, "load": ERRORS, "resize": ERRORS, "draft": ERRORS, "adapt": ERRORS}
ADAPTERS = (BASE, BASE, (("one", 1.0),), (("one", 0.5), ("two", 1.0)))
CONTEXT = 128

prompts = st.builds(lambda common, start, own: [*range(common), *range(start, start + own)],
                    st.integers(0, 80), st.integers(0, 3).map(lambda number: 200 * number), st.integers(1, CONTEXT - 81))


@st.composite
def wishes(draw: st.DrawFn) -> dict[str, Any]:
    prompt = draw(prompts)
    return {
        "prompt": prompt, "n": draw(st.integers(1, 4)), "seed": draw(st.integers(0, 3)),
        "max_tokens": draw(st.none() | st.integers(0, 40)), "priority": draw(st.integers(-2, 2)),
        "logprobs": draw(st.integers(-1, 2)), "prompt_logprobs": draw(st.sampled_from([-1, -1, 0, 2])),
        "score_from": draw(st.integers(1, len(prompt))), "reuse": draw(st.booleans()), "keep": draw(st.integers(0, 130)),
        "adapters": draw(st.sampled_from(ADAPTERS)),
    }


@st.composite
def devices(draw: st.DrawFn) -> FakeDevice:
    kind: dict[str, Any] = draw(st.sampled_from([{}, {}, {"recurrent": True}, {"window": 24}]))
    return FakeDevice(context_size=CONTEXT, step_tokens=draw(st.sampled_from([1, 3, 16, 64, 512])),
                      outputs=draw(st.sampled_from([1, 4, 32])), ends=draw(st.sampled_from([0, 0, 7])), seed=draw(st.integers(0, 99)),
                      guess=draw(st.sampled_from([None, None, guess])), **kind)


def guess(text: Sequence[int], most: int) -> list[int]:
    """Drafts that are right now and then: of a prompt that is known, with the first seed."""
    common = next((place for place in range(1, len(text)) if text[place] != text[place - 1] + 1), len(text))
    answer = expected(FakeDevice(context_size=CONTEXT), text[:common], 0, len(text) - common + most)
    return answer[len(text) - common :][:most]


@settings(max_examples=120, deadline=None)
@given(devices(), st.lists(wishes(), min_size=1, max_size=12), st.sampled_from([1, 2, 5, 16]), st.sampled_from([0, 3000, 10**6]))
def test_everybody_gets_what_his_prompt_and_seed_give(device: FakeDevice, asked: list[dict[str, Any]], most: int, cache: int) -> None:
    engine = Engine(device, max_sequences=most, cache_bytes=cache)
    may_shift = not device.window and not device.recurrent and device.guess is None
    made = [Asked(**wish, shift=may_shift and wish["max_tokens"] is not None) for wish in asked]
    for one in made:
        engine.submit(one.request)
    for one in made:
        one.wait().check(device)
        assert set(one.heard.reasons) <= {"length", "stop"}, one.heard.errors
        assert one.cached < len(one.request.tokens)
    settle(engine, device)
    assert engine.stats().saved_bytes <= cache
    assert device.sequences <= max(1, most)
    engine.close()


@settings(max_examples=120, deadline=None)
@given(devices(), st.lists(wishes(), min_size=1, max_size=8), st.fixed_dictionaries({
    operation: st.dictionaries(st.integers(0, 60), st.sampled_from(errors), max_size=4) for operation, errors in FAULTS.items()
}), st.sets(st.integers(0, 6)))
def test_whatever_fails_everybody_ends_once_and_nobody_gets_a_wrong_token(
        device: FakeDevice, asked: list[dict[str, Any]], faults: dict[str, dict[int, Any]], bad: set[int]) -> None:
    counts = {operation: itertools.count() for operation in FAULTS}

    def fault(operation: str) -> BaseException | None:
        error = faults[operation].get(next(counts[operation])) if operation in FAULTS else None
        return None if error is None else error("as was planned")

    device.fault, device.bad = fault, bad.__contains__
    engine = Engine(device, max_sequences=4, cache_bytes=3000)
    made = [Asked(**wish) for wish in asked]
    for one in made:
        engine.submit(one.request)
    for one in made:
        one.wait().check(device)
    settle(engine, device)
    device.fault = lambda operation: None
    last = Asked(range(30), seed=7, max_tokens=5)
    engine.submit(last.request)
    last.wait().check(device)
    assert last.reason in ("length", "stop") or 7 in bad
    engine.close()


# ---- many threads ----


@dataclass
class Crowd:
    """Threads that ask, cancel and look on at random until they have asked often enough."""

    engine: Engine
    seed: int
    asked: list[Asked] = field(default_factory=list)
    refused: list[Asked] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def run(self, threads: int = 4, each: int = 25) -> None:
        workers = [threading.Thread(target=self._work, args=(random.Random(self.seed + number), each)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(10 * PATIENCE)
        assert not any(worker.is_alive() for worker in workers)
        assert not self.errors, self.errors

    def _work(self, random: random.Random, each: int) -> None:
        try:
            for _ in range(each):
                self._act(random)
        except BaseException as error:
            self.errors.append(error)

    def _act(self, random: random.Random) -> None:
        one = self._ask(random)
        try:
            self.engine.submit(one.request)
        except (BusyError, ClosedError):
            self.refused.append(one)
            return
        self.asked.append(one)
        what = random.randrange(8)
        if what == 0:
            self.engine.cancel(one.request)
        elif what == 1:
            self.engine.drop(random.choice(self.asked).request)
        elif what == 2:
            one.heard.started.wait(0.01)
            self.engine.cancel(one.request)
        elif what == 3:
            self.engine.stats()
        elif what < 6:
            one.wait()

    def _ask(self, random: random.Random) -> Asked:
        start = 200 * random.randrange(3)
        prompt = [*range(random.randrange(80)), *range(start, start + random.randint(1, 47))]
        stop_at = random.choice([0, 0, 0, 5])
        return Asked(prompt, n=random.choice([1, 1, 2, 3]), seed=random.randrange(4), max_tokens=random.choice([None, 0, 1, 10, 30]),
                     priority=random.randint(-1, 1), logprobs=random.choice([-1, -1, 1]), prompt_logprobs=random.choice([-1, -1, 1]),
                     deadline=random.choice([math.inf, math.inf, math.inf, time.perf_counter() + 0.02 * random.random()]),
                     on_token=lambda choice, token: bool(stop_at) and token % stop_at == 0)


@pytest.mark.parametrize("kind", [{}, {"recurrent": True}, {"window": 24}, {"guess": guess}],
                         ids=["plain", "recurrent", "window", "drafts"])
@pytest.mark.parametrize("faulty", [False, True])
@pytest.mark.parametrize("seed", [1, 1000])
def test_threads_ask_and_cancel_at_random(kind: dict[str, Any], faulty: bool, seed: int) -> None:
    device = FakeDevice(context_size=CONTEXT, step_tokens=48, pause=0.0002, seed=seed, **kind)
    chance = random.Random(seed)
    if faulty:
        device.fault = lambda operation: (chance.choice(FAULTS[operation])("at random")
                                          if operation in FAULTS and chance.random() < 0.02 else None)
    engine = Engine(device, max_sequences=6, queue_size=12, cache_bytes=5000)
    crowd = Crowd(engine, seed)
    crowd.run()
    for one in crowd.asked:
        one.wait().check(device)
    assert all(sampler.closed for one in crowd.refused for sampler in one.samplers)
    settle(engine, device)
    engine.close()


@pytest.mark.parametrize("how", ["close", "drain", "model"])
@pytest.mark.parametrize("seed", range(6))
def test_closing_in_the_midst_ends_everybody_once(how: str, seed: int) -> None:
    device = FakeDevice(context_size=CONTEXT, pause=0.0003, seed=seed)
    engine = Engine(device, max_sequences=6, cache_bytes=5000)
    crowd = Crowd(engine, seed)

    def close() -> None:
        time.sleep(0.01 * seed)
        if how == "model":
            device.close()
        engine.close(drain=how == "drain")

    closer = threading.Thread(target=close)
    closer.start()
    crowd.run(threads=3, each=12)
    closer.join(10 * PATIENCE)
    for one in crowd.asked:
        one.wait().check(device)
        assert "error" not in one.heard.reasons
    settle(engine, device)
    with pytest.raises(ClosedError):
        engine.submit(Asked(range(9)).request)


def test_requests_one_behind_another_find_the_engine_awake() -> None:
    device = FakeDevice()
    engine = Engine(device)
    for number in range(400):  # each comes about when the thread of the one before goes
        one = Asked(range(5), seed=number, max_tokens=1)
        engine.submit(one.request)
        one.wait().check(device)
        assert one.reason == "length"
    settle(engine, device)
    engine.close()


# ---- the scheduler ----


@given(st.lists(st.integers(2, 500), min_size=1, max_size=20), st.integers(0, 600), st.data())
def test_shares_waste_nothing_and_keep_nobody_waiting(pending: list[int], budget: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(pending) - 1))
    shares = scheduler.shares(pending, first, budget)
    assert all(0 <= share <= count for share, count in zip(shares, pending))
    assert sum(shares) == min(budget, sum(pending))
    assert shares[first] >= min(pending[first], budget / 2)
    others = [number for number in range(len(pending)) if number != first]
    begun = [pending[number] for number in others if shares[number]]
    assert all(count >= max(begun, default=0) for number in others if shares[number] < (count := pending[number]))  # the shortest are whole
    assert sum(0 < shares[number] < pending[number] for number in others) <= 1


@given(st.lists(st.integers(1, 500), min_size=1, max_size=20), st.integers(0, 600))
def test_a_plan_keeps_within_a_step_and_single_tokens_go_first(pending: list[int], more: int) -> None:
    budget = len(pending) + more
    counts = scheduler.plan(pending, list(range(len(pending))), budget)
    assert sum(counts) <= budget and any(counts)
    assert all(given == 1 for given, count in zip(counts, pending) if count == 1)


def test_a_step_has_more_of_prompts_where_more_wait_for_one() -> None:
    def of_prompts(singles: int, prompts: int) -> int:
        counts = scheduler.plan([1] * singles + [400] * prompts, list(range(singles + prompts)), 512)
        return sum(counts[singles:])

    assert of_prompts(0, 2) == 512 and of_prompts(1, 31) == 496 and of_prompts(16, 16) == 256
    assert of_prompts(31, 1) == 128 and of_prompts(3, 1) == 128


def test_a_long_prompt_gets_on_beside_any_number_of_short_ones() -> None:
    left, steps = 4000, 0
    while left > 1:
        left -= scheduler.plan([30] * 40 + [left], [*range(1, 41), 0], 512)[-1]  # the short ones are always others
        steps += 1
    assert steps <= 4000 / 256 + 1


def step_of(*asked: Asked, checkpoint: int = 0) -> list[int]:
    """How many tokens each has of a step of 512, of which 32 can be scored. They came in this order, and lie in the opposite one."""
    choices = [Choice(one.request, 0, 10) for one in asked]
    choices[0].checkpoint = checkpoint
    for number, choice in enumerate(choices):
        choice.request.arrival, choice.slot = number, Slot(len(choices) - 1 - number)
    plan = make_plan(choices[::-1], FakeDevice(sequences=len(asked), context_size=8192, step_tokens=512, outputs=32))
    ends = {choice: end for choice, _, end in plan.parts}
    return [ends.get(choice, 0) for choice in choices]


def test_what_a_prompt_cannot_take_goes_to_others() -> None:
    scored = Asked(range(600), prompt_logprobs=0)
    assert step_of(scored, Asked(range(4000))) == [31, 481]
    assert step_of(Asked(range(4000)), scored) == [481, 31]
    assert step_of(Asked(range(200)), Asked(range(4000)), checkpoint=96) == [96, 416]


def test_nothing_is_drafted_behind_a_checkpoint_that_is_one_token_away() -> None:
    choice = Choice(Asked(range(90)).request, 0, 10)
    choice.count, choice.checkpoint, choice.slot = 1, 80, Slot(0)
    choice.slot.tokens = choice.tokens[:79]  # as after a draft that a recurrent memory had to forget
    device = FakeDevice(step_tokens=64, guess=lambda text, most: [1] * most)
    plan = make_plan([choice], device, Drafts(device))
    assert (plan.tokens, plan.drafts) == (choice.tokens[79:80], {})


def test_who_came_first_is_scored_first() -> None:
    first, second = (Asked(range(600), prompt_logprobs=0) for _ in range(2))
    assert step_of(first, second) == [32, 0]
    assert step_of(Asked(range(20), prompt_logprobs=0), second) == [20, 12]
    assert step_of(first, Asked(range(600), prompt_logprobs=0, score_from=301), Asked(range(10))) == [31, 300, 10]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=400))
def test_a_request_is_overtaken_by_a_bounded_number(priorities: list[int]) -> None:
    queue = scheduler.Queue()
    requests = [Request([1], [], Asked([1]).heard, priority=priority) for priority in priorities]
    for request in requests:
        queue.push(request)
    order = [queue.pop() for _ in requests]
    place = {request: number for number, request in enumerate(order)}
    for number, request in enumerate(requests):
        above = max(priorities) - request.priority
        overtakers = sum(place[later] < place[request] for later in requests[number + 1 :])
        assert overtakers <= above * scheduler.PRIORITY_STEP
        assert all(place[other] > place[request] for other in requests[number + 1 :] if other.priority <= request.priority)
    assert all(request.arrival == number for number, request in enumerate(requests))


def test_he_who_is_put_back_has_his_place_again() -> None:
    queue = scheduler.Queue()
    requests = [Request([1], [], Asked([1]).heard) for _ in range(9)]
    for request in requests:
        queue.push(request)
    back = [queue.pop() for _ in range(4)]
    for request in reversed(back):
        queue.push(request)
    assert [queue.pop() for _ in requests] == requests
