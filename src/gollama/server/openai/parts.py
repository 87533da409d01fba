"""Pieces of answers that several routes of OpenAI's share."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from gollama.aio import AsyncLLM
from gollama.results import Completion, Timings, TokenLogprob, Usage
from gollama.server.errors import ApiError, openai_form, unavailable
from gollama.server.replies import dumps
from gollama.server.sse import data_event

LEAST_LOGPROB = -9999.0  # OpenAI's word for "as good as never"; JSON has no -inf

FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "timeout": "length"}
DONE = b"data: [DONE]\n\n"


def new_id(prefix: str) -> str:
    return f"{prefix}{secrets.token_hex(12)}"


def finish_reason(reason: str) -> str:
    """OpenAI's word; ApiError for an answer that was cancelled. An answer whose time was up is one of limited length."""
    if reason not in FINISH:
        raise unavailable("the answer was cancelled: the model was unloaded, or the server ends", "unavailable")
    return FINISH[reason]


def usage_object(usages: Sequence[Usage], thinking: Sequence[int | None] = (None,)) -> dict[str, Any]:
    """Of all the choices of a prompt, which counts once. `thinking`: the tokens of each that are, left out where that cannot be told."""
    prompt = max((one.prompt_tokens for one in usages), default=0)
    completion = sum(one.completion_tokens for one in usages)
    found = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
             "prompt_tokens_details": {"cached_tokens": max((one.cached_tokens for one in usages), default=0)}}
    counted = [one for one in thinking if one is not None]
    if len(counted) == len(thinking):
        found["completion_tokens_details"] = {"reasoning_tokens": sum(counted)}
    return found


def timings_object(timings: Timings) -> dict[str, Any]:
    """As llama-server's `timings`."""
    computed, later = timings.prompt_tokens - timings.cached_tokens, max(timings.completion_tokens - 1, 0)
    found = {"cache_n": timings.cached_tokens, "prompt_n": computed, "prompt_ms": timings.prompt_seconds * 1000,
             "prompt_per_token_ms": timings.prompt_seconds * 1000 / computed if computed else 0.0,
             "prompt_per_second": timings.prompt_tokens_per_second, "predicted_n": timings.completion_tokens,
             "predicted_ms": timings.decode_seconds * 1000, "predicted_per_second": timings.decode_tokens_per_second,
             "predicted_per_token_ms": timings.decode_seconds * 1000 / later if later else 0.0,
             "queue_ms": timings.queue_seconds * 1000}
    if timings.drafted_tokens:
        found |= {"draft_n": timings.drafted_tokens, "draft_n_accepted": timings.accepted_tokens}
    return found


def number(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)


def token_text(llm: AsyncLLM, token: int) -> tuple[str, list[int]]:
    data = llm.sync.model.token_bytes(token)
    return data.decode("utf-8", "replace"), list(data)


def chat_logprobs(llm: AsyncLLM, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    """A chat's `logprobs`."""
    def entry(token: int, logprob: float) -> dict[str, Any]:
        text, data = token_text(llm, token)
        return {"id": token, "token": text, "logprob": number(logprob), "bytes": data}

    return {"content": [{**entry(one.token, one.logprob), "top_logprobs": [entry(*pair) for pair in one.top]} for one in logprobs],
            "refusal": None}


def text_logprobs(llm: AsyncLLM, logprobs: Sequence[TokenLogprob | int], offset: int) -> dict[str, Any]:
    """A completion's `logprobs`; a bare token is a prompt's first, which nothing comes before. `offset`: characters before it."""
    found: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for one in logprobs:
        text = token_text(llm, one if isinstance(one, int) else one.token)[0]
        found["tokens"].append(text)
        found["text_offset"].append(offset)
        offset += len(text)
        if isinstance(one, int):
            found["token_logprobs"].append(None)
            found["top_logprobs"].append(None)
        else:
            found["token_logprobs"].append(number(one.logprob))
            found["top_logprobs"].append({token_text(llm, token)[0]: number(logprob) for token, logprob in one.top})
    return found


def choices_of(completion: Completion) -> Sequence[Any]:
    """One or several."""
    return completion.choices or (completion,)


def error_event(error: ApiError) -> bytes:
    """What OpenAI's clients raise when it comes in mid-stream."""
    return data_event(dumps(openai_form(error)))
