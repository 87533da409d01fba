"""Completions and chunks of a chat: the engine's text read as an answer."""

from __future__ import annotations

import dataclasses
from typing import Any

from gollama.chat.formatter import ChatPrompt
from gollama.chat.replies import Reply, ReplyStream
from gollama.chat.thinking import thinking_tokens
from gollama.results import ChatChunk, ChatCompletion, Chunk, Completion, FinishReason, TokenLogprob


def answered(prompt: ChatPrompt, completion: Completion) -> ChatCompletion:
    """A completion, and all of its choices, as answers to the chat. SchemaError if one does not fit the schema."""
    choices = tuple(_answer(prompt, choice) for choice in completion.choices)
    return dataclasses.replace(choices[0], choices=choices) if choices else _answer(prompt, completion)


def _answer(prompt: ChatPrompt, completion: Completion) -> ChatCompletion:
    cut = completion.finish_reason != "stop"
    return _made(prompt, completion, completion.text, _new_stream(prompt).read(completion.text, partial=cut))


def _new_stream(prompt: ChatPrompt) -> ReplyStream:
    tools = prompt.options.checked_tools
    return ReplyStream(prompt.parser, offered=[tool.name for tool in tools] if tools else None,
                       continued=bool(prompt.options.continue_final_message))


def _made(prompt: ChatPrompt, completion: Completion, written: str, reply: Reply) -> ChatCompletion:
    """`written` is all of the answer's text, which `reply` was read of."""
    fields: dict[str, Any] = {field.name: getattr(completion, field.name) for field in dataclasses.fields(Completion)}
    cut = completion.finish_reason != "stop"
    # of a call that was cut nobody can say what it asks for
    calls = tuple(call for call in reply.tool_calls if not cut or call.error is None)
    reason: FinishReason = "tool_calls" if calls and not cut else completion.finish_reason
    parsed = prompt.schema.parse(reply.text) if prompt.schema is not None and not cut and not calls else None
    fields |= {"text": reply.text, "finish_reason": reason}
    thinking = thinking_tokens(prompt, written, completion.tokens, reply.reasoning, is_all=not reply.text and not reply.tool_calls)
    return ChatCompletion(**fields, reasoning=reply.reasoning, tool_calls=calls, parsed=parsed, reasoning_tokens=thinking)


class _Choice:
    """One choice in the making."""

    def __init__(self, prompt: ChatPrompt) -> None:
        self.stream = _new_stream(prompt)
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.told = 0  # tokens that were handed on


class ChunkReader:
    """Turns the chunks of a chat's text into chunks of its answer. One thread at a time."""

    def __init__(self, prompt: ChatPrompt) -> None:
        self._prompt = prompt
        self._choices: dict[int, _Choice] = {}

    def read(self, chunk: Chunk) -> ChatChunk | None:
        """What the chunk adds; None if there is nothing to show yet. SchemaError at the end, as `answered`."""
        if chunk.index not in self._choices:
            self._choices[chunk.index] = _Choice(self._prompt)
        choice = self._choices[chunk.index]
        choice.tokens += chunk.tokens
        choice.logprobs += chunk.logprobs or []
        delta = choice.stream.push(chunk.text)
        completion = None
        if chunk.finish_reason is not None:
            rest, reply = choice.stream.finish(partial=chunk.finish_reason != "stop")
            delta.content += rest.content
            delta.reasoning += rest.reasoning
            delta.tool_calls += rest.tool_calls
            completion = self._completion(chunk, choice, reply)
        elif not delta:
            return None
        tokens, logprobs = choice.tokens[choice.told :], choice.logprobs[choice.told :]
        choice.told = len(choice.tokens)
        return ChatChunk(delta.content, tokens, completion.finish_reason if completion else None, chunk.usage, chunk.timings, chunk.index,
                         None if chunk.logprobs is None else logprobs, chunk.stopping_word, delta.reasoning, tuple(delta.tool_calls),
                         completion)

    def _completion(self, chunk: Chunk, choice: _Choice, reply: Reply) -> ChatCompletion:
        assert chunk.finish_reason and chunk.usage and chunk.timings
        logprobs = None if chunk.logprobs is None else choice.logprobs
        whole = Completion("", choice.tokens, chunk.finish_reason, chunk.usage, chunk.timings, chunk.index, logprobs,
                           stopping_word=chunk.stopping_word)
        return _made(self._prompt, whole, choice.stream.written, reply)
