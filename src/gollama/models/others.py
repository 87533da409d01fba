"""Models that other tools have fetched: found where they lie, read and never written.

| name | where |
|---|---|
| `ollama:llama3.2:1b`, `ollama:owner/model:tag` | Ollama's manifests and blobs: OLLAMA_MODELS, or `.ollama/models` in the home folder |
| `lmstudio:publisher/repository/file.gguf` | LM Studio's folder: its settings' `downloadsFolder`, or `models` in its home folder |

The Hugging Face cache needs no name of its own: what lies there answers to its `hf:` name, without a network.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gollama.errors import ModelNotFoundError, RegistryError
from gollama.models import _documents, choosing

MAGIC = b"GGUF"
MOST = 10_000  # files looked at in one tool's folder
_MODEL_LAYER = "application/vnd.ollama.image.model"
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_PIECE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class FoundModel:
    """A model that another tool fetched. `files` in loading order, `size` in bytes; `sha256` is what that tool says it is."""

    name: str
    tool: str
    files: tuple[Path, ...]
    size: int
    quantization: str | None = None
    sha256: str | None = None

    @property
    def path(self) -> Path:
        """What llama.cpp is given: the first file."""
        return self.files[0]


def find(name: str) -> FoundModel:
    """The model of an `ollama:` or `lmstudio:` name. ModelNotFoundError tells the names there are."""
    prefix, _, rest = name.partition(":")
    if prefix not in ("ollama", "lmstudio") or not rest:
        raise ModelNotFoundError(f"{name!r} is no name of another tool's model: those begin with ollama: or lmstudio:")
    found = list(ollama() if prefix == "ollama" else lm_studio())
    wanted = name if prefix == "lmstudio" or ":" in rest.rpartition("/")[2] else f"{name}:latest"
    same = [model for model in found if model.name == wanted]
    if not same and prefix == "lmstudio":  # the repository will do where one file of it is there
        same = [model for model in found if model.name.startswith(f"{wanted}/")]
    if len(same) == 1:
        return same[0]
    names = ", ".join(model.name for model in (same or found)[:20]) or "none"
    raise ModelNotFoundError(f"{'several models answer to' if same else 'there is no model'} {name!r}; what is there: {names}")


def scan() -> list[FoundModel]:
    """All that Ollama and LM Studio have here, by name."""
    return sorted([*ollama(), *lm_studio()], key=lambda model: model.name)


def is_gguf(path: Path) -> bool:
    """Whether it is a file that begins as GGUF files do."""
    try:
        return _documents.beginning(path, len(MAGIC)) == MAGIC
    except OSError:
        return False


# Ollama -----------------------------------------------------------------------------------------------------------------------------

def ollama() -> Iterator[FoundModel]:
    """Ollama's models: manifests that name a blob each, `manifests/HOST/OWNER/MODEL/TAG`."""
    seen = set()
    for root in _ollama_folders():
        for manifest in _files(root / "manifests", depth=4):
            model = _ollama_model(root, manifest)
            if model is not None and model.name not in seen:
                seen.add(model.name)
                yield model


def _ollama_folders() -> list[Path]:
    if "OLLAMA_MODELS" in os.environ:
        return [Path(os.environ["OLLAMA_MODELS"])]
    return [_home() / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models")]


def _ollama_model(root: Path, manifest: Path) -> FoundModel | None:
    pieces = manifest.relative_to(root / "manifests").parts
    if len(pieces) != 4 or not all(_PIECE.fullmatch(piece) for piece in pieces):
        return None
    try:
        table = _documents.parse(_documents.read(manifest, RegistryError, 1 << 20), str(manifest), RegistryError)
    except (RegistryError, FileNotFoundError):
        return None  # another tool's damaged file is that tool's affair
    layers = table.get("layers")
    digests = [_DIGEST.fullmatch(str(layer.get("digest"))) for layer in layers if isinstance(layer, dict)
               and layer.get("mediaType") == _MODEL_LAYER] if isinstance(layers, list) else []
    digest = digests[0] if len(digests) == 1 else None  # several are safetensors or a split, which have no one file
    if digest is None:
        return None
    blob = root / "blobs" / f"sha256-{digest[1]}"
    if not is_gguf(blob):
        return None
    _host, owner, model, tag = pieces
    short = f"{model}:{tag}" if owner == "library" else f"{owner}/{model}:{tag}"
    quantization = choosing.quantization(tag)
    return FoundModel(f"ollama:{short}", "Ollama", (blob,), blob.stat().st_size, quantization, digest[1])


# LM Studio --------------------------------------------------------------------------------------------------------------------------

def lm_studio() -> Iterator[FoundModel]:
    """LM Studio's models: `PUBLISHER/REPOSITORY/FILE.gguf` in its folder."""
    seen = set()
    for root in _lm_studio_folders():
        there = [file.relative_to(root).as_posix() for file in _files(root, depth=3) if file.name.isprintable()]
        for names in choosing.models(there).values():
            files = tuple(root / name for name in names)
            if names[0] not in seen and all(map(is_gguf, files)):
                seen.add(names[0])
                size = sum(file.stat().st_size for file in files)
                yield FoundModel(f"lmstudio:{names[0]}", "LM Studio", files, size, choosing.quantization(names[0]))


def _lm_studio_folders() -> list[Path]:
    homes = [_home() / ".lmstudio", _home() / ".cache" / "lm-studio"]
    pointer = _text(_home() / ".lmstudio-home-pointer").strip()
    if pointer and "\0" not in pointer and Path(pointer).is_absolute():
        homes.insert(0, Path(pointer))
    folders = []
    for home in homes:
        chosen = _setting(home / "settings.json", "downloadsFolder")
        folders += [Path(chosen)] if chosen and Path(chosen).is_absolute() else []
        folders.append(home / "models")
    return list(dict.fromkeys(folders))


def _setting(file: Path, key: str) -> str | None:
    try:
        table: Any = json.loads(_text(file) or "{}")
    except (ValueError, RecursionError):
        return None
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, str) and "\0" not in value else None


# both -------------------------------------------------------------------------------------------------------------------------------

def _home() -> Path:
    return Path(os.path.expanduser("~"))


def _text(file: Path) -> str:
    try:
        return _documents.read(file, RegistryError, 1 << 20).decode("utf-8", errors="replace")
    except (RegistryError, FileNotFoundError):
        return ""


def _files(root: Path, depth: int) -> Iterator[Path]:
    """The files exactly `depth` levels below a folder, folders reached through links left out, MOST at most."""
    left = MOST
    folders = [(root, 1)]
    while folders and left > 0:
        folder, level = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            left -= 1
            if level < depth and entry.is_dir(follow_symlinks=False):
                folders.append((folder / entry.name, level + 1))
            elif level == depth and entry.is_file() and left >= 0:
                yield folder / entry.name
