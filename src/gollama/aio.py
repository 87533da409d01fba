"""AsyncLLM: LLM for asyncio."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from gollama._options import record
from gollama.async_jobs import AsyncInbox, AsyncStream
from gollama.backends import Device, DeviceMemory, Estimate
from gollama.chat import ChatPrompt, Message, split_options
from gollama.chat.answers import answered
from gollama.chat.choosing import candidates, choose, scoring
from gollama.chat.options import streamed
from gollama.conversation import AsyncConversation, began
from gollama.engine import EngineStats
from gollama.generation import Generation
from gollama.jobs import RETRY_SECONDS, Jobs
from gollama.llm import LLM, NONE, Prompt
from gollama.options import LoadOptions, SamplingParams
from gollama.results import ChatChunk, ChatCompletion, Chunk, Completion, Perplexity, RerankResult, Score
from gollama.tool_loop import MOST_ROUNDS, Approve, ToolRun, drive_async, steps

if TYPE_CHECKING:
    import numpy

Result = TypeVar("Result")


def _close_loaded(loading: asyncio.Future[LLM]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result().close()


async def _stoppable(work: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """What a thread computes, which is told to stop when the task that waits for it is cancelled."""
    stop = options["stop"] = options.get("stop") or threading.Event()
    try:
        return await asyncio.to_thread(work, *arguments, **options)
    except asyncio.CancelledError:
        stop.set()
        raise


class AsyncLLM:
    """A language model for asyncio, with the methods and options of LLM. An `async with` block.

    Any number of tasks, also of several event loops and threads, may use one: they are computed together. Cancelling a task
    ends its generation within a micro-batch. Loading blocks; `await AsyncLLM.load(…)` does it in a thread. `sync` is the
    LLM behind it, which may be used beside it.

    >>> import asyncio
    >>> from gollama import AsyncLLM
    >>> async def main():
    ...     async with await AsyncLLM.load("smollm2") as llm:
    ...         print((await llm.generate("The capital of France is", max_tokens=2, temperature=0)).text)
    >>> asyncio.run(main())
     Paris.
    """

    def __init__(self, model: str | os.PathLike[str] | LLM, *, options: LoadOptions | None = None,
                 on_progress: Callable[[float], object] | None = None, **fields: Any) -> None:
        self.sync = model if isinstance(model, LLM) else LLM(model, options=options, on_progress=on_progress, **fields)

    @classmethod
    async def load(cls, model: str | os.PathLike[str], *, on_progress: Callable[[float], object] | None = None, **options: Any) -> AsyncLLM:
        """As the constructor, without blocking the event loop. Cancelling the task stops the load."""
        cancelled = threading.Event()

        def progress(share: float) -> object:
            return False if cancelled.is_set() else on_progress and on_progress(share)

        loading = asyncio.ensure_future(asyncio.to_thread(LLM, model, on_progress=progress, **options))
        try:
            return cls(await asyncio.shield(loading))
        except asyncio.CancelledError:
            cancelled.set()
            loading.add_done_callback(_close_loaded)
            raise

    @classmethod
    async def estimate(cls, model: str | os.PathLike[str], *, sequences: int = 1, options: LoadOptions | None = None,
                       **fields: Any) -> Estimate:
        """As LLM.estimate."""
        return await asyncio.to_thread(LLM.estimate, model, sequences=sequences, options=options, **fields)

    async def __aenter__(self) -> AsyncLLM:
        return self

    async def __aexit__(self, *details: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<gollama.AsyncLLM of {self.sync!r}>"

    @property
    def closed(self) -> bool:
        return self.sync.closed

    @property
    def devices(self) -> tuple[Device, ...]:
        """As LLM.devices."""
        return self.sync.devices

    async def memory(self) -> tuple[DeviceMemory, ...]:
        """As LLM.memory."""
        return await asyncio.to_thread(self.sync.memory)

    async def close(self) -> None:
        """End what is being generated as cancelled and free everything. May be called again."""
        await asyncio.to_thread(self.sync.close)

    @property
    def context_size(self) -> int:
        """As LLM.context_size."""
        return self.sync.context_size

    def cancel(self) -> None:
        """End everything that is being generated or waits."""
        self.sync.cancel()

    def stats(self) -> EngineStats:
        """What the engine has done so far, and what it holds."""
        return self.sync.stats()

    # ---- text ----

    @overload
    async def generate(self, prompt: str, *, params: SamplingParams | None = None, priority: int = 0,
                       timeout: float | None = None, **sampling: Any) -> Completion: ...

    @overload
    async def generate(self, prompt: Sequence[str] | Sequence[Sequence[int]], *, params: SamplingParams | None = None,
                       priority: int = 0, timeout: float | None = None, **sampling: Any) -> list[Completion]: ...

    @overload
    async def generate(self, prompt: Sequence[int], *, params: SamplingParams | None = None, priority: int = 0,
                       timeout: float | None = None, **sampling: Any) -> Completion: ...

    async def generate(self, prompt: Prompt | Sequence[str] | Sequence[Sequence[int]], *, params: SamplingParams | None = None,
                       priority: int = 0, timeout: float | None = None, **sampling: Any) -> Completion | list[Completion]:
        """As LLM.generate."""
        settings = record(SamplingParams, params, sampling, "params")
        prompts, single = await asyncio.to_thread(self.sync.intake.prompts, prompt)
        completions = await self._complete(prompts, settings, priority=priority, timeout=timeout)
        return completions[0] if single else completions

    def stream(self, prompt: Prompt, *, params: SamplingParams | None = None, priority: int = 0,
               timeout: float | None = None, **sampling: Any) -> AsyncStream[Chunk]:
        """As LLM.stream: `async for chunk in llm.stream(…)`."""
        settings = record(SamplingParams, params, sampling, "params")
        return self._stream(self.sync.intake.prompt(prompt), settings, priority=priority, timeout=timeout)

    async def open_stream(self, prompt: Prompt, *, params: SamplingParams | None = None, priority: int = 0,
                          timeout: float | None = None, **sampling: Any) -> AsyncStream[Chunk]:
        """As `stream`, without blocking the event loop while a long prompt is tokenized. What is wrong with it raises here."""
        settings = record(SamplingParams, params, sampling, "params")
        inbox = AsyncInbox()

        def opened() -> AsyncStream[Chunk]:
            return self._stream(self.sync.intake.prompt(prompt), settings, inbox=inbox, priority=priority, timeout=timeout)

        return await asyncio.to_thread(opened)

    async def infill(self, prefix: str, suffix: str, *, params: SamplingParams | None = None, priority: int = 0,
                     timeout: float | None = None, **sampling: Any) -> Completion:
        """As LLM.infill."""
        settings = record(SamplingParams, params, sampling, "params")
        prompt = await asyncio.to_thread(self.sync.intake.infill_prompt, prefix, suffix)
        return (await self._complete([prompt], settings, priority=priority, timeout=timeout))[0]

    # ---- chat ----

    async def chat(self, messages: Sequence[Message], *, params: SamplingParams | None = None, priority: int = 0,
                   timeout: float | None = None, **options: Any) -> ChatCompletion:
        """As LLM.chat."""
        chat, settings = split_options(options, params)
        prompt = await asyncio.to_thread(self.sync.intake.chat_prompt, messages, chat, settings)
        if not chat.choices:
            return answered(prompt, (await self._complete([prompt.tokens], settings, priority=priority, timeout=timeout, chat=prompt))[0])
        first, *others = candidates(self.sync.model, prompt, self.context_size)
        request: dict[str, Any] = {"priority": priority, "timeout": timeout, "score_from": len(prompt.tokens)}
        scored = await self._complete([first], scoring(settings), **request)
        return choose(prompt, [*scored, *await self._complete(others, scoring(settings), **request)], settings)

    def stream_chat(self, messages: Sequence[Message], *, params: SamplingParams | None = None, priority: int = 0,
                    timeout: float | None = None, **options: Any) -> AsyncStream[ChatChunk]:
        """As LLM.stream_chat."""
        chat, settings = split_options(options, params)
        prompt = self.sync.intake.chat_prompt(messages, streamed(chat), settings)
        return self._stream(prompt.tokens, settings, priority=priority, timeout=timeout, chat=prompt)

    async def open_stream_chat(self, messages: Sequence[Message], *, params: SamplingParams | None = None, priority: int = 0,
                               timeout: float | None = None, **options: Any) -> AsyncStream[ChatChunk]:
        """As `stream_chat`, without blocking the event loop while the chat is rendered. What is wrong raises here."""
        inbox = AsyncInbox()

        def opened() -> AsyncStream[ChatChunk]:
            chat, settings = split_options(options, params)
            prompt = self.sync.intake.chat_prompt(messages, streamed(chat), settings)
            return self._stream(prompt.tokens, settings, inbox=inbox, priority=priority, timeout=timeout, chat=prompt)

        return await asyncio.to_thread(opened)

    def render_chat(self, messages: Sequence[Message], **options: Any) -> ChatPrompt:
        """As LLM.render_chat."""
        return self.sync.render_chat(messages, **options)

    async def run_tools(self, messages: Sequence[Message], *, tools: Sequence[Any], max_rounds: int = MOST_ROUNDS,
                        approve: Approve | None = None, **options: Any) -> ToolRun:
        """As LLM.run_tools; the functions and `approve` may be coroutines, others run in threads."""
        return await drive_async(steps(messages, tools, max_rounds, approve, options), self.chat)

    def conversation(self, *, system: str | None = None, overflow: str = "error") -> AsyncConversation:
        """As LLM.conversation; its `send` is awaited, its `stream` iterated by `async for`."""
        return AsyncConversation(self, began(system), overflow)

    # ---- what takes no turns in the engine runs in a thread ----

    async def embed(self, texts: str | Iterable[str | Iterable[int]], **options: Any) -> numpy.ndarray:
        """As LLM.embed. When the task is cancelled it ends after a batch."""
        return await _stoppable(self.sync.embed, texts, **options)

    async def rerank(self, query: str, documents: Iterable[str], **options: Any) -> list[RerankResult]:
        """As LLM.rerank. When the task is cancelled it ends after a batch."""
        return await _stoppable(self.sync.rerank, query, documents, **options)

    async def score(self, text: Prompt, *, adapters: Mapping[str, float] | None = None,
                    control_vectors: Mapping[str, float] | None = None) -> Score:
        """As LLM.score."""
        return await asyncio.to_thread(self.sync.score, text, adapters=adapters, control_vectors=control_vectors)

    async def perplexity(self, text: Prompt, *, window: int | None = None, adapters: Mapping[str, float] | None = None,
                         control_vectors: Mapping[str, float] | None = None) -> Perplexity:
        """As LLM.perplexity."""
        return await asyncio.to_thread(self.sync.perplexity, text, window=window, adapters=adapters, control_vectors=control_vectors)

    # ---- adapters ----

    @property
    def adapters(self) -> tuple[str, ...]:
        """As LLM.adapters."""
        return self.sync.adapters

    @property
    def control_vectors(self) -> tuple[str, ...]:
        """As LLM.control_vectors."""
        return self.sync.control_vectors

    async def load_adapter(self, name: str, path: str | os.PathLike[str]) -> None:
        """As LLM.load_adapter."""
        await asyncio.to_thread(self.sync.load_adapter, name, path)

    async def load_control_vector(self, name: str, path: str | os.PathLike[str], *, layers: tuple[int, int] | None = None) -> None:
        """As LLM.load_control_vector."""
        await asyncio.to_thread(self.sync.load_control_vector, name, path, layers=layers)

    async def unload_adapter(self, name: str) -> None:
        """As LLM.unload_adapter."""
        await asyncio.to_thread(self.sync.unload_adapter, name)

    async def unload_control_vector(self, name: str) -> None:
        """As LLM.unload_control_vector."""
        await asyncio.to_thread(self.sync.unload_control_vector, name)

    async def set_adapters(self, adapters: Mapping[str, float] = NONE, control_vectors: Mapping[str, float] = NONE) -> None:
        """As LLM.set_adapters."""
        await asyncio.to_thread(self.sync.set_adapters, adapters, control_vectors)

    # ---- the cache ----

    async def clear_cache(self) -> None:
        """As LLM.clear_cache."""
        await asyncio.to_thread(self.sync.clear_cache)

    async def save_state(self, path: str | os.PathLike[str]) -> int:
        """As LLM.save_state."""
        return await asyncio.to_thread(self.sync.save_state, path)

    async def load_state(self, path: str | os.PathLike[str]) -> int:
        """As LLM.load_state."""
        return await asyncio.to_thread(self.sync.load_state, path)

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """As LLM.tokenize."""
        return self.sync.tokenize(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Iterable[int]) -> str:
        """As LLM.detokenize."""
        return self.sync.detokenize(tokens)

    # ---- inside ----

    async def _complete(self, prompts: Sequence[list[int]], params: SamplingParams, *, inbox: AsyncInbox | None = None,
                        **request: Any) -> list[Completion]:
        inbox = inbox or AsyncInbox()
        with Jobs(self.sync.intake, prompts, params, inbox.put, **request) as jobs:
            while not jobs.done:
                if jobs.submitted or await asyncio.to_thread(jobs.submit):  # samplers with grammars take their time
                    jobs.note(await inbox.get())
                else:
                    await asyncio.sleep(RETRY_SECONDS)
        return jobs.results()

    def _stream(self, tokens: list[int], params: SamplingParams, *, chat: ChatPrompt | None = None, inbox: AsyncInbox | None = None,
                **request: Any) -> AsyncStream[Any]:
        inbox = inbox or AsyncInbox()
        generation = Generation(params, inbox.put, whole=False, chat=chat)
        self.sync.intake.submit(generation, tokens, **request)
        return AsyncStream(self.sync.intake.withdraw, generation, inbox)
