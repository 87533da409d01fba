"""The events of a streamed response, in the order that OpenAI's clients rely on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gollama.async_jobs import AsyncStream
from gollama.results import ChatChunk, ChatCompletion, ToolCallDelta
from gollama.server.errors import ApiError
from gollama.server.openai.response_items import Item, call_item, message_item, reasoning_item, text_part
from gollama.server.record import RequestRecord
from gollama.server.replies import dumps
from gollama.server.sse import Events, named_event

Ended = Callable[[ChatCompletion, list[Item]], Item]


class ResponseEvents:
    """Turns chunks into events: one item after the other is opened, grows, and is closed."""

    def __init__(self, response: Item, logprobs: Callable[[ChatChunk], list[Any]]) -> None:
        self._response, self._logprobs = response, logprobs
        self._number = 0
        self._items: list[Item] = []  # those that are closed
        self._open: Item | None = None
        self._text = ""  # of the open one
        self._told: list[Any] = []  # its log probabilities

    async def events(self, stream: AsyncStream[ChatChunk], noted: RequestRecord, ended: Ended) -> Events:
        """`ended` makes the whole response of the answer and its items."""
        yield self._event("response.created", response=self._response) + self._event("response.in_progress", response=self._response)
        completion: ChatCompletion | None = None
        while chunks := await stream.read():
            yield b"".join(map(self._of, chunks))
            for chunk in chunks:
                completion = chunk.completion or completion
                if chunk.usage is not None:
                    noted.note(chunk.usage, chunk.timings)
        if completion is None:
            raise ApiError(500, "the answer has no end", type="server_error")
        if completion.text == "" and not completion.tool_calls and not any(one["type"] == "message" for one in self._items):
            yield self._opened("message", message_item(None, "in_progress"))
        yield self._closed()
        response = ended(completion, self._items)
        yield self._event(f"response.{response['status']}", response=response)

    def failed(self, error: ApiError) -> bytes:
        """The last event of a response that failed."""
        problem = {"code": error.code or "server_error", "message": error.message}
        return (self._event("error", code=problem["code"], message=error.message, param=error.param)
                + self._event("response.failed", response={**self._response, "status": "failed", "error": problem}))

    def _event(self, kind: str, /, **fields: Any) -> bytes:
        self._number += 1
        return named_event(kind, dumps({"type": kind, "sequence_number": self._number - 1, **fields}))

    def _of(self, chunk: ChatChunk) -> bytes:
        events = []
        if chunk.reasoning:
            events.append(self._opened("reasoning", reasoning_item("", "in_progress")))
            events.append(self._grown("response.reasoning_text.delta", chunk.reasoning, content_index=0))
        if chunk.text:
            events.append(self._opened("message", message_item(None, "in_progress")))
            logprobs = self._logprobs(chunk)
            self._told += logprobs
            events.append(self._grown("response.output_text.delta", chunk.text, content_index=0, logprobs=logprobs))
        events += map(self._call, chunk.tool_calls)
        return b"".join(events)

    def _call(self, delta: ToolCallDelta) -> bytes:
        opened = b""
        if delta.id is not None:
            opened = self._closed() + self._opened("function_call", call_item(delta.id, delta.name or "", "", "in_progress"))
        return opened + (self._grown("response.function_call_arguments.delta", delta.arguments) if delta.arguments else b"")

    def _opened(self, kind: str, item: Item) -> bytes:
        """Open an item of this kind, if the open one is of another."""
        if self._open is not None and self._open["type"] == kind:
            return b""
        events = self._closed()
        self._open, self._text, self._told = item, "", []
        events += self._event("response.output_item.added", output_index=len(self._items), item=item)
        if kind == "message":
            events += self._event("response.content_part.added", item_id=item["id"], output_index=len(self._items), content_index=0,
                                  part=text_part(""))
        return events

    def _grown(self, name: str, text: str, **fields: Any) -> bytes:
        assert self._open is not None
        self._text += text
        return self._event(name, item_id=self._open["id"], output_index=len(self._items), delta=text, **fields)

    def _closed(self) -> bytes:
        """Close the open item."""
        if self._open is None:
            return b""
        item, text, place = self._open, self._text, {"item_id": self._open["id"], "output_index": len(self._items)}
        if item["type"] == "message":
            whole = message_item(text, "completed", item["id"], self._told)
            events = (self._event("response.output_text.done", **place, content_index=0, text=text, logprobs=self._told)
                      + self._event("response.content_part.done", **place, content_index=0, part=whole["content"][0]))
        elif item["type"] == "reasoning":
            whole = reasoning_item(text, "completed", item["id"])
            events = self._event("response.reasoning_text.done", **place, content_index=0, text=text)
        else:
            whole = call_item(item["call_id"], item["name"], text, "completed", item["id"])
            events = self._event("response.function_call_arguments.done", **place, name=item["name"], arguments=text)
        events += self._event("response.output_item.done", output_index=len(self._items), item=whole)
        self._items.append(whole)
        self._open = None
        return events
