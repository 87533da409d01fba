"""/v1/chat/completions by OpenAI's client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from gollama import AsyncLLM
from tests.support.answers import wait_until
from tests.support.server import Running, running

ASK: list[Any] = [{"role": "user", "content": "Name a colour."}]
WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "description": "The weather of a city.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
QUESTION: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
GREEDY: Any = {"model": "smollm2", "temperature": 0, "max_tokens": 12}


def test_an_answer_is_the_engine_s(client: openai.OpenAI, llm: AsyncLLM) -> None:
    reply = client.chat.completions.create(messages=ASK, **GREEDY)
    alone = llm.sync.chat(ASK, temperature=0, max_tokens=12)
    assert reply.choices[0].message.content == alone.text and reply.choices[0].finish_reason == "length"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (alone.usage.prompt_tokens, 12)


def test_a_stream_joined_is_the_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(messages=ASK, seed=3, **{**GREEDY, "temperature": 1})
    chunks = list(client.chat.completions.create(messages=ASK, seed=3, stream=True, stream_options={"include_usage": True},
                                                 **{**GREEDY, "temperature": 1}))
    *parts, last, usage = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in parts) == whole.choices[0].message.content
    assert parts[0].choices[0].delta.role == "assistant" and last.choices[0].finish_reason == "length"
    assert usage.choices == [] and usage.usage is not None and usage.usage.completion_tokens == 12
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_seed_decides_and_any_whole_number_is_one(client: openai.OpenAI) -> None:
    options: Any = {**GREEDY, "temperature": 1.5}
    texts = [client.chat.completions.create(messages=ASK, seed=seed, **options).choices[0].message.content
             for seed in (2**40 + 5, 2**40 + 5, 6)]
    assert texts[0] == texts[1] != texts[2]


def test_several_choices_also_in_a_stream(client: openai.OpenAI) -> None:
    options: Any = {"model": "smollm2", "n": 3, "max_tokens": 6, "seed": 1, "extra_body": {"ignore_eos": True}}
    reply = client.chat.completions.create(messages=ASK, **options)
    texts = {choice.index: choice.message.content for choice in reply.choices}
    assert reply.usage is not None and reply.usage.completion_tokens == 18 and len(set(texts.values())) > 1
    streamed = dict.fromkeys(range(3), "")
    for chunk in client.chat.completions.create(messages=ASK, stream=True, **options):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts


def test_log_probabilities(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(messages=ASK, logprobs=True, top_logprobs=3, **GREEDY)
    found = reply.choices[0].logprobs
    assert found is not None and found.content is not None and len(found.content) == 12
    for token in found.content:
        assert token.logprob == token.top_logprobs[0].logprob <= 0 and len(token.top_logprobs) == 3
    assert b"".join(bytes(token.bytes or ()) for token in found.content).decode() == reply.choices[0].message.content
    streamed = [token for chunk in client.chat.completions.create(messages=ASK, logprobs=True, top_logprobs=3, stream=True, **GREEDY)
                for token in (chunk.choices[0].logprobs.content or [] if chunk.choices[0].logprobs else [])]
    assert [token.token for token in streamed] == [token.token for token in found.content]


def test_a_bias_forbids_and_a_stop_ends(client: openai.OpenAI, llm: AsyncLLM) -> None:
    first = client.chat.completions.create(messages=ASK, logprobs=True, **GREEDY).choices[0].logprobs
    assert first is not None and first.content is not None
    token = llm.tokenize(first.content[0].token, add_special=False)[0]
    other = client.chat.completions.create(messages=ASK, logprobs=True, logit_bias={str(token): -100}, **GREEDY).choices[0].logprobs
    assert other is not None and other.content is not None and other.content[0].token != first.content[0].token
    word = first.content[3].token
    stopped = client.chat.completions.create(messages=ASK, stop=[word], **GREEDY).choices[0]
    assert stopped.finish_reason == "stop" and word not in (stopped.message.content or "")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_tool_is_called(client: openai.OpenAI, choice: Any) -> None:
    options: Any = {**GREEDY, "max_tokens": 60, "tools": [WEATHER], "tool_choice": choice}
    reply = client.chat.completions.create(messages=QUESTION, **options).choices[0]
    assert reply.finish_reason == "tool_calls" and reply.message.tool_calls
    call: Any = reply.message.tool_calls[0]
    assert call.function.name == "get_weather" and set(json.loads(call.function.arguments)) == {"city"}
    told = [*QUESTION, reply.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    assert client.chat.completions.create(messages=told, **GREEDY).choices[0].message.content


def test_a_streamed_call_joined_is_the_call(client: openai.OpenAI) -> None:
    options: Any = {**GREEDY, "max_tokens": 60, "tools": [WEATHER], "tool_choice": "required"}
    arguments, names, reasons = "", [], []
    for chunk in client.chat.completions.create(messages=QUESTION, stream=True, **options):
        for delta in chunk.choices[0].delta.tool_calls or []:
            assert delta.function is not None
            names += [delta.function.name] if delta.function.name else []
            arguments += delta.function.arguments or ""
        reasons.append(chunk.choices[0].finish_reason)
    whole: Any = client.chat.completions.create(messages=QUESTION, **options).choices[0].message.tool_calls
    assert names == ["get_weather"] and reasons[-1] == "tool_calls"
    assert json.loads(arguments) == json.loads(whole[0].function.arguments)


def test_an_answer_follows_a_schema(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 99}},
              "required": ["name", "age"], "additionalProperties": False}
    reply = client.chat.completions.create(
        messages=[{"role": "user", "content": "Invent a person, as JSON."}], response_format={"type": "json_schema", "json_schema": {
            "name": "person", "schema": schema, "strict": True}}, **{**GREEDY, "max_tokens": 60})
    found = json.loads(reply.choices[0].message.content or "")
    assert isinstance(found["name"], str) and isinstance(found["age"], int)


def test_json_mode_also_where_a_stop_cuts_it(client: openai.OpenAI) -> None:
    options: Any = {"messages": [{"role": "user", "content": "A colour, as JSON."}], "response_format": {"type": "json_object"}, **GREEDY}
    cut = client.chat.completions.create(stop=['"'], **options).choices[0]
    assert (cut.message.content or "").lstrip().startswith("{") and cut.finish_reason == "stop"


def test_llama_server_s_fields_are_taken(http: httpx2.Client) -> None:
    body = {"messages": ASK, "n_predict": 4, "top_k": 1, "min_p": 0.1, "repeat_penalty": 1.1, "dry_multiplier": 0.5, "mirostat": 0,
            "typ_p": 0.9, "dynatemp_range": 0.1, "cache_prompt": False, "grammar": "root ::= \"yes\"", "seed": -1,
            "logit_bias": [[5, False], ["no", -2.0]]}
    reply = http.post("/v1/chat/completions", json=body).json()
    assert reply["choices"][0]["message"]["content"] == "yes" and reply["timings"]["predicted_n"] >= 1


def test_a_client_that_leaves_frees_the_sequence(server: Running, http: httpx2.Client, llm: AsyncLLM) -> None:
    body = {"messages": ASK, "stream": True, "ignore_eos": True, "max_tokens": 900}
    with http.stream("POST", "/v1/chat/completions", json=body) as stream:
        lines = stream.iter_lines()  # which is kept: forgotten, it would close the stream
        next(lines)
        wait_until(lambda: llm.stats().running == 1)
    wait_until(lambda: llm.stats().running == 0)


def test_a_client_that_waits_no_longer_frees_the_sequence(server: Running, llm: AsyncLLM) -> None:
    with httpx2.Client(base_url=server.url) as impatient:
        with pytest.raises(httpx2.ReadTimeout):
            impatient.post("/v1/chat/completions", json={"messages": ASK, "ignore_eos": True, "max_tokens": 900}, timeout=0.3)
    wait_until(lambda: llm.stats().running == 0)


def test_many_at_once_are_not_mixed(client: openai.OpenAI) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def ask(number: int) -> str:
        text = ""
        grammar = f'root ::= "I am number {number}, and no other."'
        for chunk in client.chat.completions.create(messages=ASK, model="smollm2", stream=True, extra_body={"grammar": grammar}):
            text += chunk.choices[0].delta.content or ""
        return text

    with ThreadPoolExecutor(24) as threads:
        assert list(threads.map(ask, range(24))) == [f"I am number {number}, and no other." for number in range(24)]


def test_tokens_of_thinking_are_told(source_tree: Path) -> None:
    """A template whose answers begin in the midst of thinking."""
    template = str(source_tree / "models/templates/Qwen-QwQ-32B.jinja")
    with running("smollm2", loading={"context_size": 512, "max_sequences": 2, "threads": 1, "chat_template": template}) as thinking:
        with openai.OpenAI(base_url=f"{thinking.url}/v1", api_key="none", max_retries=0) as client:
            limited: Any = {"model": "smollm2", "temperature": 0, "extra_body": {"thinking_budget_tokens": 8, "ignore_eos": True}}
            asked: Any = [{"role": "user", "content": "Is the sky blue?"}]
            whole = client.chat.completions.create(messages=asked, max_tokens=40, n=2, **limited)
            assert whole.usage is not None and whole.usage.completion_tokens_details is not None
            count = whole.usage.completion_tokens_details.reasoning_tokens
            assert count is not None and 2 * 8 <= count < 2 * 20 < whole.usage.completion_tokens
            *_, last = client.chat.completions.create(messages=asked, max_tokens=40, n=2, stream=True,
                                                      stream_options={"include_usage": True}, **limited)
            assert last.usage is not None and last.usage.completion_tokens_details == whole.usage.completion_tokens_details
            limited["extra_body"].pop("thinking_budget_tokens")
            response = client.responses.create(input=asked, max_output_tokens=5, **limited)
            assert response.usage is not None and response.usage.output_tokens_details.reasoning_tokens == 5
