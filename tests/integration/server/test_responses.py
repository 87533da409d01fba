"""/v1/responses by OpenAI's client."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.support.server import Running

WEATHER: Any = {"type": "function", "name": "get_weather", "description": "The weather of a city.", "strict": True, "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}
GREEDY: Any = {"model": "smollm2", "temperature": 0, "max_output_tokens": 5}


def test_an_answer_is_the_chat_s(client: openai.OpenAI) -> None:
    reply = client.responses.create(input="Name a colour.", instructions="Be brief.", **GREEDY)
    chat = client.chat.completions.create(model="smollm2", temperature=0, max_tokens=5, messages=[
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a colour."}])
    assert reply.output_text == chat.choices[0].message.content and reply.status == "incomplete"
    assert reply.incomplete_details is not None and reply.incomplete_details.reason == "max_output_tokens"
    assert reply.usage is not None and chat.usage is not None and reply.usage.input_tokens == chat.usage.prompt_tokens


def test_a_kept_response_goes_on_and_is_forgotten(client: openai.OpenAI) -> None:
    first = client.responses.create(input="Name a colour.", **GREEDY)
    assert client.responses.retrieve(first.id).output_text == first.output_text
    assert client.responses.input_items.list(first.id).data[0].type == "message"
    second = client.responses.create(input="And another?", previous_response_id=first.id, **GREEDY)
    spoken = client.chat.completions.create(model="smollm2", temperature=0, max_tokens=5, messages=[
        {"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "And another?"}])
    assert second.output_text == spoken.choices[0].message.content
    client.responses.delete(first.id)
    for ask in (lambda: client.responses.retrieve(first.id), lambda: client.responses.delete(first.id),
                lambda: client.responses.create(input="?", previous_response_id=first.id, **GREEDY)):
        with pytest.raises(openai.NotFoundError):
            ask()


def test_only_so_many_are_kept_and_none_that_should_not(client: openai.OpenAI, server: Running) -> None:
    unkept = client.responses.create(input="Hello", store=False, **{**GREEDY, "max_output_tokens": 1})
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unkept.id)
    for _ in range(9):
        client.responses.create(input="Hello", **{**GREEDY, "max_output_tokens": 1})
    assert len(server.service.rooms["responses"]) == 8


def test_the_events_of_a_stream_build_the_response(client: openai.OpenAI) -> None:
    events = list(client.responses.create(input="Name a colour.", stream=True, **GREEDY))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "incomplete"]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    final = events[-1]
    assert final.type == "response.incomplete" and final.response.output_text == text
    assert client.responses.retrieve(final.response.id).output_text == text


def test_a_streamed_call_and_its_result(client: openai.OpenAI) -> None:
    options: Any = {**GREEDY, "max_output_tokens": 60}
    asked: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
    with client.responses.stream(input=asked, tools=[WEATHER], tool_choice="required", **options) as stream:
        *_, last = stream
        reply = stream.get_final_response()
    call: Any = reply.output[0]
    assert last.type == "response.completed" and call.type == "function_call" and set(json.loads(call.arguments)) == {"city"}
    told: Any = [*asked, call.model_dump(exclude_none=True), {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    told[1].pop("parsed_arguments", None)
    assert client.responses.create(input=told, **GREEDY).output_text


def test_an_answer_follows_a_schema(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer", "maximum": 99}}, "required": ["age"],
              "additionalProperties": False}
    reply = client.responses.create(input="How old is she? JSON.", **{**GREEDY, "max_output_tokens": 40}, text={
        "format": {"type": "json_schema", "name": "age", "schema": schema}})
    assert isinstance(json.loads(reply.output_text)["age"], int)


@pytest.mark.parametrize(("fields", "param"), [
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"), ({"background": True}, "background"), ({"n": 2}, "n"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
    ({"input": [{"type": "reasoning", "content": 3}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "file:///etc/passwd"}]}]}, "input"),
])
def test_what_cannot_be(client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(extra_body={"input": "Hello", **fields}, **GREEDY)
    assert error.value.param == param


@pytest.mark.parametrize("stream", [False, True])
def test_a_number_of_any_size_is_told_back(client: openai.OpenAI, stream: bool) -> None:
    with client.responses.with_streaming_response.create(input="Hello", stream=stream, extra_body={"metadata": {"a": 2**70}},
                                                         **{**GREEDY, "max_output_tokens": 1}) as reply:
        assert str(2**70) in reply.read().decode()
