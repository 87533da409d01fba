"""A conversation: messages that grow turn by turn."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from gollama.chat import Message, as_dict
from gollama.chat.messages import check_messages
from gollama.errors import ChatError, ContextOverflowError, OptionError
from gollama.jobs import Stream
from gollama.results import ChatChunk, ChatCompletion
from gollama.tool_loop import ToolRun

OVERFLOWS = ("error", "drop_turns")
NOT_RENDERED = ("params", "priority", "timeout", "max_rounds", "approve")
FORMAT = "gollama conversation 1"


class Chatter(Protocol):
    """Whoever answers: an LLM."""

    @property
    def context_size(self) -> int: ...

    def chat(self, messages: Sequence[Message], **options: Any) -> ChatCompletion: ...

    def stream_chat(self, messages: Sequence[Message], **options: Any) -> Stream[ChatChunk]: ...

    def run_tools(self, messages: Sequence[Message], *, tools: Sequence[Any], **options: Any) -> ToolRun: ...

    def render_chat(self, messages: Sequence[Message], **options: Any) -> Any: ...


class Conversation:
    """What was said so far, and the next turn. Made by LLM.conversation.

    Each turn computes only what is new: the turns before it are found in the prefix cache. A turn that fails, or a stream
    that is left before its end, leaves `messages` as they were. One thread at a time.
    """

    def __init__(self, llm: Chatter, messages: list[dict[str, Any]], overflow: str = "error") -> None:
        if overflow not in OVERFLOWS:
            raise OptionError(f"overflow must be one of {', '.join(map(repr, OVERFLOWS))}, not {overflow!r}")
        self._llm = llm
        self._overflow = overflow
        self.messages = messages

    def send(self, text: str, **options: Any) -> ChatCompletion:
        """Say something and get the answer. Options as in LLM.chat; with `tools` that are functions, as in LLM.run_tools."""
        asked = [*self.messages, {"role": "user", "content": text}]
        fitting, chatting = self._fitting(asked, options)
        tools = options.get("tools")
        if tools and all(callable(tool) for tool in tools):
            run = self._llm.run_tools(fitting, **options)
            self.messages = [*asked, *run.messages[len(fitting) :]]
            return run.reply
        reply = self._llm.chat(fitting, **chatting)
        self.messages = [*asked, reply.message]
        return reply

    def stream(self, text: str, **options: Any) -> Iterator[ChatChunk]:
        """Say something and get the answer chunk by chunk. Options as in LLM.stream_chat."""
        asked = [*self.messages, {"role": "user", "content": text}]
        fitting, chatting = self._fitting(asked, options)
        reply = None
        with self._llm.stream_chat(fitting, **chatting) as chunks:
            for chunk in chunks:
                if chunk.completion is not None:
                    reply = chunk.completion
                    self.messages = [*asked, reply.message]
                yield chunk

    def undo(self) -> str:
        """Take the last turn back, what was said and what was answered; what was said."""
        last = next((index for index in range(len(self.messages) - 1, -1, -1) if self.messages[index]["role"] == "user"), None)
        if last is None:
            raise ChatError("there is no turn to take back")
        said: str = self.messages[last]["content"]
        self.messages = self.messages[:last]
        return said

    def fork(self) -> Conversation:
        """Another conversation that begins as this one; what they share is computed once."""
        return Conversation(self._llm, [dict(message) for message in self.messages], self._overflow)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the messages to a file, as JSON."""
        text = json.dumps({"format": FORMAT, "messages": self.messages}, ensure_ascii=False, indent=1)
        target = Path(path)
        new = target.with_name(f".{target.name}.new")
        new.write_text(text + "\n", encoding="utf-8")
        os.replace(new, target)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take the messages of a file that `save` wrote in place of those there are. ChatError if it is none; then nothing changes."""
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ChatError(f"{path} is no saved conversation: {error}") from None
        if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("messages"), list):
            raise ChatError(f"{path} is no saved conversation")
        if found["messages"]:
            check_messages(found["messages"])
        self.messages = [as_dict(message) for message in found["messages"]]

    # ---- running out of context ----

    def _fitting(self, messages: list[dict[str, Any]], options: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The messages without the oldest turns that there is no room for, and the options."""
        if self._overflow == "error":
            return messages, options
        room = self._llm.context_size - (options.get("max_tokens") or self._llm.context_size // 4)
        known = {name: value for name, value in options.items() if name not in NOT_RENDERED}
        while len(self._llm.render_chat(messages, **known).tokens) > room:
            turns = [index for index, message in enumerate(messages) if message["role"] == "user"]
            if len(turns) < 2:
                raise ContextOverflowError(f"the last turn alone does not fit a context of {self._llm.context_size} tokens with room for "
                                           "an answer: load with a larger context_size, or say less")
            messages = messages[: turns[0]] + messages[turns[1] :]
        return messages, options
