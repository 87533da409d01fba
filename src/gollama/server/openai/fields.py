"""The fields that all generating routes share, and what they are in SamplingParams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from gollama.aio import AsyncLLM
from gollama.options import SEED_MAX, SamplingParams
from gollama.server.body import Body
from gollama.server.config import ServerConfig
from gollama.server.errors import ApiError
from gollama.server.openai.schemas import check_grammar

MOST_STOPS = 64
MOST_LOGPROBS = 20
MOST_BIASES = 4096  # entries, and characters of the texts among them
MOST_TOOLS = 128  # which is OpenAI's, too
MOST_BREAKERS, LONGEST_BREAKER = 16, 64  # each is compared with the whole vocabulary, for each answer
LONGEST_ID = 10  # digits

# name in the request, name in SamplingParams
RENAMED = {"typ_p": "typical_p", "dynatemp_range": "dynamic_temperature_range", "dynatemp_exponent": "dynamic_temperature_exponent",
           "n_keep": "keep"}
SAME = ("n", "temperature", "top_p", "top_k", "min_p", "typical_p", "top_n_sigma", "presence_penalty", "frequency_penalty",
        "repeat_penalty", "repeat_last_n", "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n",
        "dry_sequence_breakers", "xtc_probability", "xtc_threshold", "mirostat", "mirostat_tau", "mirostat_eta", "ignore_eos", "grammar",
        "cache_prompt", "overflow", "adapters", "control_vectors")

Bias = dict[str, float] | list[tuple[int | str, float | bool]]


class StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # of sizes, which a server of one's own need not hide


class Generating(Body):
    """OpenAI's fields of sampling, and llama-server's."""

    model: str | None = Field(None, max_length=256)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    n: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Bias | None = None
    # llama-server's
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    typ_p: float | None = None
    top_n_sigma: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: list[str] | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    ignore_eos: bool | None = None
    grammar: str | None = None
    cache_prompt: bool | None = None
    n_predict: int | None = None
    n_keep: int | None = None
    t_max_predict_ms: float | None = None
    timings_per_token: bool | None = None
    # gollama's
    overflow: Literal["error", "truncate", "shift"] | None = None
    adapters: dict[str, float] | None = None
    control_vectors: dict[str, float] | None = None
    # without a meaning for a server of one's own; taken, since clients send them
    user: str | None = None
    metadata: dict[str, Any] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    id_slot: int | None = None

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def token_limit(self) -> tuple[str, int | None]:
        """The field that limits the answer, and what it says."""
        return ("n_predict", self.n_predict) if self.max_tokens is None and self.n_predict is not None else ("max_tokens", self.max_tokens)


class Conversing(Generating):
    """What the routes for conversations share."""

    tools: list[dict[str, Any]] | None = Field(None, max_length=MOST_TOOLS)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)
    store: bool | None = None


def sampling_params(body: Generating, llm: AsyncLLM, config: ServerConfig, **more: Any) -> SamplingParams:
    """What the request asks for, within the server's limits. ApiError, or OptionError with a field's name."""
    values: dict[str, Any] = body.given(*SAME)
    for name, ours in RENAMED.items():
        if getattr(body, name, None) is not None:
            values[ours] = getattr(body, name)
    if body.seed is not None and body.seed != -1:
        values["seed"] = body.seed % (SEED_MAX + 1)
    if body.stop:
        stops = [body.stop] if isinstance(body.stop, str) else body.stop
        if len(stops) > MOST_STOPS:
            raise ApiError(400, f"stop may hold {MOST_STOPS} texts at most", param="stop", code="too_many")
        values["stop"] = stops
    if body.logit_bias:
        values["logit_bias"] = _biases(body.logit_bias, llm)
    check_grammar(body.grammar)
    if (body.n or 1) > config.max_choices:
        raise ApiError(400, f"n must be at most {config.max_choices} (max_choices), not {body.n}", param="n", code="too_many")
    values["max_tokens"] = token_limit(body, llm, config)
    values |= more
    breakers, n = body.dry_sequence_breakers or [], values.get("n", 1)
    if len(breakers) * n > MOST_BREAKERS or any(len(one) > LONGEST_BREAKER for one in breakers):
        raise ApiError(400, f"dry_sequence_breakers may hold {MOST_BREAKERS} texts of {LONGEST_BREAKER} characters at most, for all "
                       "answers (n) together", param="dry_sequence_breakers", code="too_many")
    return SamplingParams(**values)


def token_limit(body: Generating, llm: AsyncLLM, config: ServerConfig) -> int | None:
    """Most tokens of the answer; None: what the context has room for."""
    name, asked = body.token_limit()
    if asked is not None and asked != -1 and config.max_tokens is not None and asked > config.max_tokens:
        raise ApiError(400, f"{name} must be at most {config.max_tokens} here (max_tokens), not {asked}", param=name, code="too_many")
    if asked is not None and asked != -1:
        if asked < 1:
            raise ApiError(400, f"{name} must be at least 1, not {asked}", param=name, code="invalid_value")
        return asked
    if config.max_tokens is None and body.overflow == "shift":
        return llm.sync.context_size  # it would go on without end
    return config.max_tokens


def time_limit(body: Generating, config: ServerConfig) -> float:
    """Seconds."""
    if body.t_max_predict_ms is None or body.t_max_predict_ms <= 0:
        return config.request_timeout
    return min(config.request_timeout, body.t_max_predict_ms / 1000)


def _biases(given: Bias, llm: AsyncLLM) -> Mapping[int, float]:
    """By token id. llama-server's form, a list of pairs, may name texts, and says `false` for "never"."""
    pairs = given.items() if isinstance(given, dict) else given
    letters = 0 if isinstance(given, dict) else sum(len(key) for key, _ in given if isinstance(key, str))
    if max(len(pairs), letters) > MOST_BIASES:
        raise ApiError(400, f"logit_bias may hold {MOST_BIASES} entries at most, and as many characters of texts", param="logit_bias",
                       code="too_many")
    biases: dict[int, float] = {}
    for key, bias in pairs:
        if bias is True:
            raise ApiError(400, "logit_bias: a bias is a number, or false for never", param="logit_bias", code="invalid_value")
        value = float("-inf") if bias is False else bias
        if isinstance(given, dict):
            word = str(key)[:LONGEST_ID]
            if not word.isdecimal():
                raise ApiError(400, f"logit_bias maps token ids to numbers; {word!r} is no token id", param="logit_bias",
                               code="invalid_value")
            biases[int(word)] = value
        elif isinstance(key, int):
            biases[key] = value
        else:
            biases.update(dict.fromkeys(llm.tokenize(key, add_special=False), value))
    if any(token >= llm.sync.model.n_vocab for token in biases):
        raise ApiError(400, f"logit_bias names a token that is not among the {llm.sync.model.n_vocab} of the vocabulary",
                       param="logit_bias", code="invalid_value")
    return biases
