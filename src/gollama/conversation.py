"""A conversation: messages that grow turn by turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from gollama.chat import Message
from gollama.jobs import Stream
from gollama.results import Chunk, Completion


class Chatter(Protocol):
    """Whoever answers: an LLM."""

    def chat(self, messages: Sequence[Message], **options: Any) -> Completion: ...

    def stream_chat(self, messages: Sequence[Message], **options: Any) -> Stream: ...


class Conversation:
    """What was said so far, and the next turn. Made by LLM.conversation.

    Each turn computes only what is new: the turns before it are found in the prefix cache. A turn that fails, or a stream
    that is left before its end, leaves `messages` as they were. One thread at a time.
    """

    def __init__(self, llm: Chatter, messages: list[dict[str, str]]) -> None:
        self._llm = llm
        self.messages = messages

    def send(self, text: str, **options: Any) -> Completion:
        """Say something and get the answer. Options as in LLM.chat."""
        asked = [*self.messages, {"role": "user", "content": text}]
        reply = self._llm.chat(asked, **options)
        self.messages = [*asked, {"role": "assistant", "content": reply.text}]
        return reply

    def stream(self, text: str, **options: Any) -> Iterator[Chunk]:
        """Say something and get the answer chunk by chunk."""
        asked = [*self.messages, {"role": "user", "content": text}]
        parts = []
        with self._llm.stream_chat(asked, **options) as chunks:
            for chunk in chunks:
                parts.append(chunk.text)
                yield chunk
        self.messages = [*asked, {"role": "assistant", "content": "".join(parts)}]

    def fork(self) -> Conversation:
        """Another conversation that begins as this one; what they share is computed once."""
        return Conversation(self._llm, [dict(message) for message in self.messages])
