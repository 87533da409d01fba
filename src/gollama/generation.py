"""Requests in terms of text: what the engine tells of one, as chunks and completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

from gollama import monitor
from gollama._text import TextStream
from gollama.chat import ChatPrompt
from gollama.engine import Counts, EndReason, Request
from gollama.options import SamplingParams
from gollama.results import Chunk, Completion, FinishReason, Timings, TokenLogprob, Usage


class _Transcript:
    """One choice's answer so far, and the part of it that was not shown yet."""

    __slots__ = ("logprobs", "text", "tokens")

    def __init__(self, params: SamplingParams, stops: tuple[str, ...]) -> None:
        self.text = TextStream(stops)
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] | None = None if params.logprobs is None else []

    def take(self) -> tuple[list[int], list[TokenLogprob] | None]:
        """The tokens that were not shown, which are shown now."""
        tokens, self.tokens = self.tokens, []
        if self.logprobs is None:
            return tokens, None
        logprobs, self.logprobs = self.logprobs, []
        return tokens, logprobs


class Generation:
    """Listens to the engine on its thread, and hands chunks on: through `deliver`, from that thread, as they come.

    After the last chunk, or in place of it an exception, of each choice, None is delivered. With `whole` a choice is one
    chunk. `chat` is what the prompt was rendered from, if it was: it has stops and wishes of its own.
    """

    def __init__(self, params: SamplingParams, deliver: Callable[[Chunk | BaseException | None], object], *, whole: bool,
                 chat: ChatPrompt | None = None) -> None:
        self.params = params
        self.chat = chat
        stops = cast("tuple[str, ...]", params.stop) + (chat.stops if chat else ())
        self.request: Request | None = None
        self.prompt_logprobs: list[TokenLogprob] | None = None if params.prompt_logprobs is None else []
        self._deliver = deliver
        self._whole = whole
        self.quiet = whole and not stops and params.logprobs is None  # text is of no interest before the end
        self._left = params.n
        self._transcripts = [_Transcript(params, stops) for _ in range(params.n)]
        self._shown: list[list[str]] = [[] for _ in range(params.n)]

    # ---- what the engine tells ----

    def token(self, choice: int, token: int, data: bytes, logprob: float, top: Sequence[tuple[int, float]]) -> bool:
        transcript = self._transcripts[choice]
        transcript.tokens.append(token)
        if transcript.logprobs is not None:
            transcript.logprobs.append(TokenLogprob(token, data.decode("utf-8", "replace"), logprob, tuple(top)))
        shown = transcript.text.push(data)
        if self._whole:
            if shown:
                self._shown[choice].append(shown)
        elif shown:
            tokens, logprobs = transcript.take()
            self._deliver(Chunk(shown, tokens, index=choice, logprobs=logprobs))
        return transcript.text.stopped

    def collected(self, choice: int, tokens: list[int], data: bytes) -> None:
        transcript = self._transcripts[choice]
        transcript.tokens = tokens
        self._shown[choice].append(transcript.text.push(data))

    def prompt(self, logprobs: Sequence[tuple[int, bytes, float, Sequence[tuple[int, float]]]]) -> None:
        assert self.prompt_logprobs is not None
        for token, data, logprob, top in logprobs:
            self.prompt_logprobs.append(TokenLogprob(token, data.decode("utf-8", "replace"), logprob, tuple(top)))

    def finished(self, choice: int, reason: EndReason, error: BaseException | None, counts: Counts) -> None:
        if error is not None:
            self._deliver(error)
        else:
            transcript = self._transcripts[choice]
            text = "".join([*self._shown[choice], transcript.text.finish()])
            tokens, logprobs = transcript.take()
            self._deliver(Chunk(text, tokens, cast(FinishReason, reason), _usage(counts), _timings(counts), choice, logprobs,
                                transcript.text.stopping_word if transcript.text.stopping_word in self.params.stop else None))
        self._left -= 1
        if self._left == 0:
            self._deliver(None)


def joined(items: Sequence[Any]) -> list[Any]:
    """What was delivered, with the chunks of each choice made one, as if they had come so."""
    if len(items) == 1:
        return list(items)
    choices: dict[int, list[Chunk]] = {}
    others = []  # which come last
    for item in items:
        if isinstance(item, Chunk):
            choices.setdefault(item.index, []).append(item)
        else:
            others.append(item)
    return [*map(_join, choices.values()), *others]


def _join(chunks: list[Chunk]) -> Chunk:
    last = chunks[-1]
    if len(chunks) == 1:
        return last
    logprobs = None if last.logprobs is None else [one for chunk in chunks for one in chunk.logprobs or ()]
    return replace(last, text="".join([chunk.text for chunk in chunks]), tokens=[token for chunk in chunks for token in chunk.tokens],
                   logprobs=logprobs)


def _usage(counts: Counts) -> Usage:
    return Usage(counts.prompt_tokens, counts.completion_tokens, counts.cached_tokens)


def _timings(counts: Counts) -> Timings:
    started = counts.started or counts.submitted
    first = counts.first or started
    return Timings(started - counts.submitted, first - started, max(counts.last - first, 0.0), counts.prompt_tokens,
                   counts.completion_tokens, counts.cached_tokens, counts.drafted_tokens, counts.accepted_tokens,
                   monitor.use_since(started))


def complete(chunks: Sequence[Chunk | BaseException], prompt_logprobs: list[TokenLogprob] | None) -> Completion:
    """The completion of all the choices' whole chunks. Raises the first exception among them."""
    for chunk in chunks:
        if isinstance(chunk, BaseException):
            raise chunk
    whole = sorted(cast("Sequence[Chunk]", chunks), key=lambda chunk: chunk.index)
    choices: list[Completion] = []
    for chunk in whole:
        assert chunk.finish_reason and chunk.usage and chunk.timings
        choices.append(Completion(chunk.text, chunk.tokens, chunk.finish_reason, chunk.usage, chunk.timings, chunk.index, chunk.logprobs,
                                  prompt_logprobs, stopping_word=chunk.stopping_word))
    if len(choices) == 1:
        return choices[0]
    first = choices[0]
    return Completion(first.text, first.tokens, first.finish_reason, first.usage, first.timings, 0, first.logprobs, prompt_logprobs,
                      tuple(choices), first.stopping_word)
