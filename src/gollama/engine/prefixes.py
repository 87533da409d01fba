"""The prefix cache: what is in the sequences' memory and in the host's, and which of it serves a prompt."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from gollama.engine.choice import Slot
from gollama.engine.device import Device, State
from gollama.engine.request import BASE, Adapters
from gollama.errors import BrokenError, NativeError, OptionError

BLOCK = 64  # tokens compared at once
LEAST_COPY = 16  # fewer tokens are computed again rather than copied
SLID = -1  # stands for a token in memory that was not computed behind those before it, and serves no prompt

logger = logging.getLogger("gollama")


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two lists have in common at their beginning."""
    most = min(len(a), len(b))
    start = 0
    while start < most and a[start : start + BLOCK] == b[start : start + BLOCK]:
        start += BLOCK
    if start >= most:
        return most
    end = min(start + BLOCK, most)
    return next((index for index in range(start, end) if a[index] != b[index]), end)


@dataclass(eq=False)
class Saved:
    """A sequence's memory in the host's."""

    tokens: list[int]
    state: State
    first: int  # first position that is in it
    used: int
    adapters: Adapters = BASE


@dataclass
class Match:
    """Where a prompt's beginning lies, and how much of it serves."""

    source: Slot | Saved
    length: int


class Prefixes:
    """Finds the longest cached prefix, keeps what is pushed out of the sequences within `capacity` bytes, oldest out first."""

    def __init__(self, device: Device, capacity: int) -> None:
        self._device = device
        self._capacity = capacity
        self._clock = itertools.count(1)
        self.saved: list[Saved] = []
        self.slots = [Slot(index) for index in range(device.sequences)]

    @property
    def saved_bytes(self) -> int:
        return sum(entry.state.size for entry in self.saved)

    def tick(self) -> int:
        return next(self._clock)

    # ---- finding ----

    def best(self, tokens: Sequence[int], adapters: Adapters = BASE) -> Match | None:
        """The source that serves most of the prompt, computed with the same adapters; at least its last token is left to be computed."""
        best: Match | None = None
        sources: list[Slot | Saved] = [*self.slots, *self.saved]
        for source in sources:
            if source.adapters != adapters:
                continue
            common = common_length(source.tokens, tokens)
            idle = isinstance(source, Slot) and source.choice is None
            # of equals an idle sequence, which need not be copied
            if best is not None and (common, idle) <= (best.length, isinstance(best.source, Slot) and best.source.choice is None):
                continue
            length = self._usable(source, min(common, len(tokens) - 1))
            least = min(LEAST_COPY, len(source.tokens) // 2 + 1) if idle else LEAST_COPY  # a first word shall not cost a prompt its place
            if length >= least and (best is None or length > best.length or idle):
                best = Match(source, length)
        return best

    def _usable(self, source: Slot | Saved, length: int) -> int:
        """How much of the common prefix the source's kind of memory can give."""
        if length <= 0 or length == len(source.tokens):
            return length
        if self._device.recurrent:
            return 0  # is what it is, and cannot go back
        if not self._device.window:
            return length
        # a window must be whole: what lies before it may be forgotten already
        first = source.first if isinstance(source, Saved) else self._device.first_position(source.index)
        if isinstance(source, Slot) and source.choice is not None:  # to be copied
            first = self._saved_first(len(source.tokens), first)
        return length if first <= max(0, length - self._device.window) else 0

    # ---- taking ----

    def place(self, tokens: Sequence[int], adapters: Adapters = BASE) -> tuple[Slot | None, int]:
        """A free slot with as much of the prompt in its memory as can be had: (slot, tokens of it). None: all are busy."""
        if all(slot.choice is not None for slot in self.slots):
            return None, 0
        match = self.best(tokens, adapters)
        if match is None:
            return self.place_alone(adapters), 0
        if isinstance(match.source, Slot) and match.source.choice is None:
            slot = match.source
            if len(slot.tokens) - match.length >= BLOCK:
                self.keep(slot)
        else:
            slot = self._copy(match.source)
        return slot, self.cut(slot, min(match.length, len(slot.tokens)))

    def place_alone(self, adapters: Adapters = BASE) -> Slot | None:
        """A free slot with nothing in its memory. None: all are busy."""
        if all(slot.choice is not None for slot in self.slots):
            return None
        slot = self._victim(adapters)
        self.keep(slot)
        self.cut(slot, 0)
        slot.adapters = adapters
        return slot

    def _copy(self, source: Slot | Saved) -> Slot:
        state: State | None
        if isinstance(source, Slot):
            state, tokens = self.save(source), source.tokens
        else:
            source.used = self.tick()
            state, tokens = source.state, source.tokens
        slot = self.place_copy(tokens, state, source.adapters)
        assert slot is not None  # its caller has looked
        return slot

    def place_copy(self, tokens: Sequence[int], state: State | None, adapters: Adapters = BASE) -> Slot | None:
        """A free slot with a saved memory in it. None: all are busy."""
        slot = self.place_alone(adapters)
        if slot is not None:
            self.restore(slot, tokens, state)
        return slot

    def save(self, slot: Slot) -> State | None:
        """A copy of a slot's memory. None: it cannot be had, and whoever needs it computes again."""
        try:
            return self._device.save(slot.index)
        except BrokenError:
            raise
        except (NativeError, MemoryError) as error:
            logger.warning("%d tokens in memory cannot be saved: %s", len(slot.tokens), error)
            return None

    def restore(self, slot: Slot, tokens: Sequence[int], state: State | None) -> None:
        """Put a saved memory into a slot; it is empty if that fails, or there is none."""
        slot.tokens = []
        if state is not None:
            try:
                self._device.load(slot.index, state)
            except (NativeError, OptionError, MemoryError) as error:
                logger.warning("%d saved tokens cannot be restored: %s", len(tokens), error)
            else:
                slot.tokens = list(tokens)
                return
        self._device.cut(slot.index, 0)

    def _victim(self, adapters: Adapters) -> Slot:
        """A free slot: empty, or the one that was not used for longest; beside one that works likewise: such are computed together."""
        busy = {slot.index for slot in self.slots if slot.choice is not None and slot.adapters == adapters}
        return min((slot for slot in self.slots if slot.choice is None),
                   key=lambda slot: (bool(slot.tokens), slot.used, not {slot.index - 1, slot.index + 1} & busy, slot.index))

    def cut(self, slot: Slot, length: int) -> int:
        """Forget what lies behind; all of it where the memory cannot be cut. The length that is left."""
        return length if len(slot.tokens) == length else self._cut(slot, length)

    def cut_back(self, slot: Slot) -> None:
        """Forget what a broken step may have left behind the tokens that are known."""
        self._cut(slot, len(slot.tokens))

    def _cut(self, slot: Slot, length: int) -> int:
        if not self._device.cut(slot.index, length):
            self._device.cut(slot.index, 0)
            length = 0
        del slot.tokens[length:]
        return length

    # ---- keeping ----

    def keep(self, slot: Slot) -> None:
        """Save a slot's memory before it is overwritten."""
        if self._capacity and len(slot.tokens) >= LEAST_COPY and SLID not in slot.tokens and not self._is_saved(slot):
            state = self.save(slot)
            if state is not None:
                self.add(slot.tokens, state, self._device.first_position(slot.index), slot.adapters)

    def _is_saved(self, slot: Slot) -> bool:
        tokens = slot.tokens
        return any(entry.adapters == slot.adapters and len(entry.tokens) >= len(tokens) and entry.tokens[: len(tokens)] == tokens
                   and self._usable(entry, len(tokens)) == len(tokens) for entry in self.saved)

    def add(self, tokens: Sequence[int], state: State, first: int, adapters: Adapters = BASE) -> None:
        """Keep a saved memory, if there is room for it at all. What it makes superfluous goes, then the oldest."""
        if state.size > self._capacity:
            return
        new = Saved(list(tokens), state, self._saved_first(len(tokens), first), self.tick(), adapters)
        self.saved = [entry for entry in self.saved if entry.adapters != adapters
                      or new.tokens[: len(entry.tokens)] != entry.tokens or self._usable(new, len(entry.tokens)) < len(entry.tokens)]
        self.saved.append(new)
        self.saved.sort(key=lambda entry: entry.used)
        while self.saved_bytes > self._capacity:
            del self.saved[0]

    def _saved_first(self, length: int, first: int) -> int:
        # llama.cpp saves no cells that the window has passed
        return max(first, length - self._device.window) if self._device.window else first

    def saved_states(self) -> list[Saved]:
        """Everything in the cache as saved memory, the oldest first."""
        entries = list(self.saved)
        for slot in self.slots:
            if len(slot.tokens) >= LEAST_COPY and not self._is_saved(slot):
                first = self._saved_first(len(slot.tokens), self._device.first_position(slot.index))
                entries.append(Saved(list(slot.tokens), self._device.save(slot.index), first, slot.used, slot.adapters))
        return sorted(entries, key=lambda entry: entry.used)

    def forget(self) -> None:
        """Empty everything that no choice works on."""
        self.saved.clear()
        for slot in self.slots:
            if slot.choice is None:
                self.cut(slot, 0)

    def renew(self) -> None:
        """Have memory that knows nothing of what was in it, not even as numbers that are masked out; the working ones move along."""
        self.forget()
        self.resize(len(self.slots))

    def release(self, adapter: object) -> bool:
        """Forget everything that was computed with an adapter, and let the device go on without; False if that is at work now."""
        def used(adapters: Adapters | None) -> bool:
            return adapters is None or any(one is adapter for one, _ in adapters)

        slots = [slot for slot in self.slots if used(slot.adapters)]
        if any(slot.choice is not None for slot in slots):
            return False
        self.saved = [entry for entry in self.saved if not used(entry.adapters)]
        for slot in slots:
            self.cut(slot, 0)
            slot.adapters = BASE
        if used(self._device.adapted):
            self._device.adapt(BASE)
        return True

    # ---- the device's size ----

    def resize(self, sequences: int) -> None:
        """Give the device another number of sequences; the working ones move along, the idle ones are kept as saved."""
        states = {slot.index: self.save(slot) for slot in self.slots if slot.choice is not None and slot.tokens}
        for slot in self.slots:
            if slot.choice is None:
                self.keep(slot)
        before = self.slots
        try:
            self._device.resize(sequences)
        finally:
            self.slots = [Slot(index) for index in range(self._device.sequences)]
            for old, slot in zip((slot for slot in before if slot.choice is not None), self.slots):
                slot.choice, slot.used, slot.adapters = old.choice, old.used, old.adapters
                assert slot.choice is not None
                slot.choice.slot = slot
                if old.index in states:
                    self.restore(slot, old.tokens, states[old.index])

    def reset(self, *, abandoned: bool = False) -> None:
        """Begin anew with an empty device, where the old memory is lost; `abandoned`: without touching it."""
        self.saved.clear()
        try:
            if abandoned:
                self._device.abandon()
            else:
                self._device.resize(len(self.slots))
        finally:
            self.slots = [Slot(index) for index in range(self._device.sequences)]

    def swap(self, one: Slot, other: Slot) -> bool:
        """Exchange what two slots hold; False, and nothing is changed, if that cannot be."""
        states = [self.save(slot) if slot.tokens else None for slot in (one, other)]
        if any(slot.choice is not None and slot.tokens and state is None for slot, state in zip((one, other), states)):
            return False
        held = one.tokens, other.tokens
        one.choice, other.choice = other.choice, one.choice
        one.used, other.used = other.used, one.used
        one.adapters, other.adapters = other.adapters, one.adapters
        for slot, tokens, state in ((one, held[1], states[1]), (other, held[0], states[0])):
            if slot.choice is not None:
                slot.choice.slot = slot
            self.restore(slot, tokens, state)
        return True
