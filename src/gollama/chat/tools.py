"""Tools that a model may call: OpenAI's dicts, or plain Python functions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gollama import _native
from gollama.errors import ChatError

NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
CHOICES = ("auto", "none", "required")
DEEPEST = 64  # nesting of a schema; llama.cpp walks it recursively


@dataclass(frozen=True)
class Tool:
    """A tool. `call` runs it with checked arguments; None: the caller runs it."""

    name: str
    description: str
    parameters: Mapping[str, Any]  # a JSON schema of an object
    call: Callable[[Mapping[str, Any]], Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """In OpenAI's form."""
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}}


def check_tools(tools: Sequence[Any] | None) -> tuple[Tool, ...]:
    """The tools; ChatError with the path of what is wrong."""
    if tools is None:
        return ()
    if isinstance(tools, (str, bytes, Mapping)) or not isinstance(tools, Sequence):
        raise ChatError(f"tools must be a list of dicts or functions, not {type(tools).__name__}")
    checked = tuple(_tool(f"tools[{index}]", tool) for index, tool in enumerate(tools))
    names = [tool.name for tool in checked]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ChatError(f"tools[{index}] has the name {name!r} of another one")
    return checked


def _tool(path: str, tool: Any) -> Tool:
    if isinstance(tool, Tool):
        return tool
    if callable(tool) and not isinstance(tool, Mapping):
        return _from_function(path, tool)
    if not isinstance(tool, Mapping):
        raise ChatError(f"{path} must be a dict in OpenAI's form or a function, not {type(tool).__name__}")
    if tool.get("type", "function") != "function" or not isinstance(tool.get("function"), Mapping):
        raise ChatError(f"{path} must be {{'type': 'function', 'function': {{'name': …, 'description': …, 'parameters': …}}}}")
    function = tool["function"]
    name, description = function.get("name"), function.get("description") or ""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ChatError(f"{path}.function.name must be 1 to 128 letters, digits, _, . or -, not {name!r}")
    if not isinstance(description, str):
        raise ChatError(f"{path}.function.description must be a str, not {type(description).__name__}")
    _native.utf8(description, f"{path}.function.description")
    parameters = function.get("parameters")
    return Tool(name, description, {"type": "object", "properties": {}} if parameters is None else _parameters(path, parameters))


def _from_function(path: str, function: Callable[..., Any]) -> Tool:
    from gollama.chat.functions import Function

    try:
        made = Function.of(function)
    except (TypeError, ValueError) as error:
        raise ChatError(f"{path}: {error}") from None
    return Tool(made.name, made.description, made.parameters, made.call)


def _parameters(path: str, parameters: Any) -> Mapping[str, Any]:
    path += ".function.parameters"
    if not isinstance(parameters, Mapping):
        raise ChatError(f"{path} must be a JSON schema, a dict, not {type(parameters).__name__}")
    try:
        found: dict[str, Any] = json.loads(json.dumps(parameters))  # with texts for keys, and not to be changed by others
    except (TypeError, ValueError, RecursionError) as error:
        raise ChatError(f"{path} cannot be written as JSON: {error}") from None
    if found.get("type", "object") != "object":
        raise ChatError(f"{path}.type must be 'object', not {found['type']!r}")
    if _depth(found) > DEEPEST:
        raise ChatError(f"{path} is nested deeper than {DEEPEST}")
    return found


def _depth(value: Any) -> int:
    if isinstance(value, Mapping):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, (list, tuple)) else 0


def check_tool_choice(choice: Any, tools: Sequence[Tool]) -> tuple[str, str | None]:
    """llama.cpp's word for the choice, and the one tool that it names."""
    name = choice
    if isinstance(choice, Mapping):  # OpenAI's {"type": "function", "function": {"name": …}}
        function = choice.get("function")
        name = function.get("name") if choice.get("type") == "function" and isinstance(function, Mapping) else None
    elif isinstance(choice, str) and choice in CHOICES:
        if choice == "required" and not tools:
            raise ChatError("tool_choice is 'required', and there are no tools")
        return choice, None
    if not isinstance(name, str) or name not in [tool.name for tool in tools]:
        offered = ", ".join(tool.name for tool in tools) or "none"
        raise ChatError(f"tool_choice must be one of {', '.join(CHOICES)}, or name a tool ({offered}), not {choice!r}")
    return "required", name
