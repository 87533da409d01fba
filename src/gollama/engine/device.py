"""What the engine computes on: the memory of sequences and the step. The tests have one that computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gollama import _native
from gollama.context import Context
from gollama.engine.request import Sampler

if TYPE_CHECKING:
    from gollama.model import Model
    from gollama.options import LoadOptions

SCORED_ROWS = 32  # rows of a step whose logits are kept to score a prompt; each is as wide as the vocabulary


class State(Protocol):
    """A sequence's saved memory."""

    @property
    def size(self) -> int:
        """Bytes."""


class Step(Protocol):
    """The results of a step; see _native.Step."""

    words: list[int]
    failed: int
    data: bytes
    logprobs: list[float]
    top_tokens: list[int]
    top_logprobs: list[float]
    decode_seconds: float
    sample_seconds: float


class Device(Protocol):
    """Sequences 0 to `sequences` - 1 with room for `context_size` tokens each. One thread at a time, except `cancel`."""

    sequences: int
    context_size: int
    step_tokens: int  # most tokens of a step
    outputs: int  # most rows of a step with outputs
    window: int  # attention sees this many tokens back; 0: all
    recurrent: bool  # memory that cannot be cut

    @property
    def closed(self) -> bool: ...

    def pin(self) -> None: ...

    def unpin(self) -> None: ...

    def step(self, tokens: Sequence[int], runs: Sequence[int], due: Sequence[int], samplers: Sequence[Any]) -> Step: ...

    def failure(self, index: int, code: int) -> BaseException: ...

    def cancel(self) -> None: ...

    def resume(self) -> None: ...

    def first_position(self, sequence: int) -> int: ...

    def cut(self, sequence: int, length: int) -> bool: ...

    def shift(self, sequence: int, keep: int, discard: int) -> None: ...

    def save(self, sequence: int) -> State: ...

    def load(self, sequence: int, state: Any) -> None: ...

    def resize(self, sequences: int) -> None:
        """Make room for another number of sequences. All memory is lost."""

    def abandon(self) -> None:
        """In a forked child: leave the memory as it was in the parent's hands, and begin anew."""


class ContextDevice:
    """A device over a gollama context, which is made anew when more sequences are needed."""

    def __init__(self, model: Model, options: LoadOptions) -> None:
        self._model, self._options = model, options
        self._abandoned: list[Context] = []
        self.recurrent = model.is_recurrent or model.is_hybrid
        self.window = model.n_swa
        self._make(1)

    def _make(self, sequences: int) -> None:
        self.context = Context(self._model, self._options, sequences=sequences, outputs=max(sequences, SCORED_ROWS))
        handle = self._handle = self.context._handle
        self.sequences = handle.sequences
        self.outputs = handle.outputs
        self.context_size = self.context.context_size
        self.step_tokens = min(handle.batch_size, handle.micro_batch_size)
        self.step = handle.step
        self.failure = handle.failure
        self.cancel = handle.cancel
        self.resume = handle.resume
        self.save = handle.save
        self.load = handle.load
        self.shift = handle.shift

    @property
    def closed(self) -> bool:
        return self._model.closed

    @property
    def can_shift(self) -> bool:
        return self._handle.can_shift()

    def pin(self) -> None:
        if self._handle.closed and not self.closed:  # there was no memory for it when it was to be made anew
            self._make(self.sequences)
        self._handle.pin()

    def unpin(self) -> None:
        self._handle.unpin()

    def close(self) -> None:
        self.context.close()

    def first_position(self, sequence: int) -> int:
        return self._handle.positions(sequence)[0]

    def cut(self, sequence: int, length: int) -> bool:
        """Forget what lies behind `length` tokens; False where that cannot be."""
        return self._handle.remove(sequence, length)

    def resize(self, sequences: int) -> None:
        pinned = self._handle.pinned is not None
        self.unpin()
        before = self.sequences
        self.context.close()
        try:
            self._make(sequences)
        except BaseException:
            self._make(before)
            raise
        finally:
            if pinned:
                self.pin()

    def abandon(self) -> None:
        self._abandoned.append(self.context)  # freeing it could wait for a thread that is not there
        self._make(1)


def sampler_handle(sampler: Any) -> Sampler:
    """The part of a gollama.Sampler that the device uses."""
    handle: _native.SamplerHandle = sampler._handle
    return handle
