"""llama.cpp's chat templates, and its parsers of what models answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from gollama._native.failures import Failures
from gollama._native.handles import Handle
from gollama._native.library import library
from gollama._native.model import ModelHandle
from gollama._native.text import c_string, decode, utf8
from gollama.errors import ChatError

MOST_FORMATS = 512  # kept; the shim keeps fewer, and numbers them in the order they come


@dataclass(frozen=True)
class ChatFormat:
    """How the answers to a kind of request look: llama.cpp's common_chat_params without the prompt."""

    number: int  # the same for equal formats of one ChatTemplatesHandle; -1: of one request only
    name: str
    grammar: str
    grammar_lazy: bool
    grammar_triggers: tuple[Mapping[str, Any], ...]  # type, value, token
    preserved_tokens: tuple[str, ...]  # control tokens that are part of the answer's text
    stops: tuple[str, ...]
    thinking_start: str
    thinking_ends: tuple[str, ...]
    supports_thinking: bool


class Rendered(NamedTuple):
    """A prompt. `generation_prompt` is the end of it that belongs to the answer, `parser` reads what follows."""

    prompt: str
    generation_prompt: str
    format: ChatFormat
    parser: ChatParser


@lru_cache(maxsize=1)
def builtin_templates() -> tuple[str, ...]:
    """The names of the templates that llama.cpp has code for."""
    loaded = library()
    count = loaded.lib.llama_chat_builtin_templates(loaded.ffi.NULL, 0)
    names = loaded.ffi.new("const char *[]", count)
    loaded.lib.llama_chat_builtin_templates(names, count)
    return tuple(decode(loaded.ffi.string(name)) for name in names)


class ChatTemplatesHandle(Handle):
    """Owns parsed chat templates. One thread at a time."""

    exclusive = True

    def __init__(self, model: ModelHandle | None, source: str | None = None) -> None:
        """The model's own templates, or those of `source`; without a model the special tokens' texts are empty."""
        loaded = library()
        self._ffi, self._lib, self._failures = loaded.ffi, loaded.lib, Failures(loaded)
        self._formats: dict[int, ChatFormat] = {}
        given = loaded.ffi.NULL if source is None else c_string(source, "the chat template")
        if model is None:
            self._own(loaded.ffi.NULL, given, None)
        else:
            with model.use() as pointer:
                self._own(pointer, given, model)

    def _own(self, model: Any, source: Any, parent: ModelHandle | None) -> None:
        templates = self._lib.gollama_chat_templates_new(model, source, self._failures.error)
        self._failures.check("the chat template cannot be used", ChatError)
        super().__init__("the chat templates", templates, self._lib.gollama_chat_templates_free, parent)

    @property
    def source(self) -> str:
        """The template's Jinja text; llama.cpp's own ChatML where the model has none."""
        with self.use() as templates:
            return decode(self._ffi.string(self._lib.gollama_chat_templates_source(templates)))

    def render(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Rendered:
        """The prompt for a request, in the form that gollama_chat_render states."""
        with self.use() as templates:
            return self._render(templates, messages, options)

    def _render(self, templates: Any, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Rendered:
        given = [c_string(json.dumps(part, ensure_ascii=True), "the messages") for part in (messages, options)]
        answer = self._lib.gollama_chat_render(templates, *given, self._failures.error)
        self._failures.check("the chat template cannot render these messages", ChatError)
        result = json.loads(decode(self._ffi.string(answer)))
        number = result["format"]
        if "details" in result:
            fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                                      for name, value in result["details"].items()}
            self._formats[number] = ChatFormat(number, **fields)
            self._formats.pop(number - MOST_FORMATS, None)
        parser = self._lib.gollama_chat_parser_new(templates, self._failures.error)
        self._failures.check()
        return Rendered(result["prompt"], result["generation_prompt"], self._formats[number], ChatParser(parser))


class ChatParser:
    """Reads answers of one format. One thread at a time. It depends on nothing else, and is freed when it is forgotten."""

    def __init__(self, pointer: Any) -> None:
        loaded = library()
        self._ffi, self._lib, self._failures = loaded.ffi, loaded.lib, Failures(loaded)
        self._pointer = loaded.ffi.gc(pointer, self._lib.gollama_chat_parser_free)

    def parse(self, text: str, *, partial: bool) -> dict[str, Any]:
        """content, reasoning_content and tool_calls (name, arguments as text, id) of an answer, or of its beginning.

        ChatError if a whole answer does not have the format.
        """
        data = utf8(text, "the answer")
        answer = self._lib.gollama_chat_parse(self._pointer, data, len(data), partial, self._failures.error)
        self._failures.check("the answer", ChatError)
        result: dict[str, Any] = json.loads(decode(self._ffi.string(answer)))
        return result
