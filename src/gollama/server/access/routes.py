"""What each route asks of a key. A route that is not here is open to no key: the test of scopes tells whoever adds one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from starlette.routing import compile_path

from gollama.server.access.principals import ADMIN, INFERENCE, METRICS, SCOPES

OPEN: frozenset[str] = frozenset()  # nobody is asked
ANY = frozenset(SCOPES)  # any key
INFERRING = frozenset({INFERENCE})  # what is counted and limited
RULING = frozenset({ADMIN})  # what the audit log tells of


def _each(scopes: Iterable[str], *paths: str) -> dict[str, frozenset[str]]:
    return dict.fromkeys(paths, frozenset(scopes))


# by a route's path; one of the scopes is enough
ROUTES: Mapping[str, frozenset[str]] = MappingProxyType({
    **_each(OPEN, "/", "/favicon.ico", "/page/{name}", "/health", "/v1/health", "/ready"),
    **_each(ANY, "/openapi.json"),
    **_each([METRICS], "/metrics"),
    **_each(RULING, "/models/load", "/models/unload"),
    **_each([INFERENCE, ADMIN], "/v1/models", "/models", "/v1/models/{name:path}", "/props", "/api/tags", "/api/ps", "/api/show",
            "/api/version"),
    **_each(INFERRING,
            "/v1/chat/completions", "/chat/completions", "/v1/completions", "/completions", "/completion", "/v1/embeddings", "/embeddings",
            "/embedding", "/v1/responses", "/responses", "/v1/responses/{response_id}", "/v1/responses/{response_id}/input_items",
            "/v1/rerank", "/rerank", "/v1/reranking", "/reranking", "/tokenize", "/detokenize", "/apply-template", "/infill",
            "/v1/chat/completions/input_tokens", "/chat/completions/input_tokens", "/v1/messages", "/v1/messages/count_tokens",
            "/api/chat", "/api/generate", "/api/embed", "/api/embeddings"),
})
_PATTERNS = sorted(((compile_path(path)[0], path) for path in ROUTES if "{" in path), key=lambda one: len(one[1]), reverse=True)


def route_of(path: str) -> str | None:
    """The route that a request's path belongs to; None for one that is unknown here."""
    if path in ROUTES:
        return path
    return next((route for pattern, route in _PATTERNS if pattern.match(path)), None)
