"""A request of Anthropic's as a chat of OpenAI's, which is what the engine's side takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gollama.server.anthropic.fields import (
    CountRequest,
    InputMessage,
    MediaBlock,
    MessagesRequest,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolResultBlock,
    ToolUseBlock,
)
from gollama.server.errors import ApiError
from gollama.server.openai.chat import ChatRequest

Item = dict[str, Any]
ALLOWED = {"user": (TextBlock, ToolResultBlock, MediaBlock), "system": (TextBlock,),
           "assistant": (TextBlock, ThinkingBlock, RedactedThinkingBlock, ToolUseBlock)}


def refused(path: str, what: str, code: str = "invalid_value") -> ApiError:
    return ApiError(400, f"{path}: {what}", param=path, code=code)


def chat_of(body: CountRequest) -> ChatRequest:
    """The same request in OpenAI's words. ApiError names the block that cannot be said so."""
    fields: Item = {"model": body.model, "messages": messages_of(body), "chat_template_kwargs": body.chat_template_kwargs}
    if isinstance(body, MessagesRequest):
        fields |= body.given("max_tokens", "stream", "temperature", "top_p", "top_k", "seed")
        fields["stop"] = body.stop_sequences
    config = body.output_config
    if config is not None:
        fields["reasoning_effort"] = config.effort
        fields["json_schema"] = None if config.format is None else config.format.schema_
    fields |= {**_tools(body), **_thinking(body)}
    if body.messages and body.messages[-1].role == "assistant":
        fields["continue_final_message"] = True
    return ChatRequest.model_construct(**fields)


# ---- messages ----


def messages_of(body: CountRequest) -> list[Item]:
    messages: list[Item] = []
    if body.system is not None:
        system = body.system if isinstance(body.system, str) else [_text_part(block.text) for block in body.system]
        messages.append({"role": "system", "content": system})
    called: set[str] = set()
    for index, message in enumerate(body.messages):
        messages += _said(f"messages[{index}]", message, called)
    return messages


def _text_part(text: str) -> Item:
    return {"type": "text", "text": text}


def _said(path: str, message: InputMessage, called: set[str]) -> list[Item]:
    """A message as one, or several: results of tools are messages of their own, and come first."""
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    results: list[Item] = []
    parts: list[Item] = []
    thought: list[str] = []
    calls: list[Item] = []
    for index, block in enumerate(message.content):
        place = f"{path}.content[{index}]"
        if not isinstance(block, ALLOWED[message.role]):
            raise refused(place, f"a message of the role {message.role} has no block of the type {block.type!r}")
        if isinstance(block, MediaBlock):
            raise _media(place, block)
        if isinstance(block, TextBlock):
            parts.append(_text_part(block.text))
        elif isinstance(block, ThinkingBlock):
            thought.append(block.thinking)
        elif isinstance(block, ToolUseBlock):
            called.add(block.id)
            calls.append({"id": block.id, "type": "function", "function": {"name": block.name, "arguments": json.dumps(block.input)}})
        elif isinstance(block, ToolResultBlock):
            results.append(_result(place, block, called))
    own: Item = {"role": message.role, "content": parts or ""}
    if "".join(thought):
        own["reasoning_content"] = "".join(thought)
    if calls:
        own["tool_calls"] = calls
    return results if results and not parts else [*results, own]


def _result(path: str, block: ToolResultBlock, called: set[str]) -> Item:
    if block.tool_use_id not in called:
        raise refused(f"{path}.tool_use_id", f"no message before has a tool_use of the id {block.tool_use_id[:100]!r}")
    content = block.content if isinstance(block.content, str) else ""
    if isinstance(block.content, list):
        for index, part in enumerate(block.content):
            if isinstance(part, MediaBlock):
                raise _media(f"{path}.content[{index}]", part)
        content = "\n".join(part.text for part in block.content if isinstance(part, TextBlock))
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": f"Error: {content}" if block.is_error else content}


def _media(path: str, block: MediaBlock) -> ApiError:
    return refused(path, f"blocks of the type {block.type!r} are not supported here; send text", "unsupported_content")


# ---- tools and thinking ----


def _tools(body: CountRequest) -> Item:
    choice = body.tool_choice
    if not body.tools:
        if choice is not None and choice.type in ("any", "tool"):
            raise refused("tool_choice", f"the type {choice.type!r} needs tools")
        return {}
    fields: Item = {"tools": _functions(body.tools)}
    if choice is None:
        return fields
    if (choice.name is not None) != (choice.type == "tool"):
        raise refused("tool_choice.name", "is for the type 'tool', which needs it")
    named = {"type": "function", "function": {"name": choice.name}}
    fields["tool_choice"] = {"any": "required", "tool": named}.get(choice.type, choice.type)
    if choice.disable_parallel_tool_use is not None:
        fields["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    return fields


def _functions(tools: Sequence[Tool]) -> list[Item]:
    return [{"type": "function", "function": {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema}}
            for tool in tools]


def _thinking(body: CountRequest) -> Item:
    wish = body.thinking
    if wish is None or wish.type in ("adaptive", "between_tools"):
        return {}
    if wish.type == "disabled":
        return {"reasoning_effort": "none"}
    if wish.budget_tokens is None:
        raise refused("thinking.budget_tokens", "is missing; it says how many tokens thinking may take")
    if isinstance(body, MessagesRequest) and wish.budget_tokens >= body.max_tokens:
        raise refused("thinking.budget_tokens", f"must be less than max_tokens, {body.max_tokens}, since it is part of them")
    return {"thinking_budget_tokens": wish.budget_tokens}
