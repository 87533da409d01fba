"""The cache of the Hugging Face Hub as every tool keeps it, read without importing huggingface_hub, which takes ten times as long.

Its layout is documented: `models--OWNER--NAME` holds `refs/REVISION` with a commit, `snapshots/COMMIT/FILE` as links into `blobs/ETAG`.
Only huggingface_hub writes links and refs; this reads them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from gollama.models import choosing
from gollama.models.files import LocalModel
from gollama.models.names import HubSource, is_sha256

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TRUE = {"1", "ON", "YES", "TRUE"}
ENDPOINT = "https://huggingface.co"
MOST_REF = 100


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))


def home() -> Path:
    """HF_HOME, by the rules of huggingface_hub."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(_expanded(os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")))


def cache() -> Path:
    """HF_HUB_CACHE, by the rules of huggingface_hub."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(_expanded(named)) if named else home() / "hub"


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")


def is_offline() -> bool:
    return (os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or "").upper() in _TRUE


def folder(repository: str) -> Path:
    return cache() / f"models--{repository.replace('/', '--')}"


def lock(repository: str, etag: str) -> Path:
    """The lock file that huggingface_hub takes for a blob, so that its users and gollama wait for each other."""
    return cache() / ".locks" / folder(repository).name / f"{etag}.lock"


def digest(file: Path) -> str | None:
    """The sha256 that the Hub said of a file of the cache, whose blob is named by it; None where it said nothing."""
    blob = file.resolve().name
    return blob if is_sha256(blob) else None


def is_commit(revision: str) -> bool:
    """Whether a revision is spelled as a commit, which no branch can move."""
    return _COMMIT.fullmatch(revision) is not None


def commit_of(source: HubSource) -> str | None:
    """The commit that the source's revision was when it was last asked for."""
    revision = source.revision or "main"
    if is_commit(revision):
        return revision
    try:
        with open(folder(source.repository) / "refs" / revision, encoding="ascii") as file:
            found = file.read(MOST_REF).strip()
    except (OSError, ValueError):
        return None
    return found if is_commit(found) else None


def find(source: HubSource) -> LocalModel | None:
    """The source's files if all of them are in the cache. Looks at one folder; no network."""
    commit = commit_of(source)
    if commit is None:
        return None
    snapshot = folder(source.repository) / "snapshots" / commit
    if source.file is not None:
        files = choosing.parts(source.file) or [source.file]
        return _local(source, snapshot, files, commit)
    there = choosing.models(_names(snapshot))
    wanted = choosing.named(there, source.quantization) if source.quantization else list(there)
    if not wanted:
        return None
    chosen = wanted[0] if source.quantization else choosing.choose(dict.fromkeys(wanted))
    return _local(source, snapshot, there[chosen], commit)


def _local(source: HubSource, snapshot: Path, files: list[str], commit: str) -> LocalModel | None:
    paths = tuple(snapshot / file for file in files)
    return LocalModel(source, paths, commit) if all(map(os.path.isfile, paths)) else None  # a link whose blob is gone is no file


def _names(snapshot: Path) -> list[str]:
    """Files of a snapshot, by their paths in the repository."""
    found = []
    for parent, _, files in os.walk(snapshot):
        inside = os.path.relpath(parent, snapshot).replace(os.sep, "/")
        found += [file if inside == "." else f"{inside}/{file}" for file in files]
    return found
