"""/v1/messages by Anthropic's client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from gollama import AsyncLLM
from tests.support.server import Running, running

ASK: list[Any] = [{"role": "user", "content": "Name a colour."}]
QUESTION: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER: Any = {"name": "get_weather", "description": "The weather of a city.", "input_schema": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}
RAW: Any = {"model": "smollm2", "temperature": 0, "max_tokens": 12}
GREEDY: Any = {"model": "smollm2", "max_tokens": 12, "extra_body": {"temperature": 0}}  # the client has no word for it any more
CALL: list[Any] = [*QUESTION, {"role": "assistant", "content": [
    {"type": "text", "text": "I look."}, {"type": "tool_use", "id": "one", "name": "get_weather", "input": {"city": "Paris"}}]}]


@pytest.fixture(scope="session")
def claude(server: Running) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def events(http: httpx2.Client, **body: Any) -> list[tuple[str, dict[str, Any]]]:
    """Names and data of a stream's events."""
    found = []
    with http.stream("POST", "/v1/messages", json={**RAW, "stream": True, **body}) as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                found.append((name, json.loads(line[6:])))
    return found


def test_an_answer_is_the_engine_s(claude: anthropic.Anthropic, llm: AsyncLLM) -> None:
    reply = claude.messages.create(system="Be brief.", messages=ASK, **GREEDY)
    alone = llm.sync.chat([{"role": "system", "content": "Be brief."}, *ASK], temperature=0, max_tokens=12)
    assert [block.type for block in reply.content] == ["text"] and reply.content[0].text == alone.text
    usage = reply.usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == alone.usage.prompt_tokens
    assert usage.output_tokens == alone.usage.completion_tokens and reply.model == "smollm2" and reply.role == "assistant"


def test_what_was_cached_is_told_apart(claude: anthropic.Anthropic) -> None:
    ask: list[Any] = [{"role": "user", "content": "A long and unheard-of question about colours of the rainbow, of the sea and of cats."}]
    first, second = (claude.messages.create(messages=ask, **GREEDY).usage for _ in range(2))
    assert second.cache_read_input_tokens and second.cache_read_input_tokens > (first.cache_read_input_tokens or 0)
    assert second.input_tokens + second.cache_read_input_tokens == first.input_tokens + (first.cache_read_input_tokens or 0)


def test_a_stream_joined_is_the_answer(claude: anthropic.Anthropic) -> None:
    whole = claude.messages.create(messages=ASK, **GREEDY)
    with claude.messages.stream(messages=ASK, **GREEDY) as stream:
        text = "".join(stream.text_stream)
        final: Any = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


def test_the_events_come_in_their_order(http: httpx2.Client, llm: AsyncLLM) -> None:
    found = events(http, messages=ASK)
    names = [name for name, _ in found]
    assert all(name == data["type"] for name, data in found)
    assert names[:4] == ["message_start", "content_block_start", "ping", "content_block_delta"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"] and set(names[3:-3]) == {"content_block_delta"}
    begun = found[0][1]["message"]
    assert begun["content"] == [] and begun["stop_reason"] is None
    assert begun["usage"]["input_tokens"] == len(llm.render_chat(ASK).tokens)
    assert found[-2][1]["delta"]["stop_reason"] in ("end_turn", "max_tokens") and found[-2][1]["usage"]["output_tokens"] > 0


def test_why_an_answer_ended(claude: anthropic.Anthropic) -> None:
    cut = claude.messages.create(messages=[{"role": "user", "content": "Count from 1 to 100."}], **{**GREEDY, "max_tokens": 3})
    assert (cut.stop_reason, cut.stop_sequence) == ("max_tokens", None)
    text = claude.messages.create(messages=ASK, **GREEDY).content[0].text
    stops: Any = {"stop_sequences": ["never seen", text[2]], **GREEDY}
    stopped = claude.messages.create(messages=ASK, **stops)
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", text[2])
    with claude.messages.stream(messages=ASK, **stops) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, final.stop_sequence) == ("stop_sequence", text[2])


def test_a_full_context_is_told(http: httpx2.Client, lent: Any) -> None:
    long = " ".join(["word"] * 940)
    reply = http.post("/v1/messages", json={**RAW, "max_tokens": 500, "seed": 1, "temperature": 2, "top_k": 0, "top_p": 1,
                                            "messages": [{"role": "user", "content": f"Go on without end: {long}"}]}).json()
    assert reply["stop_reason"] in ("model_context_window_exceeded", "end_turn")
    over = http.post("/v1/messages", json={**RAW, "messages": [{"role": "user", "content": long * 2}]})
    assert over.status_code == 400 and over.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}])
def test_a_tool_is_used_and_its_result_told(claude: anthropic.Anthropic, choice: Any) -> None:
    options: Any = {**GREEDY, "max_tokens": 60, "tools": [WEATHER], "tool_choice": choice}
    reply = claude.messages.create(messages=QUESTION, **options)
    uses = [block for block in reply.content if block.type == "tool_use"]
    assert reply.stop_reason == "tool_use" and [use.name for use in uses] == ["get_weather"]
    assert isinstance(uses[0].input, dict) and set(uses[0].input) == {"city"}
    told: list[Any] = [*QUESTION, {"role": "assistant", "content": reply.content}, {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": uses[0].id, "content": [{"type": "text", "text": "rain"}]},
        {"type": "text", "text": "Well?"}]}]
    assert claude.messages.create(messages=told, tools=[WEATHER], tool_choice={"type": "none"}, **GREEDY).content


def test_a_streamed_use_joined_is_the_use(http: httpx2.Client, claude: anthropic.Anthropic) -> None:
    options: Any = {"tools": [WEATHER], "tool_choice": {"type": "any"}, "max_tokens": 60}
    whole = claude.messages.create(messages=QUESTION, **{**GREEDY, **options})
    found = events(http, messages=QUESTION, **options)
    starts = [data for name, data in found if name == "content_block_start"]
    pieces = [data["delta"] for name, data in found if name == "content_block_delta"]
    assert [start["index"] for start in starts] == list(range(len(starts))) and starts[-1]["content_block"]["name"] == "get_weather"
    assert json.loads("".join(one["partial_json"] for one in pieces if one["type"] == "input_json_delta")) == whole.content[-1].input
    assert next(data["delta"] for name, data in found if name == "message_delta")["stop_reason"] == "tool_use"


def test_an_answer_follows_a_schema(claude: anthropic.Anthropic) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 99}},
              "required": ["name", "age"], "additionalProperties": False}
    reply = claude.messages.create(messages=[{"role": "user", "content": "Invent a person, as JSON."}], **{**GREEDY, "max_tokens": 60},
                                   output_config={"format": {"type": "json_schema", "schema": schema}})
    found = json.loads(reply.content[0].text)
    assert isinstance(found["name"], str) and isinstance(found["age"], int)


def test_an_answer_that_was_begun_goes_on(claude: anthropic.Anthropic, llm: AsyncLLM) -> None:
    messages: list[Any] = [*ASK, {"role": "assistant", "content": "The colour is"}]
    reply = claude.messages.create(messages=messages, **GREEDY)
    alone = llm.sync.chat(messages, continue_final_message=True, temperature=0, max_tokens=12)
    assert reply.content[0].text == alone.text and not alone.text.startswith("The colour is")


def test_tokens_are_counted(claude: anthropic.Anthropic, llm: AsyncLLM) -> None:
    count = claude.messages.count_tokens(model="smollm2", messages=ASK, system="Be brief.")
    assert count.input_tokens == len(llm.render_chat([{"role": "system", "content": "Be brief."}, *ASK]).tokens)
    assert claude.messages.count_tokens(model="smollm2", messages=ASK, tools=[WEATHER]).input_tokens > count.input_tokens


RESULT: Any = {"type": "tool_result", "tool_use_id": "one", "content": "x"}
IMAGE: Any = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1:1/a.png"}}


@pytest.mark.parametrize(("change", "told"), [
    ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0]: blocks of the type 'image'"),
    ({"messages": [*CALL, {"role": "user", "content": [{**RESULT, "content": [IMAGE]}]}]}, "messages[2].content[0].content[0]"),
    ({"messages": [{"role": "user", "content": [RESULT]}]}, "messages[0].content[0].tool_use_id"),
    ({"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}]}, "messages[0].content[0]: a message of the role"),
    ({"messages": [{"role": "user", "content": [{"type": "song"}]}]}, "messages[0].content[0]"),
    ({"messages": []}, "messages is empty"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": "1"}, "max_tokens"),
    ({"stop_sequences": [""]}, "stop_sequences[0]"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "other"}}, "tool_choice"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 12}}, "thinking.budget_tokens"),
    ({"temperature": -1}, "temperature"),
    ({"top": 1}, "there is no field 'top'"),
])
def test_what_is_wrong_is_told_in_anthropic_s_form(http: httpx2.Client, change: dict[str, Any], told: str) -> None:
    reply = http.post("/v1/messages", json={**RAW, "messages": ASK, **change})
    body = reply.json()
    assert reply.status_code == 400 and body["type"] == "error" and body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"].startswith(told)


def test_errors_are_raised_by_the_client(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(messages=ASK, **{**GREEDY, "model": "other"})
    assert caught.value.type == "not_found_error" and caught.value.request_id
    with pytest.raises(anthropic.BadRequestError):
        with claude.messages.stream(messages=[], **GREEDY):
            pass


def test_a_limit_of_thinking_is_kept_by_a_model_that_does_not_think(claude: anthropic.Anthropic) -> None:
    limited = claude.messages.create(messages=ASK, thinking={"type": "enabled", "budget_tokens": 8}, **GREEDY)
    assert limited.content == claude.messages.create(messages=ASK, **GREEDY).content


def test_thinking_is_a_block_of_its_own(server: Running, source_tree: Path) -> None:
    """A template whose answers begin in the midst of thinking, and a schema that says what is thought."""
    template = source_tree / "models/templates/Qwen-QwQ-32B.jinja"
    with running("smollm2", loading={"context_size": 512, "max_sequences": 2, "threads": 1, "chat_template": template}) as thinking:
        with anthropic.Anthropic(base_url=thinking.url, api_key="none", max_retries=0) as claude:
            options: Any = {**GREEDY, "max_tokens": 40, "thinking": {"type": "enabled", "budget_tokens": 8}}
            whole = claude.messages.create(messages=ASK, **options)
            assert [block.type for block in whole.content] == ["thinking", "text"]
            with claude.messages.stream(messages=ASK, **options) as stream:
                kinds = [event.type for event in stream]
                final = stream.get_final_message()
            assert [block.type for block in final.content] == ["thinking", "text"] and {"thinking", "signature"} <= set(kinds)
            assert [block.to_dict()[block.type] for block in final.content] == [block.to_dict()[block.type] for block in whole.content]
            told: list[Any] = [*ASK, {"role": "assistant", "content": whole.content}, *ASK]
            assert claude.messages.create(messages=told, **options).content
            hidden = claude.messages.create(messages=ASK, **{**options, "thinking": {**options["thinking"], "display": "omitted"}})
            assert hidden.content[0].thinking == "" and hidden.content[1:] == whole.content[1:]
