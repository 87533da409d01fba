"""Limits, quotas and usage, without a server."""

from __future__ import annotations

import math
import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gollama import OptionError
from gollama.server import ServerConfig
from gollama.server.access import audit, keys, usage
from gollama.server.access.buckets import Account, Bucket
from gollama.server.access.keys import create
from gollama.server.access.principals import Limits
from gollama.server.access.writer import Done, Spent, Writer
from gollama.server.config import shown
from gollama.server.errors import ApiError
from tests.support.access import use
from tests.support.answers import wait_until

DAY = "2030-01-01"


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
