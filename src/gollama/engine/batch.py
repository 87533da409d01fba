"""The batch: the step of everybody who is in, and what becomes of its results."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence

from gollama.engine.choice import Choice, Slot
from gollama.engine.device import Device, Step
from gollama.engine.drafts import Drafts
from gollama.engine.members import Fork, Members
from gollama.engine.plan import Plan, make_plan
from gollama.engine.prefixes import SLID
from gollama.engine.request import Adapters
from gollama.engine.scheduler import TURN_STEPS, Turns
from gollama.errors import BrokenError, CancelledError, ClosedError

logger = logging.getLogger("gollama")


class Batch(Members):
    """The state of the engine's thread; nobody else touches it while that runs."""

    def __init__(self, device: Device, max_sequences: int, cache_bytes: int) -> None:
        super().__init__(device, max_sequences, cache_bytes)
        self.sampled = False  # the last step has come so far: it cannot be computed again
        self._drafts = None if device.speculator is None else Drafts(device)
        self._turns = Turns()
        self._turn = 0  # steps left of a turn; 0 where there are no others

    # ---- the step ----

    def step(self) -> None:
        """Compute the next tokens of everybody. Raises what concerns the step as a whole."""
        start = time.perf_counter()
        self.sampled = False
        plan = self._plan()
        if plan.tokens:
            self._compute(plan)
        if self._turn:
            self._end_turn(len(plan.tokens))
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
        choices = self._turn_takers()
        plan = make_plan(choices, self._device, self._drafts)
        everybody = 0 < len(plan.tokens) == len(choices) == len(plan.owners)
        if everybody and self._drafts is None and all(choice.count for choice in choices):
            self._steady = plan
        return plan

    def _turn_takers(self) -> list[Choice]:
        """Those who compute now: everybody who has the adapters whose turn it is. The device has them, too."""
        if not (choices := list(self.active)):
            return choices
        adapters = choices[0].request.adapters
        if all(choice.request.adapters == adapters for choice in choices):
            self._turn = 0
        else:
            adapters = self._turns.next(choices, self._turn > 0)
            self._turn = self._turn or TURN_STEPS
            choices = [choice for choice in choices if choice.request.adapters == adapters]
        return choices if adapters == self._device.adapted or self._adapt(adapters, choices) else []

    def _adapt(self, adapters: Adapters, choices: Sequence[Choice]) -> bool:
        """Have the device take up other adapters. What fails there concerns those who asked for them."""
        start = time.perf_counter()
        try:
            self._device.adapt(adapters)
        except BrokenError:
            raise
        except Exception as error:
            if self._device.closed:
                raise
            for choice in choices:
                self.end(choice, "error", error)
            return False
        self.counters.adapter_switches += 1
        self.counters.adapter_seconds += time.perf_counter() - start
        return True

    def _end_turn(self, tokens: int) -> None:
        """Count a step of a turn; one that is full of tokens is all of it."""
        self._turn = max(0, self._turn - max(1, TURN_STEPS * tokens // self._device.step_tokens))
        if not self._turn:
            self._steady = None

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
        spoiled = False
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
                error = self._device.failure(index, words[2 * index])
                spoiled |= isinstance(error, BrokenError)
                self.end(choice, "error", error)
        for choice, slot, _ in plan.parts:
            if choice.limit <= choice.count and len(slot.tokens) == len(choice.tokens):
                self.end(choice, "length")  # of whom only the prompt was wanted
        if spoiled:
            self.prefixes.renew()

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
        self.active, self.forks, self._steady, self.deadline = [], [], None, math.inf
        self.prefixes.reset(abandoned=True)

    def recover(self) -> None:
        """A step was broken off: bring the memory back to what is known to be in it."""
        self._steady = None
        for choice in self.active:
            if choice.slot is not None:
                self.prefixes.cut_back(choice.slot)

    def isolate(self, error: Exception) -> None:
        """A step failed as a whole: compute each choice alone, so that only those to blame end with an error."""
        if not self.counters.failed_steps:  # what it says may hold somebody's text
            logger.warning("a step failed as a whole (%s), and its sequences are computed one after another; stats() counts such steps",
                           type(error).__name__)
        self.counters.failed_steps += 1
        self.recover()
        for choice in list(self.active):
            if choice.done or choice.request.adapters != self._device.adapted:
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
