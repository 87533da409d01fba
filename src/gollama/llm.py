"""LLM: a model and its context behind one door."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

from gollama import models
from gollama._options import record
from gollama.chat import ChatFormatter, Message
from gollama.context import Context
from gollama.errors import BusyError, ClosedError, NativeError, TextError
from gollama.generation import Generation, collect
from gollama.model import Model
from gollama.options import LoadOptions, SamplingParams
from gollama.results import Chunk, Completion


class LLM:
    """A language model, ready to generate. A `with` block.

    `model` is a path or a name (`gollama list` shows the names); a name is fetched the first time and kept.
    Options are the fields of LoadOptions, one by one or whole as `options`; those of generation the fields of
    SamplingParams, one by one or whole as `params`. An option that does not exist is UnknownOptionError.

    Any number of threads may use one LLM; their generations run one after the other. Starting one inside the loop over
    another one's stream is BusyError.

    >>> from gollama import LLM
    >>> with LLM("smollm2") as llm:
    ...     print(llm.generate("The capital of France is", max_tokens=2, temperature=0).text)
     Paris.
    """

    def __init__(self, model: str | os.PathLike[str], *, options: LoadOptions | None = None,
                 on_progress: Callable[[float], object] | None = None, **fields: Any) -> None:
        self.options = record(LoadOptions, options, fields, "options")
        self.model = Model(models.resolve(model), self.options, on_progress=on_progress)
        try:
            self._require_generative()
            self.context = Context(self.model, self.options)
        except BaseException:
            self.model.close()
            raise
        self._formatter: ChatFormatter | None = None
        self._turn = _Turn(self.context)

    def _require_generative(self) -> None:
        if not self.model.is_generative:
            raise NativeError(f"{self.model.path.name} ({self.model.architecture}) is not a model that continues text")

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<gollama.LLM {self.model.path.name}{' (closed)' if self.closed else ''}>"

    @property
    def closed(self) -> bool:
        return self.model.closed

    def close(self) -> None:
        """End the running generation as cancelled and free everything. May be called again."""
        self.cancel()
        self.model.close()

    def cancel(self) -> None:
        """From any thread: end the running generation; it finishes with finish_reason "cancelled"."""
        self._turn.cancel()

    # ---- text ----

    @overload
    def generate(self, prompt: str, *, params: SamplingParams | None = None, **sampling: Any) -> Completion: ...

    @overload
    def generate(self, prompt: Sequence[str], *, params: SamplingParams | None = None, **sampling: Any) -> list[Completion]: ...

    def generate(self, prompt: str | Sequence[str], *, params: SamplingParams | None = None,
                 **sampling: Any) -> Completion | list[Completion]:
        """Continue a text, or each of a list of texts.

        Raises TextError (empty prompt, lone surrogate), ContextOverflowError, GrammarError, OptionError, ClosedError.
        """
        if isinstance(prompt, str):
            return collect(self.stream(prompt, params=params, **sampling))
        if isinstance(prompt, (bytes, dict)) or not isinstance(prompt, Iterable):
            raise TextError(f"the prompt must be a str or a list of str, not {type(prompt).__name__}")
        return [collect(self.stream(one, params=params, **sampling)) for one in prompt]

    def stream(self, prompt: str, *, params: SamplingParams | None = None, **sampling: Any) -> Iterator[Chunk]:
        """Continue a text, chunk by chunk. Closing the iterator ends the generation."""
        settings = record(SamplingParams, params, sampling, "params")
        tokens = self.tokenize(prompt)
        if not prompt:
            raise TextError("the prompt is empty")
        if not tokens:
            raise TextError(f"the vocabulary of {self.model.path.name} has no tokens for the prompt {prompt[:20]!r}")
        return self._stream(tokens, settings)

    # ---- chat ----

    def chat(self, messages: Sequence[Message], *, params: SamplingParams | None = None, **sampling: Any) -> Completion:
        """Answer a conversation, a list of {"role": …, "content": …}, by the model's own template.

        Text in the messages never becomes a control token. ChatError names the field that is wrong.
        """
        return collect(self.stream_chat(messages, params=params, **sampling))

    def stream_chat(self, messages: Sequence[Message], *, params: SamplingParams | None = None, **sampling: Any) -> Iterator[Chunk]:
        """Answer a conversation, chunk by chunk."""
        settings = record(SamplingParams, params, sampling, "params")
        return self._stream(self._chat_tokens(messages), settings)

    def _chat_tokens(self, messages: Sequence[Message]) -> list[int]:
        with self._turn.formatting:
            if self._formatter is None:
                self._require_open()
                self._formatter = ChatFormatter(self.model)
            return self._formatter.tokenize(messages)

    # ---- tokens ----

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Text to token ids, as Model.tokenize."""
        return self.model.tokenize(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Iterable[int]) -> str:
        """Token ids to text, exactly; control tokens give none."""
        return self.model.detokenize(tokens)

    # ---- inside ----

    def _require_open(self) -> None:
        if self.closed:
            raise ClosedError(f"the model {self.model.path} is closed")

    def _stream(self, tokens: list[int], settings: SamplingParams) -> Iterator[Chunk]:
        """Checks now what can be checked now; computes when iterated."""
        self._require_open()
        generation = Generation(self.model, self.context, tokens, settings, time.perf_counter())
        return self._iterate(generation)

    def _iterate(self, generation: Generation) -> Iterator[Chunk]:
        with self._turn:
            for chunk in generation.run():
                yield chunk
                self._turn.resumed()


class _Turn:
    """Whose turn it is on the context. A `with` block around one generation, across any number of yields."""

    def __init__(self, context: Context) -> None:
        self.formatting = threading.Lock()
        self._context = context
        self._lock = threading.Lock()
        self._thread: int | None = None

    def __enter__(self) -> None:
        if self._thread == threading.get_ident():
            raise BusyError("another generation of this LLM runs in this thread: finish its loop or close its iterator first")
        self._lock.acquire()
        try:
            self._context.resume()  # before anyone can see that there is something to cancel
        except BaseException:
            self._lock.release()
            raise
        self.resumed()

    def __exit__(self, *details: object) -> None:
        self._thread = None
        self._lock.release()

    def resumed(self) -> None:
        """Note the thread that goes on; a stream may be read by one after the other."""
        self._thread = threading.get_ident()

    def cancel(self) -> None:
        if self._thread is not None:
            self._context.cancel()
