"""API keys: made once, shown once, kept as hashes.

A key has 256 random bits, so that a plain SHA-256 of it cannot be searched. A slow hash protects what people choose,
which these are not, and would cost every request what it costs an attacker.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gollama.errors import OptionError
from gollama.server.access import audit
from gollama.server.access.database import transaction
from gollama.server.access.principals import INFERENCE, Limits, Principal, checked_scopes

PREFIX = "gollama-"
ID_BYTES, SECRET_BYTES = 6, 32
MOST_NAME = 100
SELECT = ("SELECT id, name, scopes, models, requests_per_minute, tokens_per_minute, tokens_per_day, hash, created, expires, revoked "
          "FROM keys")
NOBODY = bytes(32)  # what the hash of a key that does not exist is compared with


def hashed(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def same(key: str, expected: bytes) -> bool:
    """Whether it is the key with that hash. Hashes are compared, in constant time, whatever the key's length is."""
    return hmac.compare_digest(hashed(key), expected)


@dataclass(frozen=True)
class Key:
    """What is known of a key. Its beginning, `gollama-` and the id, is no secret and tells which one it is. Times are seconds of Unix."""

    principal: Principal
    hash: bytes
    created: int
    expires: int | None
    revoked: int | None

    @property
    def prefix(self) -> str:
        return PREFIX + self.principal.id

    def state(self, now: float) -> str:
        """active, revoked or expired."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "active"

    def as_dict(self, now: float) -> dict[str, Any]:
        own = self.principal
        return {"id": own.id, "name": own.name, "prefix": self.prefix, "state": self.state(now), "scopes": sorted(own.scopes),
                "models": None if own.models is None else sorted(own.models), **vars(own.limits), "created": self.created,
                "expires": self.expires, "revoked": self.revoked}


def create(connection: sqlite3.Connection, name: str, *, actor: str, scopes: Sequence[str] = (INFERENCE,),
           models: Sequence[str] | None = None, limits: Limits | None = None, expires: int | None = None) -> str:
    """A new key, which nobody can be told again. OptionError."""
    limits = limits or Limits()
    if not name or len(name) > MOST_NAME or not name.isprintable():
        raise OptionError(f"name must have 1 to {MOST_NAME} printable characters, not be {name[:MOST_NAME]!r}")
    if expires is not None and expires <= time.time():
        raise OptionError("expires must be a time to come")
    if models is not None and (not models or not all(models)):
        raise OptionError("models must name some; leave it out for all")
    key_id = secrets.token_hex(ID_BYTES)
    key = f"{PREFIX}{key_id}-{secrets.token_urlsafe(SECRET_BYTES)}"
    given = {"scopes": sorted(checked_scopes(scopes)), "models": None if models is None else sorted(set(models)), **vars(limits),
             "expires": expires}
    with transaction(connection):
        if connection.execute("SELECT 1 FROM keys WHERE name = ?", (name,)).fetchone():
            raise OptionError(f"there is a key of the name {name!r} (also revoked ones keep theirs)")
        connection.execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            (key_id, name, hashed(key), json.dumps(given["scopes"]), None if models is None else json.dumps(given["models"]),
             *vars(limits).values(), int(time.time()), expires))
        audit.append(connection, actor, "key.create", {"id": key_id, "name": name, **given})
    return key


def revoke(connection: sqlite3.Connection, which: str, *, actor: str) -> Key:
    """Have it work no more, for good. `which` is its name, its id or its beginning. OptionError."""
    with transaction(connection):
        found = [key for key in all_keys(connection) if which in (key.principal.name, key.principal.id, key.prefix)]
        if not found:
            raise OptionError(f"there is no key {which[:MOST_NAME]!r}: `gollama keys list` shows them")
        key = found[0]
        if key.revoked is not None:
            raise OptionError(f"the key {key.principal.name!r} was revoked before")
        connection.execute("UPDATE keys SET revoked = ? WHERE id = ?", (int(time.time()), key.principal.id))
        audit.append(connection, actor, "key.revoke", {"id": key.principal.id, "name": key.principal.name})
    return key


def all_keys(connection: sqlite3.Connection) -> list[Key]:
    """Oldest first, revoked ones too."""
    return [_key(row) for row in connection.execute(f"{SELECT} ORDER BY created, rowid")]


def _key(row: Sequence[Any]) -> Key:
    scopes, models = frozenset(json.loads(row[2])), None if row[3] is None else frozenset(json.loads(row[3]))
    return Key(Principal(row[0], row[1], scopes, models, Limits(*row[4:7])), *row[7:])


class KnownKeys:
    """The keys in the file. What another process changes counts from the next request on. One thread at a time."""

    def __init__(self, connection: sqlite3.Connection, now: Callable[[], float] = time.time) -> None:
        self._connection, self._now = connection, now

    @property
    def any(self) -> bool:
        """Whether there ever was one."""
        return self._connection.execute("SELECT 1 FROM keys LIMIT 1").fetchone() is not None

    def find(self, text: str) -> tuple[Key | None, str]:
        """The key, and its state; None and "unknown" for what is none, whose hash is compared all the same."""
        key_id = text.removeprefix(PREFIX).partition("-")[0]
        row = self._connection.execute(f"{SELECT} WHERE id = ?", (key_id,)).fetchone()
        key = None if row is None else _key(row)
        if not same(text, NOBODY if key is None else key.hash) or key is None:
            return None, "unknown"
        return key, key.state(self._now())
