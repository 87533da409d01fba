"""The commands `gollama keys`, `usage` and `audit`."""

from __future__ import annotations

import json
import time

import pytest
from typer.testing import CliRunner

from gollama import GollamaError
from gollama.cli import access as _commands  # noqa: F401 (they add themselves)
from gollama.cli.application import app
from gollama.server.access import usage
from gollama.server.access.database import opened
from gollama.server.access.keys import KnownKeys
from tests.support.access import use


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
