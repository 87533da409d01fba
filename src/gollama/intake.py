"""What a user asks of an LLM, checked and turned into requests to its engine."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

from gollama import models
from gollama._locks import ForkLock
from gollama.adapters import ADAPTER, VECTOR, Adapters
from gollama.backends import DeviceMemory
from gollama.chat import ChatFormatter, ChatOptions, ChatPrompt, Message
from gollama.engine import ContextDevice, Engine, Request, sampler_handle
from gollama.errors import ClosedError, ContextOverflowError, NativeError, OptionError, TextError
from gollama.generation import Generation
from gollama.model import Model
from gollama.options import LoadOptions, SamplingParams
from gollama.sampler import Sampler

MOST_PRIORITY = 1000
MOST_SECONDS = 1e9


class Intake:
    """A model and the engine that computes with it; turns prompts into tokens and generations into requests."""

    def __init__(self, model: Model, options: LoadOptions) -> None:
        self.model = model
        self._draft_model: Model | None = None
        self._device = self._make_device(options) if model.is_generative else None
        self._engine = None if self._device is None else Engine(
            self._device, max_sequences=affordable_sequences(self._device, options.max_sequences),
            queue_size=options.queue_size, cache_bytes=options.prefix_cache * 2**20)
        self.adapters = Adapters(model)
        self._chat_template = options.chat_template
        self._formatter: ChatFormatter | None = None
        self._formatting = ForkLock(fork_waits=True)  # templates may tell the time
        for kind, files in ((ADAPTER, options.adapters), (VECTOR, options.control_vectors)):
            for name, path in files.items():
                self.load_adapter(kind, name, path)

    def _make_device(self, options: LoadOptions) -> ContextDevice:
        if options.speculative is None:
            return ContextDevice(self.model, options)
        if self.model.is_recurrent or self.model.is_hybrid:
            raise OptionError(f"{self.model.architecture} models cannot take back what was guessed wrong: load without speculative")
        if options.speculative != "ngram":
            self._draft_model = Model(models.resolve(options.speculative), options)
        try:
            if self._draft_model is not None and (not self._draft_model.is_generative or self._draft_model.is_recurrent
                                                  or self._draft_model.is_hybrid):
                raise OptionError(f"{self._draft_model.path.name} ({self._draft_model.architecture}) cannot draft")
            return ContextDevice(self.model, options, self._draft_model)
        except BaseException:
            self._close_draft_model()
            raise

    def _close_draft_model(self) -> None:
        if self._draft_model is not None:
            self._draft_model.close()

    @property
    def engine(self) -> Engine:
        """NativeError for a model that does not continue text."""
        return self._generative()[0]

    def memory(self) -> tuple[DeviceMemory, ...]:
        """Of the context as it is between two steps."""
        engine, device = self._generative()
        return engine.call(lambda _: device.context.memory())

    @property
    def context_size(self) -> int:
        return self._generative()[1].context_size

    def _generative(self) -> tuple[Engine, ContextDevice]:
        """The engine and its device; NativeError for a model that does not continue text."""
        if self._engine is None or self._device is None:
            raise NativeError(f"{self.model.path.name} ({self.model.architecture}) is not a model that continues text")
        return self._engine, self._device

    def require_open(self) -> None:
        if self.model.closed:
            raise ClosedError(f"the model {self.model.path} is closed")

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
        if self._device is not None:
            self._device.close()
        self._close_draft_model()

    def cancel(self) -> None:
        if self._engine is not None:
            self._engine.cancel_all()

    # ---- adapters ----

    def load_adapter(self, kind: str, name: str, path: str | os.PathLike[str], layers: tuple[int, int] | None = None) -> None:
        self._generative()
        self.require_open()
        self.adapters.load(kind, name, path, layers)

    def unload_adapter(self, kind: str, name: str) -> None:
        self.adapters.unload(kind, name, self.engine)

    # ---- prompts ----

    def prompts(self, prompt: Any) -> tuple[list[list[int]], bool]:
        """The tokens of each prompt, and whether it was a single one."""
        if isinstance(prompt, str):
            return [self._tokens(prompt)], True
        if isinstance(prompt, (bytes, dict)) or not isinstance(prompt, Iterable):
            raise TextError(f"the prompt must be a str or a list of str, not {type(prompt).__name__}")
        prompts = list(prompt)
        if prompts and all(hasattr(one, "__index__") for one in prompts):
            return [self._tokens(prompts)], True
        return [self._tokens(one) for one in prompts], False

    def prompt(self, prompt: Any) -> list[int]:
        """The tokens of a single prompt."""
        prompts, single = self.prompts(prompt)
        if not single:
            raise TextError("this takes one prompt, not a list of them")
        return prompts[0]

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
        tokens = self.model.tokenize(prompt)
        if not tokens:
            raise TextError(f"the vocabulary of {self.model.path.name} has no tokens for the prompt {prompt[:20]!r}")
        return tokens

    def chat_prompt(self, messages: Sequence[Message], options: ChatOptions, params: SamplingParams | None = None) -> ChatPrompt:
        """The prompt that a chat makes, by the model's own template or the one that was loaded with it."""
        with self._formatting:
            if self._formatter is None or self._formatter.closed:  # a fork closes what another thread used
                self.require_open()
                self._formatter = ChatFormatter(self.model, self._chat_template)
            prompt = self._formatter.format(messages, options)
        if prompt.grammar and params is not None and (params.grammar is not None or params.ignore_eos):
            raise OptionError(f"{'grammar' if params.grammar else 'ignore_eos'} excludes what has a grammar of its own: tools and schema")
        return prompt

    def infill_prompt(self, prefix: str, suffix: str) -> list[int]:
        """The prompt for what stands between two texts, as the model was trained for it."""
        special = self.model.special_tokens
        for name in ("fim_pre", "fim_suf", "fim_mid"):
            if name not in special:
                raise NativeError(f"{self.model.path.name} cannot fill in the middle: its vocabulary has no token for it ({name}); "
                                  "models made for code often have")
        before, after = (self.model.tokenize(text, add_special=False) for text in (prefix, suffix))
        bos = [special["bos"]] if self.model.adds_bos and "bos" in special else []
        return [*bos, special["fim_pre"], *before, special["fim_suf"], *after, special["fim_mid"]]

    # ---- requests ----

    def submit(self, generation: Generation, tokens: list[int], *, priority: int = 0, timeout: float | None = None,
               score_from: int | None = None) -> None:
        """Hand a generation to the engine. What can be checked is checked here; nothing is delivered if this raises.

        With `score_from` nothing is generated: the prompt's tokens from there on are scored.
        """
        self.require_open()
        engine, device = self._generative()
        params = generation.params
        check_request(self.model.n_vocab, params, priority, timeout)
        if params.overflow == "shift" and not device.can_shift:
            raise OptionError(f"the memory of {self.model.architecture} models cannot be shifted: use overflow='truncate'")
        adapters = self.adapters.chosen(params)
        if score_from is None:
            tokens = self._fit(tokens, params)
        generation.request = Request(
            tokens, self._samplers(tokens, params, generation.chat), generation,
            max_tokens=params.max_tokens if score_from is None else 0,
            priority=priority,
            deadline=math.inf if timeout is None else time.perf_counter() + min(timeout, MOST_SECONDS),
            logprobs=-1 if params.logprobs is None else params.logprobs,
            prompt_logprobs=-1 if params.prompt_logprobs is None else params.prompt_logprobs,
            score_from=score_from or 1,
            reuse=params.cache_prompt,
            quiet=generation.quiet,
            shift=params.overflow == "shift",
            keep=params.keep,
            adapters=adapters)
        engine.submit(generation.request)

    def withdraw(self, generation: Generation, *, forgotten: bool = False) -> None:
        """End a generation; nothing happens if it has ended. `forgotten`: from a finalizer."""
        if self._engine is not None and generation.request is not None:
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
        room = prompt_room(size, params.max_tokens)
        if params.keep >= room:
            raise OptionError(f"keep={params.keep} leaves no room in a context of {size}")
        return tokens[: params.keep] + tokens[len(tokens) - (room - params.keep) :]

    def _samplers(self, tokens: list[int], params: SamplingParams, chat: ChatPrompt | None) -> list[Any]:
        made: list[Any] = []
        wishes = None if chat is None else chat.sampling()
        try:
            for index in range(params.n):
                sampler = Sampler(self.model, params, choice=index, chat=wishes)
                made.append(sampler_handle(sampler))
                if params.needs_history:
                    sampler.accept(tokens)
        except BaseException:
            for handle in made:
                handle.close()
            raise
        return made



def affordable_sequences(device: ContextDevice, most: int) -> int:
    """max_sequences, but no more than fit into half of the memory that is left on each device."""
    more = [row.memory_free // 2 // row.context for row in device.context.memory() if row.context and row.memory_free]
    return max(1, min(most, 1 + min(more, default=most)))


def prompt_room(context_size: int, max_tokens: int | None) -> int:
    """Tokens of a prompt that is cut to leave room for an answer."""
    return context_size - min(max_tokens or context_size // 4, context_size // 2)


def check_request(n_vocab: int, params: SamplingParams, priority: Any, timeout: Any) -> None:
    """OptionError for what no request can have."""
    for name in ("logprobs", "prompt_logprobs"):
        if (getattr(params, name) or 0) > n_vocab:
            raise OptionError(f"{name} must be at most {n_vocab}, the size of the vocabulary")
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > MOST_PRIORITY:
        raise OptionError(f"priority must be a whole number between {-MOST_PRIORITY} and {MOST_PRIORITY}, not {priority!r}")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0):
        raise OptionError(f"timeout must be a number of seconds greater than 0, not {timeout!r}")
