"""A conversation: messages that grow turn by turn."""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gollama import _files
from gollama.chat import Message, as_dict, split_options
from gollama.chat.messages import check_messages
from gollama.errors import ChatError, ContextOverflowError, OptionError
from gollama.intake import prompt_room
from gollama.results import ChatChunk, ChatCompletion
from gollama.tool_loop import ToolRun

OVERFLOWS = ("error", "drop_turns")
NOT_OF_THE_CHAT = ("params", "priority", "timeout", "max_rounds", "approve")
FORMAT = "gollama conversation 1"
MOST_BYTES = 2**28  # of a file

Self = TypeVar("Self", bound="BaseConversation")


class Renderer(Protocol):
    """Whoever answers: an LLM or an AsyncLLM."""

    @property
    def context_size(self) -> int: ...

    def render_chat(self, messages: Sequence[Message], **options: Any) -> Any: ...


class BaseConversation:
    """What was said so far. Made by `conversation` of an LLM or AsyncLLM.

    Each turn computes only what is new: the turns before it are found in the prefix cache. A turn that fails, or a stream
    that is left before its end, leaves `messages` as they were. One turn at a time.
    """

    def __init__(self, llm: Renderer, messages: list[dict[str, Any]], overflow: str = "error") -> None:
        if not isinstance(overflow, str) or overflow not in OVERFLOWS:
            raise OptionError(f"overflow must be one of {', '.join(map(repr, OVERFLOWS))}, not {overflow!r}")
        self._llm: Any = llm
        self._overflow = overflow
        self.messages = messages

    def undo(self) -> str:
        """Take the last turn back, what was said and what was answered; what was said."""
        last = next((index for index in range(len(self.messages) - 1, -1, -1) if self.messages[index]["role"] == "user"), None)
        if last is None:
            raise ChatError("there is no turn to take back")
        said: str = self.messages[last]["content"]
        self.messages = self.messages[:last]
        return said

    def fork(self: Self) -> Self:
        """Another conversation that begins as this one; what they share is computed once."""
        return type(self)(self._llm, [dict(message) for message in self.messages], self._overflow)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the messages to a file, as JSON."""
        text = json.dumps({"format": FORMAT, "messages": self.messages}, ensure_ascii=False, indent=1)
        with _files.replacing(Path(path)) as file:
            file.write(f"{text}\n".encode())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take the messages of a file that `save` wrote in place of those there are. ChatError if it is none; then nothing changes."""
        file = Path(path)
        try:
            if file.stat().st_size > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES} bytes")
            found = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ChatError(f"{path} is no saved conversation: {error}") from None
        if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("messages"), list):
            raise ChatError(f"{path} is no saved conversation")
        if found["messages"]:
            check_messages(found["messages"])
        self.messages = [as_dict(message) for message in found["messages"]]

    # ---- a turn ----

    def _asked(self, text: str) -> list[dict[str, Any]]:
        return [*self.messages, {"role": "user", "content": text}]

    def _fitting(self, messages: list[dict[str, Any]], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The messages without the oldest turns that there is no room for."""
        if self._overflow == "error":
            return messages
        size = self._llm.context_size
        known = {name: value for name, value in options.items() if name not in NOT_OF_THE_CHAT}
        room = prompt_room(size, split_options(known, options.get("params"))[1].max_tokens)
        turns = [index for index, message in enumerate(messages) if message["role"] == "user"]

        def without(dropped: int) -> list[dict[str, Any]]:
            return messages[: turns[0]] + messages[turns[dropped] :]

        def fits(dropped: int) -> bool:
            return len(self._llm.render_chat(without(dropped), **known).tokens) <= room

        if fits(0):
            return messages
        dropped = bisect_left(range(len(turns)), True, lo=1, key=fits) if len(turns) > 1 else 1
        if dropped == len(turns):
            raise ContextOverflowError(f"the last turn alone does not fit a context of {size} tokens with room for "
                                       "an answer: load with a larger context_size, or say less")
        return without(dropped)


def began(system: str | None) -> list[dict[str, Any]]:
    """The messages of a new conversation."""
    return [] if system is None else [{"role": "system", "content": system}]


def _runs(options: Mapping[str, Any]) -> bool:
    """Whether there are tools that can be run."""
    tools = options.get("tools")
    return isinstance(tools, Sequence) and bool(tools) and all(callable(tool) for tool in tools)


class Conversation(BaseConversation):
    __doc__ = BaseConversation.__doc__

    def send(self, text: str, **options: Any) -> ChatCompletion:
        """Say something and get the answer. Options as in LLM.chat; with `tools` that are functions, as in LLM.run_tools."""
        asked = self._asked(text)
        fitting = self._fitting(asked, options)
        if _runs(options):
            run: ToolRun = self._llm.run_tools(fitting, **options)
            self.messages = [*asked, *run.messages[len(fitting) :]]
            return run.reply
        reply: ChatCompletion = self._llm.chat(fitting, **options)
        self.messages = [*asked, reply.message]
        return reply

    def stream(self, text: str, **options: Any) -> Iterator[ChatChunk]:
        """Say something and get the answer chunk by chunk. Options as in LLM.stream_chat."""
        asked = self._asked(text)
        with self._llm.stream_chat(self._fitting(asked, options), **options) as chunks:
            for chunk in chunks:
                if chunk.completion is not None:
                    self.messages = [*asked, chunk.completion.message]
                yield chunk


class AsyncConversation(BaseConversation):
    __doc__ = BaseConversation.__doc__

    async def _fitted(self, messages: list[dict[str, Any]], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """As _fitting, which renders the chat, without keeping the event loop from its other tasks."""
        import asyncio  # as long to import as all of gollama

        return await asyncio.to_thread(self._fitting, messages, options)

    async def send(self, text: str, **options: Any) -> ChatCompletion:
        """As Conversation.send; with `tools` that are functions, as in AsyncLLM.run_tools."""
        asked = self._asked(text)
        fitting = await self._fitted(asked, options)
        if _runs(options):
            run: ToolRun = await self._llm.run_tools(fitting, **options)
            self.messages = [*asked, *run.messages[len(fitting) :]]
            return run.reply
        reply: ChatCompletion = await self._llm.chat(fitting, **options)
        self.messages = [*asked, reply.message]
        return reply

    async def stream(self, text: str, **options: Any) -> AsyncIterator[ChatChunk]:
        """As Conversation.stream: `async for chunk in conversation.stream(…)`."""
        asked = self._asked(text)
        fitting = await self._fitted(asked, options)
        async with await self._llm.open_stream_chat(fitting, **options) as chunks:
            async for chunk in chunks:
                if chunk.completion is not None:
                    self.messages = [*asked, chunk.completion.message]
                yield chunk
