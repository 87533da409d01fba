"""The page at `/`: a chat and the server's metrics. Its files are written by hand and are all that it loads."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from importlib import resources

from fastapi import APIRouter, Request, Response

from gollama.server.errors import ApiError

router = APIRouter(include_in_schema=False)

INDEX = "index.html"
KINDS = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
         "svg": "image/svg+xml"}
# Nothing from elsewhere, nothing inline, no frames around it; `require-trusted-types-for` has the browser refuse to make markup of text
POLICY = ("default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
          "require-trusted-types-for 'script'; trusted-types 'none'")
HEADERS = {
    "cache-control": "no-cache",  # kept, but asked after: names stay the same from release to release
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True)
class PageFile:
    """`tag` is the ETag, made from the content."""

    content: bytes
    kind: str
    tag: str


@functools.cache
def page_files() -> dict[str, PageFile]:
    """All files of the page by name. A request can name these and no path."""
    found = {}
    for file in resources.files(__name__).iterdir():
        kind = KINDS.get(file.name.rpartition(".")[2])
        if kind:
            content = file.read_bytes()
            found[file.name] = PageFile(content, kind, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return found


@router.get("/")
async def index(request: Request) -> Response:
    """The page."""
    return _answer(request, INDEX)


@router.get("/page/{name}")
async def page_file(request: Request, name: str) -> Response:
    """What it loads."""
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    file = page_files().get(name)
    if file is None:
        raise ApiError(404, "the page has no such file", code="not_found")
    headers = {**HEADERS, "etag": file.tag}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if file.tag in known or "*" in known:
        return Response(None, 304, headers)
    return Response(file.content, 200, headers, file.kind)
