"""The engine over a device that computes nothing: what it does for those who ask."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from gollama import BusyError, OptionError
from gollama.engine import Prefixes
from tests.support.fake_device import FakeDevice
from tests.support.fake_requests import Asked, Gate, Maker, ask


@pytest.fixture
def make() -> Iterator[Maker]:
    maker = Maker()
    yield maker
    maker.finish()


# ---- answers ----


def test_a_prompt_gets_its_tokens(make: Maker) -> None:
    engine, device = make()
    asked = ask(engine, range(100), max_tokens=20).wait()
    asked.check(device)
    assert asked.reason == "length" and len(asked.tokens) == 20


def test_each_choice_has_its_own_sampler(make: Maker) -> None:
    engine, device = make()
    asked = ask(engine, range(40), n=5, max_tokens=9).wait()
    asked.check(device)
    assert len({tuple(tokens) for tokens in asked.heard.tokens}) == 5


def test_choices_are_generated_one_after_another_where_there_is_one_sequence(make: Maker) -> None:
    engine, device = make(max_sequences=1)
    first, second = ask(engine, range(40), n=4, max_tokens=9), ask(engine, range(50, 60), n=3, max_tokens=5)
    for asked in (first, second):
        asked.wait().check(device)
    assert device.sequences == 1


@pytest.mark.parametrize("n", [1, 3])
def test_a_prompt_may_be_all_that_is_wanted(make: Maker, n: int) -> None:
    engine, device = make()
    asked = ask(engine, range(90), n=n, max_tokens=0, prompt_logprobs=0).wait()
    asked.check(device)
    assert asked.heard.reasons == ["length"] * n and asked.tokens == []


def test_a_prompt_fills_the_context_but_for_one(make: Maker) -> None:
    engine, device = make(FakeDevice(context_size=64))
    nearly, whole = ask(engine, range(63)), ask(engine, range(100, 164))
    for asked in (nearly, whole):
        asked.wait().check(device)
    assert len(nearly.tokens) == 1 and whole.tokens == [] and whole.reason == "length"


def test_an_answer_ends_where_the_context_does(make: Maker) -> None:
    engine, device = make(FakeDevice(context_size=64))
    asked = ask(engine, range(40)).wait()
    asked.check(device)
    assert len(asked.tokens) == 24 and asked.reason == "length"


@pytest.mark.parametrize("keep", [0, 5, 62, 1000])
def test_a_full_context_slides_along(make: Maker, keep: int) -> None:
    engine, device = make(FakeDevice(context_size=64))
    asked = ask(engine, range(40), max_tokens=200, shift=True, keep=keep).wait()
    asked.check(device)
    assert len(asked.tokens) == 200


def test_prompt_tokens_are_scored_once_though_the_context_slides(make: Maker) -> None:
    engine, device = make(FakeDevice(context_size=64))
    ask(engine, range(60), max_tokens=99, shift=True, keep=3, prompt_logprobs=2).wait().check(device)


def test_slid_memory_serves_nobody_else(make: Maker) -> None:
    engine, device = make(FakeDevice(context_size=64), cache_bytes=2**20)
    slid = ask(engine, range(60), max_tokens=40, shift=True, keep=4).wait()
    memory = slid.request.tokens + slid.tokens
    for start in range(5, len(memory)):  # whatever was slid out, behind the first four
        ask(engine, memory[:4] + memory[start : start + 40], max_tokens=2).wait().check(device)


def test_a_working_slid_memory_serves_nobody_else(make: Maker) -> None:
    engine, device = make(FakeDevice(context_size=64), cache_bytes=2**20)
    others: list[Asked] = []

    def on_token(choice: int, token: int) -> bool:
        if len(slid.tokens) == 10:  # the memory holds 0, 1, 32, 33, … now
            others.append(ask(engine, [0, 1, *range(33, 60), 7], max_tokens=3))
        return False

    slid = Asked(range(60), max_tokens=60, shift=True, keep=2, on_token=on_token)
    engine.submit(slid.request)
    slid.wait().check(device)
    for asked in others:
        asked.wait().check(device)
    assert len(others) == 1


def test_a_model_ends_its_answer(make: Maker) -> None:
    engine, device = make(FakeDevice(ends=9))
    for seed in range(30):
        asked = ask(engine, range(10), n=3, seed=seed, max_tokens=100).wait()
        asked.check(device)
        assert asked.reason == "stop"


def test_a_listener_ends_an_answer(make: Maker) -> None:
    engine, device = make()
    asked = ask(engine, range(10), on_token=lambda choice, token: True).wait()
    asked.check(device)
    assert asked.reason == "stop" and len(asked.tokens) == 1


@pytest.mark.parametrize("start", [1, 30, 99])
def test_probabilities_of_prompt_and_answer(make: Maker, start: int) -> None:
    engine, device = make(FakeDevice(outputs=3, step_tokens=16))
    asked = [ask(engine, range(100 + n), n=n, max_tokens=6, logprobs=n, prompt_logprobs=2, score_from=start) for n in (1, 2, 3)]
    for one in asked:
        one.wait().check(device)


def test_a_step_may_be_smaller_than_the_number_of_prompts(make: Maker) -> None:
    engine, device = make(FakeDevice(step_tokens=4))
    asked = [ask(engine, range(number, number + 20), max_tokens=8) for number in range(16)]
    for one in asked:
        one.wait().check(device)


@pytest.mark.parametrize("prompt", [[], range(65)], ids=["empty", "too long"])
def test_a_prompt_that_cannot_be_computed_is_an_error(make: Maker, prompt: Any) -> None:
    engine, _ = make(FakeDevice(context_size=64))
    asked = ask(engine, prompt, shift=True).wait()
    assert asked.reason == "error" and isinstance(asked.error, OptionError)


# ---- prefixes ----


def test_a_prompt_that_begins_like_another_is_computed_from_where_they_part(make: Maker) -> None:
    engine, device = make()
    ask(engine, range(50), max_tokens=1).wait()
    asked = ask(engine, [*range(40), *range(100, 120)], max_tokens=9).wait()
    asked.check(device)
    assert asked.cached == 40


def test_a_prefix_may_be_refused(make: Maker) -> None:
    engine, device = make()
    ask(engine, range(50), max_tokens=1).wait()
    asked = ask(engine, range(50), max_tokens=9, reuse=False).wait()
    asked.check(device)
    assert asked.cached == 0


@pytest.mark.parametrize("device", [FakeDevice(recurrent=True, context_size=512), FakeDevice(window=20, context_size=512)],
                         ids=["recurrent", "window"])
def test_memory_that_cannot_be_cut_is_kept_before_the_answer(make: Maker, device: FakeDevice) -> None:
    engine, _ = make(device, cache_bytes=2**20)
    ask(engine, range(200), max_tokens=100).wait().check(device)
    asked = ask(engine, range(200), max_tokens=9).wait()
    asked.check(device)
    assert asked.cached == 196


def test_a_copy_of_a_working_window_has_no_hole(make: Maker) -> None:
    device = FakeDevice(window=20, step_tokens=200, sequences=2)
    device._forget_some = lambda: None  # type: ignore[method-assign]
    engine, _ = make(device, max_sequences=2)
    others: list[Asked] = []

    def on_token(choice: int, token: int) -> bool:
        if not others:
            others.append(ask(engine, [*range(30), 500], max_tokens=3))
        return False

    ask(engine, range(100), max_tokens=20, on_token=on_token).wait().check(device)
    others[0].wait().check(device)


def test_forgetting_empties_what_nobody_works_on(make: Maker) -> None:
    engine, _ = make(cache_bytes=2**20)
    ask(engine, range(50), max_tokens=3).wait()
    engine.call(Prefixes.forget)
    assert engine.stats().tokens_in_memory == engine.stats().saved_bytes == 0


def test_saved_memory_keeps_within_its_bound(make: Maker) -> None:
    engine, device = make(max_sequences=1, cache_bytes=2000)
    for number in range(20):
        ask(engine, range(number, number + 90), max_tokens=3).wait().check(device)
        assert engine.stats().saved_bytes <= 2000
    assert engine.stats().saved_prefixes == 2


# ---- sequences ----


def test_the_device_grows_in_the_midst_of_generations(make: Maker) -> None:
    engine, device = make(cache_bytes=2**20)
    others: list[Asked] = []

    def on_token(choice: int, token: int) -> bool:
        others.append(ask(engine, range(len(others), 40 + len(others)), seed=len(others), max_tokens=30))
        return False

    ask(engine, range(10), max_tokens=30, on_token=on_token).wait().check(device)
    for one in others:
        one.wait().check(device)
    assert device.sequences == 16


def test_working_sequences_are_neighbours(make: Maker) -> None:
    engine, device = make(FakeDevice(sequences=16))
    asked = [ask(engine, range(number, number + 20), max_tokens=3 + number % 5 * 9) for number in range(16)]
    for one in asked:
        one.wait().check(device)
    for runs in device.runs:
        sequences = [sequence for sequence, _ in runs]
        assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("ends", [0, 5], ids=["by length", "by the model"])
def test_a_quiet_request_hears_its_tokens_at_the_end(make: Maker, n: int, ends: int) -> None:
    engine, _ = make(FakeDevice(ends=ends))
    loud = ask(engine, range(9), max_tokens=40, n=n).wait()
    quiet = ask(engine, range(9), max_tokens=40, n=n, quiet=True).wait()
    assert quiet.heard.tokens == loud.heard.tokens and quiet.heard.reasons == loud.heard.reasons
    assert ends or all(loud.heard.tokens)


# ---- who goes first ----


def test_a_higher_priority_goes_first(make: Maker) -> None:
    engine, device = make(max_sequences=1)
    order: list[str] = []

    def note(name: str, choice: int, token: int) -> bool:
        order.append(name)
        return False

    device.fault = gate = Gate()
    ask(engine, range(9), max_tokens=1)
    assert gate.entered.wait()
    asked = [ask(engine, range(9), max_tokens=1, priority=priority, on_token=partial(note, name))
             for name, priority in (("low", -1), ("middle", 0), ("high", 1))]
    gate.open()
    for one in asked:
        one.wait()
    assert order == ["high", "middle", "low"]


def test_a_full_queue_says_so(make: Maker) -> None:
    engine, device = make(max_sequences=1, queue_size=2)
    device.fault = gate = Gate()
    asked = [ask(engine, range(9), max_tokens=1)]
    assert gate.entered.wait()
    asked += [ask(engine, range(9), max_tokens=1) for _ in range(2)]
    refused = Asked(range(9))
    with pytest.raises(BusyError, match="queue_size"):
        engine.submit(refused.request)
    assert refused.samplers[0].closed
    engine.drop(asked.pop().request)  # who has given up makes room at once
    asked.append(ask(engine, range(9), max_tokens=1))
    gate.open()
    for one in asked:
        one.wait().check(device)
