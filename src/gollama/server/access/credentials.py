"""What a request shows to be let in."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.types import Scope

from gollama.server.access.keys import PREFIX
from gollama.server.errors import ApiError

# what programs call a key in a query, where logs and histories keep it
QUERY_NAMES = frozenset({"key", "api_key", "api-key", "apikey", "x-api-key", "access_token", "authorization"})
MOST_CREDENTIAL = 16 * 1024  # characters
CHALLENGE = {"WWW-Authenticate": "Bearer"}


def unauthorized(message: str, code: str = "invalid_api_key") -> ApiError:
    return ApiError(401, message, code=code, headers=CHALLENGE)


def check_query(scope: Scope) -> None:
    """ApiError 400 where a key stands in the query."""
    query: bytes = scope.get("query_string", b"")
    if not query:
        return
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name.lower() in QUERY_NAMES or value.startswith(PREFIX):
            raise ApiError(400, "a key does not belong into the address, where logs keep it: send `Authorization: Bearer KEY`. "
                           "Take this one for lost, and revoke it", code="key_in_query")


def credential_of(scope: Scope) -> str | None:
    """The key or the token: of `Authorization: Bearer …`, or Anthropic's `x-api-key`. None without; ApiError 401 for two different ones."""
    found: set[str] = set()
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            found.add(value.decode("latin-1").strip())
        elif name == b"authorization":
            scheme, _, text = value.decode("latin-1").strip().partition(" ")
            if scheme.lower() != "bearer":
                raise unauthorized("Authorization must be `Bearer KEY`")
            found.add(text.strip())
    found.discard("")
    if len(found) > 1:
        raise unauthorized("two different keys were sent: leave one out")
    text = next(iter(found), None)
    if text is not None and len(text) > MOST_CREDENTIAL:
        raise unauthorized("that is no key")
    return text
