"""/v1/embeddings by OpenAI's client, /v1/rerank, and llama-server's small routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import numpy
import openai
import pytest

from gollama import AsyncLLM, NativeError, OutOfMemoryError
from gollama.errors import BrokenError
from tests.support import tiny_embedding
from tests.support.answers import wait_until
from tests.support.server import Running, running

TEXTS = ["a cat", "two dogs in the rain"]


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_vectors_are_the_engine_s(client: openai.OpenAI, llm: AsyncLLM, encoding: Any) -> None:
    reply = client.embeddings.create(model="smollm2", input=TEXTS, encoding_format=encoding)
    vectors: Any = [one.embedding for one in reply.data]
    if encoding == "base64":
        import base64

        vectors = [numpy.frombuffer(base64.b64decode(one), "<f4") for one in vectors]
    assert numpy.allclose(vectors, llm.sync.embed(TEXTS), atol=1e-6)
    assert reply.usage.total_tokens == sum(len(llm.tokenize(text)) for text in TEXTS)


def test_tokens_are_taken_too(client: openai.OpenAI, llm: AsyncLLM) -> None:
    by_text = client.embeddings.create(model="smollm2", input=TEXTS[0]).data[0].embedding
    for tokens in (llm.tokenize(TEXTS[0]), [llm.tokenize(TEXTS[0])]):
        assert numpy.allclose(client.embeddings.create(model="smollm2", input=tokens).data[0].embedding, by_text, atol=1e-6)


def test_fewer_dimensions_are_the_first_ones_at_length_one(client: openai.OpenAI) -> None:
    whole = numpy.array(client.embeddings.create(model="smollm2", input="a cat").data[0].embedding)
    short = numpy.array(client.embeddings.create(model="smollm2", input="a cat", dimensions=16).data[0].embedding)
    assert numpy.allclose(short, whole[:16] / numpy.linalg.norm(whole[:16]), atol=1e-5)


@pytest.mark.parametrize(("fields", "param"), [
    ({"input": []}, "input"), ({"input": ""}, "input"), ({"input": ["a", ""]}, "input"), ({"input": [10**8]}, "input"),
    ({"dimensions": 10**6}, "dimensions"), ({"input": "word " * 2000}, "input"), ({"encoding_format": "hex"}, "encoding_format"),
])
def test_what_cannot_be(http: httpx2.Client, fields: dict[str, Any], param: str) -> None:
    reply = http.post("/v1/embeddings", json={"input": "a", **fields})
    assert reply.status_code == 400 and reply.json()["error"]["param"] == param


def test_tokens_and_text_and_back(http: httpx2.Client, llm: AsyncLLM) -> None:
    text = "Grüße aus Köln 🤗"
    tokens = http.post("/tokenize", json={"content": text}).json()["tokens"]
    assert tokens == llm.tokenize(text, add_special=False) and http.post("/detokenize", json={"tokens": tokens}).json() == {"content": text}
    pieces = http.post("/tokenize", json={"content": text, "with_pieces": True}).json()["tokens"]
    joined = b"".join(piece["piece"].encode() if isinstance(piece["piece"], str) else bytes(piece["piece"]) for piece in pieces)
    assert joined.decode() == text
    assert http.post("/detokenize", json={"tokens": [-1]}).json()["error"]["param"] == "tokens"


def test_a_rendered_chat(http: httpx2.Client, llm: AsyncLLM) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    assert http.post("/apply-template", json={"messages": messages}).json()["prompt"] == llm.render_chat(messages).text


@pytest.mark.parametrize(("path", "body"), [("/infill", {"input_prefix": "a", "input_suffix": "b"}),
                                            ("/v1/rerank", {"query": "a", "documents": ["b"]})])
def test_what_this_model_cannot_do(http: httpx2.Client, path: str, body: dict[str, Any]) -> None:
    reply = http.post(path, json=body)
    assert reply.status_code == 400 and reply.json()["error"]["code"] == "unsupported"
    assert ".cache" not in reply.text and "/" not in reply.json()["error"]["message"]


ENDLESS = [" ".join(["word"] * 100)] * 1500


@pytest.mark.parametrize(("path", "body"), [("/v1/embeddings", {"input": ENDLESS}), ("/api/embed", {"model": "smollm2", "input": ENDLESS})])
def test_what_a_client_that_left_asked_for_ends(http: httpx2.Client, server: Running, path: str, body: dict[str, Any]) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        http.post(path, json=body, timeout=1)
    assert http.post("/v1/embeddings", json={"input": "a"}).status_code == 200  # which waits for its end


@pytest.mark.parametrize(("path", "body", "told"), [
    ("/v1/embeddings", {"input": ENDLESS}, lambda reply: reply["error"]["code"]),
    ("/api/embed", {"model": "smollm2", "input": ENDLESS}, lambda reply: "timeout" if "request_timeout" in reply["error"] else None)])
def test_vectors_that_take_too_long(lent: Callable[..., AbstractContextManager[Running]], path: str, body: dict[str, Any],
                                    told: Callable[[Any], str]) -> None:
    with lent(request_timeout=0.5) as server:
        reply = httpx2.post(f"{server.url}{path}", json=body, timeout=60)
        assert reply.status_code == 503 and told(reply.json()) == "timeout"
        # once the batch that ran has ended
        wait_until(lambda: httpx2.post(f"{server.url}/v1/embeddings", json={"input": "a"}, timeout=60).status_code == 200, 60)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server whose model only embeds."""
    model = tiny_embedding.write_bert(tmp_path_factory.mktemp("bert") / "bert.gguf")
    with running(f"bert={model}", loading={"threads": 1}) as server:
        yield server.url


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}), ("/v1/completions", {"prompt": "a"}),
    ("/completion", {"prompt": "a"}), ("/v1/responses", {"input": "a"}),
    ("/v1/messages", {"max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}),
    ("/api/chat", {"model": "bert", "messages": [{"role": "user", "content": "a"}]}),
    ("/api/generate", {"model": "bert", "prompt": "a", "raw": True})])
def test_a_model_that_only_embeds_is_not_asked_to_continue(encoder: str, path: str, body: dict[str, Any], stream: bool) -> None:
    reply = httpx2.post(encoder + path, json={**body, "stream": stream})
    assert reply.status_code == 400 and "the model bert does not continue text" in reply.text


def test_a_model_that_only_embeds_does_so_and_is_described(encoder: str) -> None:
    assert httpx2.post(f"{encoder}/v1/embeddings", json={"input": "a"}).json()["data"][0]["embedding"]
    assert httpx2.get(f"{encoder}/metrics").status_code == httpx2.get(f"{encoder}/props").status_code == 200
    assert httpx2.post(f"{encoder}/api/show", json={"model": "bert"}).json()["capabilities"] == ["embedding"]


@pytest.mark.parametrize(("error", "status"), [(OutOfMemoryError, 503), (BrokenError, 500), (NativeError, 400)])
@pytest.mark.parametrize(("path", "body", "name"), [
    ("/v1/embeddings", {"input": "a"}, "llm.LLM.embed"), ("/api/embed", {"model": "smollm2", "input": "a"}, "llm.LLM.embed"),
    ("/v1/rerank", {"query": "a", "documents": ["b"]}, "llm.LLM.rerank"),
    ("/infill", {"input_prefix": "a", "input_suffix": "b"}, "intake.Intake.infill_prompt"),
    ("/v1/completions", {"prompt": "a", "suffix": "b"}, "intake.Intake.infill_prompt")])
def test_what_a_model_cannot_is_told_apart_from_what_went_wrong(http: httpx2.Client, llm: AsyncLLM, monkeypatch: pytest.MonkeyPatch,
                                                                 path: str, body: Any, name: str, error: Any, status: int) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise error(f"the model {llm.sync.model.path} cannot")

    monkeypatch.setattr(f"gollama.{name}", fail)
    reply = http.post(path, json=body)
    assert reply.status_code == status and str(llm.sync.model.path.parent) not in reply.text
    assert (f"the model {llm.sync.model.path.name} cannot" in reply.text) == (status == 400)
