"""Speculation: which choices get a draft, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence

from gollama.engine.choice import Choice
from gollama.engine.device import Device

MOST_ROWS = 32  # of a step with drafts, all choices together: a fuller batch gains nothing from guessing


class Drafts:
    """Asks the device for drafts. Each choice has a track of its own, whose text the device keeps."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._tracks: dict[Choice, int] = {}
        self._known: dict[Choice, int] = {}  # tokens of the choice that its track has
        self._speculator: object = None

    def propose(self, choices: Sequence[Choice], rows: int) -> dict[Choice, list[int]]:
        """Drafts for choices that have one token to compute, within so many rows of a step besides that."""
        self._forget_lost()
        most = rows // len(choices) if choices else 0
        if most < 1:
            return {}
        requests = []
        for choice in choices:
            track = self._track(choice)
            known = self._known.get(choice, 0)
            room = min(choice.limit - choice.count, self._device.context_size - len(choice.tokens)) - 1
            requests.append((track, known == 0, choice.tokens[known:], max(0, min(most, room))))
            self._known[choice] = len(choice.tokens)
        drafts = self._device.draft(requests)
        return {choice: draft for choice, draft in zip(choices, drafts) if draft}

    def accepted(self, choice: Choice, count: int) -> None:
        if choice in self._tracks:
            self._device.accept(self._tracks[choice], count)

    def shifted(self, choice: Choice) -> None:
        """A choice lost tokens in its midst: its track begins anew."""
        self._known.pop(choice, None)

    def _track(self, choice: Choice) -> int:
        if choice not in self._tracks:
            taken = set(self._tracks.values())
            self._tracks[choice] = next(track for track in range(self._device.sequences) if track not in taken)
        return self._tracks[choice]

    def _forget_lost(self) -> None:
        """Choices that ended, and everything where the device was made anew."""
        if self._speculator is not self._device.speculator:
            self._speculator = self._device.speculator
            self._tracks.clear()
            self._known.clear()
        for choice in [choice for choice in self._tracks if choice.done]:
            del self._tracks[choice]
            self._known.pop(choice, None)
