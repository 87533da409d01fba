"""What HTTP costs over the engine: CPU time of the server's process for each request, and for each streamed token.

Run as `python -m benchmarks.server`. A child is the client, so that only the server's own time counts; the same is asked of the engine
in the same process, on the same kind of event loop, and the difference is told: the median of rounds of one beside the other. The model
is a miniature, and answers are short, so that computing, whose time is not the same twice, does not hide what HTTP costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from gollama import AsyncLLM
from gollama.server import Background, ServerConfig
from tests.support import tiny

CLIENT = """
import json, socket, sys, threading
port, requests, at_once, body = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
head = b"POST %b HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n" % (
    sys.argv[5].encode(), len(body))
def ask():
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(requests):
            connection.sendall(head + body)
            found = b""
            while b"\\r\\n\\r\\n" not in found:
                found += connection.recv(65536)
            top, _, found = found.partition(b"\\r\\n\\r\\n")
            length = next((int(line[15:]) for line in top.split(b"\\r\\n") if line[:15].lower() == b"content-length:"), None)
            while not found.endswith(b"0\\r\\n\\r\\n") if length is None else len(found) < length:
                found = (found[-8:] if length is None else found) + connection.recv(65536)
threads = [threading.Thread(target=ask) for _ in range(at_once)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
ASK = [{"role": "user", "content": "the sky"}]
LETTER = 264  # a token of the miniature that is a whole character, so that each makes a chunk


def spent(action: Callable[[], Any]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


def by_http(port: int, requests: int, at_once: int, body: dict[str, Any], path: str) -> tuple[float, float]:
    command = [sys.executable, "-c", CLIENT, str(port), str(requests), str(at_once), json.dumps(body), path]
    return spent(lambda: subprocess.run(command, check=True))


def alone(llm: AsyncLLM, requests: int, at_once: int, options: dict[str, Any], *, stream: bool) -> tuple[float, float]:
    async def ask() -> None:
        for _ in range(requests):
            if stream:
                opened = await llm.open_stream_chat(ASK, **options)
                while await opened.read():
                    pass
            else:
                await llm.chat(ASK, **options)

    async def main() -> None:
        await asyncio.gather(*(ask() for _ in range(at_once)))

    return spent(lambda: uvloop.run(main()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=80, help="in a round")
    parser.add_argument("--streams", type=int, default=8, help="in a round")
    parser.add_argument("--tokens", type=int, default=250, help="of a stream")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = tiny.write(Path(folder) / "tiny.gguf", context=512, template=TEMPLATE)
        config = ServerConfig(models=[f"tiny={model}"], port=0, access_log="off", loading={"context_size": 512, "threads": 1})
        background = Background(config)
        with background:
            llm = background.app.state.service.models()[0].llm
            assert llm is not None
            for at_once in (1, 8):
                measure(AsyncLLM(llm), background.port, at_once, arguments)


def measure(llm: AsyncLLM, port: int, at_once: int, arguments: argparse.Namespace) -> None:
    path = "/v1/chat/completions"
    options: dict[str, Any] = {"max_tokens": 1, "ignore_eos": True, "temperature": 0, "logit_bias": {LETTER: 1e5}}
    body = {"messages": ASK, **options}
    long = options | {"max_tokens": arguments.tokens}
    streaming = body | long | {"stream": True, "stream_options": {"include_usage": True}}
    requests, streams = arguments.requests // at_once, arguments.streams // at_once
    found: dict[str, list[float]] = {}
    for counted in [False] + [True] * arguments.rounds:  # the first to warm up
        http = by_http(port, requests, at_once, body, path)
        engine = alone(llm, requests, at_once, options, stream=False)
        streamed = by_http(port, streams, at_once, streaming, path)
        streamed_engine = alone(llm, streams, at_once, long, stream=True)
        count, tokens = requests * at_once, streams * at_once * arguments.tokens
        for name, value in {
                "HTTP, µs a request": (http[0] - engine[0]) / count * 1e6, "engine, µs a request": engine[0] / count * 1e6,
                "requests/s": count / http[1], "HTTP, µs a streamed token": (streamed[0] - streamed_engine[0]) / tokens * 1e6,
                "engine, µs a streamed token": streamed_engine[0] / tokens * 1e6}.items():
            if counted:
                found.setdefault(name, []).append(value)
    row: dict[str, Any] = {"at once": at_once}
    for name, values in found.items():
        row[name] = round(statistics.median(values), 1)
        row[f"{name}, least to most"] = [round(min(values), 1), round(max(values), 1)]
    print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    main()
