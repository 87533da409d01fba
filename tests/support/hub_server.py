"""A small server that speaks the Hub's protocol on this machine, and misbehaves when it is told to.

Its client is the real huggingface_hub, through HF_ENDPOINT, and gollama's downloader. The bytes themselves come from a second port, as the
Hub's come from another host. It counts what it sends.

    python -m tests.support.hub_server FOLDER [--rate BYTES]

serves the files of FOLDER/OWNER/NAME/ and prints its address.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

BLOCK = 1 << 16


@dataclass
class Fault:
    """What goes wrong with requests whose path matches; `times` of them, all if None. `after` requests are served well first."""

    path: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of the body, then the connection dies
    short: bool = False  # the connection ends in good order, too early
    slow: float = 0.0  # seconds between two blocks
    ignore_range: bool = False
    etag: str | None = None
    wrong_bytes: bool = False
    location: str | None = None  # a redirect to somewhere else
    no_length: bool = False
    times: int | None = None
    after: int = 0
    method: str = "GET"


@dataclass
class Sent:
    """A body, or the part of it that the server could write."""

    path: str
    start: int
    count: int
    authorization: str | None
    headers: dict[str, str]
    method: str = "GET"


@dataclass
class Repository:
    files: dict[str, bytes | Path]
    commit: str = "c" * 40
    token: str | None = None
    gated: bool = False
    plain: frozenset[str] = frozenset()  # files that are kept in git itself, without a sha256

    def content(self, name: str) -> bytes | Path:
        return self.files[name]


def size_of(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


class HubServer:
    """A `with` block; `endpoint` is what HF_ENDPOINT is set to. `rate`: bytes a second of one connection."""

    def __init__(self, repositories: dict[str, Repository], *, rate: int | None = None) -> None:
        self.repositories = repositories
        self.faults: list[Fault] = []
        self._sent: list[Sent] = []
        self.busy = self.most_busy = 0
        self.rate = rate
        self.on_block: Callable[[], None] | None = None
        self._digests: dict[int, str] = {}
        self._lock = threading.Lock()
        self._servers = [_server(self) for _ in range(2)]
        self.endpoint, self.store = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def __enter__(self) -> HubServer:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def sent(self) -> list[Sent]:
        """What was sent, when all answers that a client may have seen the end of are written down."""
        until = time.monotonic() + 10
        while self.busy and time.monotonic() < until:
            time.sleep(0.005)
        return self._sent

    def sha256(self, content: bytes | Path) -> str:
        key = id(content)
        if key not in self._digests:
            self._digests[key] = hashlib.sha256(content if isinstance(content, bytes) else content.read_bytes()).hexdigest()
        return self._digests[key]

    def fault(self, path: str, method: str) -> Fault:
        with self._lock:
            for fault in self.faults:
                if method == fault.method and re.search(fault.path, path) and fault.times != 0:
                    if fault.after:
                        fault.after -= 1
                        continue
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return Fault("")

    def bodies(self, pattern: str) -> list[Sent]:
        return [sent for sent in self.sent if sent.count and re.search(pattern, sent.path)]

    def bytes_sent(self, pattern: str = "/store/") -> int:
        return sum(sent.count for sent in self.bodies(pattern))


def _server(hub: HubServer) -> ThreadingHTTPServer:
    class Bound(_Handler):
        pass

    Bound.hub = hub
    server = _Server(("127.0.0.1", 0), Bound)
    server.daemon_threads = True
    return server


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that die are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def setup(self) -> None:
        super().setup()
        # what lies in the kernel's buffers counts as sent, so they are kept small
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLOCK * 2)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        with self.hub._lock:
            self.hub.busy += 1
            self.hub.most_busy = max(self.hub.most_busy, self.hub.busy)
        try:
            self.respond()
        finally:
            with self.hub._lock:
                self.hub.busy -= 1

    def respond(self) -> None:
        path = unquote(urlsplit(self.path).path)
        fault = self.hub.fault(path, self.command)
        if fault.location is not None:
            self.answer(302, {"Location": fault.location})
        elif fault.status is not None:
            self.answer(fault.status, fault.headers, b'{"error": "told to"}')
        elif path.startswith("/api/models/"):
            self.model(path.removeprefix("/api/models/"))
        elif path.startswith("/store/"):
            owner, name, _, file = path.removeprefix("/store/").split("/", 3)
            self.store(owner, name, file, fault)
        elif "/resolve/" in path:
            self.resolve(path, fault)
        else:
            self.answer(404, {"X-Error-Code": "EntryNotFound"})

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
        self.note(0, len(body) if status < 300 else 0)

    def note(self, start: int, count: int) -> None:
        with self.hub._lock:
            self.hub._sent.append(Sent(self.path, start, count, self.headers.get("Authorization"), dict(self.headers), self.command))

    def repository(self, name: str) -> Repository | None:
        """The repository, unless it is not there or not for this client, which is told."""
        found = self.hub.repositories.get(name)
        if found is None:
            self.answer(404, {"X-Error-Code": "RepoNotFound"})
        elif found.token is not None and self.headers.get("Authorization") != f"Bearer {found.token}":
            self.answer(*((403, {"X-Error-Code": "GatedRepo"}) if found.gated else (401, {"X-Error-Code": "RepoNotFound"})))
        else:
            return found
        return None

    def model(self, path: str) -> None:
        name, _, revision = path.partition("/revision/")
        found = self.repository(name)
        if found is None:
            return
        if revision not in ("", "main", found.commit):
            self.answer(404, {"X-Error-Code": "RevisionNotFound"})
            return
        siblings: list[dict[str, Any]] = []
        for file in found.files:
            content = found.content(file)
            row: dict[str, Any] = {"rfilename": file, "size": size_of(content), "blobId": hashlib.sha1(file.encode()).hexdigest()}
            if file not in found.plain:
                row["lfs"] = {"sha256": self.hub.sha256(content), "size": size_of(content), "pointerSize": 134}
            siblings.append(row)
        body = json.dumps({"_id": "1", "id": name, "modelId": name, "sha": found.commit, "private": False, "downloads": 0, "likes": 0,
                           "tags": [], "siblings": siblings}).encode()
        self.answer(200, {"Content-Type": "application/json"}, body)

    def resolve(self, path: str, fault: Fault) -> None:
        repository, _, rest = path[1:].partition("/resolve/")
        revision, _, file = rest.partition("/")
        found = self.repository(repository)
        if found is None:
            return
        if revision not in ("main", found.commit):
            self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        elif file not in found.files:
            self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found.commit})
        elif file in found.plain:
            self.send(found.content(file), f'"{hashlib.sha1(file.encode()).hexdigest()}"', {"X-Repo-Commit": found.commit}, fault)
        else:
            content = found.content(file)
            digest = fault.etag or self.hub.sha256(content)
            self.answer(302, {"X-Repo-Commit": found.commit, "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(size_of(content)),
                              "Location": f"{self.hub.store}/store/{repository}/{found.commit}/{file}", "ETag": f'"{digest}"'})

    def store(self, owner: str, name: str, file: str, fault: Fault) -> None:
        content = self.hub.repositories[f"{owner}/{name}"].content(file)
        self.send(content, fault.etag or f'"{self.hub.sha256(content)}"', {}, fault)

    def send(self, content: bytes | Path, etag: str, headers: dict[str, str], fault: Fault) -> None:
        size = size_of(content)
        start, end = 0, size
        asked = None if fault.ignore_range else re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and self.headers.get("If-Range") in (None, etag):
            start, end = int(asked[1]), min(int(asked[2] or size - 1) + 1, size)
            if start >= size:
                self.answer(416, {"Content-Range": f"bytes */{size}"})
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        else:
            self.send_response(200)
        for key, value in {**headers, "ETag": etag, **fault.headers}.items():
            self.send_header(key, value)
        if fault.no_length:
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command == "GET":
            self.body(content, start, end, fault)

    def body(self, content: bytes | Path, start: int, end: int, fault: Fault) -> None:
        count = 0
        stop = end if fault.cut_after is None else min(end, start + fault.cut_after)
        try:
            if isinstance(content, Path) and self.hub.rate is None and not fault.slow and not fault.wrong_bytes:
                with content.open("rb") as file:
                    while start + count < stop:
                        count += os.sendfile(self.connection.fileno(), file.fileno(), start + count, min(1 << 20, stop - start - count))
            while start + count < stop:
                block = self.block(content, start + count, min(BLOCK, stop - start - count))
                if fault.wrong_bytes:
                    block = bytes(255 - byte for byte in block)
                self.connection.sendall(block)
                count += len(block)
                if self.hub.on_block is not None:
                    self.hub.on_block()
                time.sleep(fault.slow or (len(block) / self.hub.rate if self.hub.rate else 0))
        finally:
            self.note(start, count)
            if stop < end:
                self.close_connection = True
                if not fault.short:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    self.connection.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def block(content: bytes | Path, start: int, count: int) -> bytes:
        if not isinstance(content, Path):
            return content[start:start + count]
        with content.open("rb") as file:
            file.seek(start)
            return file.read(count)


def repositories_in(folder: Path) -> dict[str, Repository]:
    found: dict[str, Repository] = {}
    for path in sorted(folder.glob("*/*/**/*")):
        if path.is_file():
            owner, name, *rest = path.relative_to(folder).parts
            found.setdefault(f"{owner}/{name}", Repository({})).files["/".join(rest)] = path
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=int)
    given = parser.parse_args()
    with HubServer(repositories_in(given.folder), rate=given.rate) as hub:
        print(hub.endpoint, hub.store, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
