"""The fields of /v1/messages and of its content blocks, checked to the last one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gollama.server.body import Body
from gollama.server.openai.messages import MOST_MESSAGES

MOST_BLOCKS = 2**16


class CacheControl(Body):
    """Taken, without a meaning: beginnings of prompts are kept by themselves."""

    type: Literal["ephemeral"]
    ttl: str | None = None
    scope: str | None = None


class TextBlock(Body):
    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None
    citations: list[dict[str, Any]] | None = None


class ThinkingBlock(Body):
    type: Literal["thinking"]
    thinking: str
    signature: str | None = None
    cache_control: CacheControl | None = None


class RedactedThinkingBlock(Body):
    """Another server's secret, which is left out."""

    type: Literal["redacted_thinking"]
    data: str


class ToolUseBlock(Body):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]
    cache_control: CacheControl | None = None
    caller: dict[str, Any] | None = None


class MediaBlock(Body):
    """Images and documents, which are refused, and never fetched."""

    type: Literal["image", "document", "search_result"]
    source: Any = None
    title: Any = None
    context: Any = None
    content: Any = None
    citations: Any = None
    cache_control: CacheControl | None = None


class ToolResultBlock(Body):
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[Annotated[TextBlock | MediaBlock, Field(discriminator="type")]] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


Block = Annotated[TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock | MediaBlock,
                  Field(discriminator="type")]


class InputMessage(Body):
    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[Block], Field(max_length=MOST_BLOCKS)]


class Tool(Body):
    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None
    cache_control: CacheControl | None = None
    strict: bool | None = None  # arguments always follow the schema here
    eager_input_streaming: bool | None = None
    input_examples: list[dict[str, Any]] | None = None
    defer_loading: Literal[False] | None = None
    allowed_callers: list[str] | None = None


class ToolChoice(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Body):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = Field(None, ge=0)
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(Body):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Body):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class CountRequest(Body):
    """What the prompt is made of."""

    model: str | None = Field(None, max_length=256)
    messages: list[InputMessage] = Field(max_length=MOST_MESSAGES)
    system: str | list[TextBlock] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None
    chat_template_kwargs: dict[str, Any] | None = None  # llama-server's


class MessagesRequest(CountRequest):
    """Anthropic's request, with gollama's `seed`."""

    max_tokens: int = Field(ge=1)
    stop_sequences: list[Annotated[str, Field(min_length=1)]] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    # without a meaning for a server of one's own; taken, since clients send them
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None
    context_management: dict[str, Any] | None = None
    diagnostics: dict[str, Any] | None = None
