"""A step's arguments, and whom its results belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gollama.engine import scheduler
from gollama.engine.choice import Choice, Slot
from gollama.engine.device import Device
from gollama.engine.drafts import MOST_ROWS, Drafts


class Plan:
    """What Device.step takes, in its form, and for each due its owner: (choice, whether it scores a prompt token)."""

    __slots__ = ("drafts", "due", "owners", "parts", "runs", "samplers", "tokens")

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.runs: list[int] = []
        self.due: list[int] = []
        self.samplers: list[Any] = []
        self.owners: list[tuple[Choice, bool]] = []
        self.parts: list[tuple[Choice, Slot, int]] = []  # and how many tokens the slot will hold
        self.drafts: dict[Choice, list[int]] = {}

    def add(self, choice: Choice, slot: Slot, end: int, draft: Sequence[int] = ()) -> None:
        """Compute a choice's tokens up to `end`, and sample if those are all."""
        request, start = choice.request, len(slot.tokens)
        row = len(self.tokens)
        first = max(start, choice.scored)
        last_scored = min(end, len(request.tokens) - 1)
        for index in range(first, last_scored):
            self._due(choice, row + index - start, request.prompt_logprobs, None, request.tokens[index + 1])
        samples = end == len(choice.tokens) and choice.limit > choice.count
        if samples:
            last = row + end - start - 1
            self._due(choice, last, request.logprobs, choice.sampler, draft=len(draft))
            if draft:
                self.drafts[choice] = list(draft)
            for sibling in choice.siblings:
                self._due(sibling, last, request.logprobs, sibling.sampler)
        count = end - start + len(draft)
        self.runs += (slot.index, start, count, end - first if first < last_scored else int(samples) + len(draft))
        self.tokens += choice.tokens[start:end]
        self.tokens += draft
        self.parts.append((choice, slot, end))

    def _due(self, choice: Choice, row: int, logprobs: int, sampler: Any, token: int = 0, draft: int = 0) -> None:
        self.due += (row, draft, logprobs, token)
        self.samplers.append(sampler)
        self.owners.append((choice, sampler is None))

    def advance(self) -> None:
        """The same once more with the next tokens: the plan of choices that all have one token to compute."""
        parts = self.parts
        self.tokens = [choice.tokens[-1] for choice, _, _ in parts]
        self.runs[1::4] = [len(slot.tokens) for _, slot, _ in parts]


def _wanted(choices: Sequence[Choice], ranks: Sequence[int], outputs: int) -> tuple[list[int], int]:
    """How many tokens each could have computed in one step, and the rows with outputs that are left.

    Up to a checkpoint, and as many as there are rows to score them: who comes first has them first.
    """
    counts = []
    scoring: list[tuple[int, Choice, int]] = []  # rank, choice, its index
    for index, (choice, rank) in enumerate(zip(choices, ranks)):
        start, end = _start(choice), len(choice.tokens)
        if start < choice.checkpoint:
            end = choice.checkpoint
        counts.append(end - start)
        if choice.scored < min(end, len(choice.request.tokens) - 1):
            scoring.append((rank, choice, index))
    spare = outputs - (len(choices) - len(scoring))  # the others have a row each
    for _, choice, index in sorted(scoring, key=lambda one: one[0]):
        unscored = max(0, choice.scored - _start(choice))
        counts[index] = min(counts[index], unscored + spare)
        spare -= max(0, counts[index] - unscored)
    return counts, spare


def _start(choice: Choice) -> int:
    assert choice.slot is not None
    return len(choice.slot.tokens)


def make_plan(choices: Sequence[Choice], device: Device, drafts: Drafts | None = None) -> Plan:
    """The next step of these choices, which come in the order of their slots."""
    plan = Plan()
    ranks = [scheduler.rank(choice.request) for choice in choices]
    pending, spare = _wanted(choices, ranks, device.outputs)
    counts = scheduler.plan(pending, ranks, device.step_tokens)
    proposed: dict[Choice, list[int]] = {}
    if drafts is not None:
        single = [choice for choice in choices if choice.count and _start(choice) + 1 == len(choice.tokens)]
        rows = min(MOST_ROWS - sum(counts), spare, device.step_tokens - sum(counts))
        proposed = drafts.propose(single, rows)
    for choice, count in zip(choices, counts):
        if count and choice.slot is not None:
            plan.add(choice, choice.slot, _start(choice) + count, proposed.get(choice, ()))
    return plan
