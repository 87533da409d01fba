"""Requests to the engine whose listeners remember all that they hear, and what they must not hear."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from gollama.engine import Counts, EndReason, Engine, Request
from gollama.engine.engine import _engines
from tests.support.fake_device import FakeDevice
from tests.support.fake_model import FakeSampler, Memory, expected, likeliest, logprob_of

PATIENCE = 20.0  # seconds after which a test gives up; nothing takes that long

OnToken = Callable[[int, int], bool]


class Heard:
    """A listener. `wrong` holds what should not have come."""

    def __init__(self, choices: int, on_token: OnToken | None = None) -> None:
        self.tokens: list[list[int]] = [[] for _ in range(choices)]
        self.scores: list[list[tuple[float, list[tuple[int, float]]]]] = [[] for _ in range(choices)]
        self.prompts: list[tuple[int, float, list[tuple[int, float]]]] = []
        self.reasons: list[EndReason | None] = [None] * choices
        self.errors: list[BaseException | None] = [None] * choices
        self.counts: list[Counts | None] = [None] * choices
        self.wrong: list[str] = []
        self.started = threading.Event()
        self.done = threading.Event()
        self._on_token = on_token

    def token(self, choice: int, token: int, data: bytes, logprob: float, top: Sequence[tuple[int, float]]) -> bool:
        if self.reasons[choice] is not None:
            self.wrong.append(f"choice {choice}: a token after the end")
        if data != b"%d " % token:
            self.wrong.append(f"choice {choice}: {data!r} for token {token}")
        self.tokens[choice].append(token)
        self.scores[choice].append((logprob, list(top)))
        self.started.set()
        return self._on_token is not None and self._on_token(choice, token)

    def collected(self, choice: int, tokens: list[int], data: bytes) -> None:
        if self.tokens[choice]:
            self.wrong.append(f"choice {choice}: tokens of a quiet request before its end")
        for token in tokens:
            self.token(choice, token, b"%d " % token, 0.0, ())
        if data != b"".join(b"%d " % token for token in tokens):
            self.wrong.append(f"choice {choice}: other texts than those of its tokens")

    def prompt(self, logprobs: Sequence[tuple[int, bytes, float, Sequence[tuple[int, float]]]]) -> None:
        if self.reasons[0] is not None:
            self.wrong.append("prompt tokens after the end")
        self.prompts += [(token, logprob, list(top)) for token, _, logprob, top in logprobs]

    def finished(self, choice: int, reason: EndReason, error: BaseException | None, counts: Counts) -> None:
        if self.reasons[choice] is not None:
            self.wrong.append(f"choice {choice} ended twice: {self.reasons[choice]}, {reason}")
        if (reason == "error") != (error is not None):
            self.wrong.append(f"{reason} with {error!r}")
        if counts.completion_tokens != len(self.tokens[choice]):
            self.wrong.append(f"{counts.completion_tokens} tokens counted, {len(self.tokens[choice])} heard")
        self.reasons[choice], self.errors[choice], self.counts[choice] = reason, error, counts
        if None not in self.reasons:
            self.done.set()


class Asked:
    """A request, and what is heard of it. Choice i has the seed `seed` + i."""

    def __init__(self, prompt: Sequence[int], *, n: int = 1, seed: int = 0, on_token: OnToken | None = None, **fields: Any) -> None:
        self.heard = Heard(n, on_token)
        self.samplers = [FakeSampler(seed + index) for index in range(n)]
        self.request = Request(list(prompt), list(self.samplers), self.heard, **fields)

    def wait(self) -> Asked:
        assert self.heard.done.wait(PATIENCE), f"never ended: {self.heard.reasons}"
        return self

    @property
    def tokens(self) -> list[int]:
        return self.heard.tokens[0]

    @property
    def reason(self) -> EndReason | None:
        return self.heard.reasons[0]

    @property
    def error(self) -> BaseException | None:
        return self.heard.errors[0]

    @property
    def cached(self) -> int:
        counts = self.heard.counts[0]
        assert counts is not None
        return counts.cached_tokens

    # ---- what must hold ----

    def check(self, device: FakeDevice) -> None:
        """It ended once, its samplers are closed, and what it was told is what its prompt and seeds give."""
        assert not self.heard.wrong, self.heard.wrong
        assert None not in self.heard.reasons
        assert all(sampler.closed and not sampler.pinned for sampler in self.samplers)
        for index in range(len(self.samplers)):
            self._check_choice(device, index)
        self._check_prompt(device)

    def _check_choice(self, device: FakeDevice, index: int) -> None:
        request, tokens, reason = self.request, self.heard.tokens[index], self.heard.reasons[index]
        most = 2**31 if request.max_tokens is None else request.max_tokens
        known = len(tokens) + 1 if reason != "length" else min(len(tokens) + 1, most)
        right = expected(device, request.tokens, self.samplers[index].seed, known, request.keep if request.shift else -1, request.adapters)
        assert tokens == right[: len(tokens)], f"choice {index} got another's tokens"
        if reason == "length":
            assert tokens == right, f"choice {index} ended early"
        if request.logprobs >= 0 and not request.shift:
            self._check_scores(device, index)

    def _check_scores(self, device: FakeDevice, index: int) -> None:
        memory = self._memory(self.request.tokens)
        for token, (logprob, top) in zip(self.heard.tokens[index], self.heard.scores[index]):
            digest = memory.digest(len(memory.cells), device.window)
            assert logprob == logprob_of(digest, token)
            assert top == likeliest(digest, self.request.logprobs)
            memory.append(token, self.request.adapters)

    def _check_prompt(self, device: FakeDevice) -> None:
        request = self.request
        if request.prompt_logprobs < 0:
            assert not self.heard.prompts
            return
        memory, right = self._memory(request.tokens), []
        for place in range(max(1, request.score_from), len(request.tokens)):
            digest = memory.digest(place, device.window)
            right.append((request.tokens[place], logprob_of(digest, request.tokens[place]), likeliest(digest, request.prompt_logprobs)))
        whole = set(self.heard.reasons) <= {"length", "stop"}
        assert self.heard.prompts == (right if whole else right[: len(self.heard.prompts)])

    def _memory(self, tokens: Sequence[int]) -> Memory:
        memory = Memory()
        for token in tokens:
            memory.append(token, self.request.adapters)
        return memory


def ask(engine: Engine, prompt: Sequence[int], **fields: Any) -> Asked:
    asked = Asked(prompt, **fields)
    engine.submit(asked.request)
    return asked


def settle(engine: Engine, device: FakeDevice) -> None:
    """Wait until the engine rests, and check that it holds on to nobody."""
    until = time.monotonic() + PATIENCE
    while engine._thread is not None and time.monotonic() < until:
        time.sleep(0.001)
    if engine._thread is not None:
        _engines.discard(engine)  # which would be waited for at exit
    assert engine._thread is None, "the engine does not come to rest"
    batch = engine._batch
    assert device.owner is None and not device.violations, device.violations
    assert not batch.active and not batch.forks and not len(engine._queue)
    assert all(slot.choice is None for slot in batch.prefixes.slots)
    assert len(batch.prefixes.slots) == device.sequences
    if not device.closed:
        assert [len(slot.tokens) for slot in batch.prefixes.slots] == [len(memory.cells) for memory in device._memory]
    assert engine.stats().running == engine.stats().waiting == 0


class Maker:
    """Makes engines, and checks in the end that each rests and has broken no rule."""

    def __init__(self) -> None:
        self._made: list[tuple[Engine, FakeDevice]] = []

    def __call__(self, device: FakeDevice | None = None, **options: Any) -> tuple[Engine, FakeDevice]:
        device = device or FakeDevice()
        engine = Engine(device, **options)
        self._made.append((engine, device))
        return engine, device

    def finish(self) -> None:
        for engine, device in self._made:
            settle(engine, device)
            engine.close()


class Gate:
    """A `fault` that holds an operation up until it is opened."""

    def __init__(self, operation: str = "step") -> None:
        self.entered = threading.Event()
        self._operation = operation
        self._open = threading.Event()

    def __call__(self, operation: str) -> None:
        if operation == self._operation:
            self.entered.set()
            assert self._open.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()


class Failing:
    """A `fault`: the calls of an operation with these numbers, from 0 on, fail."""

    def __init__(self, operation: str, error: Callable[[], BaseException], numbers: Sequence[int] = (0,)) -> None:
        self.count = 0
        self._operation, self._error, self._numbers = operation, error, numbers

    def __call__(self, operation: str) -> BaseException | None:
        if operation != self._operation:
            return None
        self.count += 1
        return self._error() if self.count - 1 in self._numbers else None
