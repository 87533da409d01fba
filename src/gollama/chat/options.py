"""What a chat is asked for beside its messages."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gollama._options import INT32_MAX, record
from gollama.chat._json_state import DEEPEST, nesting
from gollama.chat.tools import Tool, check_tool_choice, check_tools
from gollama.errors import ChatError, OptionError
from gollama.options import SamplingParams

if TYPE_CHECKING:
    from gollama.chat.schemas import Schema

CONTINUATIONS = (False, True, "content", "reasoning")


@dataclass(frozen=True)
class ChatOptions:
    """How a chat is rendered and its answer read.

    `tools`: dicts in OpenAI's form, or Python functions, whose name, docstring and type hints tell what the model needs.
    `tool_choice`: "auto", "none", "required", or the name of the tool that must be called. `parallel_tool_calls`: several calls in
    one answer; None: where the template can.
    `schema`: the answer is JSON of this JSON schema, pydantic model, dataclass, TypedDict, enum or type; `response_format` says it
    in OpenAI's form. `choices`: the answer is one of these texts, without thinking.
    `thinking`: False: none, where the template can say so; a number: at most so many tokens of it; None or True: as the model likes.
    `template_kwargs`: further variables of the template. `add_generation_prompt`: the prompt ends with what opens an answer.
    `continue_final_message`: the answer goes on where the last message, an assistant's, ends; "content" or "reasoning" tells which
    part of it.
    """

    tools: Sequence[Any] | None = None
    tool_choice: Any = "auto"
    parallel_tool_calls: bool | None = None
    schema: Any = None
    response_format: Mapping[str, Any] | None = None
    choices: Sequence[str] = ()
    thinking: bool | int | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    add_generation_prompt: bool = True
    continue_final_message: bool | str = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools", check_tools(self.tools))
        object.__setattr__(self, "choices", _choices(self.choices))
        check_tool_choice(self.tool_choice, self.checked_tools)
        if (self.schema is not None) + (self.response_format is not None) + bool(self.choices) > 1:
            raise OptionError("schema, response_format and choices exclude each other")
        if self.choices and self.tools:
            raise OptionError("choices and tools exclude each other")
        if self.choices and self.thinking:
            raise OptionError("choices excludes thinking: only the given texts are weighed")
        if self.parallel_tool_calls is not None and not isinstance(self.parallel_tool_calls, bool):
            raise OptionError(f"parallel_tool_calls must be a bool or None, not {self.parallel_tool_calls!r}")
        if not isinstance(self.add_generation_prompt, bool):
            raise OptionError(f"add_generation_prompt must be a bool, not {self.add_generation_prompt!r}")
        _check_thinking(self.thinking)
        if not isinstance(self.continue_final_message, (bool, str)) or self.continue_final_message not in CONTINUATIONS:
            raise OptionError(f"continue_final_message must be one of {CONTINUATIONS}, not {self.continue_final_message!r}")
        object.__setattr__(self, "template_kwargs", _kwargs(self.template_kwargs))

    @property
    def checked_tools(self) -> tuple[Tool, ...]:
        return self.tools  # type: ignore[return-value]

    @property
    def thinking_budget(self) -> int:
        """Tokens; -1: no limit."""
        return -1 if self.thinking is None or isinstance(self.thinking, bool) else self.thinking

    def wanted(self) -> Schema | None:
        """The schema of the answer."""
        if self.schema is None and self.response_format is None:
            return None
        from gollama.chat.schemas import Schema

        return Schema.from_response_format(self.response_format) if self.schema is None else Schema.of(self.schema)


def _choices(choices: Any) -> tuple[str, ...]:
    if choices is None:
        return ()
    if isinstance(choices, (str, bytes)) or not isinstance(choices, Sequence) or not all(isinstance(one, str) and one for one in choices):
        raise OptionError(f"choices must be a list of texts that are not empty, not {choices!r}")
    if len(set(choices)) < len(choices):
        raise OptionError("choices has the same text twice")
    return tuple(choices)


def _check_thinking(thinking: Any) -> None:
    if thinking is not None and not isinstance(thinking, bool) and (not isinstance(thinking, int) or not 0 <= thinking <= INT32_MAX):
        raise OptionError(f"thinking must be True, False, or a number of tokens, not {thinking!r}")


def _kwargs(kwargs: Any) -> dict[str, Any]:
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
        raise OptionError(f"template_kwargs must be a dict with names as keys, not {kwargs!r}")
    try:
        text = json.dumps(dict(kwargs))
    except (TypeError, ValueError, RecursionError) as error:
        raise ChatError(f"template_kwargs cannot be written as JSON: {error}") from None
    if nesting(text) > DEEPEST:
        raise ChatError(f"template_kwargs is nested deeper than {DEEPEST}")
    found: dict[str, Any] = json.loads(text)  # with texts for keys
    return found


def streamed(options: ChatOptions) -> ChatOptions:
    """The same; OptionError for what has no stream."""
    if options.choices:
        raise OptionError("an answer out of choices does not come piece by piece: use chat")
    return options


def split_options(options: Mapping[str, Any], params: SamplingParams | None) -> tuple[ChatOptions, SamplingParams]:
    """The chat's options, and those of sampling."""
    names = {one.name for one in dataclasses.fields(ChatOptions)}
    chat = ChatOptions(**{name: value for name, value in options.items() if name in names})
    sampling = record(SamplingParams, params, {name: value for name, value in options.items() if name not in names}, "params")
    if chat.choices:
        for name, nothing in (("grammar", None), ("n", 1), ("logprobs", None), ("prompt_logprobs", None)):
            if getattr(sampling, name) != nothing:
                raise OptionError(f"choices excludes {name}: nothing is generated, and each choice's probability is told")
    return chat, sampling
