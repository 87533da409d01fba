"""An empty machine for tests of names and stores: folders of gollama and of other tools, and files that begin as models do."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

# a model as a registry has it
TINY = {"variants": {"Q8_0": ["hf:someone/tiny-GGUF:Q8_0"]}}


def registry_text(**models: Any) -> str:
    """A registry as it is written: `name__tag` is called `name:tag`."""
    return json.dumps({"format": 1, "models": {name.replace("__", ":"): row for name, row in models.items()}})


def empty_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every folder that gollama looks into lies below this one, and is empty."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "OLLAMA_MODELS", "GOLLAMA_LOCK",
                     "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    for variable, name in (("HOME", "user"), ("HF_HOME", "hub"), ("GOLLAMA_HOME", "home"), ("GOLLAMA_CONFIG_HOME", "config")):
        (folder / name).mkdir()
        monkeypatch.setenv(variable, str(folder / name))
    return folder


def refuse_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any use of a network fails the test."""
    def refused(*arguments: object, **options: object) -> None:
        raise AssertionError("a network was used")

    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket, "create_connection", refused)


def gguf(path: Path, content: bytes = b"tensors") -> Path:
    """A file that begins as a model does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF" + content)
    return path


def hub_file(repository: str, name: str, content: bytes = b"tensors", commit: str = "c" * 40) -> Path:
    """A file in the Hugging Face cache, as huggingface_hub lays it out."""
    from gollama.models.sources import hub_cache

    folder = hub_cache.folder(repository)
    blob = gguf(folder / "blobs" / hashlib.sha256(b"GGUF" + content).hexdigest(), content)
    link = folder / "snapshots" / commit / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(blob)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    return link


def ollama_model(root: Path, owner: str, model: str, tag: str, layer: Mapping[str, Any] | None = None) -> Path:
    """A model in Ollama's folder; `layer` replaces what its manifest says."""
    digest = hashlib.sha256(b"GGUFtensors").hexdigest()
    blob = gguf(root / "blobs" / f"sha256-{digest}")
    row = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": blob.stat().st_size, **(layer or {})}
    manifest = root / "manifests" / "registry.example" / owner / model / tag
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": [{"mediaType": "application/vnd.ollama.image.license"}, row]}))
    return blob
