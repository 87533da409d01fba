"""The GGUF files in the Hugging Face cache, through huggingface_hub's own scan and its own way of deleting."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gollama.errors import StoreError
from gollama.models.sources import hub_cache


@dataclass(frozen=True)
class HubFile:
    """A GGUF file of a repository at a revision. `sha256` is what the Hub said of it, None where it said nothing."""

    repository: str
    revision: str
    name: str
    snapshot: Path
    size: int
    sha256: str | None

    @property
    def path(self) -> Path:
        return self.snapshot / self.name


def scan() -> list[HubFile]:
    """Every GGUF file in the cache, by name; none where there is no cache."""
    found = []
    for repo in _scan().repos if hub_cache.cache().is_dir() else ():
        for revision in repo.revisions if repo.repo_type == "model" else ():
            for file in revision.files:
                if file.file_path.suffix == ".gguf":
                    name = file.file_path.relative_to(revision.snapshot_path).as_posix()
                    found.append(HubFile(repo.repo_id, revision.commit_hash, name, revision.snapshot_path, file.size_on_disk,
                                         hub_cache.digest(file.file_path)))
    return sorted(found, key=lambda file: (file.repository, file.name, file.revision))


def remove(paths: Sequence[Path], *, dry_run: bool) -> int:
    """Delete files of the cache; how many bytes it frees. StoreError if other files of the cache would go with them."""
    info = _scan()
    wanted = set(paths)
    chosen = [(revision, file) for repo in info.repos for revision in repo.revisions for file in revision.files if file.file_path in wanted]
    missing = wanted - {file.file_path for _, file in chosen}
    if missing:
        raise StoreError(f"{min(missing)} is not in the Hugging Face cache {hub_cache.cache()}")
    if hasattr(info, "delete_files"):
        strategy = info.delete_files(*(file for _, file in chosen))
    else:  # an older huggingface_hub deletes whole revisions
        revisions = {revision.commit_hash: revision for revision, _ in chosen}
        kept = [file.file_path for revision in revisions.values() for file in revision.files if file.file_path not in wanted]
        if any(path.suffix == ".gguf" for path in kept):
            raise StoreError(f"{min(kept).name} would be deleted with it: a newer huggingface_hub deletes single files")
        strategy = info.delete_revisions(*revisions)
    if not dry_run:
        try:
            strategy.execute()
        except OSError as error:
            raise StoreError(f"the Hugging Face cache {hub_cache.cache()} cannot be changed ({error.strerror or error})") from error
        left = [path for path in paths if os.path.lexists(path)]
        if left:
            raise StoreError(f"{left[0]} could not be deleted: the Hugging Face cache cannot be written")
    return int(strategy.expected_freed_size)


def _scan() -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from huggingface_hub import CacheNotFound, scan_cache_dir
    try:
        return scan_cache_dir(hub_cache.cache())
    except (CacheNotFound, ValueError) as error:
        raise StoreError(f"the Hugging Face cache {hub_cache.cache()} cannot be read ({error})") from error
