"""A device that computes nothing, but is as strict as the real one and remembers as much.

The token that follows is a pure function of all that is in a sequence's memory, of the sampler's seed and of how many
tokens it chose before. Whoever mixes up tokens, memory, samplers or requests gets another token than `fake_model.expected`.
What the engine may never do is refused as by the real device, and noted in `violations`.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from gollama.engine.request import BASE, Adapters
from gollama.errors import BrokenError, BusyError, CancelledError, ClosedError, NativeError, OptionError
from tests.support.fake_model import VOCABULARY, FakeState, FakeStep, Memory, likeliest, logprob_of

FAILED = 7  # the code of a due that failed

Fault = Callable[[str], BaseException | None]
Guess = Callable[[Sequence[int], int], list[int]]  # of a text's next tokens


class FakeDevice:
    """`fault` is asked before each operation, by its name, and what it returns is raised; `bad` which samplers fail, by seed."""

    def __init__(self, sequences: int = 1, context_size: int = 256, step_tokens: int = 64, outputs: int = 32, *, window: int = 0,
                 recurrent: bool = False, ends: int = 0, pause: float = 0.0, seed: int = 0, guess: Guess | None = None) -> None:
        self.context_size, self.step_tokens, self._least_outputs = context_size, step_tokens, outputs
        self.guess = guess
        self.window, self.recurrent, self.ends, self.pause = window, recurrent, ends, pause
        self.closed = False
        self.fault: Fault = lambda operation: None
        self.bad: Callable[[int], bool] = lambda seed: False
        self.violations: list[str] = []
        self.runs: list[list[tuple[int, int]]] = []  # of each step: (sequence, tokens)
        self.used: list[Adapters | None] = []  # of each step
        self.unfit: Callable[[Adapters], bool] = lambda adapters: False
        self.owner: int | None = None
        self._random = random.Random(seed)
        self._renew(sequences)

    def _renew(self, sequences: int) -> None:
        self.sequences, self.outputs = sequences, max(sequences, self._least_outputs)
        self.broken = self._cancelled = False
        self.adapted: Adapters | None = BASE
        self.speculator = object() if self.guess is not None else None
        self._texts: list[list[int]] = [[] for _ in range(sequences)]
        self._memory = [Memory() for _ in range(sequences)]

    # ---- rules ----

    def _require(self, holds: bool, rule: str) -> None:
        if not holds:
            self.violations.append(rule)
            raise OptionError(rule)

    def _use(self, operation: str) -> None:
        self._require(self.owner == threading.get_ident(), f"{operation} by a thread that has not pinned the device")
        if self.closed and operation != "step":  # a pinned step still runs
            raise ClosedError("the context is closed")
        if self.broken and operation not in ("resume", "resize"):
            raise BrokenError("an assertion failed earlier")
        if self.pause:
            time.sleep(self._random.random() * self.pause)
        fault = self.fault(operation)
        if fault is not None:
            self._damage(operation, fault)
            raise fault

    def _damage(self, operation: str, fault: BaseException) -> None:
        if isinstance(fault, BrokenError):
            self.broken = True
        if operation == "resize":
            self._renew(self.sequences)

    def _of(self, sequence: int) -> Memory:
        self._require(0 <= sequence < self.sequences, "no such sequence")
        return self._memory[sequence]

    # ---- lifetime ----

    def pin(self) -> None:
        if self.closed:
            raise ClosedError("the context is closed")
        if self.owner not in (None, threading.get_ident()):
            raise BusyError("the context is in use by another thread")
        self.owner = threading.get_ident()
        fault = self.fault("pin")
        if fault is not None:
            self.owner = None
            raise fault

    def unpin(self) -> None:
        if self.owner not in (None, threading.get_ident()):
            self.violations.append("unpinned by another thread")
        self.owner = None

    def close(self) -> None:
        self.closed = True

    def resize(self, sequences: int) -> None:
        self._use("resize")
        self._renew(sequences)

    def abandon(self) -> None:
        self.owner = None
        self._renew(1)

    def cancel(self) -> None:
        self._cancelled = True

    def resume(self) -> None:
        self._use("resume")
        self._cancelled = False

    # ---- memory ----

    def first_position(self, sequence: int) -> int:
        self._use("first_position")
        memory = self._of(sequence)
        return memory.first if memory.cells else -1

    def cut(self, sequence: int, length: int) -> bool:
        self._use("cut")
        memory = self._of(sequence)
        if self.recurrent and 0 < length < len(memory.cells):
            return False
        del memory.cells[length:]
        memory.first = min(memory.first, len(memory.cells))
        return True

    def shift(self, sequence: int, keep: int, discard: int) -> None:
        self._use("shift")
        memory = self._of(sequence)
        if self.window or self.recurrent:
            raise NativeError("this memory cannot be shifted")
        self._require(keep >= 0 and discard >= 1 and keep + discard < len(memory.cells), "positions that are not there")
        memory.shift(keep, discard)

    def save(self, sequence: int) -> FakeState:
        self._use("save")
        memory = self._of(sequence)
        self._require(bool(memory.cells), "an empty sequence is saved")
        state = FakeState(memory)
        if self.window:  # cells that the last token does not see are left out
            state.first = max(state.first, len(state.cells) - self.window)
        return state

    def load(self, sequence: int, state: FakeState) -> None:
        self._of(sequence)
        self._memory[sequence] = Memory()  # whatever happens
        self._use("load")
        self._memory[sequence] = Memory(state.cells, state.first)

    # ---- drafts ----

    def draft(self, requests: Sequence[tuple[int, bool, Sequence[int], int]]) -> list[list[int]]:
        self._use("draft")
        assert self.guess is not None
        tracks = [track for track, _, _, _ in requests]
        self._require(len(set(tracks)) == len(tracks) and all(0 <= track < self.sequences for track in tracks), "tracks of their own")
        for track, anew, tokens, _ in requests:
            self._texts[track] = [*([] if anew else self._texts[track]), *tokens]
        return [self.guess(self._texts[track], most) for track, _, _, most in requests]

    def accept(self, track: int, count: int) -> None:
        self._use("accept")
        self._require(0 <= track < self.sequences and count >= 0, "a track")

    # ---- the step ----

    def adapt(self, adapters: Adapters) -> None:
        self.adapted = None  # whatever happens
        self._use("adapt")
        if self.unfit(adapters):
            raise NativeError(f"{adapters} cannot be used")
        self.adapted = adapters

    def step(self, tokens: Sequence[int], runs: Sequence[int], due: Sequence[int], samplers: Sequence[Any]) -> FakeStep:
        self._require(self.adapted is not None, "a step with adapters that nobody knows")
        outputs = self._check(tokens, runs)
        places = self._check_due(runs, due, samplers, outputs)
        try:
            self._use("step")
        except (NativeError, CancelledError, MemoryError):
            self._decode(tokens, runs, self._random.randint(0, len(tokens)))
            raise
        self.used.append(self.adapted)
        self.runs.append([(runs[at], runs[at + 2]) for at in range(0, len(runs), 4)])
        if self.window:
            self._forget_some()
        self._decode(tokens, runs, len(tokens))
        return self._sample(tokens, due, samplers, places)

    def _check(self, tokens: Sequence[int], runs: Sequence[int]) -> set[int]:
        """The rows with outputs, once the runs are found to be as they must be."""
        outputs: set[int] = set()
        row, before = 0, -1
        for at in range(0, len(runs), 4):
            sequence, position, count, n_outputs = runs[at : at + 4]
            self._require(before < sequence < self.sequences, "runs come in the order of their sequences")
            self._require(position == len(self._memory[sequence].cells) or self.broken, "a run does not follow what is in memory")
            self._require(count >= 1 and 0 <= n_outputs <= count, "a run has a token at least, and no more outputs")
            self._require(position + count <= self.context_size, "the context is too small")
            before, row = sequence, row + count
            outputs |= set(range(row - n_outputs, row))
        self._require(0 < len(tokens) == row <= self.step_tokens, "as many tokens as the runs have, and a step takes")
        self._require(all(0 <= token < VOCABULARY for token in tokens), "tokens of the vocabulary")
        self._require(len(outputs) <= self.outputs, "as many outputs as there is room for")
        return outputs

    def _check_due(self, runs: Sequence[int], due: Sequence[int], samplers: Sequence[Any], outputs: set[int]) -> list[tuple[int, int]]:
        """(sequence, length of its memory) behind the row of each due."""
        self._require(len(due) == 4 * len(samplers), "a due for each sampler")
        rows = [(runs[at], runs[at + 1] + index + 1) for at in range(0, len(runs), 4) for index in range(runs[at + 2])]
        for sampler, row, n_draft, token in zip(samplers, due[::4], due[1::4], due[3::4]):
            self._require(outputs.issuperset(range(row, row + n_draft + 1)), "what is due must be an output")
            self._require(rows[row][0] == rows[row + n_draft][0], "a draft within its run")
            self._require(0 <= token < VOCABULARY, "a token of the vocabulary")
            self._require(sampler is None or sampler.owner == threading.get_ident(), "samplers must be pinned")
        return [rows[row] for row in due[::4]]

    def _decode(self, tokens: Sequence[int], runs: Sequence[int], count: int) -> None:
        """Append the first so many tokens; stops where it is cancelled."""
        at, left = 0, 0
        for index, token in enumerate(tokens):
            if self._cancelled:
                self._cancelled = False
                raise CancelledError("the step was cancelled")
            if index == count:
                return
            if left == 0:
                memory, left = self._memory[runs[at]], runs[at + 2]
                self._require(memory.first <= max(0, len(memory.cells) - self.window + 1) or not self.window, "the window has a hole")
                at += 4
            memory.append(token, self.adapted or BASE)
            left -= 1

    def _forget_some(self) -> None:
        for memory in self._memory:
            oldest = max(0, len(memory.cells) - self.window + 1)  # that the next token sees
            if memory.first < oldest and self._random.random() < 0.5:
                memory.first = self._random.randint(memory.first, oldest)

    def _sample(self, tokens: Sequence[int], due: Sequence[int], samplers: Sequence[Any], places: list[tuple[int, int]]) -> FakeStep:
        step = FakeStep()
        codes: list[int] = []
        triples: list[int] = []
        wanted = any(number >= 0 for number in due[2::4])
        for index, (sampler, (sequence, length)) in enumerate(zip(samplers, places)):
            row, n_draft, n_logprobs, scored = due[4 * index : 4 * index + 4]
            if sampler is not None and self.bad(sampler.seed):
                codes += (FAILED, 0)
                continue
            before = len(triples)
            for place in range(n_draft + 1):
                digest = self._memory[sequence].digest(length + place, self.window)
                token = scored if sampler is None else sampler.choose(digest)
                triples += self._tell(step, digest, token, n_logprobs)
                if wanted:
                    step.logprobs.append(logprob_of(digest, token))
                if place < n_draft and token != tokens[row + place + 1]:
                    break
            codes += (0, (len(triples) - before) // 3)
        step.words, step.failed = codes + triples, codes[::2].count(FAILED)
        return step

    def _tell(self, step: FakeStep, digest: int, token: int, n_logprobs: int) -> tuple[int, int, int]:
        """What the step says of a token."""
        data = b"%d " % token
        step.data += data
        if n_logprobs > 0:
            top = likeliest(digest, n_logprobs)
            step.top_tokens += [one for one, _ in top]
            step.top_logprobs += [number for _, number in top]
        return token, int(self.ends > 0 and token % self.ends == 0), len(data)

    def failure(self, index: int, code: int) -> BaseException:
        return NativeError(f"due {index} failed with code {code}")
