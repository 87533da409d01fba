"""Messages to a prompt's tokens, by the model's own template or one that is given."""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gollama import _native
from gollama.chat._fences import ControlText, free_characters, mapped, texts
from gollama.chat._grammars import either, of_one_call, without_fence, without_preamble
from gollama.chat._tool_prelude import TOOL_PRELUDES
from gollama.chat.json_schema.grammar import mended
from gollama.chat.messages import Message, check_messages
from gollama.chat.options import ChatOptions
from gollama.chat.tools import Tool, check_tool_choice
from gollama.errors import ChatError, ThinkingError
from gollama.model import Model, existing_file

if TYPE_CHECKING:
    from gollama.chat.schemas import Schema

MOST_TEMPLATE_BYTES = 2**22
PROBE = {"tools": [Tool("probe", "", {"type": "object"}).as_dict()], "tool_choice": "required"}

logger = logging.getLogger("gollama")


@dataclass(frozen=True)
class ChatPrompt:
    """A rendered chat.

    `grammar` is what the answer must follow: from its first token on, or where it is lazy from where one of the triggers comes.
    `stops` end the answer; `preserved_tokens` are control tokens that belong to its text. `generation_prompt` is the
    end of the prompt that the grammar reads as the answer's beginning.
    """

    text: str
    tokens: list[int]
    generation_prompt: str
    grammar: str
    grammar_lazy: bool
    grammar_triggers: tuple[Mapping[str, Any], ...]
    stops: tuple[str, ...]
    preserved_tokens: tuple[str, ...]
    format: _native.ChatFormat
    parser: _native.ChatParser
    options: ChatOptions
    schema: Schema | None
    model: Model

    def sampling(self) -> dict[str, Any]:
        """What the sampler is told; see gollama_sampling."""
        return {"grammar": self.grammar, "grammar_lazy": self.grammar_lazy, "grammar_triggers": self.grammar_triggers,
                "preserved_tokens": self.preserved_tokens, "generation_prompt": self.generation_prompt,
                "thinking_start": self.format.thinking_start, "thinking_ends": self.format.thinking_ends,
                "thinking_budget": self.options.thinking_budget, "thinking_message": ""}


def template_source(template: str | os.PathLike[str] | None) -> str | None:
    """The text of a template that is given as Jinja, as a file, or by one of llama.cpp's names. None: the model's own."""
    if template is None:
        return None
    if isinstance(template, str) and ("{" in template or template in _native.builtin_templates()):
        return template
    file = existing_file(template) if isinstance(template, os.PathLike) or Path(template).suffix else None
    if file is None:
        raise ChatError(f"{template!r} is no template: give Jinja text, a file, or one of {', '.join(_native.builtin_templates())}")
    if file.stat().st_size > MOST_TEMPLATE_BYTES:
        raise ChatError(f"{file} is larger than {MOST_TEMPLATE_BYTES} bytes: that is no template")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ChatError(f"{file} is not UTF-8: that is no template") from None


class ChatFormatter:
    """Renders chats for one model and tokenizes the prompt. One thread at a time."""

    def __init__(self, model: Model, template: str | os.PathLike[str] | None = None) -> None:
        self._model = model
        source = template_source(template)
        self._stops: tuple[str, ...] = ()
        self._legacy = source != "chatml" and source in _native.builtin_templates()
        if source is None and model.chat_template() is None:
            logger.warning("%s has no chat template; ChatML is used instead", model.path.name)
            self._stops = ("<|im_end|>",)  # which is no token of such a model
        self._templates: _native.ChatTemplatesHandle = _native.ChatTemplatesHandle(model._handle, source)
        self._tool_templates: _native.ChatTemplatesHandle | None = None
        self._source = self._templates.source
        self._control: ControlText | None = None

    @property
    def closed(self) -> bool:
        return self._templates.closed or (self._tool_templates is not None and self._tool_templates.closed)

    def close(self) -> None:
        if self._tool_templates is not None:
            self._tool_templates.close()
        self._templates.close()

    def format(self, messages: Sequence[Message], options: ChatOptions | None = None) -> ChatPrompt:
        """The prompt, and how its answer is written and read.

        The template's control tokens become tokens; those in the messages and tools stay text. Such text is put
        between two characters that occur in no message and in no template, so that it can be found in the rendered prompt and
        tokenized as plain text. ChatError where the template cuts messages in a way that loses one of the two.
        """
        options = options or ChatOptions()
        checked = check_messages(messages)
        schema = options.wanted()
        request = self._request(checked, options, schema)
        rendered, grammar, lazy = self._rendered(checked, request, options)
        found = rendered.format
        if options.thinking_budget >= 0 and not found.thinking_ends:
            raise ThinkingError("thinking is a number of tokens, and the template of this model has no thinking to limit")
        tokens = self._tokens(checked, request, rendered.prompt)
        closing = self._closing(rendered) if options.choices else ""  # of them none is a thought
        tokens += self._model.tokenize(closing, add_special=False, parse_special=True) if closing else []
        return ChatPrompt(rendered.prompt + closing, tokens, rendered.generation_prompt, mended(grammar), lazy,
                          found.grammar_triggers if lazy else (), found.stops + self._stops,
                          found.preserved_tokens, found, rendered.parser, options, schema, self._model)

    # ---- rendering ----

    def _templates_for(self, request: Mapping[str, Any]) -> _native.ChatTemplatesHandle:
        """The templates; for requests with tools, if these know none, others that do."""
        if "tools" not in request:
            return self._templates
        if self._tool_templates is None:
            self._tool_templates = self._templates if _knows_tools(self._templates) else self._told_of_tools()
        return self._tool_templates

    def _told_of_tools(self) -> _native.ChatTemplatesHandle:
        logger.info("the chat template of %s knows no tools; the first message tells of them", self._model.path.name)
        for prelude in TOOL_PRELUDES:
            templates = _native.ChatTemplatesHandle(self._model._handle, prelude + self._source)
            if _knows_tools(templates):
                return templates
            templates.close()
        raise ChatError("the template of this model knows no tools, and cannot be told of them")

    def _request(self, messages: list[dict[str, Any]], options: ChatOptions, schema: Schema | None) -> dict[str, Any]:
        """The request as gollama_chat_render takes it."""
        thinking = options.thinking is not False and not options.choices
        request: dict[str, Any] = {"enable_thinking": thinking, "add_generation_prompt": options.add_generation_prompt}
        if self._legacy:
            self._check_legacy(messages, options)
            request["use_jinja"] = False
        if options.template_kwargs:
            request["template_kwargs"] = dict(options.template_kwargs)
        if options.checked_tools:
            request["tools"] = [tool.as_dict() for tool in options.checked_tools]
            request["tool_choice"] = check_tool_choice(options.tool_choice, options.checked_tools)[0]
            if options.parallel_tool_calls is not None:
                request["parallel_tool_calls"] = options.parallel_tool_calls
        if schema is not None:
            request["json_schema"] = schema.grammar_schema
        if options.continue_final_message:
            if messages[-1]["role"] != "assistant" or messages[-1].get("tool_calls"):
                raise ChatError("continue_final_message: the last message must be an assistant's, without calls of tools")
            part = options.continue_final_message
            request["continue_final_message"] = "reasoning_content" if part == "reasoning" else part
            request["add_generation_prompt"] = False
        return request

    @staticmethod
    def _closing(rendered: _native.Rendered) -> str:
        """What ends the thinking that the prompt has opened, if it has."""
        start, ends = rendered.format.thinking_start.strip(), rendered.format.thinking_ends
        return ends[0] if start and ends and rendered.prompt.rstrip().endswith(start) else ""

    @staticmethod
    def _check_legacy(messages: list[dict[str, Any]], options: ChatOptions) -> None:
        asked = options.checked_tools or options.template_kwargs or options.continue_final_message
        if asked or any("tool_calls" in one for one in messages):
            raise ChatError("llama.cpp's built-in templates know no tools, no template_kwargs and no continue_final_message: "
                            "give the template's Jinja text")

    def _rendered(self, messages: list[dict[str, Any]], request: dict[str, Any],
                  options: ChatOptions) -> tuple[_native.Rendered, str, bool]:
        """The prompt with what reads the answer, the grammar, and whether that waits for a trigger."""
        templates = self._templates_for(request)
        choice = request.get("tool_choice", "none")
        if choice == "none":
            rendered = templates.render(messages, request)
            return rendered, rendered.format.grammar, rendered.format.grammar_lazy
        if templates is not self._templates:  # a model that was not made for tools repeats itself without end
            request.setdefault("parallel_tool_calls", False)
        named = check_tool_choice(options.tool_choice, options.checked_tools)[1]
        schema = request.pop("json_schema", None)
        if choice == "auto" and schema is None:
            rendered = templates.render(messages, request)
            return rendered, self._call_grammar(rendered, request), rendered.format.grammar_lazy
        # the prompt tells of all tools, the grammar of one where that is named
        offered = [tool for tool in request["tools"] if named in (None, tool["function"]["name"])]
        calls = templates.render(messages, {**request, "tools": offered, "tool_choice": "required"})
        grammar = without_preamble(self._call_grammar(calls, request))
        if choice == "required":
            return calls._replace(prompt=templates.render(messages, request).prompt), grammar, False
        # either calls of tools, or an answer by the schema: llama.cpp knows a grammar for each, but not for both
        answer = templates.render(messages, {**request, "tool_choice": "none", "json_schema": schema})
        return templates.render(messages, request), either(grammar, without_fence(answer.format.grammar)), False

    @staticmethod
    def _call_grammar(rendered: _native.Rendered, request: Mapping[str, Any]) -> str:
        grammar = rendered.format.grammar
        return grammar if request.get("parallel_tool_calls", True) else of_one_call(grammar)

    # ---- tokens ----

    def _tokens(self, messages: list[dict[str, Any]], request: dict[str, Any], prompt: str) -> list[int]:
        if self._control is None:
            self._control = ControlText(self._model)
        control = self._control
        outside = "\n".join(texts([messages, request.get("tools", []), request.get("template_kwargs", {})]))
        if not control.occurs(outside):
            return self._model.tokenize(prompt, parse_special=True)
        opening, closing = itertools.islice(free_characters(outside, self._source), 2)

        def fenced(text: str) -> str:
            return control.fenced(text, opening, closing)

        marked = {name: mapped(value, fenced) if name in ("tools", "template_kwargs") else value for name, value in request.items()}
        fenced_prompt = self._templates_for(request).render(mapped(messages, fenced), marked).prompt
        signs = [character for character in fenced_prompt if character in (opening, closing)]
        parts = re.split(f"[{opening}{closing}]", fenced_prompt)
        if signs != [opening, closing] * (len(signs) // 2) or "".join(parts) != prompt:
            raise ChatError("a message holds the text of a control token, and the model's template cuts messages so that it "
                            "cannot be told from a real one: take it out of the message")
        return [token for index, part in enumerate(parts)
                for token in self._model.tokenize(part, add_special=index == 0, parse_special=index % 2 == 0)]


def _knows_tools(templates: _native.ChatTemplatesHandle) -> bool:
    try:
        return bool(templates.render([{"role": "user", "content": "?"}], PROBE).format.grammar)
    except ChatError:
        return False
