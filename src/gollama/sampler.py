"""A sampler: how the next token is chosen."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from gollama import _native
from gollama._options import record
from gollama._resource import Resource
from gollama.model import Model
from gollama.options import SEED_MAX, SamplingParams

_NOT_SAMPLING = {"ignore_eos", "max_tokens", "stop", "n", "logprobs", "prompt_logprobs", "cache_prompt", "overflow", "keep", "adapters",
                 "control_vectors"}


class Sampler(Resource):
    """llama.cpp's sampler chain with grammar and penalties, and the history it needs. A `with` block.

    One thread at a time. GrammarError says what is wrong with a grammar. `seed` tells the seed in use.
    """

    def __init__(self, model: Model, params: SamplingParams | None = None, *, choice: int = 0, chat: Mapping[str, Any] | None = None,
                 **options: Any) -> None:
        """`choice` tells several samplers of the same params and seed apart; `chat` is ChatPrompt.sampling()."""
        self.model = model
        self.params = record(SamplingParams, params, options, "params")
        self.seed = _random_seed() if self.params.seed is None else (self.params.seed + choice) % (SEED_MAX + 1)
        fields = {field.name: getattr(self.params, field.name) for field in dataclasses.fields(self.params)
                  if field.name not in _NOT_SAMPLING}
        if self.params.ignore_eos:
            fields["logit_bias"] = {**self.params.logit_bias, **dict.fromkeys(model.end_tokens, -math.inf)}
        self._handle: _native.SamplerHandle = _native.SamplerHandle(model._handle, {**fields, "seed": self.seed}, chat)

    def accept(self, tokens: Iterable[int], *, generated: bool = False) -> None:
        """Tell it of tokens that it did not sample: those of a prompt, or generated ones, which a grammar must allow (GrammarError).
        OptionError for one that is not in the vocabulary; then it was told of none."""
        self._handle.accept(self.model.check_tokens(tokens), generated)

    def reset(self) -> None:
        """Forget the history."""
        self._handle.reset()

    def __repr__(self) -> str:
        return "<gollama.Sampler (closed)>" if self.closed else f"<gollama.Sampler\n{self._handle.describe()}>"


def _random_seed() -> int:
    return int.from_bytes(os.urandom(8), "little") % (SEED_MAX + 1)
