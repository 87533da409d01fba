"""The fields of Ollama's requests, and what its options are in OpenAI's request. A field that it does not know, it ignores."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field

from gollama.server.body import Body
from gollama.server.errors import ApiError
from gollama.server.openai.fields import MOST_LOGPROBS
from gollama.server.openai.messages import MOST_MESSAGES

logger = logging.getLogger("gollama.server")

DURATION = re.compile(r"[+-]?(0|(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))*")
INT, FLOAT = "integer", "float32"

# Ollama's option: its type there, and the field of OpenAI's request (with llama-server's); "" where it says how a model is loaded
OPTIONS: dict[str, tuple[str, str]] = {
    "seed": (INT, "seed"), "num_predict": (INT, "max_tokens"), "num_keep": (INT, "n_keep"), "top_k": (INT, "top_k"),
    "repeat_last_n": (INT, "repeat_last_n"), "mirostat": (INT, "mirostat"), "top_p": (FLOAT, "top_p"), "min_p": (FLOAT, "min_p"),
    "typical_p": (FLOAT, "typical_p"), "temperature": (FLOAT, "temperature"), "repeat_penalty": (FLOAT, "repeat_penalty"),
    "presence_penalty": (FLOAT, "presence_penalty"), "frequency_penalty": (FLOAT, "frequency_penalty"),
    "mirostat_tau": (FLOAT, "mirostat_tau"), "mirostat_eta": (FLOAT, "mirostat_eta"),
    "num_ctx": (INT, ""), "num_batch": (INT, ""), "num_gpu": (INT, ""), "main_gpu": (INT, ""), "num_thread": (INT, ""),
}
CONTEXT = "num_ctx"
MOST_TOLD = 8  # unknown options, in the log


class Lenient(Body):
    """Like Ollama, it passes over a field that it does not know."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False, protected_namespaces=())


class OllamaBody(Lenient):
    """What all requests share."""

    model: str = Field(min_length=1, max_length=256)
    keep_alive: float | str | None = None  # how long a model stays is the pool's matter; checked, without a meaning
    options: dict[str, Any] | None = None


class Function(Lenient):
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class Call(Lenient):
    id: str | None = None
    function: Function


class Message(Lenient):
    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class Answering(OllamaBody):
    """What chat and generate share."""

    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)
    truncate: bool | None = None
    shift: bool | None = None

    @property
    def streams(self) -> bool:
        return self.stream is not False


class ChatBody(Answering):
    messages: list[Message] | None = Field(None, max_length=MOST_MESSAGES)
    tools: list[dict[str, Any]] | None = None


class GenerateBody(Answering):
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[str] | None = None


class EmbedBody(OllamaBody):
    input: str | list[str]
    truncate: bool | None = None
    dimensions: int | None = Field(None, ge=1)


class EmbeddingsBody(OllamaBody):
    prompt: str | None = None


class ShowBody(Lenient):
    model: str | None = Field(None, min_length=1, max_length=256)
    name: str | None = Field(None, min_length=1, max_length=256)
    verbose: bool | None = None


def refused(message: str, param: str, code: str = "invalid_value") -> ApiError:
    return ApiError(400, message, param=param, code=code)


def option_fields(options: Mapping[str, Any] | None, context_size: int | None) -> dict[str, Any]:
    """Ollama's options as fields of OpenAI's request. As there, one that it does not know is told of in the log."""
    fields: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in (options or {}).items():
        if value is None:
            continue
        if name == "stop":
            fields["stop"] = _stops(value)
        elif name in OPTIONS:
            kind, ours = OPTIONS[name]
            number = _number(name, kind, value)
            if ours:
                fields[ours] = number
            elif name == CONTEXT and context_size is not None and number > context_size:
                logger.warning("num_ctx of a request is %d; the model was loaded with a context of %d, which stays", number, context_size)
        else:
            unknown.append(name)
    for name in unknown[:MOST_TOLD]:
        logger.warning("an option of a request is unknown or has no meaning here: %s", ascii(name[:40])[1:-1])
    if fields.get("max_tokens", 1) < 1:  # -1, -2: until the model ends, or the context is full
        del fields["max_tokens"]
    return fields


def _number(name: str, kind: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise refused(f"option {name!r} must be of type {kind}", "options")
    return int(value) if kind == INT else float(value)


def _stops(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise refused("option 'stop' must be of type array of strings", "options")
    return [one for one in value if one]


def check_keep_alive(given: float | str | None) -> None:
    """A number of seconds, or Go's form of a duration: 5m, 1h30m."""
    if isinstance(given, str) and not DURATION.fullmatch(given[:64]):
        raise refused(f"keep_alive: {given[:64]!r} is no duration; 5m, 1h30m or a number of seconds are", "keep_alive")
