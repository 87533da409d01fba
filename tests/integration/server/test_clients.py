"""Clients that bring much with them: `pip install "gollama-cpu[clients]"`, then `pytest -m slow tests/integration/server/test_clients.py`.

The one for Node is fetched by npm, of one version, into a folder of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gollama import AsyncLLM
from tests.support.server import Running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]  # theirs

ASK = "Name a colour."
QUESTION = "What is the weather in Paris?"
GREEDY: Any = {"temperature": 0, "max_tokens": 60}
PERSON = {"title": "Person", "description": "Somebody", "type": "object", "properties": {
    "name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 99}}, "required": ["name", "age"],
    "additionalProperties": False}
FUNCTION: Any = {"type": "function", "function": {"name": "get_weather", "description": "The weather of a city.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
NODE_CLIENT = "openai@7.57.0"


def expected(llm: AsyncLLM) -> str:
    """What the engine answers."""
    return llm.sync.chat([{"role": "user", "content": ASK}], temperature=0, max_tokens=60).text


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"It rains in {city}."


# ---- LangChain ----


@pytest.fixture
def langchain(server: Running) -> Any:
    module = pytest.importorskip("langchain_openai")
    return module.ChatOpenAI(base_url=f"{server.url}/v1", api_key="none", model="smollm2", max_retries=0, **GREEDY)


def test_langchain_chats_and_streams(langchain: Any, llm: AsyncLLM) -> None:
    assert langchain.invoke(ASK).content == expected(llm)
    chunks = list(langchain.stream(ASK))
    assert "".join(chunk.content for chunk in chunks) == expected(llm) and len(chunks) > 2
    assert langchain.invoke(ASK).usage_metadata["output_tokens"] > 0


def test_langchain_calls_tools_and_reads_objects(langchain: Any) -> None:
    reply = langchain.bind_tools([FUNCTION], tool_choice="required").invoke(QUESTION)
    assert [call["name"] for call in reply.tool_calls] == ["get_weather"] and set(reply.tool_calls[0]["args"]) == {"city"}
    found = langchain.with_structured_output(PERSON, method="json_schema").invoke("Invent a person, as JSON.")
    assert isinstance(found["name"], str) and isinstance(found["age"], int)


def test_langchain_embeds_and_tells_errors(server: Running, llm: AsyncLLM) -> None:
    module = pytest.importorskip("langchain_openai")
    import openai

    embeddings = module.OpenAIEmbeddings(base_url=f"{server.url}/v1", api_key="none", model="smollm2", check_embedding_ctx_length=False)
    assert np.allclose(embeddings.embed_documents(["a cat", "a dog"]), llm.sync.embed(["a cat", "a dog"]), atol=1e-4)
    with pytest.raises(openai.NotFoundError):
        module.ChatOpenAI(base_url=f"{server.url}/v1", api_key="none", model="other", max_retries=0).invoke(ASK)


# ---- LlamaIndex ----


@pytest.fixture
def llama_index(server: Running) -> Any:
    module = pytest.importorskip("llama_index.llms.openai_like")
    return module.OpenAILike(model="smollm2", api_base=f"{server.url}/v1", api_key="none", is_chat_model=True, max_retries=0,
                             is_function_calling_model=True, should_use_structured_outputs=True, context_window=1024, **GREEDY)


def test_llama_index_chats_and_streams(llama_index: Any, llm: AsyncLLM) -> None:
    from llama_index.core.llms import ChatMessage

    ask = [ChatMessage(role="user", content=ASK)]
    assert llama_index.chat(ask).message.content == llama_index.complete(ASK).text == expected(llm)
    deltas = [part.delta for part in llama_index.stream_chat(ask)]
    assert "".join(delta or "" for delta in deltas) == expected(llm) and len(deltas) > 2


def test_llama_index_calls_tools_and_reads_objects(llama_index: Any) -> None:
    from llama_index.core.prompts import PromptTemplate
    from llama_index.core.tools import FunctionTool
    from pydantic import BaseModel, Field

    class Person(BaseModel):
        name: str = Field(max_length=12)
        age: int = Field(le=99)

    reply = llama_index.chat_with_tools([FunctionTool.from_defaults(get_weather)], user_msg=QUESTION, tool_required=True)
    calls = llama_index.get_tool_calls_from_response(reply)
    assert [call.tool_name for call in calls] == ["get_weather"] and set(calls[0].tool_kwargs) == {"city"}
    found = llama_index.structured_predict(Person, PromptTemplate("Invent a person, as JSON."))
    assert isinstance(found.name, str) and isinstance(found.age, int)


def test_llama_index_embeds_and_tells_errors(server: Running, llm: AsyncLLM) -> None:
    embeddings = pytest.importorskip("llama_index.embeddings.openai_like")
    models = pytest.importorskip("llama_index.llms.openai_like")
    import openai

    embedding = embeddings.OpenAILikeEmbedding(model_name="smollm2", api_base=f"{server.url}/v1", api_key="none", max_retries=0)
    assert np.allclose(embedding.get_text_embedding("a cat"), llm.sync.embed("a cat"), atol=1e-4)
    with pytest.raises(openai.NotFoundError):
        models.OpenAILike(model="other", api_base=f"{server.url}/v1", api_key="none", is_chat_model=True, max_retries=0).complete(ASK)


# ---- LiteLLM, by each of the three APIs ----


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or it asks the internet when it is imported
    module: Any = pytest.importorskip("litellm")
    module.telemetry = False
    return module


def litellm_options(server: Running, provider: str) -> dict[str, Any]:
    base = f"{server.url}/v1" if provider == "openai" else server.url
    return {"model": f"{provider}/smollm2", "api_base": base, "api_key": "none", "num_retries": 0, **GREEDY}


@pytest.mark.parametrize("provider", ["openai", "anthropic", "ollama_chat"])
def test_litellm_chats_and_streams(litellm: Any, server: Running, llm: AsyncLLM, provider: str) -> None:
    options = {**litellm_options(server, provider), "messages": [{"role": "user", "content": ASK}]}
    reply = litellm.completion(**options)
    assert reply.choices[0].message.content == expected(llm) and reply.usage.completion_tokens > 0
    chunks = list(litellm.completion(stream=True, **options))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected(llm) and len(chunks) > 2


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_litellm_calls_tools(litellm: Any, server: Running, provider: str) -> None:
    reply = litellm.completion(messages=[{"role": "user", "content": QUESTION}], tools=[FUNCTION], tool_choice="required",
                               **litellm_options(server, provider))
    call = reply.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather" and set(json.loads(call.function.arguments)) == {"city"}


@pytest.mark.parametrize("provider", ["openai", "ollama_chat"])
def test_litellm_reads_objects(litellm: Any, server: Running, provider: str) -> None:
    reply = litellm.completion(messages=[{"role": "user", "content": "Invent a person, as JSON."}], response_format={
        "type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}, **litellm_options(server, provider))
    found = json.loads(reply.choices[0].message.content)
    assert isinstance(found["name"], str) and isinstance(found["age"], int)


def test_litellm_embeds_and_tells_errors(litellm: Any, server: Running, llm: AsyncLLM) -> None:
    reply = litellm.embedding(model="openai/smollm2", input=["a cat"], api_base=f"{server.url}/v1", api_key="none", encoding_format="float")
    assert np.allclose(reply.data[0]["embedding"], llm.sync.embed("a cat"), atol=1e-4)
    for provider in ("openai", "anthropic"):
        with pytest.raises(litellm.NotFoundError):
            litellm.completion(messages=[{"role": "user", "content": ASK}], **{**litellm_options(server, provider),
                                                                              "model": f"{provider}/other"})


# ---- Node ----


SCRIPT = """
import OpenAI from 'openai';
const client = new OpenAI({ baseURL: process.argv[2], apiKey: 'none', maxRetries: 0 });
const ask = [{ role: 'user', content: 'Name a colour.' }];
const greedy = { model: 'smollm2', temperature: 0, max_tokens: 60 };
const told = {};
told.text = (await client.chat.completions.create({ messages: ask, ...greedy })).choices[0].message.content;
told.pieces = [];
for await (const chunk of await client.chat.completions.create({ messages: ask, stream: true, ...greedy }))
  told.pieces.push(chunk.choices[0]?.delta?.content ?? '');
const tools = JSON.parse(process.argv[3]);
const asked = [{ role: 'user', content: 'What is the weather in Paris?' }];
told.call = (await client.chat.completions.create({ messages: asked, tools, tool_choice: 'required', ...greedy }))
  .choices[0].message.tool_calls[0].function;
const format = { type: 'json_schema', json_schema: { name: 'person', strict: true, schema: JSON.parse(process.argv[4]) } };
told.person = JSON.parse((await client.chat.completions.create({
  messages: [{ role: 'user', content: 'Invent a person, as JSON.' }], response_format: format, ...greedy })).choices[0].message.content);
told.response = (await client.responses.create({ model: 'smollm2', input: 'Name a colour.', temperature: 0, max_output_tokens: 60 }))
  .output_text;
told.vector = (await client.embeddings.create({ model: 'smollm2', input: 'a cat' })).data[0].embedding;
try { await client.chat.completions.create({ messages: ask, model: 'other' }); }
catch (error) { told.error = [error.constructor.name, error.status, error.code]; }
console.log(JSON.stringify(told));
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node and npm are not here")
    folder = tmp_path_factory.mktemp("node")
    subprocess.run(["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", NODE_CLIENT], check=True,
                   capture_output=True)
    (folder / "ask.mjs").write_text(SCRIPT)
    return folder


def test_the_client_for_node(node: Path, server: Running, llm: AsyncLLM) -> None:
    done = subprocess.run(["node", "ask.mjs", f"{server.url}/v1", json.dumps([FUNCTION]), json.dumps(PERSON)], cwd=node, check=False,
                          capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["text"] == "".join(told["pieces"]) == told["response"] == expected(llm) and len(told["pieces"]) > 2
    assert told["call"]["name"] == "get_weather" and set(json.loads(told["call"]["arguments"])) == {"city"}
    assert isinstance(told["person"]["name"], str) and isinstance(told["person"]["age"], int)
    assert np.allclose(told["vector"], llm.sync.embed("a cat"), atol=1e-4)
    assert told["error"] == ["NotFoundError", 404, "model_not_found"]
