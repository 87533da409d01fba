"""What the engine computes on: the memory of sequences and the step. The tests have one that computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gollama import _native
from gollama.backends.placement import SCORED_ROWS, compute_fields
from gollama.context import Context
from gollama.engine.request import BASE, Adapters, Sampler

if TYPE_CHECKING:
    from gollama.model import Model
    from gollama.options import LoadOptions


class State(Protocol):
    """A sequence's saved memory."""

    @property
    def size(self) -> int:
        """Bytes."""


class Step(Protocol):
    """The results of a step; see _native.Step."""

    logprobs: list[float]
    top_tokens: list[int]
    top_logprobs: list[float]
    data: bytes
    decode_seconds: float
    sample_seconds: float

    @property
    def words(self) -> list[int]: ...

    @property
    def failed(self) -> int: ...


class Device(Protocol):
    """Sequences 0 to `sequences` - 1 with room for `context_size` tokens each. One thread at a time, except `cancel`."""

    @property
    def sequences(self) -> int: ...

    @property
    def context_size(self) -> int: ...

    @property
    def step_tokens(self) -> int:
        """Most tokens of a step."""

    @property
    def outputs(self) -> int:
        """Most rows of a step with outputs."""

    @property
    def window(self) -> int:
        """How many tokens back attention sees; 0: all."""

    @property
    def recurrent(self) -> bool:
        """Whether its memory cannot be cut."""

    @property
    def closed(self) -> bool: ...

    def pin(self) -> None: ...

    def unpin(self) -> None: ...

    @property
    def adapted(self) -> Adapters | None:
        """What it computes with; None: nobody knows. BASE when it was made anew."""

    def adapt(self, adapters: Adapters) -> None:
        """Compute with these from now on. What is in memory was computed otherwise."""

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

    @property
    def speculator(self) -> object:
        """Another one when the device was made anew; None: no speculation."""

    def draft(self, requests: Sequence[tuple[int, bool, Sequence[int], int]]) -> list[list[int]]:
        """A draft for each request, which is a track, whether it begins anew, its new tokens, and how many are wanted."""

    def accept(self, track: int, count: int) -> None:
        """How many tokens of the track's last draft came true."""


class ContextDevice:
    """A device over a gollama context, which is made anew when more sequences are needed."""

    def __init__(self, model: Model, options: LoadOptions, draft_model: Model | None = None) -> None:
        self._draft_model = draft_model
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
        self.adapted: Adapters | None = BASE
        try:
            self.speculator = self._make_speculator()
        except BaseException:
            self.context.close()  # which takes the memory that a smaller one will need
            raise
        self.step_tokens = min(handle.batch_size, handle.micro_batch_size)
        self.step = handle.step
        self.failure = handle.failure
        self.cancel = handle.cancel
        self.resume = handle.resume
        self.save = handle.save
        self.load = handle.load
        self.shift = handle.shift

    def _make_speculator(self) -> _native.SpeculatorHandle | None:
        options = self._options
        if options.speculative is None:
            return None
        draft_model = self._draft_model
        return _native.SpeculatorHandle(
            self._handle, None if draft_model is None else draft_model._handle, compute_fields(options),
            match=options.speculative_match, most=options.speculative_tokens)

    def draft(self, requests: Sequence[tuple[int, bool, Sequence[int], int]]) -> list[list[int]]:
        assert self.speculator is not None
        return self.speculator.draft([_native.DraftRequest(*request) for request in requests])

    def accept(self, track: int, count: int) -> None:
        assert self.speculator is not None
        self.speculator.accept(track, count)

    @property
    def closed(self) -> bool:
        return self._model.closed

    @property
    def can_shift(self) -> bool:
        return self._handle.can_shift()

    def adapt(self, adapters: Adapters) -> None:
        self.adapted = None
        self._handle.set_adapters([one for one in adapters if isinstance(one[0], _native.AdapterHandle)],
                                  [one for one in adapters if isinstance(one[0], _native.ControlVectorHandle)])
        self.adapted = adapters

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
