"""The choices that are computed together: letting them in and out, the step, and what becomes of its results."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from gollama.engine.device import Device, State, Step
from gollama.engine.drafts import Drafts
from gollama.engine.plan import Plan, make_plan
from gollama.engine.prefixes import SLID, Prefixes, Slot
from gollama.engine.request import Choice, EndReason, Request
from gollama.errors import BrokenError, CancelledError, ClosedError, GollamaError, OptionError

CHECKPOINT_TAIL = 4  # tokens of a prompt behind its checkpoint, so that the same prompt finds it too
CHECKPOINT_LEAST = 64
NO_LIMIT = 2**31

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
    step_seconds: float = 0.0
    decode_seconds: float = 0.0
    sample_seconds: float = 0.0
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


class Batch:
    """The state of the engine's thread; nobody else touches it while that runs."""

    def __init__(self, device: Device, max_sequences: int, cache_bytes: int) -> None:
        self._device = device
        self._max_sequences = min(max_sequences, device.step_tokens)  # each may have a token in every step
        self.prefixes = Prefixes(device, cache_bytes)
        self.active: list[Choice] = []  # those with a sequence, in the order of those
        self.forks: list[Fork] = []
        self.timed = False  # somebody has a deadline
        self.counters = Counters()
        self.sampled = False  # the last step has come so far: it cannot be computed again
        self._now = 0.0  # when the last step was done
        self._drafts = None if device.speculator is None else Drafts(device)
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
        return max(0, self._max_sequences - len(self.active)) if not self.forks else 0

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
            self.prefixes.close_ranks()
            self.active.sort(key=lambda choice: choice.slot.index if choice.slot else 0)

    def _grow(self, wanted: int) -> None:
        target = min(self._max_sequences, 1 << (wanted - 1).bit_length())
        if target <= len(self.prefixes.slots):
            return
        try:
            self.prefixes.resize(target)
        except BrokenError:
            raise
        except (MemoryError, GollamaError) as error:
            logger.warning("%d sequences cannot be had, %d are: %s", target, len(self.prefixes.slots), error)
            self._max_sequences = len(self.prefixes.slots)

    def _place_forks(self) -> None:
        for fork in self.forks:
            while fork.choices and (slot := self.prefixes.place_copy(fork.tokens, fork.state)) is not None:
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
            slot, cached = self.prefixes.place_alone(), 0
        else:
            slot, cached = self.prefixes.place(request.tokens)
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
        self.timed |= request.deadline is not None

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
            elif request.deadline is not None and request.deadline <= now:
                self.end(choice, "timeout")
        self.timed = any(choice.request.deadline is not None for choice in self.members())

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

    # ---- the step ----

    def step(self) -> None:
        """Compute the next tokens of everybody. Raises what concerns the step as a whole."""
        start = time.perf_counter()
        self.sampled = False
        plan = self._plan()
        if plan.tokens:
            self._compute(plan)
        self.counters.steps += 1
        self.counters.step_seconds += time.perf_counter() - start

    def _plan(self) -> Plan:
        if self._steady is not None:
            self._steady.advance()
            return self._steady
        for choice in list(self.active):
            if len(choice.tokens) > self._device.context_size and choice.slot is not None:
                try:
                    self._shift(choice, choice.slot)
                except (BrokenError, ClosedError):
                    raise
                except Exception as error:
                    self.end(choice, "error", error)
        plan = make_plan(self.active, self._device, self._drafts)
        everybody = 0 < len(plan.tokens) == len(self.active) == len(plan.owners)
        if everybody and self._drafts is None and all(choice.count for choice in self.active):
            self._steady = plan
        return plan

    def _compute(self, plan: Plan) -> None:
        counters = self.counters
        self.sampled = False
        step = self._device.step(plan.tokens, plan.runs, plan.due, plan.samplers)
        self.sampled = True
        counters.decode_seconds += step.decode_seconds
        counters.sample_seconds += step.sample_seconds
        if self._steady is not None:
            for (_, slot, _), token in zip(plan.parts, plan.tokens):
                slot.tokens.append(token)
            if not step.logprobs and not step.failed:
                self._deliver_one_each(plan, step)
                return
        else:
            for choice, slot, end in plan.parts:
                slot.tokens += choice.tokens[len(slot.tokens) : end]
                self._after_prompt(choice, slot)
        for index, (choice, scores) in enumerate(plan.owners):
            if choice in plan.drafts and not scores:
                self._take_draft(choice, plan.drafts[choice], max(0, step.words[2 * index + 1] - 1))
        self._deliver(plan, step)

    def _take_draft(self, choice: Choice, draft: list[int], accepted: int) -> None:
        """Of a draft the memory keeps what came true."""
        slot = choice.slot
        assert slot is not None and self._drafts is not None
        slot.tokens += draft[:accepted]
        if accepted < len(draft):
            self.prefixes.cut_back(slot)
        choice.drafted += len(draft)
        choice.accepted += accepted
        self.counters.drafted_tokens += len(draft)
        self.counters.accepted_tokens += accepted
        self._drafts.accepted(choice, accepted)

    def _after_prompt(self, choice: Choice, slot: Slot) -> None:
        """Keep what others can use of a prompt's memory before its own answer changes it."""
        if len(slot.tokens) == choice.checkpoint:
            self.prefixes.keep(slot)
        if choice.siblings and len(slot.tokens) == len(choice.tokens) and choice.limit > 0:
            self.forks.append(Fork(self.prefixes.save(slot), list(slot.tokens), choice.siblings))
            choice.siblings = []

    def _deliver_one_each(self, plan: Plan, step: Step) -> None:
        """The usual case: everybody gets one token, and nothing else was asked for."""
        words, data = step.words, step.data
        at, byte = 2 * len(plan.owners), 0
        self._now = time.perf_counter()
        self.counters.completion_tokens += len(plan.owners)
        for (choice, _), token, ends, length in zip(plan.owners, words[at::3], words[at + 1 :: 3], words[at + 2 :: 3]):
            end = byte + length
            if choice.quiet and not ends and choice.count + 1 < choice.until:
                choice.count += 1
                choice.tokens.append(token)
                choice.data.append(data[byte:end])
            else:
                self._take_token(choice, token, data[byte:end], ends)
            byte = end

    def _deliver(self, plan: Plan, step: Step) -> None:
        self._now = time.perf_counter()
        words, data, logprobs = step.words, step.data, step.logprobs
        at, byte, number, top_at = 2 * len(plan.owners), 0, 0, 0
        for index, (choice, scores) in enumerate(plan.owners):
            top: Sequence[tuple[int, float]] = ()
            width = (choice.request.prompt_logprobs if scores else choice.request.logprobs) if logprobs else -1
            for _ in range(words[2 * index + 1]):
                token, ends, length = words[at : at + 3]
                if width > 0:
                    top = list(zip(step.top_tokens[top_at : top_at + width], step.top_logprobs[top_at : top_at + width]))
                    top_at += width
                logprob = logprobs[number] if width >= 0 else 0.0
                if choice.done:
                    pass
                elif scores:
                    self._take_score(choice, token, data[byte : byte + length], logprob, top)
                else:
                    if choice.count == 0:
                        choice.first = self._now
                    self.counters.completion_tokens += 1
                    self._take_token(choice, token, data[byte : byte + length], ends, logprob, top)
                at += 3
                byte += length
                number += 1
            if words[2 * index]:
                self.end(choice, "error", self._device.failure(index, words[2 * index]))
        for choice, slot, _ in plan.parts:
            if choice.limit <= choice.count and len(slot.tokens) == len(choice.tokens):
                self.end(choice, "length")  # of whom only the prompt was wanted

    def _take_score(self, choice: Choice, token: int, data: bytes, logprob: float, top: Sequence[tuple[int, float]]) -> None:
        choice.scored += 1
        try:
            choice.request.listener.prompt([(token, data, logprob, top)])
        except Exception as error:
            self.end(choice, "error", error)

    def _take_token(self, choice: Choice, token: int, data: bytes, ends: int, logprob: float = 0.0,
                    top: Sequence[tuple[int, float]] = ()) -> None:
        if ends:
            self.counters.completion_tokens -= 1
            self.end(choice, "stop")
            return
        choice.count += 1
        choice.tokens.append(token)
        try:
            if choice.quiet:
                choice.data.append(data)
                stop = False
            else:
                stop = choice.request.listener.token(choice.index, token, data, logprob, top)
        except Exception as error:  # of somebody else's code: it is his request's, and not the step's
            self.end(choice, "error", error)
            return
        if stop:
            self.end(choice, "stop")
        elif choice.count >= choice.until:
            self._look_again(choice)

    def _look_again(self, choice: Choice) -> None:
        """A choice has all its tokens, or as many as its memory holds."""
        if choice.count >= choice.limit:
            self.end(choice, "length")
            return
        room = self._device.context_size + 1 - len(choice.tokens)
        if room <= 0:
            self._steady = None  # the next plan makes room
        choice.until = min(choice.limit, choice.count + max(1, room))

    def _shift(self, choice: Choice, slot: Slot) -> None:
        """Slide a full context along: the first `keep` tokens stay, half of the rest goes."""
        keep = min(choice.request.keep, len(slot.tokens) - 2)
        discard = (len(slot.tokens) - keep) // 2
        self._device.shift(slot.index, keep, discard)
        del choice.tokens[keep : keep + discard]
        slot.tokens[keep:] = [SLID] * (len(slot.tokens) - keep - discard)
        choice.until = min(choice.limit, choice.count + self._device.context_size + 1 - len(choice.tokens))
        if self._drafts is not None:
            self._drafts.shifted(choice)

    # ---- when a step fails ----

    def abandon(self) -> None:
        """In a forked child: the choices are the parent's, and the memory was in the midst of a step."""
        self.active, self.forks, self._steady, self.timed = [], [], None, False
        self.prefixes.reset(abandoned=True)

    def recover(self) -> None:
        """A step was broken off: bring the memory back to what is known to be in it."""
        self._steady = None
        for choice in self.active:
            if choice.slot is not None:
                self.prefixes.cut_back(choice.slot)

    def isolate(self) -> None:
        """A step failed as a whole: compute each choice alone, so that only those to blame end with an error."""
        self.recover()
        for choice in list(self.active):
            if choice.done:
                continue
            try:
                self._compute(make_plan([choice], self._device))
            except (BrokenError, CancelledError, ClosedError):
                raise
            except Exception as error:
                if self.sampled:
                    raise
                self.recover()
                self.end(choice, "error", error)


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
