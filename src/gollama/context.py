"""A context: the memory that a model computes in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gollama import _native
from gollama._resource import Resource
from gollama.backends.estimating import DeviceMemory, memory_rows
from gollama.backends.placement import DEFAULT_CONTEXT_SIZE, context_fields
from gollama.errors import ContextOverflowError, OptionError
from gollama.model import Model
from gollama.options import LoadOptions
from gollama.sampler import Sampler

if TYPE_CHECKING:
    import numpy


def context_size(model: Model, options: LoadOptions) -> int:
    """The context size to ask for: what the options say or loading found to fit, or the default."""
    given = model.placement.context_size if isinstance(options.context_size, str) else options.context_size
    return given or min(model.n_ctx_train or DEFAULT_CONTEXT_SIZE, DEFAULT_CONTEXT_SIZE)


class Context(Resource):
    """Memory for sequences of tokens, and the step that computes the next ones. A `with` block.

    There are `sequences` of them, each with room for `context_size` tokens; the methods below work on the first unless
    told another. `outputs` is the most rows of one step whose logits are wanted.

    One thread at a time: a second one gets BusyError, except in `cancel`.
    """

    def __init__(self, model: Model, options: LoadOptions | None = None, *, sequences: int = 1, outputs: int = 1) -> None:
        if model.vocab_only:
            raise OptionError(f"only the vocabulary of {model.path.name} was loaded; there is nothing to compute with")
        self.model = model
        options = options or LoadOptions()
        self._handle: _native.ContextHandle = _native.ContextHandle(
            model._handle, context_fields(options, context_size(model, options), sequences, outputs))

    @property
    def context_size(self) -> int:
        """Tokens that fit each sequence, as llama.cpp rounded it; no more than the model has learned positions for."""
        learned = self.model.n_positions
        return min(self._handle.context_size, learned) if learned else self._handle.context_size

    @property
    def sequences(self) -> int:
        """How many sequences it holds."""
        return self._handle.sequences

    @property
    def batch_size(self) -> int:
        """Most tokens that one `decode` takes."""
        return self._handle.batch_size

    @property
    def n_tokens(self) -> int:
        """Tokens in memory: the position that comes next."""
        return self._handle.positions(0)[1] + 1

    def decode(self, tokens: Sequence[int], *, output: bool = True) -> None:
        """Compute tokens behind those in memory. `output` keeps the last one's logits for `logits`.

        ContextOverflowError if they do not fit, and nothing is computed.
        """
        if not tokens:
            raise OptionError("there are no tokens to decode")
        position = self.n_tokens
        self._require_room(len(tokens), position)
        for start in range(0, len(tokens), self.batch_size):
            part = tokens[start : start + self.batch_size]
            last = start + len(part) == len(tokens)
            self._handle.step(part, (0, position + start, len(part), int(output and last)))

    def step(self, tokens: Sequence[int], position: int, sampler: Sampler) -> _native.Sampled:
        """Decode up to `batch_size` tokens from a position on and sample the next: one call into llama.cpp.

        OptionError for a sampler of another model, and for a position that does not follow what is in memory.
        """
        if sampler.model is not self.model:
            raise OptionError("the sampler belongs to another model than the context")
        return self._handle.sample(tokens, position, sampler._handle)

    def logits(self) -> numpy.ndarray:
        """The last decoded token's logits: a read-only float32 array of shape (n_vocab,). OptionError before any decode.

        It is a view of llama.cpp's own memory, not a copy: valid until the context's next decode, step or close, and not to be
        read after that. `.copy()` keeps it.
        """
        import numpy

        buffer = self._handle.logits()
        if buffer is None:
            raise OptionError("there are no logits: decode something with output=True first")
        view = numpy.frombuffer(buffer, numpy.float32)
        view.flags.writeable = False
        return view

    def memory(self) -> tuple[DeviceMemory, ...]:
        """What it and its model take of each device's memory, the host's row last."""
        return memory_rows(self._handle.memory())

    def truncate(self, n_tokens: int) -> bool:
        """Forget all but the first n tokens; False, and nothing forgotten, where this model's memory cannot."""
        return self._handle.remove(0, n_tokens)

    def clear(self) -> None:
        """Forget everything."""
        self._handle.clear()

    def cancel(self) -> None:
        """From any thread: end the running step, or else the next one, with CancelledError."""
        self._handle.cancel()

    def resume(self) -> None:
        """Forget a cancellation that no step has met."""
        self._handle.resume()

    def _require_room(self, count: int, position: int) -> None:
        if position + count > self.context_size:
            raise ContextOverflowError(f"{count} tokens do not fit behind {position} in a context of {self.context_size}: "
                                       "load with a larger context_size, or pass less text")
