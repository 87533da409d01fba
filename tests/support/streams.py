"""Streams of a server, read by asyncio alone, so that hundreds of clients cost little: one connection for each request."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

CHAT = "/v1/chat/completions"
MOST_LINE = 2**20


@dataclass
class Streamed:
    """What came of one request. Seconds count from the moment it was made; `usage` comes if it was asked for."""

    status: int = 0
    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    done: bool = False
    arrivals: list[float] = field(default_factory=list)  # of the pieces of text
    seconds: float = 0.0
    error: str | None = None


async def stream(port: int, body: dict[str, Any], *, path: str = CHAT, leave_after: int | None = None, reset: bool = False) -> Streamed:
    """Ask and read all; or leave after so many pieces of text, as a client that vanishes, with a `reset` if asked."""
    begun, found = time.perf_counter(), Streamed()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MOST_LINE)
    try:
        writer.write(_request(path, {**body, "stream": True}))
        found.status = int((await reader.readline()).split()[1])
        while not found.done and (line := await reader.readline()):
            if line.startswith(b"data: "):
                _add(found, line[6:].strip(), begun)
            elif found.status != 200 and line.startswith(b"{"):
                found.error = line.decode()
            if leave_after is not None and len(found.arrivals) >= leave_after:
                break
    finally:
        found.seconds = time.perf_counter() - begun
        if reset:
            writer.transport.abort()
        writer.close()
    return found


def _request(path: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(data)}\r\n\r\n").encode() + data


def _add(found: Streamed, data: bytes, begun: float) -> None:
    if data == b"[DONE]":
        found.done = True
        return
    event = json.loads(data)
    if "error" in event:
        found.error = json.dumps(event["error"])
        return
    found.usage = event.get("usage") or found.usage
    for choice in event["choices"]:
        text = choice["delta"].get("content") if "delta" in choice else choice["text"]
        if text:
            found.text += text
            found.arrivals.append(time.perf_counter() - begun)
        found.finish_reason = choice["finish_reason"] or found.finish_reason


async def pulse(port: int, ends: asyncio.Event, pause: float = 0.05) -> list[float]:
    """Seconds that /health took, again and again over one connection, until the event. ConnectionError if it does not answer."""
    times: list[float] = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while not ends.is_set():
            begun = time.perf_counter()
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(head.decode())
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            times.append(time.perf_counter() - begun)
            await asyncio.sleep(pause)
    finally:
        writer.close()
    return times
