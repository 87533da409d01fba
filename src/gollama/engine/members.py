"""Who is in the batch: letting choices in and out."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from gollama.engine.choice import Choice, Slot
from gollama.engine.device import Device, State
from gollama.engine.plan import Plan
from gollama.engine.prefixes import Prefixes
from gollama.engine.ranks import close_ranks
from gollama.engine.request import EndReason, Request
from gollama.errors import BrokenError, GollamaError, OptionError

CHECKPOINT_TAIL = 4  # tokens of a prompt behind its checkpoint, so that the same prompt finds it too
CHECKPOINT_LEAST = 64
NO_LIMIT = 2**31
GROWTH_PAUSE = 30.0  # seconds until a device that could not grow is asked again

logger = logging.getLogger("gollama")


@dataclass(eq=False)
class Fork:
    """Siblings that wait for a sequence of their own, and the prompt's saved memory."""

    state: State | None
    tokens: list[int]
    choices: list[Choice]


@dataclass
class Counters:
    """What a batch has done since it was made."""

    steps: int = 0
    failed_steps: int = 0
    step_seconds: float = 0.0
    decode_seconds: float = 0.0
    sample_seconds: float = 0.0
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    adapter_switches: int = 0
    adapter_seconds: float = 0.0


class Members:
    """The choices in the batch and their memory; those who have a sequence are `active`."""

    def __init__(self, device: Device, max_sequences: int, cache_bytes: int) -> None:
        self._device = device
        self._max_sequences = min(max_sequences, device.step_tokens)  # each may have a token in every step
        self.prefixes = Prefixes(device, cache_bytes)
        self.active: list[Choice] = []  # those with a sequence, in the order of those
        self.forks: list[Fork] = []
        self.deadline = math.inf  # the first of those who are in
        self.counters = Counters()
        self._grown = self._max_sequences  # how many can be had, until that time
        self._grown_until = 0.0
        self._now = 0.0  # when the last step was done
        self._steady: Plan | None = None  # the last step's, if the next can be the same

    # ---- who is in ----

    @property
    def steady(self) -> bool:
        """Whether the next step has the choices of the last, one token each."""
        return self._steady is not None

    def members(self) -> list[Choice]:
        """Every choice that was let in and has not ended."""
        siblings = [sibling for choice in self.active for sibling in choice.siblings]
        return self.active + siblings + [choice for fork in self.forks for choice in fork.choices]

    def running(self) -> list[Request]:
        return list(dict.fromkeys(choice.request for choice in self.members()))

    def room(self) -> int:
        """How many more requests may be let in; forks go first."""
        return max(0, self._most() - len(self.active)) if not self.forks else 0

    def _most(self) -> int:
        """How many may be active: fewer for a while where there was no memory for more."""
        return self._grown if time.perf_counter() < self._grown_until else self._max_sequences

    # ---- letting in ----

    def admit(self, entering: list[Request]) -> None:
        """Let requests in, forks first; those for whom there is no sequence after all are left in the list.

        Afterwards the working sequences are neighbours.
        """
        if entering or self.forks:
            self._steady = None
            self._grow(len(self.active) + sum(len(fork.choices) for fork in self.forks) + len(entering))
            self._place_forks()
            while entering and any(slot.choice is None for slot in self.prefixes.slots):
                self._let_in(entering[0])
                del entering[0]
        if self._steady is None:
            close_ranks(self.prefixes)
            self.active.sort(key=lambda choice: choice.slot.index if choice.slot else 0)

    def _grow(self, wanted: int) -> None:
        """Have as many sequences as are wanted; where there is no memory for them, half as many, and so on."""
        target = most = min(self._most(), 1 << (wanted - 1).bit_length())
        while target > len(self.prefixes.slots):
            try:
                self.prefixes.resize(target)
            except BrokenError:
                raise
            except (MemoryError, GollamaError) as error:
                logger.warning("%d sequences cannot be had, %d are: %s", target, len(self.prefixes.slots), error)
                target //= 2
        if target < most:
            self._grown, self._grown_until = len(self.prefixes.slots), time.perf_counter() + GROWTH_PAUSE

    def _place_forks(self) -> None:
        for fork in self.forks:
            adapters = fork.choices[0].request.adapters
            while fork.choices and (slot := self.prefixes.place_copy(fork.tokens, fork.state, adapters)) is not None:
                self._settle(fork.choices.pop(0), slot)
        self.forks = [fork for fork in self.forks if fork.choices]

    def _let_in(self, request: Request) -> None:
        """Let one in. What fails concerns it alone, unless the device is gone."""
        try:
            self._enter(request)
        except BrokenError:
            raise
        except Exception as error:
            if self._device.closed:
                raise
            refuse(request, error)

    def _enter(self, request: Request) -> None:
        if not 0 < len(request.tokens) <= self._device.context_size:
            raise OptionError(f"a prompt has 1 to {self._device.context_size} tokens, not {len(request.tokens)}")
        now = time.perf_counter()
        choices = [Choice(request, index, self._limit(request)) for index in range(len(request.samplers))]
        leader = choices[0]
        for choice in choices:
            choice.started = now
            if request.shift:
                choice.until = min(choice.limit, self._device.context_size + 1 - len(choice.tokens))
            choice.sampler.pin()
        leader.siblings = choices[1:]
        if request.prompt_logprobs >= 0 or not request.reuse:  # needs all of the prompt computed
            slot, cached = self.prefixes.place_alone(request.adapters), 0
        else:
            slot, cached = self.prefixes.place(request.tokens, request.adapters)
        if slot is None:
            raise AssertionError("room() let in more than there are sequences")
        for choice in choices:
            choice.cached = cached
        checkpoint = len(request.tokens) - CHECKPOINT_TAIL
        if (self._device.recurrent or self._device.window) and checkpoint >= cached + CHECKPOINT_LEAST:
            leader.checkpoint = checkpoint
        self._settle(leader, slot)
        self.counters.requests += 1
        self.counters.prompt_tokens += len(request.tokens)
        self.counters.cached_tokens += cached
        self.deadline = min(self.deadline, request.deadline)

    def _limit(self, request: Request) -> int:
        most = NO_LIMIT if request.max_tokens is None else request.max_tokens
        return most if request.shift else min(most, self._device.context_size - len(request.tokens))

    def _settle(self, choice: Choice, slot: Slot) -> None:
        slot.choice, choice.slot = choice, slot
        self.active.append(choice)

    # ---- letting out ----

    def drop_ended(self, now: float) -> None:
        """Let those out who were cancelled or ran out of time."""
        for choice in self.members():
            request = choice.request
            if request.cancelled:
                self.end(choice, "cancelled")
            elif request.deadline <= now:
                self.end(choice, "timeout")
        self.deadline = min((choice.request.deadline for choice in self.members()), default=math.inf)

    def end(self, choice: Choice, reason: EndReason, error: BaseException | None = None) -> None:
        """Let a choice out; its memory stays as a prefix for others. Siblings that wait for its prompt go with it."""
        if choice.done:
            return
        self._steady = None
        choice.done = True
        choice.last = self._now if choice.first else 0.0
        if choice.slot is not None:
            self._leave(choice, choice.slot)
        for fork in self.forks:
            fork.choices = [one for one in fork.choices if one is not choice]
        self.forks = [fork for fork in self.forks if fork.choices]
        choice.sampler.unpin()
        choice.sampler.close()
        _tell(choice, reason, error)
        if choice.count == 0:
            for sibling in choice.siblings:
                self.end(sibling, reason, error)

    def _leave(self, choice: Choice, slot: Slot) -> None:
        slot.choice = choice.slot = None
        slot.used = self.prefixes.tick()
        self.active.remove(choice)

    def fail(self, error: BaseException, entering: Sequence[Request] = ()) -> None:
        """The memory is lost, and with it everybody who had a part in it; those who come get a new one."""
        self.fail_all(error)
        self.refuse_all(entering, error)
        if not self._device.closed:
            self.prefixes.reset()

    def fail_all(self, error: BaseException) -> None:
        """End everybody who is in: with an error, or, where the device was closed, as cancelled."""
        closed = self._device.closed
        for choice in self.members():
            choice.siblings = []
            self.end(choice, "cancelled" if closed else "error", None if closed else error)

    def refuse_all(self, requests: Sequence[Request], error: BaseException) -> None:
        """The same for those who are not in yet."""
        closed = self._device.closed
        for request in requests:
            request.cancelled |= closed
            refuse(request, None if closed else error)


def refuse(request: Request, error: BaseException | None = None) -> None:
    """End a request that was never let in."""
    reason: EndReason = "error" if error is not None else "cancelled" if request.cancelled else "timeout"
    for index in range(len(request.samplers)):
        choice = Choice(request, index, 0)
        choice.sampler.unpin()
        choice.sampler.close()
        _tell(choice, reason, error)


def _tell(choice: Choice, reason: EndReason, error: BaseException | None) -> None:
    try:
        if choice.quiet:
            choice.request.listener.collected(choice.index, choice.tokens[len(choice.request.tokens) :], b"".join(choice.data))
        choice.request.listener.finished(choice.index, reason, error, choice.counts())
    except Exception:  # of somebody else's code: the engine goes on
        logger.exception("a listener failed")
