"""The commands about models; the Hub is a server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import pytest

from gollama import cli
from tests.support.hub_server import HubServer, Repository
from tests.support.model_homes import empty_machine, gguf, ollama_model

OLD, NEW = b"GGUF" + b"old" * 1000, b"GGUF" + b"new" * 1000
NAME, REPOSITORY = "qwen3:4b", "Qwen/Qwen3-4B-GGUF"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return empty_machine(tmp_path, monkeypatch)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    files: dict[str, bytes | Path] = {"Qwen3-4B-Q4_K_M.gguf": OLD, "Qwen3-4B-Q8_0.gguf": OLD + b"8"}
    with HubServer({REPOSITORY: Repository(files, "a" * 40)}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def move_on(hub: HubServer) -> None:
    hub.repositories[REPOSITORY] = Repository({"Qwen3-4B-Q4_K_M.gguf": NEW}, "b" * 40)


def run(*arguments: str, code: int = 0, env: Mapping[str, str] = MappingProxyType({})) -> str:
    """What the command prints: in this process, since a new one takes most of a second."""
    output, errors = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, env), mock.patch.object(sys, "argv", ["gollama", *arguments]), open(os.devnull) as nothing, \
            mock.patch.object(sys, "stdin", nothing), redirect_stdout(output), redirect_stderr(errors), pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code, errors.getvalue()
    if code:
        assert errors.getvalue().startswith("gollama: ") and errors.getvalue().count("\n") == 1
        return errors.getvalue()
    return output.getvalue()


def told(*arguments: str, env: Mapping[str, str] = MappingProxyType({})) -> Any:
    return json.loads(run(*arguments, "--json", env=env))


def test_pull_fetches_lists_and_removes(hub: HubServer) -> None:
    (row, other) = told("pull", NAME, f"hf:{REPOSITORY}:Q8_0")
    assert Path(row["path"]).read_bytes() == OLD and (row["name"], row["revision"], row["size"]) == (NAME, "a" * 40, len(OLD))
    assert {model["name"]: model["place"] for model in told("list")} == {NAME: "Hugging Face", f"{NAME}-Q8_0": "Hugging Face"}
    text = run("list")
    assert all(word in text for word in (NAME, "Q8_0", "just now", "Hugging Face"))
    assert told("rm", f"{NAME}-Q8_0")["freed"] == len(OLD) + 1
    assert not Path(other["path"]).exists() and Path(row["path"]).exists()


def test_pull_takes_the_quantization_that_is_asked_for(hub: HubServer) -> None:
    assert Path(run("pull", NAME, "--quant", "q8_0").strip()).name == "Qwen3-4B-Q8_0.gguf"


def test_a_lock_file_fetches_the_same_elsewhere(hub: HubServer, machine: Path) -> None:
    run("lock", NAME)
    assert run("lock", NAME, "--check") and run("--lock", "gollama.lock", "pull")
    assert "not what these models are now" in run("lock", NAME, f"hf:{REPOSITORY}:Q8_0", "--check", code=1)
    elsewhere = {"HF_HOME": str(machine / "elsewhere"), "GOLLAMA_HOME": str(machine / "home2"), "GOLLAMA_LOCK": "gollama.lock"}
    (row,) = told("pull", env=elsewhere)
    assert Path(row["path"]).read_bytes() == OLD and str(machine / "elsewhere") in row["path"]
    assert "is not in gollama.lock" in run("pull", "smollm2", code=1, env=elsewhere)


def test_a_pin_stays_until_it_is_upgraded(hub: HubServer) -> None:
    assert told("registry", "pin", NAME)["revision"] == "a" * 40
    move_on(hub)
    assert told("pull", NAME)[0]["revision"] == "a" * 40
    assert told("registry", "upgrade") == [{"name": NAME, "before": "a" * 40, "after": "b" * 40}]
    assert Path(told("pull", NAME)[0]["path"]).read_bytes() == NEW
    run("registry", "remove", NAME)
    assert "there is no registry and no pin" in run("registry", "upgrade")


def test_a_name_stays_what_it_was_until_it_is_upgraded(hub: HubServer) -> None:
    run("pull", NAME)
    move_on(hub)
    assert told("pull", NAME)[0]["revision"] == "a" * 40
    assert told("registry", "upgrade", NAME)[0]["after"] == "b" * 40
    assert told("pull", NAME)[0]["revision"] == "b" * 40


def test_a_name_of_ones_own_is_added_listed_and_removed(hub: HubServer) -> None:
    run("registry", "add", "mine:4b", f"hf:{REPOSITORY}:Q8_0", "--license", "MIT", "--ability", "chat")
    row = next(model for model in told("registry", "list")["models"] if model["name"] == "mine:4b")
    assert (row["license"], row["abilities"], list(row["variants"])) == ("MIT", ["chat"], ["Q8_0"])
    assert Path(run("pull", "mine").strip()).name == "Qwen3-4B-Q8_0.gguf"
    run("registry", "remove", "mine:4b")
    assert "no model named 'mine'" in run("pull", "mine", code=1)


def test_a_teams_registry_is_added_by_path(machine: Path) -> None:
    text = json.dumps({"format": 1, "models": {"team:1": {"variants": {"Q8_0": [f"file:{gguf(machine / 't.gguf')}"]}}}})
    (machine / "team.json").write_text(text)
    assert told("registry", "add", "team.json", "--sha256", hashlib.sha256(text.encode()).hexdigest())["models"] == 1
    assert run("pull", "team").strip() == str(machine / "t.gguf")
    assert "is pinned: it was refused" in run("registry", "add", "team.json", "--sha256", "0" * 64, code=1)
    run("registry", "remove", str(machine / "team.json"))
    assert told("registry", "list")["registries"] == []


def test_a_file_is_imported_copied_by_name_verified_and_pruned(machine: Path) -> None:
    file = gguf(machine / "far" / "my-Q8_0.gguf")
    assert told("import", str(file), "mine:7b")["place"] == "gollama"
    assert "mine:7b" in run("cp", "mine:7b", "mine:copy") + run("list")
    assert told("du")["places"]["gollama"] == {"models": 2, "size": 11}
    assert [row["right"] for row in told("verify", "mine:7b")] == [None]
    file.write_bytes(b"GGUFdamaged")
    result = subprocess.run([sys.executable, "-m", "gollama", "verify", "mine:7b"], capture_output=True, text=True)
    assert result.returncode == 1 and "DAMAGED" in result.stdout and "1 of 1 files are not what they were" in result.stderr
    assert "say --yes to delete" in run("prune", "--max-size", "0", code=2)
    assert len(told("prune", "--max-size", "0B", "--dry-run")["models"]) == 2 and len(told("list")) == 2
    run("prune", "--max-size", "0", "--yes")
    assert told("list") == [] and file.exists()


def test_other_tools_models_are_listed_and_theirs(machine: Path) -> None:
    blob = ollama_model(machine / "user" / ".ollama" / "models", "library", "llama3.2", "1b")
    assert run("pull", "ollama:llama3.2:1b").strip() == str(blob)
    assert [model["name"] for model in told("list", "--place", "ollama")] == ["ollama:llama3.2:1b"]
    assert "belongs to Ollama: remove it there" in run("rm", "ollama:llama3.2:1b", code=1)


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (("pull",), 2, "say which models, or a lock file"), (("rm", "nothing"), 1, "'nothing' is not here"),
    (("prune",), 2, "say --older-than, --max-size or both"), (("prune", "--older-than", "soon"), 2, "'soon' is no time such as 30d"),
    (("prune", "--max-size", "lots"), 2, "'lots' is no size such as 20GB"),
    (("import", "/nowhere.gguf", "x"), 1, "there is no file /nowhere.gguf"),
    (("registry", "add", "x:1", "hf:a/b"), 2, "say the quantization with --quant"),
    (("registry", "pin", "gpt-9"), 1, "no model named 'gpt-9'"),
    (("--lock", "/nowhere", "pull"), 1, "there is no lock file /nowhere"), (("verify", "nothing"), 1, "'nothing' is not here"),
])
def test_failures_are_one_line_and_a_code(arguments: tuple[str, ...], code: int, message: str) -> None:
    assert message in run(*arguments, code=code)


def test_a_shell_completes_names(machine: Path) -> None:
    gguf(machine / "user" / ".lmstudio" / "models" / "pub" / "repo" / "m-Q4_0.gguf")

    def complete(words: str) -> str:
        program = Path(sys.executable).parent / "gollama"
        own = {**os.environ, "_GOLLAMA_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": f"gollama {words}"}
        return subprocess.run([program], capture_output=True, text=True, env=own, timeout=120).stdout

    assert all(name in complete("run gemma3") for name in ('"gemma3"', '"gemma3\\\\:270m"'))
    assert "lmstudio" in complete("show lmst") and "lmstudio" in complete("rm lm")
    (machine / "config" / "registry.json").write_text("damaged")
    assert "gemma3" not in complete("run gemma3")


@pytest.mark.parametrize("command", ["pull", "list", "show", "rm", "prune", "verify", "du", "import", "cp", "lock", "registry list",
                                     "registry add", "registry remove", "registry pin", "registry upgrade"])
def test_help_is_complete(command: str) -> None:
    from typer.main import get_command

    from gollama.cli import commands, models, registry, store  # noqa: F401
    from gollama.cli.application import app

    found: Any = get_command(app)
    for word in command.split():
        found = found.commands[word]
    assert found.help and all(getattr(part, "help", None) for part in found.params)
    assert any("--json" in part.opts for part in found.params)
