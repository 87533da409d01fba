"""Keys, limits, quotas, usage and the audit log, without a server."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gollama import AccessFileError, GollamaError, OptionError
from gollama.cli import access as _commands  # noqa: F401 (they add themselves)
from gollama.cli.application import app
from gollama.server import ServerConfig
from gollama.server.access import audit, keys, usage
from gollama.server.access.buckets import Account, Bucket
from gollama.server.access.credentials import check_query, credential_of
from gollama.server.access.database import SCHEMA, connect, opened, transaction
from gollama.server.access.keys import KnownKeys, create, hashed, revoke
from gollama.server.access.oidc import claim_values, oidc_options
from gollama.server.access.principals import Limits, Principal
from gollama.server.access.routes import ROUTES, route_of
from gollama.server.access.start import check_access
from gollama.server.access.writer import Done, Spent, Writer
from gollama.server.config import shown
from gollama.server.errors import ApiError
from tests.support.answers import wait_until

ROWS = 6
DAY = "2030-01-01"


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "access.db")


@pytest.fixture
def connection(file: str) -> Iterator[sqlite3.Connection]:
    with opened(file) as connection:
        yield connection


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


# ---- limits ----


@given(st.integers(1, 10_000), st.lists(st.tuples(st.floats(0, 200), st.integers(0, 20_000)), max_size=30))
def test_a_bucket_gives_no_more_than_its_rate(size: int, steps: list[tuple[float, int]]) -> None:
    """Whoever waits as long as he is told finds it filled; what was taken never exceeds what it held and what ran in, but for one debt."""
    now = [0.0]
    bucket = Bucket(size, lambda: now[0])
    taken = 0
    for wait, amount in steps:
        now[0] += wait
        if bucket.level >= 1:
            bucket.take(amount)
            taken += amount
            assert taken <= size + now[0] * size / 60 + max(one for _, one in steps)
        now[0] += bucket.seconds_to(1)
        assert bucket.level >= 1 or math.isclose(bucket.level, 1)


def test_an_account_refuses_what_is_used_up() -> None:
    now = [1000.0]
    account = Account(Limits(2, 100, None), DAY, 0, clock=lambda: now[0], now=lambda: 0.0)
    account.admit()
    account.admit()
    with pytest.raises(ApiError) as caught:
        account.admit()
    assert (caught.value.status, caught.value.type, caught.value.code) == (429, "requests", "rate_limit_exceeded")
    assert caught.value.headers == {"Retry-After": "30"}
    now[0] += 30
    account.admit()
    account.spend(250)  # more than there was: a debt, which is paid in time
    now[0] += 60
    with pytest.raises(ApiError) as caught:
        account.admit()
    assert caught.value.type == "tokens" and caught.value.headers == {"Retry-After": "31"}
    told = dict(account.headers())
    assert told[b"x-ratelimit-limit-tokens"] == b"100" and told[b"x-ratelimit-remaining-tokens"] == b"0"
    assert told[b"x-ratelimit-reset-tokens"] == b"1m30s" and told[b"x-ratelimit-limit-requests"] == b"2"


def test_a_quota_is_of_a_day() -> None:
    now = [86400.0 * 2 - 90]
    account = Account(Limits(tokens_per_day=10), "1970-01-02", 9, now=lambda: now[0])
    account.admit()
    account.spend(5)
    assert account.left() == -4
    with pytest.raises(ApiError) as caught:
        account.admit()
    assert (caught.value.code, caught.value.headers) == ("insufficient_quota", {"Retry-After": "90"})
    now[0] += 90
    account.admit()
    assert account.left() == 10


# ---- what is written ----


def use(at: float, key: str = "-", model: str = "m", **fields: Any) -> usage.Use:
    return usage.Use(**{"time": at, "key": key, "model": model, "route": "/v1/chat/completions", "status": 200, "seconds": 1.0,
                        "first_token_seconds": 0.5, "prompt_tokens": 3, "completion_tokens": 4, "cached_tokens": 1, **fields})


def test_the_writer_writes_all_before_it_closes(file: str, connection: sqlite3.Connection) -> None:
    writer = Writer(file, 30)
    writer.start()
    for _ in range(100):
        writer.put(use(time.time()))
        writer.put(Spent("a", DAY, 7))
    writer.put(use(time.time() - 31 * 86400))
    writer.put(Done("me", "model.load", {"model": "m"}))
    writer.close()
    writer.close()
    assert connection.execute("SELECT count(*) FROM usage").fetchone() == (100,)  # what is too old is gone
    assert connection.execute("SELECT * FROM quotas").fetchall() in ([("a", DAY, 700)], [])
    assert audit.verify(connection) == audit.Verdict(1)


def test_paths_in_the_settings_are_written_as_texts(file: str, connection: sqlite3.Connection) -> None:
    config = ServerConfig(access_file=file, loading={"adapters": {"style": Path("style.gguf")}})
    writer = Writer(file, 30)
    writer.start()
    writer.put(Done("me", "server.start", {"config": shown(config)}))
    writer.close()
    (entry,) = audit.entries(connection)
    assert entry.as_dict()["details"]["config"]["loading"]["adapters"] == {"style": "style.gguf"}


def test_a_row_that_cannot_be_written_keeps_no_others_from_it(file: str, connection: sqlite3.Connection) -> None:
    writer = Writer(file, 30)
    writer.start()
    writer.put(Done("\ud800", "broken", {}))
    writer.put(Done("me", "one", {}))
    wait_until(lambda: len(audit.entries(connection)) == 1)
    writer.put(Done("me", "another", {}))
    writer.close()
    assert [entry.action for entry in audit.entries(connection)] == ["one", "another"]


def test_usage_is_summed(connection: sqlite3.Connection) -> None:
    create(connection, "ada", actor="me")
    (key,) = keys.all_keys(connection)
    rows = [use(86400.0, key.principal.id), use(86400.0 * 2, key.principal.id, status=429, first_token_seconds=None), use(86400.0 * 2)]
    connection.executemany(usage.INSERT, [tuple(vars(row).values()) for row in rows])
    assert [(row["key"], row["requests"], row["errors"], row["prompt_tokens"], row["mean_first_token_seconds"])
            for row in usage.summed(connection, ["key"])] == [("-", 1, 0, 3, 0.5), ("ada", 2, 1, 6, 0.5)]
    assert [(row["day"], row["model"], row["requests"]) for row in usage.summed(connection, ["day", "model"], 86400.0 * 1.5)] == [
        ("1970-01-03", "m", 2)]
    for by in ([], ["key", "key"], ["key; DROP TABLE usage"]):
        with pytest.raises(OptionError, match="by must"):
            usage.summed(connection, by)


# ---- the audit log ----


def fill(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        for number in range(ROWS):
            audit.append(connection, "me", "key.create", {"name": f"k{number}", "é": None})


COLUMNS = ("time", "actor", "action", "details", "previous", "hash")
Tamper = Callable[[sqlite3.Connection], object]


def changed(row: int, column: str, value: Any) -> Tamper:
    return lambda db: db.execute(f"UPDATE audit SET {column} = ? WHERE seq = ?", (value, row))


def removed(row: int) -> Tamper:
    return lambda db: db.execute("DELETE FROM audit WHERE seq = ?", (row,))


def moved(one: int, other: int) -> Tamper:
    def swap(db: sqlite3.Connection) -> None:
        for old, new in ((one, -1), (other, one), (-1, other)):
            db.execute("UPDATE audit SET seq = ? WHERE seq = ?", (new, old))
    return swap


def closed_up(row: int) -> Tamper:
    """Removed, and the numbers behind it made whole."""
    def tamper(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM audit WHERE seq = ?", (row,))
        for seq in range(row + 1, ROWS + 1):
            db.execute("UPDATE audit SET seq = ? WHERE seq = ?", (seq - 1, seq))
    return tamper


rows = st.integers(1, ROWS)
tampers = st.one_of(
    st.builds(changed, rows, st.sampled_from(COLUMNS), st.text(max_size=70)), st.builds(removed, rows), st.builds(closed_up, rows),
    st.tuples(rows, rows).filter(lambda two: two[0] != two[1]).map(lambda two: moved(*two)))


@given(st.lists(tampers, min_size=1, max_size=3))
def test_any_row_that_is_changed_removed_or_moved_is_found(tampering: list[Tamper]) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    fill(connection)
    before = audit.entries(connection)
    assert audit.verify(connection) == audit.Verdict(ROWS)
    for tamper in tampering:
        tamper(connection)
    assert (audit.verify(connection).problem is None) == (before == audit.entries(connection))
    connection.close()


def test_a_tail_that_is_cut_off_is_found(connection: sqlite3.Connection) -> None:
    fill(connection)
    anchor = audit.read_anchor("{}:{}\n".format(*audit.head(connection)))
    assert audit.verify(connection, anchor).problem is None
    connection.execute("DELETE FROM audit WHERE seq = ?", (ROWS,))
    assert "its head is 6" in str(audit.verify(connection).problem)
    last = audit.entries(connection)[-1]
    connection.execute("UPDATE audit_head SET seq = ?, hash = ?", (last.seq, last.hash))  # by someone who knows of it
    assert audit.verify(connection).problem is None
    assert "entry 6 was noted" in str(audit.verify(connection, anchor).problem)
    connection.execute("DELETE FROM audit")
    connection.execute("DELETE FROM audit_head")
    fill(connection)  # a new one, whole in itself
    assert audit.verify(connection).problem is None and "not the one" in str(audit.verify(connection, anchor).problem)


def test_two_processes_may_add_to_the_log_at_once(file: str) -> None:
    code = ("import sys; from gollama.server.access import audit; from gollama.server.access.database import *\n"
            "with opened(sys.argv[1]) as db:\n"
            "    for _ in range(25):\n"
            "        with transaction(db): audit.append(db, sys.argv[2], 'x', {})")
    running = [subprocess.Popen([sys.executable, "-c", code, file, str(number)]) for number in range(2)]
    assert [one.wait() for one in running] == [0, 0]
    with opened(file) as connection:
        assert audit.verify(connection) == audit.Verdict(50)


# ---- starting ----


@pytest.mark.parametrize(("settings", "said"), [
    ({"host": "0.0.0.0"}, "no keys"), ({"host": "10.0.0.5"}, "no keys"), ({"host": "example.org"}, "no keys"),
    ({"api_key": "short"}, "api_key"), ({"api_key": "with a space"}, "api_key"), ({"tls_key": "k"}, "tls_key needs"),
    ({"tls_cert": "/nowhere"}, "cannot be used"), ({"oidc_issuer": "https://a"}, "needs oidc_audience"),
    ({"oidc_audience": "a"}, "need oidc_issuer"),
    ({"oidc_issuer": "http://a", "oidc_audience": "b"}, "https"), ({"oidc_issuer": "file:///etc", "oidc_audience": "b"}, "https"),
    ({"oidc_issuer": "https://a", "oidc_audience": "b", "oidc_algorithms": ["HS256"]}, "oidc_algorithms"),
    ({"oidc_issuer": "https://a", "oidc_audience": "b", "oidc_algorithms": ["none"]}, "oidc_algorithms"),
    ({"oidc_issuer": "https://a", "oidc_audience": "b", "oidc_scopes": ["x=root"]}, "VALUE=SCOPE"),
])
def test_a_server_does_not_start_with(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        check_access(ServerConfig(**settings))


@pytest.mark.parametrize("settings", [
    {}, {"host": "localhost"}, {"host": "::1"}, {"host": "127.1.2.3"}, {"host": "0.0.0.0", "auth": False},
    {"host": "0.0.0.0", "uds": "/tmp/x"},
    {"host": "0.0.0.0", "api_key": "long-enough"}, {"host": "0.0.0.0", "oidc_issuer": "https://a", "oidc_audience": "b"},
])
def test_a_server_starts_with(settings: dict[str, Any]) -> None:
    check_access(ServerConfig(**settings))


def test_a_key_in_the_file_is_enough_for_others_to_reach_it(file: str, connection: sqlite3.Connection) -> None:
    config = ServerConfig(host="0.0.0.0", access_file=file)
    with pytest.raises(OptionError, match="no keys"):
        check_access(config)
    create(connection, "a", actor="me")
    check_access(config)


def test_values_of_a_claim_give_scopes() -> None:
    options = oidc_options(ServerConfig(oidc_issuer="https://a", oidc_audience="b",
                                        oidc_scopes=["team=inference", "ops=admin", "ops=metrics"]))
    assert options is not None and options.scopes == {"team": {"inference"}, "ops": {"admin", "metrics"}}


def test_a_claim_may_stand_within_another() -> None:
    claims = {"a.b": ["whole"], "a": {"b": ["inner"], "c": "two words", "d": [1, "x"]}, "n": 3}
    assert [claim_values(claims, path) for path in ("a.b", "a.c", "a.d", "n", "n.x", "none")] == [
        ["whole"], ["two", "words"], ["x"], [], [], []]


def test_a_key_of_the_settings_is_not_shown() -> None:
    config = ServerConfig(api_key="do-not-show-this")
    assert "do-not-show-this" not in repr(config) + json.dumps(shown(config)) and shown(config)["api_key"] == "…"


@pytest.mark.parametrize(("path", "route"), [
    ("/v1/chat/completions", "/v1/chat/completions"), ("/v1/models/a/b", "/v1/models/{name:path}"),
    ("/v1/responses/x", "/v1/responses/{response_id}"),
    ("/v1/responses/x/input_items", "/v1/responses/{response_id}/input_items"), ("/v1/responses/x/other", None), ("/metrics/", None),
    ("//metrics", None), ("/health/../metrics", None), ("/Metrics", None), ("", None),
])
def test_which_route_a_path_belongs_to(path: str, route: str | None) -> None:
    assert route_of(path) == route


@given(st.text(max_size=30))
def test_an_unknown_path_has_no_route(text: str) -> None:
    found = route_of("/" + text)
    assert found is None or found in ROUTES


# ---- commands ----


def command(*words: str, file: str, code: int = 0) -> str:
    """What it prints; with code 1, what main() would."""
    done = CliRunner().invoke(app, [*words, "--access-file", file])
    assert isinstance(done.exception, GollamaError) == bool(code), done
    return str(done.exception) if code else done.stdout


def test_the_commands(file: str) -> None:
    made = json.loads(command("keys", "create", "--name", "ada", "--scopes", "inference,metrics", "--models", "a,b",
                              "--requests-per-minute", "5", "--tokens-per-day", "900", "--expires", "30d", "--json", file=file))
    with opened(file) as connection:
        key, state = KnownKeys(connection).find(made["key"])
        assert key is not None and state == "active" and key.principal.models == frozenset({"a", "b"})
        connection.execute(usage.INSERT, tuple(vars(use(time.time(), key.principal.id, "a")).values()))
    (listed,) = json.loads(command("keys", "list", "--json", file=file))
    assert listed["name"] == "ada" and listed["scopes"] == ["inference", "metrics"] and listed["tokens_per_day"] == 900
    assert made["key"] not in command("keys", "list", file=file)
    anchor = command("audit", "head", file=file).strip()
    assert command("keys", "revoke", "ada", file=file).startswith("revoked ada")
    assert "revoked before" in command("keys", "revoke", "ada", file=file, code=1)
    lines = command("usage", "--by", "key,model,day", "--since", "1d", "--csv", file=file).splitlines()
    assert lines[0].startswith("key,model,day,requests,errors,prompt_tokens") and lines[1].startswith("ada,a,2")
    assert "ada" in command("usage", file=file) and json.loads(command("usage", "--json", file=file))[0]["completion_tokens"] == 4
    log = json.loads(command("audit", "list", "--json", file=file))
    assert [row["action"] for row in log] == ["key.create", "key.revoke"] and made["key"] not in json.dumps(log)
    assert command("audit", "verify", "--anchor", anchor, file=file).startswith("2 entries")
    with opened(file) as connection:
        connection.execute("UPDATE audit SET actor = 'nobody' WHERE seq = 1")
    assert "entry 1 was changed" in command("audit", "verify", file=file, code=1)


@pytest.mark.parametrize(("words", "said"), [
    (["keys", "list"], "no access file"), (["keys", "create", "--name", "a", "--expires", "soon"], "expires must"),
    (["keys", "create", "--name", "a", "--scopes", "root"], "scopes must"), (["audit", "verify", "--anchor", "x"], "anchor must"),
])
def test_a_command_says_what_is_wrong(words: list[str], said: str, file: str) -> None:
    assert said in command(*words, file=file, code=1)
