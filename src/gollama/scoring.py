"""How likely a model finds a text: its tokens' probabilities, and perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gollama.errors import ContextOverflowError
from gollama.model import Model
from gollama.results import Perplexity, TokenLogprob


def windows(model: Model, tokens: list[int], size: int) -> list[list[int]]:
    """The text in whole windows, as llama.cpp's llama-perplexity cuts it: what is left over at the end is not used.

    Each begins with the token that begins a text, where the model wants one, in place of its own first.
    """
    cut = [tokens[start : start + size] for start in range(0, len(tokens) - size + 1, size)]
    if not cut:
        raise ContextOverflowError(f"the text has {len(tokens)} tokens and a window {size}: take a smaller window, or score()")
    bos = model.special_tokens.get("bos")
    return [[bos, *window[1:]] for window in cut] if model.adds_bos and bos is not None else cut


def perplexity(scores: Sequence[Sequence[TokenLogprob]]) -> Perplexity:
    """exp of the mean negative log probability, with the standard error that llama-perplexity states.

    The error is that of the mean, sqrt((mean of squares - square of mean) / (n - 1)), times the perplexity.
    """
    values = [-score.logprob for window in scores for score in window]
    mean = math.fsum(values) / len(values)
    variance = math.fsum(value * value for value in values) / len(values) - mean * mean
    error = math.sqrt(variance / (len(values) - 1)) if variance > 0 and len(values) > 1 else 0.0
    return Perplexity(math.exp(mean), error * math.exp(mean), len(values))
