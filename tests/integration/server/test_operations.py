"""Health, metrics, models, logs, and the end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gollama.server import Background, ServerConfig
from gollama.server.access import audit
from gollama.server.access.database import opened
from gollama.server.pool import make_pool
from tests.integration.server.conftest import Lent
from tests.support import tiny
from tests.support.answers import wait_until
from tests.support.server import Running, running

CHAT = "/v1/chat/completions"
ASK: list[Any] = [{"role": "user", "content": "Hello"}]
Lend = Callable[..., AbstractContextManager[Running]]


def values(http: httpx2.Client) -> dict[str, float]:
    """What /metrics says of smollm2, and of all."""
    found = {}
    for family in text_string_to_metric_families(http.get("/metrics").text):
        for sample in family.samples:
            if sample.labels.get("model", "smollm2") == "smollm2" and "le" not in sample.labels:
                found[sample.name] = sample.value
    return found


def test_metrics_count_what_requests_cost(http: httpx2.Client) -> None:
    before = values(http)
    reply = http.post(CHAT, json={"messages": ASK, "max_tokens": 7, "ignore_eos": True}).json()
    after = values(http)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    usage = reply["usage"]
    assert grown("llamacpp:tokens_predicted_total") == 7
    assert grown("llamacpp:prompt_tokens_total") + grown("llamacpp:prompt_tokens_cached_total") == usage["prompt_tokens"]
    assert grown("gollama_time_to_first_token_seconds_count") == grown("gollama_inter_token_seconds_count") == 1
    assert grown("gollama_queue_seconds_count") == 1 and grown("llamacpp:tokens_predicted_seconds_total") > 0
    assert after["llamacpp:n_tokens_max"] >= usage["total_tokens"] and after["gollama_model_loaded"] == 1
    assert 0 < after["gollama_kv_usage_ratio"] <= 1 and after["gollama_weights_bytes"] > 10**7
    assert after["gollama_requests_in_flight"] == 1  # this one


def test_each_request_has_a_line_in_the_log(http: httpx2.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "gollama.access"):
        http.post(CHAT, json={"messages": ASK, "max_tokens": 2, "ignore_eos": True}, headers={"X-Request-Id": "one"})
        wait_until(lambda: 'id="one"' in caplog.text)
    (line,) = [record.getMessage() for record in caplog.records if 'id="one"' in record.getMessage()]
    assert 'id="one"' in line and "completion_tokens=2" in line and 'model="smollm2"' in line and "status=200" in line


def test_the_model_is_listed_and_described(http: httpx2.Client) -> None:
    (model,) = http.get("/v1/models").json()["data"]
    assert model["id"] == "smollm2" and model["state"] == "loaded" and model["meta"]["n_vocab"] == 49152
    assert http.get("/v1/models/smollm2").json() == model and http.get("/v1/models/other").status_code == 404
    assert http.get("/props").json()["default_generation_settings"]["n_ctx"] == 1024


def test_a_model_comes_and_goes() -> None:
    with running("one=smollm2", loading={"context_size": 256, "threads": 1, "max_sequences": 2}, preload=False, load_timeout=30) as server:
        http = httpx2.Client(base_url=server.url, timeout=60)
        assert http.get("/v1/models/one").json()["state"] == "unloaded"
        assert http.post("/models/load", json={"model": "one"}).json()["state"] == "loaded"
        assert http.post("/models/unload", json={"model": "one"}).json()["state"] == "unloaded"
        assert http.post(CHAT, json={"messages": ASK, "max_tokens": 1}).json()["model"] == "one"  # on demand
        with http.stream("POST", CHAT, json={"messages": ASK, "stream": True, "ignore_eos": True}) as stream:
            lines = stream.iter_lines()  # which is kept: forgotten, it would close the stream
            next(lines)
            unloading = threading.Thread(target=http.post, args=["/models/unload"], kwargs={"json": {"model": "one"}})
            unloading.start()
            assert http.get("/v1/models/one").json()["state"] == "loaded"  # as long as somebody uses it
        unloading.join()
        assert http.get("/v1/models/one").json()["state"] == "unloaded"
        assert http.post("/models/load", json={"model": "two"}).status_code == 404
        http.close()


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF" + b"\0" * 64)
    with running(f"bad={damaged}", preload=False) as server:
        reply = httpx2.post(f"{server.url}{CHAT}", json={"messages": ASK})
        assert reply.status_code == 503 and reply.json()["error"]["code"] == "model_unavailable"
        assert str(tmp_path) not in reply.text and httpx2.get(f"{server.url}/health").status_code == 200


def test_whoever_waits_in_vain_is_told_no_path_and_no_other_model(tmp_path: Path) -> None:
    one, other = (tiny.write(tmp_path / f"{name}.gguf", context=8192) for name in ("secret-one", "secret-other"))
    loading = {"context_size": 8192, "threads": 1, "max_sequences": 1, "prefix_cache": 0}
    with running(f"one={one}", f"other={other}", loading=loading, preload=False, load_timeout=0.5, memory=16) as server:
        with httpx2.Client(base_url=server.url, timeout=60) as http:
            forever = {"model": "one", "prompt": "a", "stream": True, "overflow": "shift", "ignore_eos": True}
            with http.stream("POST", "/v1/completions", json=forever) as stream:
                lines = stream.iter_lines()  # which is kept: forgotten, it would close the stream
                next(lines)
                for path, body in (("/v1/completions", {"model": "other", "prompt": "a"}), ("/models/unload", {"model": "one"})):
                    reply = http.post(path, json=body)
                    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "overloaded") and reply.headers["retry-after"]
                    assert "secret" not in reply.text and body["model"] in reply.json()["error"]["message"]


@pytest.mark.parametrize("content", [None, b"GGUF" + bytes(64)])
def test_the_command_ends_where_a_model_cannot_be_loaded(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "a.gguf"
    if content is not None:
        file.write_bytes(content)
    command = [sys.executable, "-m", "gollama", "serve", str(file), "--port", "0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and ("there is no such file" if content is None else "cannot be loaded") in result.stderr


def test_it_closes_all_whatever_goes_wrong(tmp_path: Path) -> None:
    class Broken(Lent):
        closed = False

        def get(self, model: str, /) -> Any:
            raise RuntimeError("there are no threads")

        async def close(self) -> None:
            self.closed = True
            raise RuntimeError("nor here")

    pool = Broken(make_pool(ServerConfig()))
    file = str(tmp_path / "access.db")
    with running("one=a", pool=pool, access_file=file) as server:
        assert httpx2.get(f"{server.url}/ready").status_code == 503 and server.service.failed
    assert pool.closed
    with opened(file) as connection:
        assert [entry.action for entry in audit.entries(connection)] == ["server.start", "server.stop"]


def test_its_address_is_one() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    with running(host="::1") as server:
        assert httpx2.get(f"{server.url}/health").status_code == 200


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets here")
def test_the_address_of_a_unix_socket_is_its_path(tmp_path: Path) -> None:
    with Background(ServerConfig(uds=str(tmp_path / "socket"))) as path:
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=path)) as http:
            assert http.get("http://localhost/health").status_code == 200


def test_any_model_and_no_metrics(lent: Lend) -> None:
    with lent(any_model=True, metrics=False) as server:
        reply = httpx2.post(f"{server.url}{CHAT}", json={"model": "gpt-4", "messages": ASK, "max_tokens": 1})
        assert reply.json()["model"] == "smollm2" and httpx2.get(f"{server.url}/metrics").status_code == 404


def test_it_is_not_ready_when_it_ends(lent: Lend) -> None:
    with lent() as server:
        assert httpx2.get(f"{server.url}/ready").status_code == 200
        server.service.draining = True
        assert httpx2.get(f"{server.url}/ready").json()["error"]["code"] == "not_ready"


def test_unknown_routes_and_methods_have_openai_s_form(http: httpx2.Client) -> None:
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", CHAT, 405), ("DELETE", "/health", 405)):
        reply = http.request(method, path)
        assert reply.status_code == status and set(reply.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/v1/models", "/api/tags", "/", "/page/nothing"])
def test_head_is_get_without_the_body(http: httpx2.Client, server: Running, caplog: pytest.LogCaptureFixture, path: str) -> None:
    with caplog.at_level("INFO", "gollama.access"), socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"HEAD %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode())
        reply = b""
        while data := connection.recv(65536):
            reply += data
        wait_until(lambda: any('method="HEAD"' in line for line in caplog.messages))
    head, _, body = reply.partition(b"\r\n\r\n")
    whole = http.get(path)
    assert not body and int(head.split()[1]) == whole.status_code
    assert f"content-type: {whole.headers['content-type']}".encode() in head.lower()


def test_the_document_describes_the_routes(http: httpx2.Client) -> None:
    document = http.get("/openapi.json").json()
    body = document["paths"][CHAT]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["messages"] and "top_logprobs" in body["properties"] and "$ref" not in json.dumps(document)


def test_traces_are_sent(lent: Lend) -> None:
    sent: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *details: Any) -> None:
            pass

    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    with lent(otlp_endpoint=f"http://127.0.0.1:{collector.server_port}") as server:
        httpx2.post(f"{server.url}{CHAT}", json={"messages": [{"role": "user", "content": "xyzzy"}], "max_tokens": 1},
                    headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    collector.shutdown()
    collector.server_close()
    told = b"".join(sent)
    assert b"gen_ai.usage.input_tokens" in told and bytes.fromhex("0af7651916cd43dd8448eb211c80319c") in told and b"xyzzy" not in told


@contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`gollama serve` as a process, and its address."""
    command = [sys.executable, "-m", "gollama", "serve", "smollm2", "--port", "0", "-c", "1024", "--threads", "1", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield process, found[0]
                break
    finally:
        process.kill()
        process.communicate()


def test_sigterm_lets_a_stream_end() -> None:
    with started() as (process, url):
        body = {"messages": ASK, "stream": True, "ignore_eos": True, "max_tokens": 150}
        with httpx2.stream("POST", url + CHAT, json=body, timeout=60) as stream:
            lines = stream.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert process.wait(30) == 0


def test_what_runs_longer_than_drain_timeout_is_told_so() -> None:
    with started("--drain-timeout", "1") as (process, url):
        with httpx2.stream("POST", url + CHAT, json={"messages": ASK, "stream": True, "ignore_eos": True}, timeout=60) as stream:
            lines = stream.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            last = [line for line in lines if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "unavailable" and process.wait(30) == 0


def test_a_second_signal_ends_it_at_once() -> None:
    with started("--drain-timeout", "300") as (process, url):
        with httpx2.stream("POST", url + CHAT, json={"messages": ASK, "stream": True, "overflow": "shift", "max_tokens": 10**6,
                                                     "ignore_eos": True}, timeout=60) as stream:
            lines = stream.iter_lines()  # which is kept: forgotten, it would close the stream
            next(lines)
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) is not None
