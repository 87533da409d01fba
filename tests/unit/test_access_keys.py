"""The access file, its keys, and what a request shows, without a server."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from gollama import AccessFileError, OptionError
from gollama.server.access import audit, keys, usage
from gollama.server.access.credentials import check_query, credential_of
from gollama.server.access.database import connect, opened
from gollama.server.access.keys import KnownKeys, create, hashed, revoke
from gollama.server.access.principals import Limits, Principal
from gollama.server.errors import ApiError
from tests.support.access import use

# ---- the file ----


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_only_the_owner_may_read_the_file(file: str, connection: sqlite3.Connection) -> None:
    create(connection, "a", actor="me")
    assert {stat.S_IMODE(path.stat().st_mode) for path in Path(file).parent.iterdir()} == {0o600}
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    os.chmod(file, 0o640)
    with pytest.raises(AccessFileError, match="chmod 600"):
        connect(file)


@pytest.mark.parametrize(("content", "said"), [(b"no database" * 100, "not a database"), (None, "something else")])
def test_a_file_of_something_else_is_left_alone(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    if content is None:
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE theirs (a)")
        other.close()
        path.chmod(0o600)
    else:
        path.touch(0o600)
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(AccessFileError, match=said):
        connect(path)
    assert path.read_bytes() == before


# ---- keys ----


def test_a_key_is_kept_as_a_hash(file: str, connection: sqlite3.Connection) -> None:
    key = create(connection, "a", actor="me")
    assert len(key) >= 43 + len("gollama-") and connection.execute("SELECT hash FROM keys").fetchone()[0] == hashed(key)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    secret = key.rpartition("-")[2] if len(key.rpartition("-")[2]) > 20 else key[22:]
    assert secret.encode() not in Path(file).read_bytes()


def test_keys_are_found_revoked_and_expire(connection: sqlite3.Connection, file: str) -> None:
    now = time.time()
    clock = [now]
    known = KnownKeys(connect(file), lambda: clock[0])
    assert known.find("x") == (None, "unknown")
    key = create(connection, "a", actor="me", scopes=["admin", "metrics"], models=["m"], limits=Limits(1, 2, 3), expires=int(now) + 60)
    found, state = known.find(key)
    assert found is not None and state == "active" and known.any
    assert (found.principal.scopes, found.principal.models) == (frozenset({"admin", "metrics"}), frozenset({"m"}))
    assert found.principal.limits == Limits(1, 2, 3)
    for wrong in ("", "x", key[:-1], key + "x", key.upper(), key.replace("gollama-", ""), found.prefix, found.prefix + "-"):
        assert known.find(wrong) == (None, "unknown")
    clock[0] = now + 61
    assert known.find(key)[1] == "expired"
    clock[0] = now
    revoke(connection, "a", actor="me")
    assert known.find(key)[1] == "revoked" and known.any
    known._connection.close()


def test_hashes_are_compared_in_constant_time_whether_there_is_such_a_key(connection: sqlite3.Connection,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    key = create(connection, "a", actor="me")
    known = KnownKeys(connection)
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr("gollama.server.access.keys.hmac.compare_digest", compare)
    for text in (key, key + "x", "gollama-000000000000-x", "something"):
        known.find(text)
    assert len(compared) == 4 and all(len(a) == len(b) == 32 for a, b in compared)


def test_a_request_reads_one_key_of_many(connection: sqlite3.Connection, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [create(connection, str(number), actor="me") for number in range(20)]
    read: list[str] = []

    def principal(key_id: str, *rest: Any) -> Principal:
        read.append(key_id)
        return Principal(key_id, *rest)

    monkeypatch.setattr("gollama.server.access.keys.Principal", principal)
    known = KnownKeys(connection)
    with opened(file) as other:
        for key in made:
            other.execute(usage.INSERT, tuple(vars(use(1.0)).values()))  # which is no reason to look at keys anew
            assert known.any and known.find(key)[1] == "active"
    assert len(read) == len(made)


@pytest.mark.parametrize(("options", "said"), [
    ({"name": ""}, "name must"), ({"name": "a\nb"}, "name must"), ({"name": "x" * 101}, "name must"), ({"name": "taken"}, "of the name"),
    ({"scopes": ["root"]}, "scopes must"), ({"scopes": []}, "scopes must"), ({"models": []}, "models must"), ({"expires": 1}, "to come"),
])
def test_what_is_wrong_with_a_key_is_told(options: dict[str, Any], said: str, connection: sqlite3.Connection) -> None:
    create(connection, "taken", actor="me")
    with pytest.raises(OptionError, match=said):
        create(connection, **{"name": "b", "actor": "me", **options})
    assert len(keys.all_keys(connection)) == 1 and len(audit.entries(connection)) == 1


def test_a_limit_must_be_a_number_of_requests_or_tokens() -> None:
    for value in (0, -1, True, 2**60):
        with pytest.raises(OptionError, match="tokens_per_day"):
            Limits(tokens_per_day=value)


# ---- credentials ----


def scope(*headers: tuple[bytes, bytes], query: bytes = b"") -> dict[str, Any]:
    return {"headers": list(headers), "query_string": query}


@pytest.mark.parametrize(("headers", "found"), [
    ([], None), ([(b"authorization", b"Bearer abc")], "abc"),
    ([(b"authorization", b"bearer  abc ")], "abc"), ([(b"x-api-key", b"abc")], "abc"),
    ([(b"x-api-key", b"abc"), (b"authorization", b"Bearer abc")], "abc"), ([(b"x-api-key", b"")], None),
])
def test_where_a_key_stands(headers: list[tuple[bytes, bytes]], found: str | None) -> None:
    assert credential_of(scope(*headers)) == found


@pytest.mark.parametrize("headers", [
    [(b"authorization", b"Basic abc")], [(b"authorization", b"abc")], [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")],
    [(b"authorization", b"Bearer a"), (b"x-api-key", b"b")], [(b"x-api-key", b"x" * 20_000)],
])
def test_what_is_no_key_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ApiError) as caught:
        credential_of(scope(*headers))
    assert caught.value.status == 401


@pytest.mark.parametrize("query", [b"api_key=x", b"API_KEY=x", b"a=b&key=x", b"api%5Fkey=x", b"access_token=", b"q=gollama-1234-5678"])
def test_a_key_in_the_query_is_refused(query: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        check_query(scope(query=query))
    assert (caught.value.status, caught.value.code) == (400, "key_in_query")
