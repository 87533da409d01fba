"""The items of /v1/responses: what comes in as messages, what goes out as items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gollama.results import ChatCompletion
from gollama.server.errors import ApiError
from gollama.server.openai.parts import new_id

Item = dict[str, Any]


def _refused(path: str, what: str, code: str = "invalid_value") -> ApiError:
    return ApiError(400, f"{path}: {what}", param=path, code=code)


# ---- in ----


def messages_of(given: str | Sequence[Item]) -> list[Item]:
    """The request's input as messages. Reasoning, text and calls of one turn become one message."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[Item] = []
    for index, item in enumerate(given):
        _add(messages, f"input[{index}]", item)
    return messages


def _add(messages: list[Item], path: str, item: Item) -> None:
    kind = item.get("type", "message")
    if kind == "message":
        if item.get("role") == "assistant":
            _turn(messages, "content")["content"] = item.get("content")
        else:
            messages.append({"role": item.get("role"), "content": item.get("content")})
    elif kind == "function_call":
        _turn(messages, None).setdefault("tool_calls", []).append({"id": item.get("call_id"), "type": "function", "function": {
            "name": item.get("name"), "arguments": item.get("arguments", "{}")}})
    elif kind == "function_call_output":
        messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")})
    elif kind == "reasoning":
        parts = item.get("content") or item.get("summary") or []
        if not isinstance(parts, list):
            raise _refused(f"{path}.content", "must be a list of parts", "invalid_type")
        text = "".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))
        if text:
            _turn(messages, "reasoning_content")["reasoning_content"] = text
    else:
        raise _refused(f"{path}.type", f"items of the type {str(kind)[:40]!r} are not supported here", "unsupported_content")


def _turn(messages: list[Item], field: str | None) -> Item:
    """The assistant's message that is being put together, if it has no such field yet; else a new one."""
    last = messages[-1] if messages else {}
    begun = last.get("role") == "assistant" and (field is None or (last.get(field) is None and "tool_calls" not in last))
    if not begun:
        messages.append({"role": "assistant", "content": None})
    return messages[-1]


def tools_of(tools: Sequence[Item]) -> list[Item]:
    """Flat descriptions of functions, as chat takes them."""
    found = []
    for index, tool in enumerate(tools):
        if tool.get("type") != "function":
            raise _refused(f"tools[{index}].type", f"tools of the type {str(tool.get('type'))[:40]!r} are not supported here; "
                           "describe a function", "unsupported_tool")
        found.append({"type": "function", "function": {name: tool.get(name) for name in ("name", "description", "parameters")}})
    return found


def choice_of(choice: Any) -> Any:
    """`tool_choice` as chat takes it."""
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice


def format_of(text: Mapping[str, Any] | None) -> Item | None:
    """`text.format` as chat's response_format."""
    given = (text or {}).get("format")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise _refused("text.format", "must be an object")
    if given.get("type") != "json_schema":
        return dict(given)
    return {"type": "json_schema", "json_schema": {name: value for name, value in given.items() if name != "type"}}


# ---- out ----


def reasoning_item(text: str, status: str, item_id: str | None = None) -> Item:
    return {"id": item_id or new_id("rs_"), "type": "reasoning", "summary": [], "status": status,
            "content": [{"type": "reasoning_text", "text": text}] if text else []}


def text_part(text: str, logprobs: Sequence[Any] = ()) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def message_item(text: str | None, status: str, item_id: str | None = None, logprobs: Sequence[Any] = ()) -> Item:
    return {"id": item_id or new_id("msg_"), "type": "message", "role": "assistant", "status": status,
            "content": [] if text is None else [text_part(text, logprobs)]}


def call_item(call_id: str, name: str, arguments: str, status: str, item_id: str | None = None) -> Item:
    return {"id": item_id or new_id("fc_"), "type": "function_call", "call_id": call_id, "name": name, "arguments": arguments,
            "status": status}


def output_of(completion: ChatCompletion, logprobs: Sequence[Any] = ()) -> list[Item]:
    """An answer as items."""
    status = "completed" if completion.finish_reason in ("stop", "tool_calls") else "incomplete"
    items = [reasoning_item(completion.reasoning, status)] if completion.reasoning else []
    if completion.text or not completion.tool_calls:
        items.append(message_item(completion.text, status, logprobs=logprobs))
    return items + [call_item(call.id, call.name, call.arguments_text, status) for call in completion.tool_calls]


def usage_of(completion: ChatCompletion) -> Item:
    """Clients rely on `reasoning_tokens`: it is 0 also where thinking cannot be counted."""
    usage = completion.usage
    return {"input_tokens": usage.prompt_tokens, "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.completion_tokens, "output_tokens_details": {"reasoning_tokens": completion.reasoning_tokens or 0},
            "total_tokens": usage.total_tokens}
