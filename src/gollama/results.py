"""What a generation gives back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

FinishReason = Literal["stop", "length", "tool_calls", "cancelled", "timeout"]


class TokenLogprob(NamedTuple):
    """A token's log probability: the natural logarithm of what the model gave it, before any sampler.

    `top` are the likeliest tokens at its place, best first, as many as were asked for: (token, log probability).
    """

    token: int
    text: str
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Usage:
    """Token counts, by OpenAI's names. `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class DeviceUse:
    """A device while something ran, as a DeviceMonitor sampled it: all programs on it, not this one alone."""

    device: str
    peak_memory: int  # bytes
    mean_utilization: float | None  # 0 to 1; None where the driver does not tell


@dataclass(frozen=True)
class Timings:
    """Seconds, measured around the calls into llama.cpp.

    `queue_seconds` is the wait for a place in the batch; `prompt_seconds` runs from there to the first token, which is
    sampled in the same step as the prompt's last one; `decode_seconds` from there to the last. Others in the same batch
    make them longer. `drafted_tokens` were guessed by speculation, `accepted_tokens` of them came true. `devices` is
    empty unless a DeviceMonitor runs meanwhile.
    """

    queue_seconds: float
    prompt_seconds: float
    decode_seconds: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    devices: tuple[DeviceUse, ...] = ()

    @property
    def time_to_first_token(self) -> float:
        return self.queue_seconds + self.prompt_seconds

    @property
    def prompt_tokens_per_second(self) -> float:
        """Prompt tokens that were computed, not found in the cache, over the time they took."""
        return (self.prompt_tokens - self.cached_tokens) / self.prompt_seconds if self.prompt_seconds else 0.0

    @property
    def decode_tokens_per_second(self) -> float:
        """Tokens after the first, over the time they took; 0.0 if there were none."""
        return (self.completion_tokens - 1) / self.decode_seconds if self.decode_seconds and self.completion_tokens > 1 else 0.0


@dataclass(frozen=True)
class Completion:
    """A whole answer. `tokens` are those generated, without the one that ended it.

    `finish_reason`: "stop" (the model ended, or a stop string came), "length" (max_tokens, or the context is full),
    "tool_calls" (the model ended with calls of tools), "cancelled", "timeout". With `n` above 1 this is the first choice, and
    `choices` are all of them, this one too; `usage` counts the prompt once for each. `logprobs` and `prompt_logprobs` are None
    unless they were asked for; the latter begin with the prompt's second token, since nothing comes before the first.
    `stopping_word` is the stop string that came, one of those that were asked for.
    """

    text: str
    tokens: list[int]
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    index: int = 0
    logprobs: list[TokenLogprob] | None = None
    prompt_logprobs: list[TokenLogprob] | None = None
    choices: tuple[Completion, ...] = ()
    stopping_word: str | None = None


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer in the making: whole characters only. The last one has the finish_reason, usage and timings.

    The texts of all chunks joined are the text of the Completion; so are the tokens and the logprobs. `index` tells the choice,
    where there are several.
    """

    text: str
    tokens: list[int]
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    index: int = 0
    logprobs: list[TokenLogprob] | None = None
    stopping_word: str | None = None


@dataclass(frozen=True)
class ToolCall:
    """A call that the model wants made. `arguments_text` is the JSON that the model wrote, `arguments` what it says.

    `error` says why the call cannot be made: a tool that was not offered, arguments that are no JSON object. None: it can.
    Of a call that is made by hand `arguments_text` may be left out.
    """

    id: str
    name: str
    arguments: Mapping[str, Any]
    arguments_text: str = ""
    error: str | None = None

    def __post_init__(self) -> None:
        if not self.arguments_text:
            object.__setattr__(self, "arguments_text", json.dumps(self.arguments, ensure_ascii=False))

    def as_dict(self) -> dict[str, Any]:
        """In OpenAI's form."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments_text}}


@dataclass(frozen=True)
class ToolCallDelta:
    """A piece of a call in the making: `id` and `name` come with the first piece of the call `index`, then ever more `arguments`."""

    index: int
    id: str | None
    name: str | None
    arguments: str


@dataclass(frozen=True)
class ChatCompletion(Completion):
    """An answer to a chat. `text` is what is meant for the user, without `reasoning` and without the calls of tools.

    `reasoning_tokens` are those of the answer's tokens that are thinking, the marks around it included; None where that cannot be told.
    `parsed` is the object of `schema`, None where none was asked for or the answer was cut. `probabilities` tells how likely each
    of `choices` was, where those were given. It may stand among the messages of the next request.
    """

    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    parsed: Any = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    reasoning_tokens: int | None = 0

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message in OpenAI's form, for the next request. Arguments that are no JSON object are left out."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [(call if call.arguments else replace(call, arguments_text="{}")).as_dict() for call in self.tool_calls]
        return message


@dataclass(frozen=True)
class ChatChunk(Chunk):
    """A piece of an answer to a chat. All pieces joined are the ChatCompletion, whose other fields come with the last one."""

    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    completion: ChatCompletion | None = None


@dataclass(frozen=True)
class Score:
    """How likely a text is. `tokens` begin with its second, since nothing comes before the first."""

    tokens: list[TokenLogprob]

    @property
    def logprob(self) -> float:
        """The text's log probability behind its first token: the sum over the tokens."""
        return math.fsum(token.logprob for token in self.tokens)

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log probability of a token."""
        return math.exp(-self.logprob / len(self.tokens)) if self.tokens else math.nan


@dataclass(frozen=True)
class Perplexity:
    """Perplexity over windows of a long text; `error` is its standard error, `n_tokens` how many tokens were scored."""

    value: float
    error: float
    n_tokens: int


@dataclass(frozen=True)
class RerankResult:
    """How well a document answers a query. `index` is its place in the list that was given.

    `score` is what the model says, higher for better: a logit of any size for most models, a probability for some.
    """

    index: int
    score: float
