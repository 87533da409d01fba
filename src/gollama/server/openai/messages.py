"""Messages as OpenAI's clients send them, in the form that gollama checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gollama.server.config import ServerConfig
from gollama.server.errors import ApiError

# what clients send back of an earlier answer, and what has no meaning for a prompt
DROPPED = ("annotations", "audio", "refusal", "function_call", "id", "status", "timings")
MOST_MESSAGES = 2**16  # beyond which nobody looks at them; max_messages is less
MEDIA = {"image_url": "images", "input_image": "images", "image": "images", "input_audio": "audio", "file": "files", "input_file": "files"}


def check_count(messages: Sequence[Any], config: ServerConfig) -> None:
    if len(messages) > config.max_messages:
        raise ApiError(400, f"messages may hold {config.max_messages} at most (max_messages), not {len(messages)}", param="messages",
                       code="too_many")


def cleaned(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what has no meaning here. ApiError for images and other media, which are refused, and never fetched."""
    return [_message(f"messages[{index}]", message) for index, message in enumerate(messages)]


def _message(path: str, message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list):
        content = [_part(f"{path}.content[{index}]", part) for index, part in enumerate(content)]
    kept = {name: value for name, value in message.items() if name not in DROPPED}
    if content is None:
        if message.get("refusal"):
            kept["content"] = message["refusal"]
    else:
        kept["content"] = content
    return kept


def _part(path: str, part: Any) -> Any:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(kind, str):
        return part  # which gollama tells of
    if kind in MEDIA:
        raise ApiError(400, f"{path}: {MEDIA[kind]} are not supported here; send text", param=path, code="unsupported_content")
    if kind == "refusal":
        return {"type": "text", "text": part.get("refusal")}
    if kind in ("text", "input_text", "output_text"):
        return {"type": "text", "text": part.get("text")}
    return part
