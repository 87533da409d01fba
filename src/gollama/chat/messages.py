"""Messages: OpenAI's dicts, records, and answers that are said again, all checked and brought into one form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gollama import _native
from gollama.chat._json_state import DEEPEST, nesting
from gollama.errors import ChatError
from gollama.results import ChatCompletion, ToolCall

ROLES = ("system", "user", "assistant", "tool", "developer")
FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content")
REASONING_NAMES = ("reasoning", "reasoning_content")  # ours, and llama-server's


@dataclass(frozen=True)
class TextPart:
    """A piece of a message's content."""

    text: str


@dataclass(frozen=True)
class SystemMessage:
    content: str | Sequence[TextPart]


@dataclass(frozen=True)
class UserMessage:
    content: str | Sequence[TextPart]
    name: str | None = None


@dataclass(frozen=True)
class AssistantMessage:
    content: str | Sequence[TextPart] | None = None
    reasoning: str | None = None
    tool_calls: Sequence[ToolCall] = ()


@dataclass(frozen=True)
class ToolMessage:
    """What a tool gave back for the call of that id."""

    content: str | Sequence[TextPart]
    tool_call_id: str
    name: str | None = None


Message = Mapping[str, Any] | SystemMessage | UserMessage | AssistantMessage | ToolMessage | ChatCompletion
_ROLE_OF: dict[type, str] = {SystemMessage: "system", UserMessage: "user", AssistantMessage: "assistant", ToolMessage: "tool"}


def as_dict(message: Message) -> dict[str, Any]:
    """A message in OpenAI's form, unchecked; what is None is left out."""
    if isinstance(message, ChatCompletion):
        return message.message
    role = _ROLE_OF.get(type(message))
    fields: dict[str, Any] = dict(message) if isinstance(message, Mapping) else {"role": role, **vars(message)}
    if isinstance(message, AssistantMessage) and not message.tool_calls:
        del fields["tool_calls"]
    return {name: value for name, value in fields.items() if value is not None}


def check_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages as dicts that llama.cpp takes; ChatError with the path of what is wrong."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise ChatError(f"messages must be a list of dicts with 'role' and 'content', not {type(messages).__name__}")
    if not messages:
        raise ChatError("messages is empty: there is nothing to answer")
    checked: list[dict[str, Any]] = []
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        one = _check_message(f"messages[{index}]", message)
        open_calls.update(call["id"] for call in one.get("tool_calls", ()))
        if one["role"] == "tool" and one["tool_call_id"] not in open_calls:
            raise ChatError(f"messages[{index}].tool_call_id is {one['tool_call_id']!r}, and no message before it has a call of that id")
        checked.append(one)
    return checked


def _check_message(path: str, message: Message) -> dict[str, Any]:
    if not isinstance(message, (Mapping, ChatCompletion)) and type(message) not in _ROLE_OF:
        raise ChatError(f"{path} must be a dict with 'role' and 'content', or a message record, not {type(message).__name__}")
    given = as_dict(message)
    role = given.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise ChatError(f"{path}.role must be one of {', '.join(ROLES)}, not {role!r}")
    checked: dict[str, Any] = {"role": role}
    for name in REASONING_NAMES:
        if name in given:
            checked["reasoning_content"] = _text(f"{path}.{name}", given.pop(name))
    for name in ("name", "tool_call_id"):
        if name in given:
            checked[name] = _text(f"{path}.{name}", given[name])
    if "tool_calls" in given:
        checked["tool_calls"] = _calls(f"{path}.tool_calls", given["tool_calls"])
    unknown = sorted(set(given) - set(FIELDS), key=str)
    if unknown:
        raise ChatError(f"{path}.{unknown[0]} is not a field of a message; there are: {', '.join(FIELDS)}")
    _check_fields_of_role(path, checked)
    checked["content"] = _content(f"{path}.content", given.get("content"), optional=bool(checked.get("tool_calls")) or role == "assistant")
    return checked


def _check_fields_of_role(path: str, message: dict[str, Any]) -> None:
    role = message["role"]
    for name, its_role in (("tool_calls", "assistant"), ("reasoning_content", "assistant"), ("tool_call_id", "tool")):
        if name in message and role != its_role:
            raise ChatError(f"{path}.{name} belongs to messages of the role {its_role!r}, not {role!r}")
    if role == "tool" and "tool_call_id" not in message:
        raise ChatError(f"{path}.tool_call_id is missing: a tool's result says which call it answers")


def _text(path: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ChatError(f"{path} must be a str, not {type(value).__name__}")
    _native.utf8(value, path)
    return value


def _content(path: str, value: Any, *, optional: bool) -> Any:
    if value is None and optional:
        return None
    if isinstance(value, str):
        return _text(path, value)
    if isinstance(value, Mapping) or not isinstance(value, Sequence):
        raise ChatError(f"{path} must be a str or a list of parts, not {type(value).__name__}")
    return [_part(f"{path}[{index}]", part) for index, part in enumerate(value)]


def _part(path: str, part: Any) -> dict[str, str]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": _text(f"{path}.text", part.text)}
    if not isinstance(part, Mapping):
        raise ChatError(f"{path} must be a dict with 'type', not {type(part).__name__}")
    if part.get("type") != "text":
        raise ChatError(f"{path}.type is {part.get('type')!r}; this model takes parts of the type 'text' only")
    if set(part) != {"type", "text"}:
        raise ChatError(f"{path} must have 'type' and 'text' and nothing else, not {', '.join(map(str, part))}")
    return {"type": "text", "text": _text(f"{path}.text", part["text"])}


def _calls(path: str, calls: Any) -> list[dict[str, Any]]:
    if isinstance(calls, (str, bytes, Mapping)) or not isinstance(calls, Sequence):
        raise ChatError(f"{path} must be a list, not {type(calls).__name__}")
    return [_call(f"{path}[{index}]", call) for index, call in enumerate(calls)]


def _call(path: str, call: Any) -> dict[str, Any]:
    if isinstance(call, ToolCall):
        call = call.as_dict()
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
        raise ChatError(f"{path} must be a dict with 'id', 'type' and 'function', or a ToolCall")
    if call.get("type", "function") != "function":
        raise ChatError(f"{path}.type must be 'function', not {call['type']!r}")
    function = call["function"]
    arguments = function.get("arguments", "{}")
    if isinstance(arguments, Mapping):
        try:
            arguments = json.dumps(arguments, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ChatError(f"{path}.function.arguments cannot be written as JSON: {error}") from None
    arguments = _text(f"{path}.function.arguments", arguments) or "{}"
    if nesting(arguments) > DEEPEST:
        raise ChatError(f"{path}.function.arguments is nested deeper than {DEEPEST}")
    return {"id": _text(f"{path}.id", call.get("id")), "type": "function", "function": {
        "name": _text(f"{path}.function.name", function.get("name")), "arguments": arguments}}
