"""LLM: a model, the engine that computes with it, and text on both ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

from gollama import _native, models, states
from gollama._locks import ForkLock
from gollama._options import record
from gollama.adapters import ADAPTER, VECTOR
from gollama.backends import Device, DeviceMemory, Estimate, cpu
from gollama.chat import ChatPrompt, Message, split_options
from gollama.chat.answers import answered
from gollama.chat.choosing import candidates, choose, scoring
from gollama.chat.options import streamed
from gollama.conversation import Conversation, began
from gollama.embedding import Embedder
from gollama.engine import EngineStats, Prefixes
from gollama.errors import ContextOverflowError, OptionError
from gollama.generation import Generation
from gollama.intake import Intake
from gollama.jobs import RETRY_SECONDS, Inbox, Jobs, Stream
from gollama.model import Model
from gollama.options import LoadOptions, SamplingParams
from gollama.results import ChatChunk, ChatCompletion, Chunk, Completion, Perplexity, RerankResult, Score, TokenLogprob
from gollama.scoring import perplexity, windows
from gollama.tool_loop import MOST_ROUNDS, Approve, ToolRun, drive, steps

if TYPE_CHECKING:
    import numpy

Prompt = str | Sequence[int]
NONE: Mapping[str, float] = MappingProxyType({})


class LLM:
    """A language model, ready to generate. A `with` block.

    `model` is a path or a name (`gollama list` shows the names); a name is fetched the first time and kept.
    Options are the fields of LoadOptions, one by one or whole as `options`; those of generation the fields of
    SamplingParams, one by one or whole as `params`. An option that does not exist is UnknownOptionError.
    `on_progress` is called with the share loaded, 0.0 to 1.0, and with 0.0 while a name is fetched; an exception it raises, or
    returning False, stops either.

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
        fetching = None if on_progress is None else lambda _done, _total: on_progress(0.0)
        self.model = Model(models.resolve(model, fetching), self.options, on_progress=on_progress)
        try:
            self.intake: Intake = Intake(self.model, self.options)
        except BaseException:
            self.model.close()
            raise
        self._embedders: dict[str, Embedder] = {}
        self._embedding = ForkLock()

    @classmethod
    def estimate(cls, model: str | os.PathLike[str], *, sequences: int = 1, options: LoadOptions | None = None, **fields: Any) -> Estimate:
        """What loading with these options would take of each device's memory, without loading.

        `sequences` generations at once, each with a context of its own. Within 10 % of what `memory` says after loading. Of a model
        elsewhere (`hf:…`) that is not here, only the headers are read; an alias is fetched first. `gollama.compatibility.check` tells more.
        """
        from gollama.compatibility import estimate_model

        return estimate_model(model, record(LoadOptions, options, fields, "options"), sequences)

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
    def devices(self) -> tuple[Device, ...]:
        """What it computes on, the CPU last, with the memory that was free before loading. The CPU's `note` tells why no GPU is used."""
        placement = self.model.placement
        return (*placement.devices, cpu("; ".join(placement.notes)))

    def memory(self) -> tuple[DeviceMemory, ...]:
        """What it takes of each device's memory now, the host's row last; more generations at once take more context."""
        return self.intake.memory()

    @property
    def context_size(self) -> int:
        """Most tokens of one generation, prompt and answer together."""
        return self.intake.context_size

    def close(self) -> None:
        """End what is being generated as cancelled and free everything. May be called again."""
        self.intake.close()
        self.model.close()

    def cancel(self) -> None:
        """From any thread: end everything that is being generated or waits; it finishes with finish_reason "cancelled"."""
        self.intake.cancel()

    def stats(self) -> EngineStats:
        """What the engine has done so far, and what it holds."""
        return self.intake.engine.stats()

    def clear_cache(self) -> None:
        """Forget all prompts that were computed, but those of running generations."""
        self.intake.engine.call(Prefixes.forget)

    # ---- adapters ----

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the LoRA adapters that are loaded."""
        return self.intake.adapters.names(ADAPTER)

    @property
    def control_vectors(self) -> tuple[str, ...]:
        """The names of the control vectors that are loaded."""
        return self.intake.adapters.names(VECTOR)

    def load_adapter(self, name: str, path: str | os.PathLike[str]) -> None:
        """Load a LoRA adapter, a GGUF file, for requests that ask for it by this name: `adapters={"style": 0.8}`.

        What runs goes on meanwhile. ModelNotFoundError, InvalidModelError for a file that is damaged or does not fit the model,
        OptionError for a name that is taken; then nothing changes.
        """
        self.intake.load_adapter(ADAPTER, name, path)

    def load_control_vector(self, name: str, path: str | os.PathLike[str], *, layers: tuple[int, int] | None = None) -> None:
        """Load a control vector, a GGUF file of llama.cpp's cvector-generator, for requests that say `control_vectors={"calm": 1.2}`.

        `layers`: the first and the last that it steers, counted from 1; None: all it has directions for. Errors as in `load_adapter`.
        """
        self.intake.load_adapter(VECTOR, name, path, layers)

    def unload_adapter(self, name: str) -> None:
        """Free a LoRA adapter: no new request finds it; returns when the last that uses it has ended. AdapterNotFoundError."""
        self.intake.unload_adapter(ADAPTER, name)

    def unload_control_vector(self, name: str) -> None:
        """Free a control vector, as `unload_adapter` does."""
        self.intake.unload_adapter(VECTOR, name)

    def set_adapters(self, adapters: Mapping[str, float] = NONE, control_vectors: Mapping[str, float] = NONE) -> None:
        """What requests from now on are computed with that name none themselves: scales by name; at first none. AdapterNotFoundError."""
        self.intake.adapters.set_defaults(adapters=adapters, control_vectors=control_vectors)

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
        prompts, single = self.intake.prompts(prompt)
        completions = self._complete(prompts, settings, priority=priority, timeout=timeout)
        return completions[0] if single else completions

    def stream(self, prompt: Prompt, *, params: SamplingParams | None = None, priority: int = 0,
               timeout: float | None = None, **sampling: Any) -> Stream[Chunk]:
        """Continue a text, chunk by chunk. Closing the iterator ends the generation."""
        settings = record(SamplingParams, params, sampling, "params")
        return self._stream(self.intake.prompt(prompt), settings, priority=priority, timeout=timeout)

    def infill(self, prefix: str, suffix: str, *, params: SamplingParams | None = None, priority: int = 0,
               timeout: float | None = None, **sampling: Any) -> Completion:
        """What stands between two texts, by a model that was trained for it; NativeError for others."""
        settings = record(SamplingParams, params, sampling, "params")
        return self._complete([self.intake.infill_prompt(prefix, suffix)], settings, priority=priority, timeout=timeout)[0]

    # ---- chat ----

    def chat(self, messages: Sequence[Message], *, params: SamplingParams | None = None, priority: int = 0,
             timeout: float | None = None, **options: Any) -> ChatCompletion:
        """Answer a conversation, by the model's own template.

        Messages are dicts in OpenAI's form, {"role": …, "content": …}, or the records SystemMessage, UserMessage, AssistantMessage
        and ToolMessage, or an earlier answer. `options` are the fields of ChatOptions (tools, schema, choices, thinking …)
        and of SamplingParams. Text in the messages never becomes a control token. ChatError names the field that is wrong,
        SchemaError a schema's part that cannot be had, or why an answer does not fit it.
        """
        chat, settings = split_options(options, params)
        prompt = self.intake.chat_prompt(messages, chat, settings)
        if not chat.choices:
            return answered(prompt, self._complete([prompt.tokens], settings, priority=priority, timeout=timeout, chat=prompt)[0])
        first, *others = candidates(self.model, prompt, self.context_size)  # the first leaves the prompt in the cache
        request = {"priority": priority, "timeout": timeout, "score_from": len(prompt.tokens)}
        scored = self._complete([first], scoring(settings), **request)
        return choose(prompt, [*scored, *self._complete(others, scoring(settings), **request)], settings)

    def stream_chat(self, messages: Sequence[Message], *, params: SamplingParams | None = None, priority: int = 0,
                    timeout: float | None = None, **options: Any) -> Stream[ChatChunk]:
        """Answer a conversation, chunk by chunk. As `chat`, but for `choices`; the last chunk has the whole as `completion`."""
        chat, settings = split_options(options, params)
        prompt = self.intake.chat_prompt(messages, streamed(chat), settings)
        return self._stream(prompt.tokens, settings, priority=priority, timeout=timeout, chat=prompt)

    def render_chat(self, messages: Sequence[Message], **options: Any) -> ChatPrompt:
        """What `chat` would give the model with these options, without generating: prompt, grammar, triggers, stops."""
        return self.intake.chat_prompt(messages, *split_options(options, None))

    def run_tools(self, messages: Sequence[Message], *, tools: Sequence[Any], max_rounds: int = MOST_ROUNDS,
                  approve: Approve | None = None, **options: Any) -> ToolRun:
        """Answer a conversation, running the functions in `tools` that the model calls, for at most `max_rounds` rounds of calls.

        What a function returns goes back to the model, as does what it raises. `approve` is asked before each call: True lets it
        be made; a text is the reason that the model is told. Other options as in `chat`.
        """
        return drive(steps(messages, tools, max_rounds, approve, options), self.chat)

    def conversation(self, *, system: str | None = None, overflow: str = "error") -> Conversation:
        """A conversation that keeps its messages, beginning with a system message if one is given.

        `overflow` says what happens when the context is full: "error", or "drop_turns", which leaves the oldest turns out of what
        the model sees, and keeps the system message.
        """
        return Conversation(self, began(system), overflow)

    # ---- embeddings and scores ----

    def embed(self, texts: str | Iterable[str | Iterable[int]], *, normalize: bool = True, truncate: bool = False,
              pooling: str = "auto", stop: threading.Event | None = None) -> numpy.ndarray:
        """The vectors of texts, or of lists of token ids: float32 of shape (n, dimension), in the order given.

        As Embedder.embed; "auto" is the model's own pooling, or the mean where it has none. Threads take turns.
        """
        with self._embedding:
            return self._embedder(pooling).embed(texts, normalize=normalize, truncate=truncate, stop=stop)

    def rerank(self, query: str, documents: Iterable[str], *, top_n: int | None = None,
               stop: threading.Event | None = None) -> list[RerankResult]:
        """The documents by how well they answer the query, best first, by a model made for it. As Embedder.rerank."""
        with self._embedding:
            return self._embedder("rank").rerank(query, documents, top_n=top_n, stop=stop)

    def _embedder(self, pooling: str) -> Embedder:
        self.intake.require_open()
        if not isinstance(pooling, str):
            raise OptionError(f"pooling must be a str, not {pooling!r}")
        if pooling not in self._embedders or self._embedders[pooling].closed:  # a fork closes what another thread used
            embedder = Embedder(self.model, self.options, pooling=pooling)
            if pooling == "auto" and embedder.pooling == "none":
                embedder.close()
                embedder = self._embedder("mean")
            self._embedders[pooling] = embedder
        return self._embedders[pooling]

    def score(self, text: Prompt, *, adapters: Mapping[str, float] | None = None,
              control_vectors: Mapping[str, float] | None = None) -> Score:
        """How likely the model finds a text, token by token, with adapters as in SamplingParams.

        ContextOverflowError if it does not fit the context.
        """
        tokens = self.intake.prompt(text)
        if len(tokens) > self.context_size:
            raise ContextOverflowError(f"the text has {len(tokens)} tokens and the context {self.context_size}: load with a larger "
                                       "context_size, or use perplexity(), which takes it in windows")
        return Score(self._scores([tokens], 1, SamplingParams(adapters=adapters, control_vectors=control_vectors))[0])

    def perplexity(self, text: Prompt, *, window: int | None = None, adapters: Mapping[str, float] | None = None,
                   control_vectors: Mapping[str, float] | None = None) -> Perplexity:
        """The model's perplexity over a long text, as llama.cpp's llama-perplexity computes it.

        The text is cut into windows of `window` tokens (None: 512, or the context size if that is less), and the second
        half of each is scored.
        """
        size = min(512, self.context_size) if window is None else window
        if isinstance(size, bool) or not isinstance(size, int) or not 4 <= size <= self.context_size:
            raise OptionError(f"window must be a number of tokens between 4 and {self.context_size}, not {window!r}")
        params = SamplingParams(adapters=adapters, control_vectors=control_vectors)
        return perplexity(self._scores(windows(self.model, self.intake.prompt(text), size), size // 2 + 1, params))

    def _scores(self, prompts: Sequence[list[int]], start: int, params: SamplingParams) -> list[list[TokenLogprob]]:
        return [completion.prompt_logprobs or [] for completion in self._complete(prompts, scoring(params), score_from=start)]

    # ---- states ----

    def save_state(self, path: str | os.PathLike[str]) -> int:
        """Write what was computed of prompts so far to a file, for `load_state`; how many prompts' beginnings it holds."""
        entries = self.intake.engine.call(Prefixes.saved_states)
        states.write(path, self._state_fingerprint(), entries)
        return len(entries)

    def load_state(self, path: str | os.PathLike[str]) -> int:
        """Take up what `save_state` wrote: prompts that begin likewise need not be computed. How many beginnings there were.

        They take part in the prefix cache, within `prefix_cache`; those that do not fit are left out. StateError if the
        file is damaged, or of another model, release of llama.cpp or settings; then nothing changes. What was computed with
        adapters is left out where those are not loaded.
        """
        entries = states.read(path, self._state_fingerprint(), self.model.n_vocab, self.context_size,
                              self.intake.adapters.by_fingerprint())

        def take(prefixes: Prefixes) -> int:
            for entry in entries:
                prefixes.add(entry.tokens, entry.state, entry.first, entry.adapters)
            return sum(any((entry.tokens, entry.adapters) == (kept.tokens, kept.adapters) for kept in prefixes.saved) for entry in entries)

        return self.intake.engine.call(take)

    def _state_fingerprint(self) -> str:
        return f"{self.model.fingerprint} {_native.library().release} flash_attention={self.options.flash_attention}"

    # ---- tokens ----

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Text to token ids, as Model.tokenize."""
        return self.model.tokenize(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Iterable[int]) -> str:
        """Token ids to text, exactly; control tokens give none."""
        return self.model.detokenize(tokens)

    # ---- inside ----

    def _complete(self, prompts: Sequence[list[int]], params: SamplingParams, **request: Any) -> list[Completion]:
        inbox = Inbox()
        with Jobs(self.intake, prompts, params, inbox.put, **request) as jobs:
            while not jobs.done:
                if jobs.submit():
                    jobs.note(inbox.get())
                else:
                    time.sleep(RETRY_SECONDS)
        return jobs.results()

    def _stream(self, tokens: list[int], params: SamplingParams, *, chat: ChatPrompt | None = None, **request: Any) -> Stream[Any]:
        inbox = Inbox()
        generation = Generation(params, inbox.put, whole=False, chat=chat)
        self.intake.submit(generation, tokens, **request)
        return Stream(self.intake.withdraw, generation, inbox)
