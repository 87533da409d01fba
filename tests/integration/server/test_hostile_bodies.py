"""Bodies that mean harm. What the limits by themselves promise is in test_limits.py."""

from __future__ import annotations

import copy
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from gollama.server.openai.chat import ChatRequest
from gollama.server.openai.completions import CompletionRequest
from tests.support.raw import ASK, CHAT, request, told
from tests.support.server import Running

pytestmark = pytest.mark.usefixtures("unharmed")


def test_a_hundred_megabytes_are_not_taken(server: Running) -> None:
    piece = b"40000\r\n" + b" " * 0x40000 + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request(b"", "Transfer-Encoding: chunked"))
        try:
            while sent < 100 * 2**20:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
    assert sent < 50 * 2**20  # which it closes, at twice of what it takes, and what the sockets hold


def test_pieces_of_many_tokens_are_not_made(http: httpx2.Client) -> None:
    text = "\x01" * (2**20 + 1)
    assert told(http.post("/tokenize", json={"content": text, "with_pieces": True}))["code"] == "too_many"
    assert len(http.post("/tokenize", json={"content": text}).json()["tokens"]) > 2**20


def test_a_compressed_body_is_not_unpacked(http: httpx2.Client) -> None:
    assert told(http.post(CHAT, content=b"\x1f\x8b" + bytes(100), headers={"Content-Encoding": "gzip"}))["code"] == "invalid_json"


@pytest.mark.parametrize("fields", [
    {"messages": ASK * 70_000}, {"messages": [{"role": "user", "content": [{"type": "text", "text": "a "}] * 10**5}]},
    {"stop": ["x"] * 10**5}, {"logit_bias": {str(number): 1 for number in range(10**4)}},
    {"tools": [{"type": "function", "function": {"name": f"f{number}"}} for number in range(2000)]},
    {"dry_sequence_breakers": ["x"] * 10**5, "dry_multiplier": 1}, {"dry_sequence_breakers": ["x" * 10**6], "dry_multiplier": 1},
    {"seed": "1" * 10**5}, {"model": "x" * 10**6}])
def test_what_is_many_is_refused(http: httpx2.Client, fields: dict[str, Any]) -> None:
    told(http.post(CHAT, json={"messages": ASK, "max_tokens": 2, **fields}))


@pytest.mark.parametrize("fields", [
    {"stop": "x" * 10**6}, {"seed": 10**4000}, {"grammar": 'root ::= "' + "a" * 10**6 + '"'}, {"user": "x" * 10**6},
    {"metadata": {str(number): "x" for number in range(10**5)}}, {"max_tokens": 2**31 - 1}])
def test_what_is_large_and_harmless_is_answered(http: httpx2.Client, fields: dict[str, Any]) -> None:
    assert http.post(CHAT, json={"messages": ASK, "max_tokens": 2, **fields}).status_code == 200


MANY = "root ::= " + " | ".join(f'"{number}"' for number in range(10**4))


@pytest.mark.parametrize("grammar", [
    "root ::= root", 'root ::= root "a"', 'root ::= ""*', 'root ::= "a"{1000000}', "root ::= " + "(" * 10**4 + '"a"' + ")" * 10**4,
    'root ::= (("a"{1999}){1999}){1999}', 'root ::= "a"{99999999999999999999}', "root ::= [^", MANY, "root ::= \x00", "", "other ::= root"])
def test_grammars_that_would_not_end(http: httpx2.Client, grammar: str) -> None:
    reply = http.post(CHAT, json={"messages": ASK, "grammar": grammar, "max_tokens": 2})
    assert reply.status_code == 200 or told(reply)["code"] in ("invalid_value", "too_many")


DEEP: Any = {"type": "string"}
for _ in range(60):
    DEEP = {"type": "array", "items": DEEP}


@pytest.mark.parametrize("schema", [
    {"$ref": "#"}, {"$ref": "file:///etc/passwd"}, {"$ref": "#/definitions/nothing"}, {"type": "string", "pattern": "^(a+)+$"},
    {"type": "string", "pattern": "^(" * 500 + ")" * 500 + "$"}, {"type": "string", "minLength": 10**9},
    {"type": "array", "items": {"type": "string"}, "minItems": 10**9}, {"enum": list(range(10**5))}, DEEP,
    {"type": "integer", "minimum": -(10**30), "maximum": 10**30}, {"allOf": [{"$ref": "#"}] * 100}, {"type": "\x00"}])
def test_schemas_that_would_not_end(http: httpx2.Client, schema: dict[str, Any]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    reply = http.post(CHAT, json={"messages": ASK, "response_format": form, "max_tokens": 2})
    assert reply.status_code == 200 or told(reply)["code"] in ("invalid_value", "too_many")


@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1" + b"0" * 5000])
@pytest.mark.parametrize("field", [b'"temperature": %b', b'"max_tokens": %b', b'"seed": %b', b'"logit_bias": {"1": %b}',
                                   b'"response_format": {"type": "json_schema", "json_schema": {"schema": {"minimum": %b}}}',
                                   b'"tools": [{"type": "function", "function": {"name": "f", "parameters": {"minimum": %b}}}]'])
def test_numbers_that_are_none(http: httpx2.Client, field: bytes, word: bytes) -> None:
    told(http.post(CHAT, content=b'{"messages": [{"role": "user", "content": "x"}], ' + field % word + b"}"))


def test_the_last_of_equal_keys_counts(http: httpx2.Client) -> None:
    body = b'{"messages": [{"role": "user", "content": "x"}], "model": "smollm2", "model": "other", "max_tokens": 1}'
    assert told(http.post(CHAT, content=body))["code"] == "model_not_found"


@pytest.mark.parametrize("text", [b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\\ud800", b"\\ud800x", b"\\x00", b"\x00"])
def test_text_that_is_none(http: httpx2.Client, text: bytes) -> None:
    told(http.post(CHAT, content=b'{"max_tokens": 1, "messages": [{"role": "user", "content": "%b"}]}' % text))


@pytest.mark.parametrize("field", ["content", "stop", "grammar", "model", "user", "role", "name"])
def test_a_nul_in_a_text_harms_nobody(http: httpx2.Client, field: str) -> None:
    message = {"role": "user", "content": "x", **({field: "user\x00x"} if field in ("content", "role") else {})}
    reply = http.post(CHAT, json={"messages": [message], "max_tokens": 1, **({field: "a\x00b"} if field not in message else {})})
    assert reply.status_code == 200 or told(reply)


WRONG: list[Any] = [True, -1, 2**63, 2**70, 1e308, "", "x", [], {}, [[]], [None], {"a": []}, [{}], "\x00"]


@pytest.mark.parametrize(("path", "kind", "least"), [(CHAT, ChatRequest, {"messages": ASK}),
                                                     ("/v1/completions", CompletionRequest, {"prompt": "a"})])
def test_no_field_takes_what_it_should_not(http: httpx2.Client, path: str, kind: Any, least: dict[str, Any]) -> None:
    """Every field with every kind of value: an answer or an error that says why, never a failure of the server's."""
    for field in kind.model_fields:
        for value in WRONG:
            reply = http.post(path, json={"max_tokens": 1, **least, field: value})
            limit = field in ("max_tokens", "max_completion_tokens", "n_predict", "stream", "n_keep")
            assert reply.status_code == 200 or told(reply)["message"], (field, value)
            assert limit or reply.status_code in (200, 400, 404), (field, value)


CALL: Any = {"role": "assistant", "content": "", "tool_calls": [
    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
FUNCTION: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}}
TREES: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, CALL,
                         {"role": "tool", "tool_call_id": "c", "content": "y"}],
            "tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"name": "f"}]}}}),
    ("/v1/responses", {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]},
                  {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "x"}]},
                  {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                  {"type": "function_call_output", "call_id": "c", "output": "x"}],
        "reasoning": {"effort": "low"}, "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "string"}}}})]


def places(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """The ways to all that is within."""
    within = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in within:
        yield (*path, name)
        yield from places(one, *path, name)


@pytest.mark.parametrize(("path", "body"), TREES)
def test_no_field_within_takes_what_it_should_not(http: httpx2.Client, path: str, body: dict[str, Any]) -> None:
    """Each place of a body with each kind of value."""
    for *way, last in places(body):
        for value in WRONG:
            changed: Any = copy.deepcopy(body)
            within = changed
            for name in way:
                within = within[name]
            within[last] = value
            reply = http.post(path, json={"max_tokens": 1, **changed})
            assert reply.status_code == 200 or told(reply), (way, last, value)
