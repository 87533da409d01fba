"""A context: the memory of sequences, and the step that decodes and samples."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from gollama._native import log
from gollama._native.adapters import AdapterHandle, ControlVectorHandle
from gollama._native.failures import Failures
from gollama._native.handles import Handle
from gollama._native.library import Library, library
from gollama._native.model import ModelHandle
from gollama._native.parameters import ComputeFields, context_params
from gollama._native.sampler import SamplerHandle
from gollama._native.text import c_text, decode
from gollama.errors import ClosedError, GollamaError, OptionError, OutOfMemoryError

HOST = "host"  # the name of its row


class ContextFields(ComputeFields):
    """llama_context_params by gollama's names."""

    context_size: int  # of each sequence
    batch_size: int
    micro_batch_size: int
    sequences: int
    outputs: int  # most rows of a step whose logits are wanted


def sized_params(lib: Any, fields: ContextFields) -> Any:
    """llama_context_params of these fields; a `context_size` of 0 is llama.cpp's own."""
    params = context_params(lib, fields)
    params.n_ctx = fields["context_size"] * fields["sequences"]
    params.n_batch = fields["batch_size"]
    params.n_ubatch = fields["micro_batch_size"]
    params.n_seq_max = fields["sequences"]
    params.n_outputs_max = max(fields["outputs"], fields["sequences"])
    return params


class MemoryRow(NamedTuple):
    """Bytes that a model and a context take of a device's memory; HOST is what remains in the host's."""

    device: str
    weights: int
    context: int
    compute: int
    memory_free: int
    memory_total: int


def memory_room(loaded: Library) -> tuple[Any, int]:
    """An array for a row of each device and the host's, and its length."""
    capacity = loaded.lib.gollama_device_count() + 1
    return loaded.ffi.new("gollama_memory[]", capacity), capacity


def memory_rows(loaded: Library, rows: Any, count: int) -> list[MemoryRow]:
    ffi, lib = loaded.ffi, loaded.lib
    return [MemoryRow(HOST if row.device == ffi.NULL else c_text(ffi, lib.ggml_backend_dev_name(row.device)) or "",
                      row.weights, row.context, row.compute, row.memory_free, row.memory_total) for row in rows[0:count]]


class Sampled(NamedTuple):
    token: int
    data: bytes  # the token's text; need not be whole characters
    end_of_generation: bool
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()  # (token, log probability), best first


class Step:
    """What a step gave, as flat lists, since a step of many sequences makes no objects for each. Valid until the next step.

    `words`: for each due its code (0: good) and its number of tokens; behind them for each token the token, whether it
    ends the generation, and the length of its text in `data`. `logprobs` has one number for each token and the `top` lists
    as many as were asked for, best first; they are empty if nobody asked.
    """

    __slots__ = ("data", "decode_seconds", "failed", "logprobs", "sample_seconds", "top_logprobs", "top_tokens", "words")

    words: list[int]
    failed: int  # how many of the due
    data: bytes
    logprobs: list[float]
    top_tokens: list[int]
    top_logprobs: list[float]
    decode_seconds: float
    sample_seconds: float


class State(NamedTuple):
    """A sequence's saved memory."""

    data: Any  # bytes-like
    sequences: int  # how many the context had
    partial: int

    @property
    def size(self) -> int:
        return len(self.data)


class ContextHandle(Handle):
    """Owns a gollama_context. One thread at a time, except `cancel`."""

    exclusive = True

    def __init__(self, model: ModelHandle, fields: ContextFields) -> None:
        loaded = library()
        ffi, lib = loaded.ffi, loaded.lib
        log.follow_level(lib)
        params = sized_params(lib, fields)
        failures = Failures(loaded)
        with model.use() as pointer, model.adapting:
            context = lib.gollama_context_new(pointer, params, failures.error)
            failures.check()
            super().__init__("the context", context, lib.gollama_context_free, model)
            # here, since behind this block the model may be closed by another thread, and this with it
            self._llama = lib.gollama_context_llama(context)
            self._memory = lib.llama_get_memory(self._llama)
            self.context_size = int(lib.llama_n_ctx_seq(self._llama))
            self.batch_size = int(lib.llama_n_batch(self._llama))
            self.micro_batch_size = int(lib.llama_n_ubatch(self._llama))
            self.sequences = int(lib.llama_n_seq_max(self._llama))
            self._n_vocab = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(lib.llama_get_model(self._llama))))
        self._ffi, self._lib, self._failures = ffi, lib, failures
        self._adapting = model.adapting
        self.outputs = int(params.n_outputs_max)
        # written anew for each step, so that a step allocates nothing
        self._tokens = ffi.new("llama_token[]", self.batch_size)
        self._runs = ffi.new("int32_t[]", 4 * self.sequences)
        self._result = ffi.new("gollama_result *")
        self._results = Step()
        self._make_room(self.outputs)

    def _make_room(self, count: int) -> None:
        """Room for so many tokens due in a step."""
        ffi = self._ffi
        self._due = ffi.new("int32_t[]", 4 * count)
        self._samplers = ffi.new("struct gollama_sampler *[]", count)
        self._bound: list[SamplerHandle | None] = [None] * count  # what lies in _samplers
        self._arguments = (self._tokens, ffi.cast("gollama_run *", self._runs), ffi.cast("gollama_due *", self._due))

    def step(self, tokens: Sequence[int], runs: Sequence[int], due: Sequence[int] = (),
             samplers: Sequence[SamplerHandle | None] = ()) -> Step:
        """Decode the tokens of all runs, one behind the other, and sample what is due.

        A run is four numbers, those of gollama_run: sequence, position, number of tokens, and how many of its last rows
        have outputs; runs come in the order of their sequences. A due is four, those of gollama_due: row, tokens of
        draft behind it, logprobs (-1: none), and the token whose probability is wanted where there is no sampler.
        Samplers must be pinned. Raises what concerns the whole step, in which case nothing was sampled.
        """
        count = len(samplers)
        if not 0 < len(tokens) <= self.batch_size or len(runs) > len(self._runs):
            raise OptionError(f"a step takes 1 to {self.batch_size} tokens (batch_size) of up to {self.sequences} sequences, "
                              f"not {len(tokens)} of {len(runs) // 4}")
        if count > len(self._bound):
            self._make_room(count)
        try:
            self._tokens[0 : len(tokens)] = tokens
            self._runs[0 : len(runs)] = runs
            self._due[0 : len(due)] = due
        except OverflowError:
            raise OptionError("a token, sequence or position is no 32-bit number") from None
        if self._bound[:count] != samplers:
            for index, sampler in enumerate(samplers):
                self._samplers[index] = self._ffi.NULL if sampler is None else sampler.pinned
            self._bound[:count] = samplers
        if self.pinned is not None:
            if self._closing:
                raise ClosedError("the context is closed")
            return self._step(self.pinned, len(runs) // 4, count)
        with self.use() as context:
            return self._step(context, len(runs) // 4, count)

    def _step(self, context: Any, n_runs: int, n_due: int) -> Step:
        result, unpack, step = self._result, self._ffi.unpack, self._results
        tokens, runs, due = self._arguments
        if not self._lib.gollama_step(context, tokens, runs, n_runs, due, self._samplers, n_due, result, self._failures.error):
            self._failures.check()
        # one copy takes all numbers: behind a step all of Python's memory has left the processor's caches
        words = unpack(result.words, result.n_words)
        step.failed, n_bytes, n_logprobs, n_top, decode, sample = words[:6]  # enum gollama_result_word
        step.words = words[6:]
        step.data = unpack(result.bytes, n_bytes) if n_bytes else b""
        step.decode_seconds = decode * 1e-6
        step.sample_seconds = sample * 1e-6
        step.logprobs = unpack(result.logprobs, n_logprobs) if n_logprobs else []
        if n_top:
            step.top_tokens = unpack(result.top_tokens, n_top)
            step.top_logprobs = unpack(result.top_logprobs, n_top)
        return step

    def failure(self, index: int, code: int) -> GollamaError:
        """What the code of a due of the last step stands for. In a `use`."""
        message = decode(self._ffi.string(self._lib.gollama_outcome_message(self._owned.pointer, index)))
        return self._failures.exception(code, message)

    def sample(self, tokens: Sequence[int], position: int, sampler: SamplerHandle) -> Sampled:
        """The simple case: tokens of the first sequence, and what follows the last of them."""
        sampler.pin()
        try:
            with self.use():
                step = self.step(tokens, (0, position, len(tokens), 1), (len(tokens) - 1, 0, -1, 0), [sampler])
                if step.words[0]:
                    raise self.failure(0, step.words[0])
        finally:
            sampler.unpin()
            self._bound[0], self._samplers[0] = None, self._ffi.NULL
        return Sampled(step.words[2], step.data, bool(step.words[3]))

    def logits(self) -> Any:
        """llama.cpp's own buffer with the last output row's logits, n_vocab float32; None if there are none."""
        with self.use():
            pointer = self._lib.llama_get_logits_ith(self._llama, -1)
            return None if pointer == self._ffi.NULL else self._ffi.buffer(pointer, 4 * self._n_vocab)

    def cancel(self) -> None:
        """From any thread: end the running step, or the next one, with CancelledError."""
        with self._lock:  # which the freeing takes too
            if self._owned.pointer is not None:
                self._lib.gollama_context_cancel(self._owned.pointer)

    def resume(self) -> None:
        with self.use() as context:
            self._lib.gollama_context_resume(context)

    def memory(self) -> list[MemoryRow]:
        """What it and its model take of each device, the host's row last."""
        rows, capacity = memory_room(library())
        with self.use():
            count = self._lib.gollama_context_memory(self._llama, rows, capacity, self._failures.error)
            self._failures.check()
        return memory_rows(library(), rows, count)

    def clear(self) -> None:
        with self.use():
            if self._memory != self._ffi.NULL:
                self._lib.llama_memory_clear(self._memory, False)

    def set_adapters(self, adapters: Sequence[tuple[AdapterHandle, float]], vectors: Sequence[tuple[ControlVectorHandle, float]]) -> None:
        """Compute with these and no others, each with its scale. Adapters must outlive the context's next steps."""
        new = self._ffi.new
        with self.use() as context, self._adapting, contextlib.ExitStack() as uses:
            pointers = new("struct llama_adapter_lora *[]", [uses.enter_context(adapter.use()) for adapter, _ in adapters])
            directions = new("struct gollama_control_vector *[]", [uses.enter_context(vector.use()) for vector, _ in vectors])
            self._lib.gollama_context_set_adapters(
                context, pointers, new("float[]", [scale for _, scale in adapters]), len(adapters),
                directions, new("float[]", [scale for _, scale in vectors]), len(vectors), self._failures.error)
            self._failures.check()

    # ---- sequences ----

    def positions(self, sequence: int) -> tuple[int, int]:
        """(first, last) position of a sequence in memory; (-1, -1) if it is empty."""
        first, last = self._ffi.new("int32_t *"), self._ffi.new("int32_t *")
        with self.use() as context:
            self._lib.gollama_sequence_positions(context, sequence, first, last, self._failures.error)
            self._failures.check()
        return first[0], last[0]

    def remove(self, sequence: int, start: int = 0, end: int = -1) -> bool:
        """Forget the positions [start, end) of a sequence; False where this model's memory cannot."""
        with self.use() as context:
            done = bool(self._lib.gollama_sequence_remove(context, sequence, start, end, self._failures.error))
            self._failures.check()
            return done

    def can_shift(self) -> bool:
        with self.use():
            return self._memory != self._ffi.NULL and bool(self._lib.llama_memory_can_shift(self._memory))

    def shift(self, sequence: int, keep: int, discard: int) -> None:
        """Forget `discard` positions behind the first `keep`, and move those behind them up."""
        with self.use() as context:
            self._lib.gollama_sequence_shift(context, sequence, keep, discard, self._failures.error)
            self._failures.check()

    def save(self, sequence: int) -> State:
        """A copy of a sequence's memory."""
        partial = self._ffi.new("int64_t *")
        with self.use() as context:
            size = self._lib.gollama_sequence_size(context, sequence, partial, self._failures.error)
            self._failures.check()
            place = self._allocate(size)
            written = self._lib.gollama_sequence_save(context, sequence, place, size, self._failures.error)
            self._failures.check()
        return State(self._ffi.buffer(place, written), self.sequences, partial[0])

    def load(self, sequence: int, state: State) -> None:
        """Replace a sequence's memory by a saved one. If that fails, the sequence is empty."""
        with self.use() as context:
            data = self._ffi.from_buffer("uint8_t[]", state.data)
            self._lib.gollama_sequence_load(context, sequence, data, len(state.data), state.sequences, state.partial, self._failures.error)
            self._failures.check()

    def _allocate(self, size: int) -> Any:
        """Memory that is not cleared first, since it is written whole."""
        try:
            return self._ffi.new_allocator(should_clear_after_alloc=False)("uint8_t[]", size)
        except MemoryError:
            raise OutOfMemoryError(f"there is no memory for a state of {size} bytes") from None
