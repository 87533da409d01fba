"""llama.cpp's chat templates."""

from __future__ import annotations

import json
from typing import Any

from gollama._native.failures import Failures
from gollama._native.handles import Handle
from gollama._native.library import library
from gollama._native.model import ModelHandle
from gollama._native.text import c_string, decode
from gollama.errors import ChatError


class ChatTemplatesHandle(Handle):
    """Owns a model's parsed chat templates. One thread at a time."""

    exclusive = True

    def __init__(self, model: ModelHandle, source: str | None = None) -> None:
        loaded = library()
        failures = Failures(loaded)
        given = loaded.ffi.NULL if source is None else c_string(source, "the chat template")
        with model.use() as pointer:
            templates = loaded.lib.gollama_chat_templates_new(pointer, given, failures.error)
            failures.check("the chat template cannot be used", ChatError)
            super().__init__("the chat templates", templates, loaded.lib.gollama_chat_templates_free, model)
        self._ffi, self._lib, self._failures = loaded.ffi, loaded.lib, failures

    def render(self, request: dict[str, Any]) -> dict[str, Any]:
        """What gollama_chat_render answers to a request, both in the form that gollama.h states."""
        data = c_string(json.dumps(request, ensure_ascii=True), "the messages")
        with self.use() as templates:
            answer = self._lib.gollama_chat_render(templates, data, self._failures.error)
            self._failures.check("the chat template cannot render these messages", ChatError)
            result: dict[str, Any] = json.loads(decode(self._ffi.string(answer)))
            return result
