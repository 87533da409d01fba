"""Messages: checked, whatever form they come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gollama import _native
from gollama.errors import ChatError

Message = Mapping[str, Any]
ROLES = ("system", "user", "assistant", "tool", "developer")


def check_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The messages as plain dicts; ChatError with the path of what is wrong."""
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise ChatError(f"messages must be a list of dicts with 'role' and 'content', not {type(messages).__name__}")
    if not messages:
        raise ChatError("messages is empty: there is nothing to answer")
    return [_check_message(f"messages[{index}]", message) for index, message in enumerate(messages)]


def _check_message(path: str, message: Message) -> dict[str, str]:
    if not isinstance(message, Mapping):
        raise ChatError(f"{path} must be a dict with 'role' and 'content', not {type(message).__name__}")
    role = message.get("role")
    if role not in ROLES:
        raise ChatError(f"{path}.role must be one of {', '.join(ROLES)}, not {role!r}")
    content = message.get("content")
    if not isinstance(content, str):
        raise ChatError(f"{path}.content must be a str, not {type(content).__name__}")
    unknown = sorted(set(message) - {"role", "content"}, key=str)
    if unknown:
        raise ChatError(f"{path}.{unknown[0]} is not a field of a message; there are: role, content")
    _native.utf8(content, f"{path}.content")
    return {"role": role, "content": content}
