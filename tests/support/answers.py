"""Comparing greedy answers that were computed in batches of different shapes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

import numpy

from gollama import Context, LoadOptions, Model

WIDTHS = (1, 8, 512)  # tokens decoded at once


def logits(model: Model, tokens: Sequence[int], width: int, prepare: Callable[[Context], object]) -> numpy.ndarray:
    """The last token's logits, all tokens computed so many at a time."""
    with Context(model, LoadOptions(context_size=len(tokens) + 8, threads=1)) as context:
        prepare(context)
        for start in range(0, len(tokens), width):
            context.decode(tokens[start : start + width])
        return numpy.array(context.logits())


def assert_same_or_tied(model: Model, prompt: Sequence[int], one: Sequence[int], other: Sequence[int],
                        prepare: Callable[[Context], object] = lambda context: None) -> None:
    """Two greedy answers are equal, or part where the two tokens tie.

    llama.cpp computes one token otherwise than several (another kernel, another order of sums), so that logits closer to
    each other than that difference may fall to either side. It is measured here, by computing the same tokens in
    batches of several widths; each of the two logits may be off by it. `prepare` is called with the contexts that it is measured with.
    """
    assert len(one) == len(other), "ask for ignore_eos"
    if list(one) == list(other):
        return
    same = next(index for index, (a, b) in enumerate(zip(one, other)) if a != b)
    computed = [logits(model, [*prompt, *one[:same]], width, prepare) for width in WIDTHS]
    error = max(float(numpy.abs(a - b).max()) for a, b in itertools.combinations(computed, 2))
    gap = abs(float(computed[0][one[same]] - computed[0][other[same]]))
    assert gap <= 2 * error, f"token {same} is {one[same]} and {other[same]}, {gap} apart where batches differ by {error}"


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that happens on another thread."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
