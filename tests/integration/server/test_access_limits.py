"""Limits and quotas of keys, by requests over loopback to a miniature model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.support.access import CHAT, LOADING, OWN, SECRET, TEXT, Site, ask, bearer, refused, site
from tests.support.answers import wait_until
from tests.support.server import running


def test_requests_are_limited(guarded: Site) -> None:
    key = guarded.key("few", requests_per_minute=2)
    replies = [guarded.post(key) for _ in range(3)]
    assert [reply.headers["x-ratelimit-remaining-requests"] for reply in replies] == ["1", "0", "0"]
    assert refused(replies[2]) == (429, "rate_limit_exceeded") and 1 <= int(replies[2].headers["retry-after"]) <= 30
    assert replies[0].headers["x-ratelimit-limit-requests"] == "2"
    assert re.fullmatch(r"1m0s|[0-9]+s", replies[2].headers["x-ratelimit-reset-requests"])
    assert guarded.http.get("/v1/models", headers=bearer(key)).status_code == 200  # which costs nothing
    with openai.OpenAI(base_url=f"{guarded.server.url}/v1", api_key=key, max_retries=0) as client, pytest.raises(openai.RateLimitError):
        client.completions.create(model="tiny", prompt="a")


def test_tokens_are_limited_also_those_of_embeddings(guarded: Site) -> None:
    for name, path in (("some-text", TEXT), ("some-chat", CHAT)):
        key = guarded.key(name, tokens_per_minute=10)
        fields = {"messages": [{"role": "user", "content": "hello there"}], "prompt": None} if path == CHAT else {}
        body = {name: value for name, value in ask(max_tokens=20, **fields).items() if value is not None}
        assert guarded.http.post(path, headers=bearer(key), json=body).status_code == 200
        reply = guarded.http.post(path, headers=bearer(key), json=body)
        assert refused(reply) == (429, "rate_limit_exceeded") and "tokens_per_minute" in reply.json()["error"]["message"]
        assert reply.headers["x-ratelimit-remaining-tokens"] == "0" and int(reply.headers["retry-after"]) > 60
    key = guarded.key("some-embeddings", tokens_per_minute=10)
    embed = {"input": "a longer text to embed"}
    first = guarded.http.post("/v1/embeddings", headers=bearer(key), json=embed)
    assert first.status_code == 200, first.text
    assert refused(guarded.http.post("/v1/embeddings", headers=bearer(key), json=embed)) == (429, "rate_limit_exceeded")


@pytest.mark.parametrize("path", [TEXT, CHAT, "/v1/responses"])
def test_a_stream_ends_with_an_error_when_the_quota_does(path: str, guarded: Site) -> None:
    name = f"stream {path}"
    key = guarded.key(name, tokens_per_day=60)
    asked: dict[str, dict[str, Any]] = {TEXT: {"prompt": "a"}, CHAT: {"messages": [{"role": "user", "content": "a"}]},
                              "/v1/responses": {"input": "a"}}
    fields = asked[path]
    length = "max_output_tokens" if "responses" in path else "max_tokens"
    body = {**fields, length: 1900, "ignore_eos": True, "stream": True}
    with guarded.http.stream("POST", path, headers=bearer(key), json=body) as stream:
        assert stream.status_code == 200
        lines = [line for line in stream.iter_lines() if line.startswith("data: ")]
    last = json.loads(lines[-1][6:] if lines[-1] != "data: [DONE]" else lines[-2][6:])
    assert "insufficient_quota" in json.dumps(last) and "tokens_per_day" in json.dumps(last)
    wait_until(lambda: guarded.server.service.models()[0].llm.stats().running == 0)  # type: ignore[union-attr]
    reply = guarded.http.post(path, headers=bearer(key), json=fields)
    assert refused(reply) == (429, "insufficient_quota") and reply.headers["x-ratelimit-remaining-tokens-day"] == "0"
    used = guarded.used(name)
    assert 60 <= used["prompt_tokens"] + used["completion_tokens"] < 300 and used["errors"] >= 1


def test_an_answer_at_once_is_as_long_as_the_quota(guarded: Site) -> None:
    key = guarded.key("at-once", tokens_per_day=50)
    reply = guarded.post(key, prompt="a", max_tokens=None).json()
    assert reply["usage"]["total_tokens"] == 50 and reply["choices"][0]["finish_reason"] == "length"
    assert refused(guarded.post(key)) == (429, "insufficient_quota")


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_refused_costs_nothing(guarded: Site, stream: bool) -> None:
    key = guarded.key(f"refused {stream}", tokens_per_day=5000)
    for fields, code in (({"prompt": "a b" * 3000}, "context_length_exceeded"), ({"grammar": "root ::= ("}, "invalid_value")):
        assert refused(guarded.post(key, stream=stream, **fields)) == (400, code)
    assert guarded.post(key, max_tokens=1).headers["x-ratelimit-remaining-tokens-day"] == "5000"


def test_who_leaves_pays_for_what_was_computed(guarded: Site) -> None:
    key = guarded.key("leaver", tokens_per_day=1000)
    with guarded.http.stream("POST", TEXT, headers=bearer(key), json=ask(max_tokens=1500, stream=True)) as stream:
        lines = stream.iter_lines()
        for _ in range(6):
            next(lines)
    used = guarded.used("leaver")
    assert used["completion_tokens"] >= 2 and used["prompt_tokens"] > 5


def test_who_does_not_wait_for_a_whole_answer_pays_as_well(guarded: Site) -> None:
    key = guarded.key("impatient", tokens_per_day=10000)
    with pytest.raises(httpx2.TimeoutException):
        guarded.http.post(TEXT, headers=bearer(key), json=ask(max_tokens=1500, prompt=[SECRET] * 2), timeout=0.3)
    used = guarded.used("impatient")
    assert used["completion_tokens"] >= 2 and used["prompt_tokens"] > 5
    assert int(guarded.post(key, max_tokens=1).headers["x-ratelimit-remaining-tokens-day"]) <= 10000 - used["completion_tokens"]


def test_a_quota_outlives_the_server(tiny_model: str, tmp_path: Path) -> None:
    with site(tiny_model, tmp_path) as first:
        key = first.key("daily", tokens_per_day=40)
        assert first.post(key, max_tokens=8).status_code == 200
        left = int(first.post(key, max_tokens=1).headers["x-ratelimit-remaining-tokens-day"])
    with site(tiny_model, tmp_path) as second:
        assert int(second.post(key, max_tokens=1).headers["x-ratelimit-remaining-tokens-day"]) < left
        second.post(key, max_tokens=None)
        assert refused(second.post(key)) == (429, "insufficient_quota")


def test_limits_of_the_settings_are_those_of_keys_without(tiny_model: str) -> None:
    with running(f"tiny={tiny_model}", loading=LOADING, api_key=OWN, requests_per_minute=1) as server:
        http = httpx2.Client(base_url=server.url)
        assert [http.post(TEXT, headers=bearer(OWN), json=ask()).status_code for _ in range(2)] == [200, 429]
