"""/api/… by Ollama's client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import ollama
import pytest

from gollama import AsyncLLM
from gollama.version import __version__
from tests.support import tiny
from tests.support.server import Running, running

ASK: list[Any] = [{"role": "user", "content": "Name a colour."}]
QUESTION: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "description": "The weather of a city.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
GREEDY: Any = {"temperature": 0, "num_predict": 12, "num_ctx": 512}
SECOND = 10**9


@pytest.fixture(scope="session")
def llama(server: Running) -> ollama.Client:
    return ollama.Client(host=server.url, timeout=60)


def test_an_answer_is_the_engine_s(llama: ollama.Client, llm: AsyncLLM) -> None:
    reply = llama.chat("smollm2", ASK, options=GREEDY, keep_alive="5m")
    alone = llm.sync.chat(ASK, temperature=0, max_tokens=12)
    assert reply.message.content == alone.text and reply.model == "smollm2" and reply.done
    assert (reply.prompt_eval_count, reply.eval_count) == (alone.usage.prompt_tokens, alone.usage.completion_tokens)
    assert reply.total_duration and reply.eval_duration and reply.prompt_eval_duration and reply.load_duration is not None
    assert reply.load_duration + reply.prompt_eval_duration + reply.eval_duration <= reply.total_duration < 100 * SECOND


def test_a_stream_joined_is_the_answer(llama: ollama.Client) -> None:
    whole = llama.chat("smollm2:latest", ASK, options=GREEDY)
    *parts, last = llama.chat("smollm2:latest", ASK, options=GREEDY, stream=True)
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert last.done and last.done_reason == whole.done_reason and last.eval_count == whole.eval_count
    assert not any(part.done for part in parts) and last.model == "smollm2:latest"


def test_a_prompt_is_a_message_or_raw(llama: ollama.Client, llm: AsyncLLM) -> None:
    asked = llama.generate("smollm2", "Name a colour.", system="Be brief.", options=GREEDY)
    assert asked.response == llm.sync.chat([{"role": "system", "content": "Be brief."}, *ASK], temperature=0, max_tokens=12).text
    raw = llama.generate("smollm2", "The capital of France is", raw=True, options={**GREEDY, "num_predict": 2})
    alone = llm.sync.generate("The capital of France is", temperature=0, max_tokens=2)
    assert (raw.response, raw.done_reason, raw.eval_count) == (alone.text, "length", 2)
    streamed = list(llama.generate("smollm2", "The capital of France is", raw=True, stream=True, options={**GREEDY, "num_predict": 2}))
    assert "".join(one.response or "" for one in streamed) == alone.text and streamed[-1].done_reason == "length"


def test_options_are_mapped(llama: ollama.Client) -> None:
    options = {"temperature": 1.5, "num_predict": 8, "seed": 5, "top_k": 100.0, "top_p": 1, "min_p": 0, "repeat_penalty": 1.1}
    texts = [llama.generate("smollm2", "Once", raw=True, options={**options, "seed": seed}).response for seed in (5, 5, 6)]
    assert texts[0] == texts[1] != texts[2]
    whole = llama.generate("smollm2", "Count: 1, 2, 3,", raw=True, options={"temperature": 0, "num_predict": 12}).response or ""
    stopped = llama.generate("smollm2", "Count: 1, 2, 3,", raw=True, options={"temperature": 0, "num_predict": 12, "stop": [whole[4:6]]})
    assert stopped.response == whole[: whole.index(whole[4:6])] and stopped.done_reason == "stop"


def test_options_of_loading_and_unknown_ones_are_told_of_in_the_log(http: httpx2.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "gollama.server"):
        reply = http.post("/api/chat", json={"model": "smollm2", "messages": ASK, "stream": False, "unknown": 1, "options": {
            "num_ctx": 99999, "num_thread": 3, "magic": 1, "num_predict": 1}})
    assert reply.status_code == 200
    assert [record.getMessage() for record in caplog.records] == [
        "num_ctx of a request is 99999; the model was loaded with a context of 1024, which stays",
        "an option of a request is unknown or has no meaning here: magic"]


def test_unknown_options_are_few_lines_of_the_log(http: httpx2.Client, caplog: pytest.LogCaptureFixture) -> None:
    options = {"a\nforged": 1, **{str(number): 1 for number in range(1000)}, "num_predict": 1}
    with caplog.at_level("WARNING", "gollama.server"):
        http.post("/api/generate", json={"model": "smollm2", "prompt": "Hi", "stream": False, "options": options})
    lines = [record.getMessage() for record in caplog.records if record.name == "gollama.server"]
    assert lines[0].endswith(r"a\nforged") and len(lines) == 8 and not any("\n" in line for line in lines)


def test_a_model_whose_file_is_gone_is_listed(tmp_path: Path) -> None:
    file = tiny.write(tmp_path / "tiny.gguf", template="{{ messages[0].content }}")
    with running(f"tiny={file}", loading={"threads": 1}) as server:
        file.rename(tmp_path / "other.gguf")
        for path in ("tags", "ps"):
            (model,) = httpx2.get(f"{server.url}/api/{path}").json()["models"]
            assert model["name"] == "tiny:latest" and model["modified_at"]



def called(city: str) -> list[Any]:
    """A question about a city's weather, answered with a call and its result."""
    return [{"role": "user", "content": f"What is the weather in {city}?"},
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": city}}}]},
            {"role": "tool", "tool_name": "get_weather", "content": "rain"}, {"role": "assistant", "content": "rain"}]


def test_a_tool_is_called_and_its_result_told(source_tree: Path) -> None:
    """Ollama has no word to require a call; with this template, and after examples, the small model makes one by itself."""
    template = source_tree / "models/templates/NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja"
    ask = [*called("Rome"), *called("Oslo"), *called("Bern"), *QUESTION]
    with running("smollm2", loading={"context_size": 1024, "max_sequences": 2, "threads": 1, "chat_template": template}) as server:
        llama = ollama.Client(host=server.url, timeout=60)
        options: Any = {"temperature": 0, "num_predict": 60}
        whole = llama.chat("smollm2", ask, tools=[WEATHER], options=options)
        calls = list(whole.message.tool_calls or [])
        assert [(call.function.name, call.function.arguments) for call in calls] == [("get_weather", {"city": "Paris"})]
        assert whole.done_reason == "stop"
        parts = list(llama.chat("smollm2", ask, tools=[WEATHER], options=options, stream=True))
        assert [call.function for part in parts for call in part.message.tool_calls or []] == [call.function for call in calls]
        told = [*ask, whole.message, {"role": "tool", "tool_name": "get_weather", "content": "rain"}]
        assert llama.chat("smollm2", told, options=GREEDY).done


def test_an_answer_follows_a_schema(llama: ollama.Client) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 99}},
              "required": ["name", "age"], "additionalProperties": False}
    ask: list[Any] = [{"role": "user", "content": "Invent a person, as JSON."}]
    found = json.loads(llama.chat("smollm2", ask, format=schema, options={"temperature": 0, "num_predict": 60}).message.content or "")
    assert isinstance(found["name"], str) and isinstance(found["age"], int)
    free = llama.generate("smollm2", "A colour, as JSON.", format="json", options={"temperature": 0, "num_predict": 20}).response or ""
    assert free.lstrip()[0] in "{["


def test_log_probabilities(llama: ollama.Client) -> None:
    reply = llama.chat("smollm2", ASK, options=GREEDY, logprobs=True, top_logprobs=2)
    assert reply.logprobs and len(reply.logprobs) == reply.eval_count
    assert all(one.logprob <= 0 and len(one.top_logprobs or ()) == 2 for one in reply.logprobs)
    assert "".join(one.token for one in reply.logprobs) == reply.message.content


def test_a_prompt_that_is_too_long_is_shortened_unless_it_must_not_be(http: httpx2.Client) -> None:
    body: dict[str, Any] = {"model": "smollm2", "prompt": "word " * 1100, "raw": True, "stream": False, "options": {"num_predict": 2}}
    assert http.post("/api/generate", json=body).json()["prompt_eval_count"] < 1024
    assert http.post("/api/generate", json={**body, "truncate": False}).status_code == 400


def test_nothing_asked_loads_the_model(http: httpx2.Client) -> None:
    for route, field in (("/api/chat", "message"), ("/api/generate", "response")):
        reply = http.post(route, json={"model": "smollm2"}).json()
        assert reply["done"] and reply["done_reason"] == "load" and field in reply


def test_texts_become_vectors(llama: ollama.Client, llm: AsyncLLM) -> None:
    reply = llama.embed("smollm2", ["a cat", "a dog"])
    assert np.allclose(np.array(reply.embeddings), llm.sync.embed(["a cat", "a dog"]), atol=1e-5) and reply.prompt_eval_count
    assert np.allclose(llama.embeddings("smollm2", "a cat").embedding, reply.embeddings[0], atol=1e-5)
    short = llama.embed("smollm2", "a cat", dimensions=8).embeddings[0]
    assert len(short) == 8 and np.isclose(np.linalg.norm(short), 1)
    assert len(llama.embed("smollm2", "word " * 1100).embeddings) == 1
    with pytest.raises(ollama.ResponseError):
        llama.embed("smollm2", "word " * 1100, truncate=False)


def test_models_are_listed_and_shown(llama: ollama.Client, http: httpx2.Client, llm: AsyncLLM) -> None:
    listed, loaded = llama.list().models, llama.ps().models
    assert [model.model for model in listed] == [model.model for model in loaded] == ["smollm2:latest"]
    assert listed[0].size == llm.sync.model.size and listed[0].details is not None and listed[0].details.family == "llama"
    shown = llama.show("smollm2")
    assert shown.modelinfo is not None and shown.modelinfo["general.architecture"] == "llama"
    assert shown.template == llm.sync.model.chat_template()
    assert shown.capabilities == ["completion", "tools"] and shown.details is not None and shown.details.parameter_size == "134.52M"
    assert http.get("/api/version").json() == {"version": __version__}


@pytest.mark.parametrize(("route", "body", "told"), [
    ("chat", {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "messages[0].images: images are not supported"),
    ("chat", {"messages": [{"role": "tool", "content": "x"}]}, "messages[0]: no message before"),
    ("chat", {"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ("chat", {"messages": ASK, "format": "xml"}, "invalid format"),
    ("chat", {"messages": ASK, "options": {"seed": "1"}}, "option 'seed' must be of type integer"),
    ("chat", {"messages": ASK, "options": {"stop": "x"}}, "option 'stop' must be of type array"),
    ("chat", {"messages": ASK, "options": {"temperature": -1}}, "temperature"),
    ("chat", {"messages": ASK, "keep_alive": "soon"}, "keep_alive"),
    ("chat", {"messages": ASK, "top_logprobs": 2}, "top_logprobs needs logprobs"),
    ("chat", {"messages": "x"}, "messages"),
    ("chat", {"keep_alive": 0}, "a model is unloaded by"),
    ("generate", {"prompt": "x", "images": ["aGk="]}, "images are not supported"),
    ("generate", {"prompt": "x", "template": "{{ .Prompt }}"}, "a request cannot bring a template"),
    ("generate", {"prompt": "x", "context": [1, 2]}, "context is not supported"),
    ("generate", {"prompt": "x", "raw": True, "system": "y"}, "raw mode"),
    ("generate", {"prompt": "x", "raw": True, "format": "json"}, "format needs the model's template"),
    ("generate", {"prompt": "x", "suffix": "y"}, "SmolLM2-135M-Instruct.Q4_1.gguf cannot fill in"),
    ("embed", {}, "input is missing"),
    ("show", {"model": None}, "model is missing"),
])
def test_what_is_wrong_is_told_in_ollama_s_form(http: httpx2.Client, route: str, body: dict[str, Any], told: str) -> None:
    reply = http.post(f"/api/{route}", json={"model": "smollm2", **body})
    assert reply.status_code == 400 and list(reply.json()) == ["error"] and reply.json()["error"].startswith(told)


def test_errors_are_raised_by_the_client(llama: ollama.Client, http: httpx2.Client) -> None:
    for call in (lambda: llama.chat("other", ASK), lambda: list(llama.chat("other", ASK, stream=True)), lambda: llama.show("other"),
                 lambda: llama.embed("other", "x")):
        with pytest.raises(ollama.ResponseError) as caught:
            call()
        assert caught.value.status_code == 404 and "other" in caught.value.error
    assert http.get("/api/nothing").json() == {"error": "Not Found"}
