"""HTTP as bytes on a socket, for clients that no library would make."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx2

from tests.support.server import Running

CHAT = "/v1/chat/completions"
ASK: list[Any] = [{"role": "user", "content": "Hello"}]
LONG = {"messages": ASK, "stream": True, "ignore_eos": True, "max_tokens": 900}
Lend = Callable[..., AbstractContextManager[Running]]
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")  # a body ends without a line


def exchanged(port: int, data: bytes, *, more: bytes = b"", seconds: float = 10) -> bytes:
    """What comes back for bytes, and for more of them once the first answer begins, until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        found = b""
        try:
            while piece := connection.recv(65536):
                found += piece
                if more:
                    connection.sendall(more)
                    more = b""
        except (TimeoutError, ConnectionResetError):
            pass
        return found


def request(body: bytes, *headers: str, host: str = "localhost") -> bytes:
    head = [f"POST {CHAT} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def statuses(data: bytes) -> list[int]:
    return [int(one) for one in STATUS.findall(data)]


def get(path: bytes, *headers: bytes, host: bytes = b"localhost") -> bytes:
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"Host: " + host, *headers, b"Connection: close", b"", b""])


def told(reply: httpx2.Response) -> dict[str, Any]:
    """The error of a refused request."""
    assert 400 <= reply.status_code < 500, (reply.status_code, reply.text[:200])
    found: dict[str, Any] = reply.json()["error"]
    assert set(found) == {"message", "type", "param", "code"} and 0 < len(found["message"]) < 1000
    return found
