"""A choice in the making, and the sequence that it works on."""

from __future__ import annotations

from gollama.engine.request import BASE, Counts, Request


class Slot:
    """One of the device's sequences: the tokens in its memory, and the choice that it works for."""

    __slots__ = ("adapters", "choice", "index", "tokens", "used")

    def __init__(self, index: int) -> None:
        self.index = index
        self.tokens: list[int] = []
        self.adapters = BASE  # that they were computed with
        self.choice: Choice | None = None
        self.used = 0


class Choice:
    """One sequence in the making. The first of a request leads: the others, its siblings, take over its computed prompt."""

    __slots__ = ("accepted", "cached", "checkpoint", "count", "data", "done", "drafted", "first", "index", "last", "limit", "quiet",
                 "request", "sampler",
                 "scored", "siblings", "slot", "started", "tokens", "until")

    def __init__(self, request: Request, index: int, limit: int) -> None:
        self.request = request
        self.index = index
        self.sampler = request.samplers[index]
        self.tokens = list(request.tokens)  # prompt and answer; those not yet in the slot's memory are to be computed
        self.limit = limit  # most tokens to generate
        self.until = limit  # look at the choice again when it has so many
        self.count = 0
        self.quiet = request.quiet and not request.shift  # which takes tokens away
        self.data: list[bytes] = []  # the texts of its tokens, if it is quiet
        self.cached = 0
        self.drafted = 0
        self.accepted = 0
        scores = index == 0 and request.prompt_logprobs >= 0
        self.scored = max(0, request.score_from - 1) if scores else len(request.tokens)  # tokens of the prompt not to be scored any more
        self.checkpoint = 0  # save the memory when it holds this many tokens
        self.done = False
        self.siblings: list[Choice] = []  # that wait for this one's prompt
        self.slot: Slot | None = None
        self.started = self.first = self.last = 0.0

    def counts(self) -> Counts:
        request = self.request
        return Counts(len(request.tokens), self.count, self.cached, self.drafted, self.accepted,
                      request.submitted, self.started, self.first, self.last)
