"""What is refused, and how: each limit, and each kind of bad request."""

from __future__ import annotations

import json
import logging
import os
import socket
from typing import Any

import httpx2
import openai
import pytest

from gollama import AsyncLLM
from tests.support.answers import wait_until
from tests.support.raw import ASK, CHAT, LONG, Lend, exchanged, request
from tests.support.server import Running


@pytest.mark.parametrize(("fields", "status", "param", "code"), [
    ({"messages": "Hello"}, 400, "messages", "invalid_type"),
    ({"messages": [{"role": "user", "content": 3}]}, 400, "messages[0].content", "invalid_value"),
    ({"temperature": "hot"}, 400, "temperature", "invalid_type"),
    ({"temperature": True}, 400, "temperature", "invalid_type"),
    ({"temperature": -1}, 400, "temperature", "invalid_value"),
    ({"max_tokens": 0}, 400, "max_tokens", "invalid_value"),
    ({"max_tokens": 2**40}, 400, "max_tokens", "invalid_value"),
    ({"n": 17}, 400, "n", "too_many"),
    ({"n": 0}, 400, "n", "invalid_value"),
    ({"top_logprobs": 21, "logprobs": True}, 400, "top_logprobs", "invalid_type"),
    ({"top_logprobs": 2}, 400, "top_logprobs", "invalid_value"),
    ({"stop": ["x"] * 65}, 400, "stop", "too_many"),
    ({"dry_sequence_breakers": [str(number) for number in range(17)]}, 400, "dry_sequence_breakers", "too_many"),
    ({"dry_sequence_breakers": ["x" * 65]}, 400, "dry_sequence_breakers", "too_many"),
    ({"dry_sequence_breakers": ["a", "b", "c"], "n": 6}, 400, "dry_sequence_breakers", "too_many"),
    ({"stop": [""]}, 400, "stop", "invalid_value"),
    ({"logit_bias": {"cat": 1}}, 400, "logit_bias", "invalid_value"),
    ({"logit_bias": {"99999999": 1}}, 400, "logit_bias", "invalid_value"),
    ({"temprature": 1}, 400, "temprature", "unknown_parameter"),
    ({"model": "gpt-9"}, 404, "model", "model_not_found"),
    ({"model": "../../etc/passwd"}, 404, "model", "model_not_found"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, 400, "tools[0].function.name", "invalid_value"),
    ({"tool_choice": "required"}, 400, "tool_choice", "invalid_value"),
    ({"response_format": {"type": "xml"}}, 400, "response_format.type", "invalid_value"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "strin"}}}}, 400, None, "invalid_value"),
    ({"grammar": "root ::= ("}, 400, None, "invalid_value"),
    ({"messages": [{"role": "user", "content": "word " * 3000}]}, 400, "messages", "context_length_exceeded"),
    ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]}, 400, "messages[0].tool_call_id", "invalid_value"),
    ({"modalities": ["audio"]}, 400, "modalities[0]", "invalid_type"),
    ({"messages": [{"role": "user", "content": [{"type": []}]}]}, 400, "messages[0].content[0].type", "invalid_value"),
    ({"adapters": {"none": 1}}, 400, None, "invalid_value"),
    ({"control_vectors": {"none": 1}}, 400, None, "invalid_value"),
])
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_field_is_named(http: httpx2.Client, fields: dict[str, Any], status: int, param: str | None, code: str, stream: bool) -> None:
    reply = http.post(CHAT, json={"messages": ASK, "stream": stream, **fields})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code) and error["type"] == "invalid_request_error" and error["message"]
    assert param is None or error["param"] == param


@pytest.mark.parametrize("allowed", [{}, {"allowed_tools": 3}, {"allowed_tools": {"tools": 3}}, {"tools": None}, {"tools": [3]},
                                     {"tools": [{"function": 3}]}, {"tools": [{"name": "other"}]}])
@pytest.mark.parametrize("function", [{"name": "f"}, 3])
def test_only_tools_that_are_offered_are_allowed(http: httpx2.Client, allowed: dict[str, Any], function: Any) -> None:
    tools = [{"type": "function", "function": function}]
    error = http.post(CHAT, json={"messages": ASK, "tools": tools, "tool_choice": {"type": "allowed_tools", **allowed}}).json()["error"]
    assert (error["param"], error["code"]) == ("tool_choice", "invalid_value")


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "file:///etc/passwd", "data:image/png;base64,AAAA"])
def test_images_are_refused_and_never_fetched(http: httpx2.Client, url: str) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]}
    error = http.post(CHAT, json={"messages": [message]}).json()["error"]
    assert error["code"] == "unsupported_content" and error["param"] == "messages[0].content[1]"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"messages": [], "messages"', b"\xff\xfe", b'{"messages": "\\ud800"}',
                                  b'{"temperature": NaN, "messages": []}'])
def test_what_is_no_json(http: httpx2.Client, body: bytes) -> None:
    reply = http.post(CHAT, content=body)
    assert reply.status_code == 400 and reply.json()["error"]["code"] in ("invalid_json", "invalid_type")


def test_deep_nesting_is_refused(http: httpx2.Client) -> None:
    for depth in (300, 100_000):
        reply = http.post(CHAT, content=b'{"messages": ' + b"[" * depth + b"]" * depth + b"}")
        assert reply.status_code == 400 and "recursion" in reply.json()["error"]["message"]


def test_deep_tools_are_refused(http: httpx2.Client) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(80):
        schema = {"type": "object", "properties": {"a": schema}}
    error = http.post(CHAT, json={"messages": ASK, "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]}).json()
    assert error["error"]["param"] == "tools[0].function.parameters"


def test_a_million_messages_are_refused(http: httpx2.Client) -> None:
    body = b'{"messages": [' + b",".join([b'{"role":"u"}'] * 10**6) + b"]}"
    error = http.post(CHAT, content=body).json()["error"]
    assert error["param"] == "messages" and error["code"] == "too_many"


def test_a_body_that_is_too_large_is_not_read(lent: Lend) -> None:
    with lent(max_body=1) as server:
        announced = exchanged(server.port, request(b"x", f"Content-Length: {100 * 2**20}"))
        assert announced.startswith(b"HTTP/1.1 413") and b"body_too_large" in announced
        chunk = b"20000\r\n" + b" " * 0x20000 + b"\r\n"
        counted = exchanged(server.port, request(chunk * 9, "Transfer-Encoding: chunked"))
        assert counted.startswith(b"HTTP/1.1 413")
        assert httpx2.get(f"{server.url}/health").status_code == 200


def test_a_request_that_comes_too_slowly_is_cut_off(lent: Lend) -> None:
    with lent(read_timeout=0.3) as server:
        for part in (b"", f"POST {CHAT} HTTP/1.1\r\nHost: loc".encode(), request(b'{"messages"', "Content-Length: 100")):
            assert exchanged(server.port, part).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("extra", [["X-Big: " + "a" * 70000], [f"X-{number}: a" for number in range(120)]])
def test_endless_headers_are_refused(server: Running, extra: list[str]) -> None:
    assert exchanged(server.port, request(b"", *extra)).startswith(b"HTTP/1.1 431")


def test_what_is_no_http(server: Running) -> None:
    assert exchanged(server.port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_a_host_that_is_not_ours_is_refused(server: Running) -> None:
    body = json.dumps({"messages": ASK, "max_tokens": 1}).encode()
    length = f"Content-Length: {len(body)}"
    for host, status in (("evil.example", b"421"), ("localhost:80", b"200"), ("[::1]:80", b"200"), ("127.0.0.1", b"200")):
        assert exchanged(server.port, request(body, length, "Connection: close", host=host)).split()[1] == status


def test_pages_of_other_origins_may_not_use_it(server: Running, lent: Lend) -> None:
    with lent(cors_origins=["https://app.example"]) as allowing:
        for url, origin, status in ((server.url, "https://app.example", 403), (allowing.url, "https://app.example", 200),
                                    (allowing.url, "https://evil.example", 403), (server.url, server.url, 200), (server.url, "null", 403)):
            reply = httpx2.post(f"{url}{CHAT}", json={"messages": ASK, "max_tokens": 1}, headers={"Origin": origin})
            assert reply.status_code == status
            allowed = url == allowing.url and status == 200
            assert reply.headers.get("access-control-allow-origin") == (origin if allowed else None)
    asked = httpx2.options(f"{server.url}{CHAT}", headers={"Origin": "https://app.example", "Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in asked.headers


def test_an_answer_s_tokens_are_limited(lent: Lend) -> None:
    with lent(max_tokens=5) as server:
        body = {"messages": ASK, "ignore_eos": True}
        assert httpx2.post(f"{server.url}{CHAT}", json=body).json()["usage"]["completion_tokens"] == 5
        error = httpx2.post(f"{server.url}{CHAT}", json={**body, "max_completion_tokens": 6}).json()["error"]
        assert error["param"] == "max_completion_tokens" and error["code"] == "too_many"


def test_an_answer_s_time_is_limited(lent: Lend) -> None:
    with lent(request_timeout=0.3) as server:
        reply = httpx2.post(f"{server.url}{CHAT}", json={"messages": ASK, "ignore_eos": True}, timeout=30).json()
        assert reply["choices"][0]["finish_reason"] == "length" and reply["usage"]["completion_tokens"] < 900


@pytest.mark.parametrize(("settings", "path", "body", "param"), [
    ({"max_messages": 2}, CHAT, {"messages": ASK * 3}, "messages"),
    ({"max_inputs": 2}, "/v1/completions", {"prompt": ["a"] * 3}, "prompt"),
    ({"max_inputs": 2}, "/v1/embeddings", {"input": ["a"] * 3}, "input"),
    ({"max_choices": 2}, "/v1/completions", {"prompt": "a", "best_of": 3}, "best_of"),
])
def test_counts_are_limited(lent: Lend, settings: dict[str, Any], path: str, body: dict[str, Any], param: str) -> None:
    with lent(**settings) as server:
        error = httpx2.post(server.url + path, json=body).json()["error"]
        assert (error["param"], error["code"]) == (param, "too_many")


def test_connections_are_limited(lent: Lend) -> None:
    with lent(max_connections=2) as server:
        held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        wait_until(lambda: len(server.server.server_state.connections) == 2)
        assert exchanged(server.port, request(b"", "Content-Length: 0", "Connection: close")).split()[1] == b"503"
        for connection in held:
            connection.close()


def test_a_reader_who_stands_still_is_cut_off(lent: Lend, llm: AsyncLLM) -> None:
    with lent(write_timeout=0.5) as server, socket.socket(fileno=os.dup(server.server.servers[0].sockets[0].fileno())) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        body = json.dumps({**LONG, "logprobs": True, "top_logprobs": 20, "n": 8}).encode()
        before = llm.stats().completion_tokens
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(request(body, f"Content-Length: {len(body)}"))
            wait_until(lambda: llm.stats().running > 0)
            wait_until(lambda: llm.stats().running == 0)
        assert llm.stats().completion_tokens - before < 8 * 900


def test_a_half_closed_socket_ends_its_request(server: Running, llm: AsyncLLM) -> None:
    body = json.dumps(LONG).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request(body, f"Content-Length: {len(body)}"))
        connection.recv(1000)
        connection.shutdown(socket.SHUT_WR)
        wait_until(lambda: llm.stats().running == 0)


def test_no_log_has_a_prompt_s_text(http: httpx2.Client, caplog: pytest.LogCaptureFixture) -> None:
    secret = "xyzzy-plugh"
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("httpcore2").setLevel(logging.WARNING)
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        http.post(CHAT, json={"messages": [{"role": "user", "content": secret}], "max_tokens": 2})
        http.post(CHAT, json={"messages": [{"role": "user", "content": secret, secret: 1}]})
        http.post(CHAT, json={"messages": [{"role": "user", "content": secret}], "grammar": f"root ::= {secret}("})
        http.post(f"{CHAT}?q={secret}", content=secret.encode())
        http.post("/v1/completions", json={"prompt": secret, "max_tokens": 2, "stop": secret})
        http.post("/v1/responses", json={"input": secret, "instructions": secret, "max_output_tokens": 2})
        http.post("/v1/embeddings", json={"input": secret})
        wait_until(lambda: caplog.text.count("POST") >= 7)
    assert secret not in caplog.text


def test_a_line_of_the_log_is_one_line(http: httpx2.Client, server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gollama.access"):
        caplog.clear()
        http.get("/nothing%0d%0aforged=1", headers={"X-Request-Id": "a b\tc"})
    wait_until(lambda: bool(caplog.records))
    (record,) = [record for record in caplog.records if record.name == "gollama.access"]
    assert "\n" not in record.getMessage() and "\r" not in record.getMessage() and "a b" not in record.getMessage()


def test_a_header_cannot_be_injected(http: httpx2.Client) -> None:
    reply = http.get("/health", headers={"X-Request-Id": "good-id.1"})
    assert reply.headers["x-request-id"] == "good-id.1"
    assert http.get("/health", headers={"X-Request-Id": "bad id"}).headers["x-request-id"] != "bad id"


def test_health_is_told_while_it_computes(server: Running, client: openai.OpenAI, llm: AsyncLLM) -> None:
    options: Any = {"model": "smollm2", "max_tokens": 400, "extra_body": {"ignore_eos": True}}
    with client.chat.completions.create(messages=ASK, stream=True, **options) as stream:
        next(iter(stream))
        running = 0
        for _ in range(20):
            assert httpx2.get(f"{server.url}/health").status_code == 200
            running += llm.stats().running
        assert running == 20
