"""A context: the memory of sequences, and the step that decodes and samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

from gollama._native import log
from gollama._native.failures import Failures
from gollama._native.handles import Handle
from gollama._native.library import library
from gollama._native.model import ModelHandle
from gollama._native.sampler import SamplerHandle
from gollama.errors import OptionError


class ContextFields(TypedDict):
    """llama_context_params by gollama's names."""

    context_size: int
    batch_size: int
    micro_batch_size: int
    sequences: int
    threads: int
    threads_batch: int
    flash_attention: str
    embeddings: bool


class Sampled(NamedTuple):
    token: int
    data: bytes  # the token's text; need not be whole characters
    end_of_generation: bool


class ContextHandle(Handle):
    """Owns a gollama_context. One thread at a time, except `cancel`."""

    exclusive = True

    def __init__(self, model: ModelHandle, fields: ContextFields) -> None:
        loaded = library()
        ffi, lib = loaded.ffi, loaded.lib
        log.follow_level(lib)
        params = lib.llama_context_default_params()
        params.n_ctx = fields["context_size"]
        params.n_batch = fields["batch_size"]
        params.n_ubatch = fields["micro_batch_size"]
        params.n_seq_max = fields["sequences"]
        params.n_threads = fields["threads"]
        params.n_threads_batch = fields["threads_batch"]
        params.embeddings = fields["embeddings"]
        params.no_perf = True
        params.flash_attn_type = {
            "auto": lib.LLAMA_FLASH_ATTN_TYPE_AUTO,
            "on": lib.LLAMA_FLASH_ATTN_TYPE_ENABLED,
            "off": lib.LLAMA_FLASH_ATTN_TYPE_DISABLED,
        }[fields["flash_attention"]]
        failures = Failures(loaded)
        with model.use() as pointer:
            context = lib.gollama_context_new(pointer, params, failures.error)
            failures.check()
            super().__init__("the context", context, lib.gollama_context_free, model)
        self._ffi, self._lib, self._failures = ffi, lib, failures
        self._llama = lib.gollama_context_llama(context)
        self._memory = lib.llama_get_memory(self._llama)
        self.context_size = int(lib.llama_n_ctx(self._llama))
        self.batch_size = int(lib.llama_n_batch(self._llama))
        self.sequences = int(lib.llama_n_seq_max(self._llama))
        self._n_vocab = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(lib.llama_get_model(self._llama))))
        # written anew for each step, so that a step allocates nothing
        self._rows = ffi.new("gollama_row[]", self.batch_size)
        self._due = ffi.new("gollama_due *")

    def step(self, tokens: Sequence[int], position: int, sequence: int = 0, sampler: SamplerHandle | None = None,
             output: bool | None = None) -> Sampled | None:
        """Decode tokens at consecutive positions of a sequence; with a sampler, sample what follows the last.

        `output` keeps the last row's logits; it is implied by a sampler.
        """
        count = len(tokens)
        if not 0 < count <= self.batch_size:
            raise OptionError(f"a step takes 1 to {self.batch_size} tokens (batch_size), not {count}")
        with self.use() as context:
            rows = self._rows
            try:
                for index, token in enumerate(tokens):
                    row = rows[index]
                    row.token = token
                    row.position = position + index
                    row.sequence = sequence
                    row.output = 0
            except OverflowError:
                raise OptionError(f"token {token} at position {position + index} is out of range") from None
            rows[count - 1].output = sampler is not None or bool(output)
            if sampler is None:
                self._lib.gollama_step(context, rows, count, self._ffi.NULL, 0, self._failures.error)
                self._failures.check()
                return None
            due = self._due
            with sampler.use() as due.sampler:
                due.row = count - 1
                self._lib.gollama_step(context, rows, count, due, 1, self._failures.error)
            self._failures.check()
            return Sampled(due.token, self._ffi.unpack(due.bytes, due.n_bytes) if due.n_bytes else b"", due.end_of_generation)

    def logits(self) -> Any:
        """A copy of the last output row's logits: float32, one per token of the vocabulary; None if there are none."""
        with self.use():
            pointer = self._lib.llama_get_logits_ith(self._llama, -1)
            if pointer == self._ffi.NULL:
                return None
            return bytes(self._ffi.buffer(pointer, 4 * self._n_vocab))

    def cancel(self) -> None:
        """From any thread: end the running step, or the next one, with CancelledError."""
        with self._lock:  # which the freeing takes too
            if self._owned.pointer is not None:
                self._lib.gollama_context_cancel(self._owned.pointer)

    def resume(self) -> None:
        with self.use() as context:
            self._lib.gollama_context_resume(context)

    def clear(self) -> None:
        with self.use():
            if self._memory != self._ffi.NULL:
                self._lib.llama_memory_clear(self._memory, False)

    def remove(self, sequence: int, start: int, end: int) -> bool:
        """Forget the positions [start, end) of a sequence; False where this model's memory cannot."""
        with self.use():
            return bool(self._lib.llama_memory_seq_rm(self._memory, sequence, start, end))

    def positions(self, sequence: int) -> tuple[int, int]:
        """(first, last) position of a sequence in memory; (-1, -1) if it is empty."""
        with self.use():
            return (int(self._lib.llama_memory_seq_pos_min(self._memory, sequence)),
                    int(self._lib.llama_memory_seq_pos_max(self._memory, sequence)))
