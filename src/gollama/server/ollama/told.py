"""Answers as Ollama writes them: an object, or one a line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

from gollama.aio import AsyncLLM
from gollama.async_jobs import AsyncStream
from gollama.results import ChatChunk, ChatCompletion, Chunk, Completion, Timings, TokenLogprob, ToolCall, Usage
from gollama.server.errors import ApiError
from gollama.server.openai.parts import chat_logprobs, finish_reason
from gollama.server.record import RequestRecord
from gollama.server.replies import dumps
from gollama.server.sse import Events

NDJSON = "application/x-ndjson"
NANOSECONDS = 10**9
ERROR_SCHEMA = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}

Piece = Callable[..., dict[str, Any]]


def error_form(error: ApiError) -> Any:
    """{"error": message}."""
    return {"error": error.message}


def line(value: Any) -> bytes:
    return dumps(value) + b"\n"


def error_line(error: ApiError) -> bytes:
    return line(error_form(error))


def now() -> str:
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")


def chat_piece(text: str, reasoning: str = "", calls: Sequence[ToolCall] = ()) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if reasoning:
        message["thinking"] = reasoning
    if calls:
        message["tool_calls"] = [{"id": call.id, "function": {"index": index, "name": call.name, "arguments": call.arguments}}
                                 for index, call in enumerate(calls)]
    return {"message": message}


def generate_piece(text: str, reasoning: str = "", _: Sequence[ToolCall] = ()) -> dict[str, Any]:
    return {"response": text, **({"thinking": reasoning} if reasoning else {})}


class Teller:
    """Writes one answer. `piece` is how its parts are told, `name` what the request called the model."""

    def __init__(self, piece: Piece, name: str, llm: AsyncLLM, noted: RequestRecord) -> None:
        self._piece, self._name, self._llm, self._noted = piece, name, llm, noted

    def _object(self, piece: dict[str, Any], logprobs: Sequence[TokenLogprob] | None, **more: Any) -> dict[str, Any]:
        found = {"model": self._name, "created_at": now(), **piece, **more}
        if logprobs:
            found["logprobs"] = chat_logprobs(self._llm, logprobs)["content"]
        return found

    def _end(self, reason: str, usage: Usage, timings: Timings) -> dict[str, Any]:
        told = finish_reason(reason)
        return {"done": True, "done_reason": "length" if told == "length" else "stop",
                **durations(self._noted), "prompt_eval_count": usage.prompt_tokens,
                "prompt_eval_duration": int(timings.prompt_seconds * NANOSECONDS), "eval_count": usage.completion_tokens,
                "eval_duration": int(timings.decode_seconds * NANOSECONDS)}

    def whole(self, completion: Completion) -> dict[str, Any]:
        """An answer at once."""
        chat = completion if isinstance(completion, ChatCompletion) else None
        piece = self._piece(completion.text, chat.reasoning if chat else "", chat.tool_calls if chat else ())
        return self._object(piece, completion.logprobs, **self._end(completion.finish_reason, completion.usage, completion.timings))

    async def lines(self, stream: AsyncStream[Any]) -> Events:
        """Line by line. A call is told when it is whole."""
        while chunks := await stream.read():
            for chunk in chunks:
                self._noted.note(chunk.usage, chunk.timings)
            yield b"".join(map(self._lines_of, chunks))

    def _lines_of(self, chunk: Chunk) -> bytes:
        reasoning = chunk.reasoning if isinstance(chunk, ChatChunk) else ""
        calls = chunk.completion.tool_calls if isinstance(chunk, ChatChunk) and chunk.completion else ()
        lines = b""
        if chunk.text or reasoning or calls or chunk.logprobs:
            lines = line(self._object(self._piece(chunk.text, reasoning, calls), chunk.logprobs, done=False))
        if chunk.finish_reason is not None:
            assert chunk.usage and chunk.timings
            lines += line(self._object(self._piece(""), None, **self._end(chunk.finish_reason, chunk.usage, chunk.timings)))
        return lines


def durations(noted: RequestRecord) -> dict[str, int]:
    """Nanoseconds, since the request came and for its model."""
    return {"total_duration": int((time.perf_counter() - noted.started) * NANOSECONDS),
            "load_duration": int(noted.load_seconds * NANOSECONDS)}
