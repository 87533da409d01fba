"""Clients that mean harm, on raw sockets. After each of them the server answers as before and the engine is idle.

What the limits by themselves promise is in test_limits.py.
"""

from __future__ import annotations

import copy
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gollama import AsyncLLM
from gollama.server.openai.chat import ChatRequest
from gollama.server.openai.completions import CompletionRequest
from tests.integration.server.test_limits import ASK, CHAT, LONG, exchanged, request
from tests.support import tiny
from tests.support.answers import wait_until
from tests.support.server import Running

Lend = Callable[..., AbstractContextManager[Running]]
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")  # a body ends without a line
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(autouse=True)
def _unharmed(server: Running, llm: AsyncLLM) -> Iterator[None]:
    yield
    wait_until(lambda: (llm.stats().running, llm.stats().waiting) == (0, 0), 20)
    wait_until(lambda: server.service.metrics.in_flight._value.get() == 0, 20)
    reply = httpx2.post(f"{server.url}{CHAT}", json={"messages": ASK, "max_tokens": 2, "ignore_eos": True}, timeout=60)
    assert reply.json()["usage"]["completion_tokens"] == 2
    wait_until(lambda: llm.stats().running == 0)


def statuses(data: bytes) -> list[int]:
    return [int(one) for one in STATUS.findall(data)]


def get(path: bytes, *headers: bytes, host: bytes = b"localhost") -> bytes:
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"Host: " + host, *headers, b"Connection: close", b"", b""])


# ---- bodies ----


def told(reply: httpx2.Response) -> dict[str, Any]:
    """The error of a refused request."""
    assert 400 <= reply.status_code < 500, (reply.status_code, reply.text[:200])
    found: dict[str, Any] = reply.json()["error"]
    assert set(found) == {"message", "type", "param", "code"} and 0 < len(found["message"]) < 1000
    return found


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


# ---- addresses ----


@pytest.mark.parametrize("path", [
    b"/%2e%2e/%2e%2e/%2e%2e/etc/passwd", b"/../../../etc/passwd", b"//etc/passwd", b"/v1/models/..%2f..%2f..%2fetc%2fpasswd",
    b"/v1/models/%2e%2e", b"/v1/models/smollm2%00", b"/v1/models/%00", b"/v1/models/%ff", b"/v1/responses/..%2f..%2fmodels", b"/v1//models",
    b"/v1/models/..;/..;/etc", b"/..%5c..%5cwindows", b"/%252e%252e/etc/passwd", b"/v1/models/" + b"a" * 20_000, b"/\xff\xfe", b"*", b"/%",
    b"/v1/models/%0d%0aSet-Cookie:%20a=b", b"/nowhere?%0d%0aSet-Cookie:%20a=b"])
def test_paths_lead_nowhere(server: Running, path: bytes) -> None:
    found = exchanged(server.port, get(path))
    assert statuses(found) and statuses(found)[0] in (400, 404)
    assert b"root:" not in found and b"\nset-cookie" not in found.lower()


def test_an_absolute_address_changes_nothing(server: Running) -> None:
    assert statuses(exchanged(server.port, get(b"http://127.0.0.1:1/health"))) == [200]
    assert statuses(exchanged(server.port, get(b"http://localhost/health", host=b"evil.example"))) == [421]


# ---- headers ----


@pytest.mark.parametrize("value", [b"a\r\n Set-Cookie: a=b", b"a\rSet-Cookie: a=b", b"a\nSet-Cookie: a=b", b"a%0d%0aSet-Cookie:%20a=b",
                                   b"a\x00b", b"\xff\xfe", "é".encode(), b"a" * 300])
@pytest.mark.parametrize("name", [b"X-Request-Id", b"Origin", b"Traceparent", b"X-Forwarded-For", b"Access-Control-Request-Headers"])
def test_no_value_becomes_a_header(server: Running, name: bytes, value: bytes) -> None:
    found = exchanged(server.port, get(b"/health", name + b": " + value))
    assert len(statuses(found)) == 1 and statuses(found)[0] in (200, 400, 403)
    assert b"\nset-cookie" not in found.lower() and value not in found


@pytest.mark.parametrize("host", [b"", b"evil.example", b"localhost.evil.example", b"evil.example:localhost", b"127.0.0.1.evil.example",
                                  b"localhost@evil.example", b"[::1", b"\xff", b"localhost, evil.example"])
def test_hosts_that_only_look_like_ours(server: Running, host: bytes) -> None:
    found = exchanged(server.port, get(b"/v1/models", host=host))
    assert statuses(found) in ([400], [421]) or host == b"[::1"


def test_two_hosts_are_one_too_many(server: Running) -> None:
    for one, other in ((b"localhost", b"evil.example"), (b"evil.example", b"localhost"), (b"localhost", b"localhost")):
        assert statuses(exchanged(server.port, get(b"/v1/models", b"Host: " + other, host=one))) == [400]


def test_forwarded_addresses_are_not_believed(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "gollama.access"):
        exchanged(server.port, get(b"/health", b"X-Forwarded-For: 203.0.113.9", b"Forwarded: for=203.0.113.9"))
        wait_until(lambda: "/health" in caplog.text)
    assert "203.0.113.9" not in caplog.text


@pytest.mark.parametrize("origin", ["https://app.example.evil", "https://evil-app.example", "http://app.example", "https://APP.example",
                                    "https://app.example:444", "null", "https://app.example/", "file://", "https://app.example\tx"])
def test_origins_that_only_look_allowed(lent: Lend, origin: str) -> None:
    with lent(cors_origins=["https://app.example"]) as server:
        headers = {"Origin": origin}
        assert httpx2.get(f"{server.url}/v1/models", headers=headers).status_code == 403
        probe = {**headers, "Access-Control-Request-Method": "POST", "Access-Control-Request-Private-Network": "true"}
        for reply in (httpx2.get(f"{server.url}/v1/models", headers=headers), httpx2.options(f"{server.url}{CHAT}", headers=probe)):
            assert "access-control-allow-origin" not in reply.headers and "access-control-allow-private-network" not in reply.headers


# ---- framing ----


def post(*headers: bytes, body: bytes) -> bytes:
    return b"\r\n".join([b"POST /v1/models HTTP/1.1", b"Host: localhost", *headers, b"", b""]) + body


@pytest.mark.parametrize("data", [
    post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"2c\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"),
    post(b"Content-Length: 0", b"Content-Length: 44", body=SMUGGLED),
    post(b"Content-Length: 0, 44", body=SMUGGLED),
    post(b"Content-Length: +0", body=SMUGGLED),
    post(b"Content-Length: -1", body=SMUGGLED),
    post(b"Content-Length: 0x0", body=SMUGGLED),
    post(b"Content-Length: 99999999999999999999999", body=SMUGGLED),
    post(b"Content-Length : 0", body=SMUGGLED),
    post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", body=b"-1\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", body=b"0x0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", body=b"FFFFFFFFFFFFFFFFF\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", body=b"zz\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", body=b"1\r\nab\r\n0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", body=b"0\n\n" + SMUGGLED),
    b"GET /health HTTP/1.1\nHost: localhost\nX: a\n\n" + SMUGGLED,
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n X: folded\r\n\r\n" + SMUGGLED,
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nA\x00B: c\r\n\r\n" + SMUGGLED,
    b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n" + SMUGGLED,
    b"GET /health HTTP/0.9\r\n\r\n" + SMUGGLED,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    b"CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example\r\n\r\n" + SMUGGLED])
def test_nothing_is_smuggled_behind_an_unclear_end(lent: Lend, data: bytes) -> None:
    """One answer at most, and no answer to what stands behind; or none at all until the time is up."""
    with lent(read_timeout=0.5) as server:
        found = exchanged(server.port, data, seconds=2)
    assert len(statuses(found)) == 1 and statuses(found)[0] in (400, 405, 408, 413, 421), found[:200]
    assert b'"smollm2"' not in found


def test_requests_in_a_row_are_answered_in_order(server: Running) -> None:
    data = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n" + get(b"/v1/models")
    assert statuses(exchanged(server.port, data)) == [200, 404, 200]


def test_an_upgrade_is_not_made(server: Running) -> None:
    for upgrade in (b"Upgrade: websocket", b"Upgrade: h2c"):
        headers = (upgrade, b"Connection: Upgrade", b"Sec-WebSocket-Key: eA==", b"Sec-WebSocket-Version: 13")
        found = exchanged(server.port, get(b"/health", *headers), seconds=2)
        assert statuses(found) in ([200], [400])


# ---- patience ----


def test_one_byte_at_a_time_is_cut_off(lent: Lend) -> None:
    """Slow-loris: that something comes now and then does not keep a connection."""
    with lent(read_timeout=0.5) as server:
        for beginning in (b"GET /health HTTP/1.1\r\nX: ", request(b"", "Content-Length: 10000")):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(beginning)
                connection.settimeout(0.05)
                found, sent = b"", 0
                try:
                    while not found and sent < 200:
                        connection.sendall(b" ")
                        sent += 1
                        with suppress(TimeoutError):
                            found = connection.recv(1000)
                except OSError:
                    pass
                assert sent < 200 and (not found or statuses(found) == [408])


def test_whoever_does_not_take_a_whole_answer_is_cut_off(lent: Lend) -> None:
    with lent(write_timeout=0.5) as server, ExitStack() as held:
        listening = held.enter_context(socket.socket(fileno=os.dup(server.server.servers[0].sockets[0].fileno())))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        body = json.dumps({"messages": ASK, "ignore_eos": True, "max_tokens": 40, "logprobs": True, "top_logprobs": 20, "n": 4}).encode()
        for _ in range(2):
            connection = held.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(request(body, f"Content-Length: {len(body)}"))
        wait_until(lambda: len(server.server.server_state.connections) == 2)
        wait_until(lambda: not server.server.server_state.connections)


def test_connections_opened_and_left(server: Running) -> None:
    before = len(server.server.server_state.connections)
    with ExitStack() as held:
        for _ in range(300):
            held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        wait_until(lambda: len(server.server.server_state.connections) >= before + 300)
        assert httpx2.get(f"{server.url}/health").status_code == 200
    wait_until(lambda: len(server.server.server_state.connections) <= before)


def test_whoever_leaves_in_a_crowd_leaves_nothing(server: Running, llm: AsyncLLM) -> None:
    """Half of them are gone before the first token, half of them with a reset."""
    body = json.dumps(LONG).encode()
    for number in range(40):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(request(body, f"Content-Length: {len(body)}"))
        if number % 2:
            connection.recv(100)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.close()
    wait_until(lambda: (llm.stats().running, llm.stats().waiting) == (0, 0))


# ---- what is not fetched, and not told ----


@pytest.fixture
def trap() -> Iterator[tuple[int, list[object]]]:
    """A port, and who came to it."""
    came: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        ends = threading.Event()

        def wait() -> None:
            while not ends.is_set():
                try:
                    connection, address = listening.accept()
                except TimeoutError:
                    continue
                came.append(address)
                connection.close()

        thread = threading.Thread(target=wait)
        thread.start()
        yield listening.getsockname()[1], came
        ends.set()
        thread.join()


def test_no_address_in_a_request_is_visited(http: httpx2.Client, trap: tuple[int, list[object]]) -> None:
    url = f"http://127.0.0.1:{trap[0]}/x"
    bodies: list[tuple[str, dict[str, Any]]] = [
        (CHAT, {"messages": [{"role": "user", "content": [{"type": kind, **part}]}]}) for kind, part in (
            ("image_url", {"image_url": {"url": url}}), ("image_url", {"image_url": url}), ("input_audio", {"input_audio": {"data": url}}),
            ("file", {"file": {"file_data": url}}), ("video_url", {"video_url": {"url": url}}))]
    bodies += [("/v1/responses", {"input": [{"role": "user", "content": [{"type": kind, **part}]}]}) for kind, part in (
        ("input_image", {"image_url": url}), ("input_image", {"file_id": url}), ("input_file", {"file_url": url}))]
    form = {"type": "json_schema", "json_schema": {"schema": {"$ref": url}}}
    bodies += [(CHAT, {"messages": ASK, "max_tokens": 1, "response_format": form}),
               (CHAT, {"messages": ASK, "max_tokens": 1, "json_schema": {"$schema": url, "$ref": url}}),
               (CHAT, {"messages": ASK, "model": url}), ("/models/load", {"model": url}), ("/models/load", {"model": "hf:someone/model"})]
    for path, body in bodies:
        reply = http.post(path, json=body)
        assert 400 <= reply.status_code < 500, (path, body, reply.text)
    assert trap[1] == []


def test_no_log_of_a_server_has_anybody_s_text(tmp_path: Path) -> None:
    """All that a process writes at its most talkative, uvicorn's and llama.cpp's messages among it."""
    model = tiny.write(tmp_path / "tiny.gguf", context=256, template="{% for message in messages %}{{ message.content }}{% endfor %}")
    secret = "xyzzyplugh"
    log = tmp_path / "log"
    command = [sys.executable, "-m", "gollama", "serve", f"tiny={model}", "--port", "0", "--log-level", "debug", "--context-size", "256",
               "--threads", "1", "--max-sequences", "2"]
    with log.open("w") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_until(lambda: "running on http" in log.read_text())
        port = int(re.findall(r"running on http://127\.0\.0\.1:(\d+)", log.read_text())[0])
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            wait_until(lambda: http.get("/ready").status_code == 200)
            told = [{"role": "user", "content": secret}]
            bodies: list[tuple[str, dict[str, Any]]] = [
                (CHAT, {"messages": told, "max_tokens": 3}), (CHAT, {"messages": told, "stream": True, "max_tokens": 3}),
                (CHAT, {"messages": told, secret: 1}), (CHAT, {"messages": told, "model": secret}), (CHAT, {"messages": secret * 1000}),
                (CHAT, {"messages": [{"role": secret, "content": secret}]}), (CHAT, {"messages": told * 100}),
                (CHAT, {"messages": told, "grammar": f"root ::= {secret}"}), (CHAT, {"messages": told, "stop": secret, "user": secret}),
                (CHAT, {"messages": told, "json_schema": {"type": secret}}),
                (CHAT, {"messages": told, "json_schema": {"type": "string", "pattern": secret + "("}}),
                (CHAT, {"messages": told, "grammar": f'root ::= "{secret}"', "max_tokens": 20}),
                (CHAT, {"messages": told, "tools": [{"type": "function", "function": {"name": secret, "description": secret}}]}),
                ("/v1/completions", {"prompt": secret, "max_tokens": 2, "echo": True}), ("/v1/responses", {"input": secret}),
                ("/v1/embeddings", {"input": secret}), ("/v1/rerank", {"query": secret, "documents": [secret]}),
                ("/tokenize", {"content": secret}), ("/apply-template", {"messages": told}),
                ("/infill", {"input_prefix": secret, "input_suffix": secret}), ("/models/load", {"model": secret})]
            for path, body in bodies:
                assert http.post(path, json=body).status_code < 500, (path, body)
            http.post(f"{CHAT}?{secret}={secret}", content=secret.encode())
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(f"{secret} {secret}\r\n{secret}\r\n\r\n".encode())
                connection.recv(1000)
            wait_until(lambda: log.read_text().count("POST") > len(bodies))
    finally:
        child.terminate()
        assert child.wait(30) == 0
    assert secret not in log.read_text()
