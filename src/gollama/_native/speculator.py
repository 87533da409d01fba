"""Drafts of what comes next, for the step to check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gollama._native.context import ContextHandle
from gollama._native.failures import Failures
from gollama._native.handles import Handle
from gollama._native.library import library
from gollama._native.model import ModelHandle
from gollama._native.parameters import ComputeFields, context_params
from gollama.errors import OptionError


class DraftRequest(NamedTuple):
    """`tokens` are those that the track got since it was asked last, or all of them with `restart`."""

    track: int
    restart: bool
    tokens: Sequence[int]
    most: int  # tokens wanted


class SpeculatorHandle(Handle):
    """Owns a gollama_speculator. One thread at a time, and not while its context computes."""

    exclusive = True

    def __init__(self, context: ContextHandle, draft_model: ModelHandle | None, fields: ComputeFields, *, match: int, most: int) -> None:
        loaded = library()
        ffi, lib = loaded.ffi, loaded.lib
        params = context_params(lib, fields)
        params.n_ctx = context.context_size * context.sequences
        params.n_batch = context.batch_size
        params.n_ubatch = context.micro_batch_size
        params.n_seq_max = context.sequences
        params.n_outputs_max = context.sequences
        failures = Failures(loaded)
        with context.use() as target:
            if draft_model is None:
                pointer = lib.gollama_speculator_new(target, ffi.NULL, params, context.sequences, match, most, failures.error)
            else:
                with draft_model.use() as model:
                    pointer = lib.gollama_speculator_new(target, model, params, context.sequences, match, most, failures.error)
            failures.check("the draft model cannot be used with this model", OptionError)
            super().__init__("the speculator", pointer, lib.gollama_speculator_free, context)
        self._draft_model = draft_model  # kept alive
        self._ffi, self._lib, self._failures = ffi, lib, failures
        self._drafts = ffi.new("gollama_draft[]", context.sequences)
        self._drafted = ffi.new("llama_token[]", max(1, most) * context.sequences)

    def draft(self, requests: Sequence[DraftRequest]) -> list[list[int]]:
        """A draft for each, which may be empty."""
        tokens: list[int] = []
        for index, request in enumerate(requests):
            tokens += request.tokens
            draft = self._drafts[index]
            draft.track, draft.restart, draft.n_new, draft.n_max = request.track, request.restart, len(request.tokens), request.most
        given = self._ffi.new("llama_token[]", tokens or [0])
        with self.use() as speculator:
            self._lib.gollama_speculator_draft(speculator, self._drafts, len(requests), given, self._drafted, len(self._drafted),
                                               self._failures.error)
            self._failures.check()
        results, start = [], 0
        for index in range(len(requests)):
            count = self._drafts[index].n_drafted
            results.append(list(self._drafted[start : start + count]))
            start += count
        return results

    def accept(self, track: int, count: int) -> None:
        """How many of the track's last draft came true."""
        with self.use() as speculator:
            self._lib.gollama_speculator_accept(speculator, track, count, self._failures.error)
            self._failures.check()
