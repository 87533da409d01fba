"""Models that other tools fetched: found in place, whatever lies beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gollama import ModelNotFoundError
from gollama.models import others
from tests.support.model_homes import empty_machine, gguf, ollama_model, refuse_sockets


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_machine(tmp_path, monkeypatch)


@pytest.fixture
def ollama(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLLAMA_MODELS", str(machine / "ollama"))
    return machine / "ollama"


@pytest.mark.parametrize(("owner", "model", "tag", "name"), [
    ("library", "llama3.2", "1b", "ollama:llama3.2:1b"),
    ("library", "phi", "latest", "ollama:phi"), ("me", "mine", "q4_0", "ollama:me/mine:q4_0"),
])
def test_ollamas_models_are_found_by_their_names(ollama: Path, monkeypatch: pytest.MonkeyPatch, owner: str, model: str, tag: str,
                                                 name: str) -> None:
    blob = ollama_model(ollama, owner, model, tag)
    refuse_sockets(monkeypatch)
    found = others.find(name)
    assert (found.path, found.size, found.sha256, found.tool) == (blob, 11, blob.name[7:], "Ollama")


def test_lm_studios_models_are_found_by_file_or_repository(machine: Path) -> None:
    file = gguf(machine / "user" / ".lmstudio" / "models" / "pub" / "repo" / "m-Q4_0.gguf")
    assert others.find("lmstudio:pub/repo/m-Q4_0.gguf").path == others.find("lmstudio:pub/repo").path == file
    gguf(file.with_name("m-Q8_0.gguf"))
    with pytest.raises(ModelNotFoundError, match=r"several models answer to.*m-Q4_0\.gguf, .*m-Q8_0\.gguf"):
        others.find("lmstudio:pub/repo")


@pytest.mark.parametrize("how", ["pointer", "setting"])
def test_lm_studios_folder_may_lie_elsewhere(machine: Path, how: str) -> None:
    user = machine / "user"
    if how == "pointer":
        (user / ".lmstudio-home-pointer").write_text(f"{machine / 'far'}\n")
    else:
        (user / ".lmstudio").mkdir()
        (user / ".lmstudio" / "settings.json").write_text(json.dumps({"downloadsFolder": str(machine / "far" / "models")}))
    file = gguf(machine / "far" / "models" / "pub" / "repo" / "m.gguf")
    assert others.find("lmstudio:pub/repo").path == file


def test_an_unknown_model_is_told_what_there_is(ollama: Path) -> None:
    ollama_model(ollama, "library", "phi", "latest")
    with pytest.raises(ModelNotFoundError, match="there is no model 'ollama:gpt'; what is there: ollama:phi:latest"):
        others.find("ollama:gpt")


@pytest.mark.parametrize("layer", [
    {"digest": "sha256:../../../../etc/passwd"}, {"digest": "sha256:" + "A" * 64}, {"digest": None}, {"digest": "md5:" + "a" * 32},
    {"mediaType": "application/vnd.ollama.image.tensor"}, {"digest": "sha256:" + "0" * 64},
])
def test_a_manifest_leads_to_blobs_only(ollama: Path, layer: dict[str, str]) -> None:
    ollama_model(ollama, "library", "phi", "latest", layer)
    assert others.scan() == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"layers": 5}', '{"layers": [5]}', "[" * 100_000, " " * (2 << 20)])
def test_a_damaged_manifest_is_passed_over(ollama: Path, text: str) -> None:
    ollama_model(ollama, "library", "good", "latest")
    bad = ollama / "manifests" / "registry.example" / "library" / "bad" / "latest"
    bad.parent.mkdir()
    bad.write_text(text)
    assert [model.name for model in others.scan()] == ["ollama:good:latest"]


def test_names_that_a_terminal_would_obey_are_passed_over(machine: Path, ollama: Path) -> None:
    ollama_model(ollama, "library", "a\x1b[2J", "latest")
    gguf(machine / "user" / ".lmstudio" / "models" / "pub" / "repo" / "m\x1b[2J.gguf")
    assert others.scan() == []


def test_files_that_are_no_models_are_passed_over(machine: Path) -> None:
    folder = machine / "user" / ".lmstudio" / "models" / "pub" / "repo"
    gguf(folder / "mmproj-m.gguf")
    gguf(folder / "big-00002-of-00002.gguf")
    (folder / "text.gguf").write_text("no model")
    (folder / "dangling.gguf").symlink_to(machine / "nothing")
    import os

    os.mkfifo(folder / "pipe.gguf")
    assert others.scan() == []


def test_folders_that_link_in_a_circle_end(machine: Path) -> None:
    folder = machine / "user" / ".lmstudio" / "models" / "pub" / "repo"
    gguf(folder / "m.gguf")
    (folder.parent / "again").symlink_to(folder.parent.parent)
    assert [model.name for model in others.scan()] == ["lmstudio:pub/repo/m.gguf"]
