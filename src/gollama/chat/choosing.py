"""An answer out of given ones, by how likely the model finds each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gollama.chat.formatter import ChatPrompt
from gollama.errors import ContextOverflowError
from gollama.model import Model
from gollama.options import SamplingParams
from gollama.results import ChatCompletion, Completion, Usage


def scoring(params: SamplingParams) -> SamplingParams:
    """What tells how likely a text is, with the same adapters."""
    return SamplingParams(temperature=0, prompt_logprobs=0, adapters=params.adapters, control_vectors=params.control_vectors)


def candidates(model: Model, prompt: ChatPrompt, context_size: int) -> list[list[int]]:
    """For each choice the prompt, the choice, and the token that ends an answer, without which "no" would be part of "none"."""
    end = [model.special_tokens[name] for name in ("eot", "eos") if name in model.special_tokens][:1]
    found = [[*prompt.tokens, *model.tokenize(choice, add_special=False), *end] for choice in prompt.options.choices]
    if (longest := max(map(len, found))) > context_size:
        raise ContextOverflowError(f"the prompt with the longest of the choices has {longest} tokens and the context {context_size}: load "
                                   "with a larger context_size, or pass less text")
    return found


def choose(prompt: ChatPrompt, scored: Sequence[Completion], params: SamplingParams) -> ChatCompletion:
    """The likeliest choice with temperature 0, or else one drawn by the tempered probabilities.

    A choice's probability is the product of its tokens', divided by the sum over all choices.
    """
    weights = [math.fsum(token.logprob for token in completion.prompt_logprobs or []) for completion in scored]
    most = max(weights)
    total = math.fsum(math.exp(weight - most) for weight in weights)
    probabilities = [math.exp(weight - most) / total for weight in weights]
    index = weights.index(most)
    if params.temperature > 0:
        tempered = [math.exp((weight - most) / params.temperature) for weight in weights]
        import random

        index = random.Random(params.seed).choices(range(len(weights)), tempered)[0]  # noqa: S311
    chosen = scored[index]
    tokens = [token.token for token in chosen.prompt_logprobs or []]
    usage = Usage(len(prompt.tokens), len(tokens), min(scored[0].usage.cached_tokens, len(prompt.tokens)))
    return ChatCompletion(prompt.options.choices[index], tokens, "stop", usage, chosen.timings,
                          probabilities=dict(zip(prompt.options.choices, probabilities)))
