"""An answer in Anthropic's form: at once, or as the events that its clients rely on, in their order."""

from __future__ import annotations

from typing import Any

from gollama.async_jobs import AsyncStream
from gollama.results import ChatChunk, ChatCompletion, ToolCall, Usage
from gollama.server.anthropic.fields import MessagesRequest
from gollama.server.errors import ApiError
from gollama.server.openai.parts import finish_reason, new_id
from gollama.server.record import RequestRecord
from gollama.server.replies import dumps
from gollama.server.sse import Events, named_event

ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
               429: "rate_limit_error", 503: "overloaded_error"}
SERVER_ERROR = 500
ERROR_SCHEMA = {"type": "object", "required": ["type", "error"], "properties": {"type": {"const": "error"}, "error": {
    "type": "object", "required": ["type", "message"], "properties": {"type": {"type": "string"}, "message": {"type": "string"}}}}}


def error_form(error: ApiError) -> Any:
    """{"type": "error", "error": {"type", "message"}}."""
    kind = ERROR_TYPES.get(error.status, "api_error" if error.status >= SERVER_ERROR else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": error.message}}


def error_event(error: ApiError) -> bytes:
    return named_event("error", dumps(error_form(error)))


def usage_object(usage: Usage) -> dict[str, Any]:
    """`input_tokens` are those that were computed; what was found in the cache is told apart, as Anthropic does."""
    return {"input_tokens": usage.prompt_tokens - usage.cached_tokens, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.cached_tokens, "output_tokens": usage.completion_tokens}


def message_object(name: str, content: list[dict[str, Any]], usage: Usage, reason: str | None, word: str | None) -> dict[str, Any]:
    return {"id": new_id("msg_"), "type": "message", "role": "assistant", "model": name, "content": content, "stop_reason": reason,
            "stop_sequence": word, "usage": usage_object(usage)}


def stop_reason(completion: ChatCompletion, body: MessagesRequest) -> str:
    """Anthropic's word. One whose time was up is one of limited length."""
    reason = finish_reason(completion.finish_reason)
    if reason == "length":
        full = completion.finish_reason == "length" and completion.usage.completion_tokens < body.max_tokens
        return "model_context_window_exceeded" if full else "max_tokens"
    if reason == "tool_calls":
        return "tool_use"
    return "end_turn" if completion.stopping_word is None else "stop_sequence"


def hides_thinking(body: MessagesRequest) -> bool:
    return body.thinking is not None and body.thinking.display == "omitted"


def message_of(name: str, body: MessagesRequest, completion: ChatCompletion) -> dict[str, Any]:
    """A whole answer."""
    content: list[dict[str, Any]] = []
    if completion.reasoning:
        content.append({"type": "thinking", "thinking": "" if hides_thinking(body) else completion.reasoning, "signature": ""})
    if completion.text:
        content.append({"type": "text", "text": completion.text})
    content += [_tool_use(call.id, call.name, call) for call in completion.tool_calls]
    return message_object(name, content, completion.usage, stop_reason(completion, body), completion.stopping_word)


def _tool_use(call_id: str, name: str, call: ToolCall | None = None) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": {} if call is None else call.arguments}


class MessageEvents:
    """Turns chunks into events: message_start, then block after block, then message_delta and message_stop."""

    def __init__(self, name: str, body: MessagesRequest) -> None:
        self._name, self._body = name, body
        self._index = -1  # of the block that was begun last
        self._open: str | None = None  # its type

    async def events(self, stream: AsyncStream[ChatChunk], noted: RequestRecord) -> Events:
        begun = message_object(self._name, [], Usage(stream.prompt_tokens, 0), None, None)
        yield _event("message_start", message=begun)
        completion: ChatCompletion | None = None
        while chunks := await stream.read():
            yield b"".join(map(self._of, chunks))
            for chunk in chunks:
                completion = chunk.completion or completion
                noted.note(chunk.usage, chunk.timings)
        if completion is None:
            raise ApiError(SERVER_ERROR, "the answer has no end", type="server_error")
        delta = {"stop_reason": stop_reason(completion, self._body), "stop_sequence": completion.stopping_word}
        yield self._closed() + _event("message_delta", delta=delta, usage=usage_object(completion.usage)) + _event("message_stop")

    def _of(self, chunk: ChatChunk) -> bytes:
        events = []
        if chunk.reasoning:
            events.append(self._opened("thinking", {"type": "thinking", "thinking": "", "signature": ""}))
            if not hides_thinking(self._body):
                events.append(self._grown({"type": "thinking_delta", "thinking": chunk.reasoning}))
        if chunk.text:
            events.append(self._opened("text", {"type": "text", "text": ""}))
            events.append(self._grown({"type": "text_delta", "text": chunk.text}))
        for call in chunk.tool_calls:
            if call.id is not None:
                events.append(self._closed() + self._opened("tool_use", _tool_use(call.id, call.name or "")))
            if call.arguments:
                events.append(self._grown({"type": "input_json_delta", "partial_json": call.arguments}))
        return b"".join(events)

    def _opened(self, kind: str, block: dict[str, Any]) -> bytes:
        """Begin a block of this type, if the open one is of another."""
        if self._open == kind:
            return b""
        events = self._closed()
        self._open = kind
        self._index += 1
        events += _event("content_block_start", index=self._index, content_block=block)
        return events if self._index else events + PING

    def _grown(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _closed(self) -> bytes:
        """End the open block. Thinking ends with a signature, which is empty here: nobody has to prove it."""
        if self._open is None:
            return b""
        signed = self._grown({"type": "signature_delta", "signature": ""}) if self._open == "thinking" else b""
        self._open = None
        return signed + _event("content_block_stop", index=self._index)


def _event(kind: str, /, **fields: Any) -> bytes:
    return named_event(kind, dumps({"type": kind, **fields}))


PING = _event("ping")
