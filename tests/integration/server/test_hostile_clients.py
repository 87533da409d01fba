"""Clients that stand still or leave, and what is not fetched and not told."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gollama import AsyncLLM
from tests.support import tiny
from tests.support.answers import wait_until
from tests.support.raw import ASK, CHAT, LONG, Lend, exchanged, get, request, statuses
from tests.support.server import Running

pytestmark = pytest.mark.usefixtures("unharmed")


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


@pytest.mark.parametrize("lines", [b"\r\n", b"\r\n" * 3])
def test_empty_lines_do_not_keep_a_connection(lent: Lend, lines: bytes) -> None:
    with lent(read_timeout=0.5, keep_alive=1) as server:
        asked = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert statuses(exchanged(server.port, asked, more=lines, seconds=5)) == [200, 408]
        wait_until(lambda: not server.server.server_state.connections)
        assert statuses(exchanged(server.port, asked, more=lines + get(b"/health"), seconds=5)) == [200, 200]


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
    def there() -> set[int]:
        clients = [getattr(one, "client", None) for one in list(server.server.server_state.connections)]
        return {client[1] for client in clients if client} & ports

    with ExitStack() as held:
        opened = [held.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(300)]
        ports = {one.getsockname()[1] for one in opened}
        wait_until(lambda: there() == ports)
        assert httpx2.get(f"{server.url}/health").status_code == 200
    wait_until(lambda: not there())


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
