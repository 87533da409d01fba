"""Messages to a prompt's tokens, by the model's own template."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence

from gollama import _native
from gollama.chat.messages import Message, check_messages
from gollama.errors import ChatError
from gollama.model import Model

logger = logging.getLogger("gollama")


class ChatFormatter:
    """Renders messages for one model and tokenizes the prompt. One thread at a time."""

    def __init__(self, model: Model) -> None:
        self._model = model
        if model.chat_template() is None:
            logger.warning("%s has no chat template; ChatML is used instead", model.path.name)
        self._templates = _native.ChatTemplatesHandle(model._handle)
        self._control: re.Pattern[str] | None = None

    def close(self) -> None:
        self._templates.close()

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The prompt as text."""
        return self._render(check_messages(messages), add_generation_prompt)

    def tokenize(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """The prompt as tokens. The template's control tokens become tokens; those in the messages stay text.

        Text in a message that reads like a control token is put between two characters that occur in no message and in
        no template, so that it can be found in the rendered prompt and tokenized as plain text. ChatError where the
        template cuts messages in a way that loses one of the two.
        """
        plain = check_messages(messages)
        fences = self._fences(plain)
        if fences is None:
            return self._model.tokenize(self._render(plain, add_generation_prompt), parse_special=True)
        pattern = self._control_pattern()
        opening, closing = fences
        fenced = [{**message, "content": pattern.sub(lambda match: opening + match[0] + closing, message["content"])} for message in plain]
        prompt = self._render(fenced, add_generation_prompt)
        signs = [character for character in prompt if character in fences]
        if signs != [opening, closing] * (len(signs) // 2):
            raise ChatError("a message holds the text of a control token, and the model's template cuts messages so that it "
                            "cannot be told from a real one: take it out of the message")
        parts = re.split(f"[{opening}{closing}]", prompt)
        return [token for index, part in enumerate(parts)
                for token in self._model.tokenize(part, add_special=index == 0, parse_special=index % 2 == 0)]

    def _render(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        request = {"messages": messages, "add_generation_prompt": add_generation_prompt}
        return str(self._templates.render(request)["prompt"])

    def _fences(self, messages: list[dict[str, str]]) -> tuple[str, str] | None:
        """Two characters to fence with; None if no message holds a control token's text."""
        text = "\n".join(message["content"] for message in messages)
        # the tokenizer itself is the judge of whether there is one, and quicker than a search
        if not any(self._model.is_control(token) for token in set(self._model.tokenize(text, add_special=False, parse_special=True))):
            return None
        template = self._model.chat_template() or ""
        free = (character for character in _noncharacters() if character not in text and character not in template)
        return next(free), next(free)

    def _control_pattern(self) -> re.Pattern[str]:
        if self._control is None:
            texts = sorted(filter(None, self._model.control_tokens.values()), key=len, reverse=True)
            self._control = re.compile("|".join(map(re.escape, texts)))
        return self._control


def _noncharacters() -> Iterator[str]:
    """Code points that Unicode keeps for a program's inner use; past those, private ones without end."""
    yield from map(chr, range(0xFDD0, 0xFDF0))
    yield from map(chr, range(0xF0000, 0x110000))
