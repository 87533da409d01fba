"""Embeddings and rerank scores, computed batch by batch into an array that Python owns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from gollama._native import log
from gollama._native.failures import Failures
from gollama._native.handles import Handle
from gollama._native.library import library
from gollama._native.model import ModelHandle
from gollama._native.parameters import ComputeFields, context_params


class EmbedderFields(ComputeFields):
    """llama_context_params by gollama's names."""

    micro_batch_size: int
    pooling: str


class Piece(NamedTuple):
    """A part of an input, or all of it."""

    offset: int  # of its first token among all tokens
    length: int
    position: int  # of its first token in the input; not 0: it is alone in its batch, and goes on behind the last one's
    total: int  # tokens of the whole input
    row: int  # of the output: the input's, or its first token's with pooling "none"


class EmbedderHandle(Handle):
    """Owns a gollama_embedder. One thread at a time, except `cancel`."""

    exclusive = True

    def __init__(self, model: ModelHandle, fields: EmbedderFields) -> None:
        loaded = library()
        ffi, lib = loaded.ffi, loaded.lib
        log.follow_level(lib)
        poolings = {
            "auto": lib.LLAMA_POOLING_TYPE_UNSPECIFIED,
            "none": lib.LLAMA_POOLING_TYPE_NONE,
            "mean": lib.LLAMA_POOLING_TYPE_MEAN,
            "cls": lib.LLAMA_POOLING_TYPE_CLS,
            "last": lib.LLAMA_POOLING_TYPE_LAST,
            "rank": lib.LLAMA_POOLING_TYPE_RANK,
        }
        params = context_params(lib, fields)
        params.n_ubatch = fields["micro_batch_size"]
        params.pooling_type = poolings[fields["pooling"]]
        failures = Failures(loaded)
        with model.use() as pointer, model.adapting:
            embedder = lib.gollama_embedder_new(pointer, params, failures.error)
            failures.check(model._owned.name)
            super().__init__("the embedder", embedder, lib.gollama_embedder_free, model)
            facts = ffi.new("gollama_embedder_facts *")
            lib.gollama_embedder_describe(embedder, facts)  # behind this block another thread may have closed the model, and this with it
        self._ffi, self._lib, self._failures = ffi, lib, failures
        self.width = int(facts.width)
        self.sequences = int(facts.sequences)
        self.whole = bool(facts.whole)
        self.rank_head = bool(facts.rank_head)
        self.pooling = next((name for name, number in poolings.items() if number == facts.pooling), str(facts.pooling))
        self._pieces = ffi.new("gollama_piece[]", self.sequences)
        self._computing = False

    def run(self, tokens: Any, batches: Iterable[Sequence[Piece]], longest: int, output: Any, normalize: bool) -> None:
        """Compute the batches in turn.

        `tokens` is int32 of any length, `output` zeros, float32 of shape (rows, width); both in one block of memory.
        There is memory for inputs of `longest` tokens from then on. CancelledError after `cancel`.
        """
        lib, failures = self._lib, self._failures
        with self.use() as embedder:
            with self._lock:
                lib.gollama_embedder_resume(embedder)  # a cancellation of an earlier run, which came too late for it
                self._computing = True
            try:
                lib.gollama_embedder_reserve(embedder, longest, failures.error)
                failures.check()
                given = self._ffi.from_buffer("llama_token[]", tokens)
                floats = self._ffi.from_buffer("float[]", output, require_writable=True)
                for batch in batches:
                    for index, piece in enumerate(batch):
                        self._pieces[index] = (given + piece.offset, piece.length, piece.position, piece.total,
                                               floats + piece.row * self.width)
                    lib.gollama_embedder_compute(embedder, self._pieces, len(batch), normalize, failures.error)
                    failures.check()
            finally:
                with self._lock:
                    self._computing = False

    def cancel(self) -> None:
        """From any thread: end the running `run` with CancelledError; nothing where none runs."""
        with self._lock:  # which the freeing takes too
            if self._computing and self._owned.pointer is not None:
                self._lib.gollama_embedder_cancel(self._owned.pointer)
