"""gollama.lock: the same models tomorrow and elsewhere."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gollama import DownloadError, ModelNotFoundError
from gollama.errors import RegistryError, StoreError
from gollama.models import ModelRegistry, lockfile
from gollama.models.lockfile import LockedFile, LockedModel
from gollama.models.names import parse_source
from tests.support.model_homes import empty_machine, gguf, hub_file, refuse_sockets

REPOSITORY, FILE = "Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q4_K_M.gguf"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_machine(tmp_path, monkeypatch)


def test_what_is_locked_stays_when_the_branch_moves(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = hub_file(REPOSITORY, FILE, b"old", "a" * 40)
    ModelRegistry().lock(["qwen3"], machine / "gollama.lock")
    new = hub_file(REPOSITORY, FILE, b"new", "b" * 40)
    refuse_sockets(monkeypatch)
    assert ModelRegistry(lock=machine / "gollama.lock").resolve("qwen3") == old
    assert ModelRegistry().resolve("qwen3") == new


def test_the_same_models_give_the_same_bytes(machine: Path) -> None:
    hub_file(REPOSITORY, FILE)
    gguf(machine / "b.gguf")
    one, two = machine / "one.lock", machine / "two.lock"
    ModelRegistry().lock(["qwen3", f"file:{machine}/b.gguf"], one)
    ModelRegistry().lock([f"file:{machine}/b.gguf"], two)
    ModelRegistry().lock(["qwen3:4b"], two)
    assert one.read_bytes() == two.read_bytes()


def test_a_repository_without_a_quantization_is_locked_by_its_file(machine: Path) -> None:
    hub_file(REPOSITORY, f"sub/{FILE}")
    held = ModelRegistry().lock([f"hf:{REPOSITORY}"], machine / "gollama.lock")
    assert str(held[f"hf:{REPOSITORY}"].source) == f"hf:{REPOSITORY}/sub/{FILE}@{'c' * 40}"


def test_a_name_that_is_not_locked_is_an_error(machine: Path) -> None:
    hub_file(REPOSITORY, FILE)
    ModelRegistry().lock(["qwen3"], machine / "gollama.lock")
    with pytest.raises(ModelNotFoundError, match=r"'smollm2:135m' is not in .*gollama\.lock, which holds qwen3:4b: `gollama lock "):
        ModelRegistry(lock=machine / "gollama.lock").resolve("smollm2")
    assert ModelRegistry(lock=machine / "gollama.lock").resolve("some/where.gguf") == Path("some/where.gguf")


def test_another_quantization_than_the_locked_one_is_an_error(machine: Path) -> None:
    hub_file(REPOSITORY, FILE)
    ModelRegistry().lock(["qwen3"], machine / "gollama.lock")
    with pytest.raises(RegistryError, match="held in Q4_K_M, and Q8_0 was asked for"):
        ModelRegistry(lock=machine / "gollama.lock").target("qwen3", "Q8_0")


@pytest.mark.parametrize("content", [b"GGUFlonger than before", b"GGUFtensorx"])
def test_a_file_that_is_not_the_locked_one_is_refused(machine: Path, content: bytes) -> None:
    link = hub_file(REPOSITORY, FILE)
    ModelRegistry().lock(["qwen3"], machine / "gollama.lock")
    link.resolve().write_bytes(content)
    with pytest.raises(DownloadError, match=r"bytes with the sha256 .* are locked: remove it to fetch it again"):
        ModelRegistry(lock=machine / "gollama.lock").resolve("qwen3")


def test_a_locked_file_is_read_once(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gollama.models import records

    hub_file(REPOSITORY, FILE)
    ModelRegistry().lock(["qwen3"], machine / "gollama.lock")
    monkeypatch.setattr(records, "sha256", None)
    assert ModelRegistry(lock=machine / "gollama.lock").resolve("qwen3")


def test_the_variable_names_the_file_and_the_working_directory_does_not(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_file(REPOSITORY, FILE)
    ModelRegistry().lock(["qwen3"], machine / "gollama.lock")
    monkeypatch.chdir(machine)
    assert ModelRegistry().locked is None
    monkeypatch.setenv("GOLLAMA_LOCK", "gollama.lock")
    assert list(ModelRegistry().locked or ()) == ["qwen3:4b"]


def test_a_lock_file_that_cannot_be_written_is_told(machine: Path) -> None:
    hub_file(REPOSITORY, FILE)
    (machine / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        ModelRegistry().lock(["qwen3"], machine / "file" / "gollama.lock")


def row(**changes: Any) -> dict[str, Any]:
    return {"source": f"hf:a/b:Q4_0@{'a' * 40}", "quantization": "Q4_0", "revision": "a" * 40,
            "files": [{"name": "m.gguf", "size": 5, "sha256": "b" * 64}], **changes}


@pytest.mark.parametrize(("models", "told"), [
    ([], "models must be a table"), ({"m": {}}, "must have files, quantization, revision, source and nothing else"),
    ({"m": row(extra=1)}, "and nothing else"), ({"m": row(source="gemma3")}, "this is an alias"), ({"m": row(source=5)}, "must be texts"),
    ({"m": row(source="hf:a/b:Q4_0")}, "must be held at a revision"), ({"m": row(revision="a\x1b[0m")}, "must be texts"),
    ({"m": row(files=[])}, "files must be a list of 1 to 1000"),
    ({"m": row(files=[{"name": "m.gguf"}])}, "must have name, size and sha256"),
    ({"m": row(files=[{"name": "../m.gguf", "size": 5, "sha256": "b" * 64}])}, "is relative"),
    ({"m": row(files=[{"name": "m.gguf", "size": -5, "sha256": "b" * 64}])}, "must be a number of bytes"),
    ({"m": row(files=[{"name": "m.gguf", "size": 5, "sha256": "B" * 64}])}, "64 small hexadecimal digits"),
])
def test_a_wrong_lock_file_is_told_where_it_is_wrong(machine: Path, models: Any, told: str) -> None:
    (machine / "gollama.lock").write_text(json.dumps({"format": 1, "models": models}))
    with pytest.raises(RegistryError, match=re.escape(told)) as caught:
        ModelRegistry(lock=machine / "gollama.lock")
    assert "gollama.lock" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2, "models": {}}', '{"format": 1, "models": {}, "more": 1}', "[" * 50_000])
def test_what_is_no_lock_file_is_refused(machine: Path, text: str) -> None:
    (machine / "gollama.lock").write_text(text)
    with pytest.raises(RegistryError, match=r"gollama\.lock"):
        ModelRegistry(lock=machine / "gollama.lock")


def test_a_missing_lock_file_is_told(machine: Path) -> None:
    with pytest.raises(RegistryError, match=r"there is no lock file .*: `gollama lock NAME\.\.\. --file .*` writes one"):
        ModelRegistry(lock=machine / "gollama.lock")


FILES = st.builds(LockedFile, st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8})?\.gguf", fullmatch=True), st.integers(0, 1 << 40),
                  st.from_regex(r"[0-9a-f]{64}", fullmatch=True))
MODELS = st.builds(LockedModel, st.sampled_from([parse_source(f"hf:a/b:Q4_0@{'a' * 40}"), parse_source("pypi:a==1/b.gguf"),
                                                 parse_source("file:/x/y.gguf")]),
                   st.none() | st.just("Q4_0"), st.none() | st.just("a" * 40), st.lists(FILES, min_size=1, max_size=3).map(tuple))


@given(st.dictionaries(st.text(min_size=1, max_size=20), MODELS, max_size=3))
def test_what_is_written_is_what_is_read(models: dict[str, LockedModel]) -> None:
    table = json.loads(json.dumps({name: model.table() for name, model in models.items()}))
    assert lockfile.read_models(table, "x") == models


VALUES = st.none() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)
ROWS = st.dictionaries(st.sampled_from(["source", "quantization", "revision", "files"]), VALUES)


@given(st.dictionaries(st.text(max_size=8), ROWS, max_size=2))
def test_whatever_a_lock_file_holds_it_is_read_or_refused(models: dict[str, Any]) -> None:
    with contextlib.suppress(RegistryError):
        lockfile.read_models(models, "x")
