"""LLM: a model, the engine that computes with it, and text on both ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

from gollama import models
from gollama._memory import available_memory
from gollama._options import record
from gollama.chat import ChatFormatter, Message
from gollama.engine import ContextDevice, Engine, EngineStats, Prefixes, Request, sampler_handle
from gollama.errors import ClosedError, ContextOverflowError, NativeError, OptionError, TextError
from gollama.generation import Generation
from gollama.jobs import RETRY_SECONDS, Inbox, Jobs, Stream
from gollama.model import Model
from gollama.options import LoadOptions, SamplingParams
from gollama.results import Completion
from gollama.sampler import Sampler

Prompt = str | Sequence[int]

MOST_PRIORITY = 1000


class LLM:
    """A language model, ready to generate. A `with` block.

    `model` is a path or a name (`gollama list` shows the names); a name is fetched the first time and kept.
    Options are the fields of LoadOptions, one by one or whole as `options`; those of generation the fields of
    SamplingParams, one by one or whole as `params`. An option that does not exist is UnknownOptionError.

    Any number of threads may use one LLM at once: what they ask for is computed together, up to `max_sequences` generations
    in one batch; others wait. A prompt that begins like an earlier one is computed from where they part.

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
            self._device = ContextDevice(self.model, self.options)
            self._engine = Engine(self._device, max_sequences=self._affordable_sequences(), queue_size=self.options.queue_size,
                                  cache_bytes=self.options.prefix_cache * 2**20)
        except BaseException:
            self.model.close()
            raise
        self._formatter: ChatFormatter | None = None
        self._formatting = threading.Lock()

    def _require_generative(self) -> None:
        if not self.model.is_generative:
            raise NativeError(f"{self.model.path.name} ({self.model.architecture}) is not a model that continues text")

    def _affordable_sequences(self) -> int:
        """max_sequences, but no more than fit into half of the memory that is left."""
        free = available_memory()
        each = self.model.bytes_per_token * self._device.context_size
        return self.options.max_sequences if free is None else max(1, min(self.options.max_sequences, 1 + free // 2 // max(each, 1)))

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<gollama.LLM {self.model.path.name}{' (closed)' if self.closed else ''}>"

    @property
    def closed(self) -> bool:
        return self.model.closed

    @property
    def context_size(self) -> int:
        """Most tokens of one generation, prompt and answer together."""
        return self._device.context_size

    def close(self) -> None:
        """End what is being generated as cancelled and free everything. May be called again."""
        self._engine.close()
        self.model.close()

    def cancel(self) -> None:
        """From any thread: end everything that is being generated or waits; it finishes with finish_reason "cancelled"."""
        self._engine.cancel_all()

    def stats(self) -> EngineStats:
        """What the engine has done so far, and what it holds."""
        return self._engine.stats()

    def clear_cache(self) -> None:
        """Forget all prompts that were computed, but those of running generations."""
        self._engine.call(Prefixes.forget)

    # ---- text ----

    @overload
    def generate(self, prompt: str, *, params: SamplingParams | None = None, priority: int = 0,
                 timeout: float | None = None, **sampling: Any) -> Completion: ...

    @overload
    def generate(self, prompt: Sequence[str] | Sequence[Sequence[int]], *, params: SamplingParams | None = None, priority: int = 0,
                 timeout: float | None = None, **sampling: Any) -> list[Completion]: ...

    @overload
    def generate(self, prompt: Sequence[int], *, params: SamplingParams | None = None, priority: int = 0,
                 timeout: float | None = None, **sampling: Any) -> Completion: ...

    def generate(self, prompt: Prompt | Sequence[str] | Sequence[Sequence[int]], *, params: SamplingParams | None = None, priority: int = 0,
                 timeout: float | None = None, **sampling: Any) -> Completion | list[Completion]:
        """Continue a text, or each of a list of texts, which are computed together. Token ids may stand for a text.

        Of waiting requests those of higher `priority` go first. After `timeout` seconds the answer ends as it is, with
        finish_reason "timeout". Raises TextError (empty prompt, lone surrogate), ContextOverflowError, GrammarError,
        OptionError, BusyError (too many wait), ClosedError.
        """
        settings = record(SamplingParams, params, sampling, "params")
        prompts, single = self._prompts(prompt)
        completions = self._complete(prompts, settings, priority=priority, timeout=timeout)
        return completions[0] if single else completions

    def stream(self, prompt: Prompt, *, params: SamplingParams | None = None, priority: int = 0,
               timeout: float | None = None, **sampling: Any) -> Stream:
        """Continue a text, chunk by chunk. Closing the iterator ends the generation."""
        settings = record(SamplingParams, params, sampling, "params")
        prompts, single = self._prompts(prompt)
        if not single:
            raise TextError("a stream takes one prompt, not a list of them")
        return self._stream(prompts[0], settings, priority=priority, timeout=timeout)

    # ---- chat ----

    def chat(self, messages: Sequence[Message], *, params: SamplingParams | None = None, priority: int = 0,
             timeout: float | None = None, **sampling: Any) -> Completion:
        """Answer a conversation, a list of {"role": …, "content": …}, by the model's own template.

        Text in the messages never becomes a control token. ChatError names the field that is wrong.
        """
        settings = record(SamplingParams, params, sampling, "params")
        return self._complete([self._chat_tokens(messages)], settings, priority=priority, timeout=timeout)[0]

    def stream_chat(self, messages: Sequence[Message], *, params: SamplingParams | None = None, priority: int = 0,
                    timeout: float | None = None, **sampling: Any) -> Stream:
        """Answer a conversation, chunk by chunk."""
        settings = record(SamplingParams, params, sampling, "params")
        return self._stream(self._chat_tokens(messages), settings, priority=priority, timeout=timeout)

    def _chat_tokens(self, messages: Sequence[Message]) -> list[int]:
        with self._formatting:
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

    def _prompts(self, prompt: Any) -> tuple[list[list[int]], bool]:
        """The tokens of each prompt, and whether it was a single one."""
        if isinstance(prompt, str):
            return [self._tokens(prompt)], True
        if isinstance(prompt, (bytes, dict)) or not isinstance(prompt, Iterable):
            raise TextError(f"the prompt must be a str or a list of str, not {type(prompt).__name__}")
        prompts = list(prompt)
        if prompts and all(hasattr(one, "__index__") for one in prompts):
            return [self._tokens(prompts)], True
        return [self._tokens(one) for one in prompts], False

    def _tokens(self, prompt: Any) -> list[int]:
        if not isinstance(prompt, str):
            if isinstance(prompt, (bytes, dict)) or not isinstance(prompt, Iterable):
                raise TextError(f"the prompt must be a str or a list of str, not of {type(prompt).__name__}")
            prompt = list(prompt)
            if not all(hasattr(one, "__index__") for one in prompt):
                raise TextError("a prompt must be a str or a list of token ids")
        if not len(prompt):
            raise TextError("the prompt is empty")
        if not isinstance(prompt, str):
            return self.model.check_tokens(prompt)
        tokens = self.tokenize(prompt)
        if not tokens:
            raise TextError(f"the vocabulary of {self.model.path.name} has no tokens for the prompt {prompt[:20]!r}")
        return tokens

    def _complete(self, prompts: Sequence[list[int]], params: SamplingParams, **request: Any) -> list[Completion]:
        inbox = Inbox()
        with Jobs(self, prompts, params, inbox.put, **request) as jobs:
            while not jobs.done:
                if jobs.submit():
                    jobs.note(inbox.get())
                else:
                    time.sleep(RETRY_SECONDS)
        return jobs.results()

    def _stream(self, tokens: list[int], params: SamplingParams, **request: Any) -> Stream:
        inbox = Inbox()
        generation = Generation(params, inbox.put, whole=False)
        self.submit(generation, tokens, **request)
        return Stream(self.withdraw, generation, inbox)

    def submit(self, generation: Generation, tokens: list[int], *, priority: int = 0, timeout: float | None = None,
               score_from: int | None = None) -> None:
        """Hand a generation to the engine. What can be checked is checked here; nothing is delivered if this raises.

        With `score_from` nothing is generated: the prompt's tokens from there on are scored.
        """
        self._require_open()
        params = generation.params
        check_request(self.model.n_vocab, params, priority, timeout)
        if params.overflow == "shift" and not self._device.can_shift:
            raise OptionError(f"the memory of {self.model.architecture} models cannot be shifted: use overflow='truncate'")
        if score_from is None:
            tokens = self._fit(tokens, params)
        generation.request = Request(
            tokens, self._samplers(tokens, params), generation,
            max_tokens=params.max_tokens if score_from is None else 0,
            priority=priority,
            deadline=None if timeout is None else time.perf_counter() + timeout,
            logprobs=-1 if params.logprobs is None else params.logprobs,
            prompt_logprobs=-1 if params.prompt_logprobs is None else params.prompt_logprobs,
            score_from=score_from or 1,
            reuse=params.cache_prompt,
            shift=params.overflow == "shift",
            keep=params.keep)
        self._engine.submit(generation.request)

    def withdraw(self, generation: Generation, *, forgotten: bool = False) -> None:
        """End a generation; nothing happens if it has ended. `forgotten`: from a finalizer."""
        if generation.request is not None:
            (self._engine.drop if forgotten else self._engine.cancel)(generation.request)

    def _fit(self, tokens: list[int], params: SamplingParams) -> list[int]:
        """The prompt, without its oldest tokens where it is too long and that is wanted."""
        size = self.context_size
        if len(tokens) < size:
            return tokens
        if params.overflow == "error":
            raise ContextOverflowError(
                f"the prompt has {len(tokens)} tokens and the context {size}, of which the answer needs one at least: load with a "
                "larger context_size, pass less text, or choose what is left out with overflow='truncate'")
        room = size - min(params.max_tokens or size // 4, size // 2)
        if params.keep >= room:
            raise OptionError(f"keep={params.keep} leaves no room in a context of {size}")
        return tokens[: params.keep] + tokens[len(tokens) - (room - params.keep) :]

    def _samplers(self, tokens: list[int], params: SamplingParams) -> list[Any]:
        made: list[Any] = []
        try:
            for index in range(params.n):
                sampler = Sampler(self.model, params, choice=index)
                made.append(sampler_handle(sampler))
                if params.needs_history:
                    sampler.accept(tokens)
        except BaseException:
            for handle in made:
                handle.close()
            raise
        return made



def check_request(n_vocab: int, params: SamplingParams, priority: Any, timeout: Any) -> None:
    """OptionError for what no request can have."""
    for name in ("logprobs", "prompt_logprobs"):
        if (getattr(params, name) or 0) > n_vocab:
            raise OptionError(f"{name} must be at most {n_vocab}, the size of the vocabulary")
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > MOST_PRIORITY:
        raise OptionError(f"priority must be a whole number between {-MOST_PRIORITY} and {MOST_PRIORITY}, not {priority!r}")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0):
        raise OptionError(f"timeout must be a number of seconds greater than 0, not {timeout!r}")
