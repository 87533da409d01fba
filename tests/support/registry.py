"""A package registry on this machine, as small as npm takes one, for the real npm client to talk to."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def archive(entries: dict[str, bytes], *, links: dict[str, str] | None = None) -> bytes:
    """A .tgz of the entries; `links` are symbolic ones."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.SYMTYPE
            info.linkname = target
            tar.addfile(info)
    return buffer.getvalue()


def sha512(content: bytes) -> str:
    return base64.b64encode(hashlib.sha512(content).digest()).decode()


@contextmanager
def serving(name: str, version: str, content: bytes) -> Iterator[str]:
    """The address of a registry that has one package in one version."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = f"http://{self.headers['Host']}"
            if self.path == "/package.tgz":
                body = content
            elif self.path.strip("/").replace("%2f", "/") == name:
                dist = {"tarball": f"{address}/package.tgz", "integrity": f"sha512-{sha512(content)}"}
                body = json.dumps({"name": name, "dist-tags": {"latest": version},
                                   "versions": {version: {"name": name, "version": version, "dist": dist}}}).encode()
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
