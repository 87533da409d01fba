"""Deleting models: only in gollama's own folder, in the Hugging Face cache through its own library, and nowhere else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gollama.errors import StoreError
from gollama.models import hub_files, records
from gollama.models.listing import ELSEWHERE, HUB, OWN, Listing, StoredModel


@dataclass(frozen=True)
class Removal:
    """What was deleted, or would be. `freed` is in bytes: a file that has other names frees none."""

    models: tuple[StoredModel, ...]
    freed: int
    dry_run: bool


def chosen(store: Listing, older_than: float | None, max_size: int | None) -> list[StoredModel]:
    """The models to prune, the longest unused first."""
    mine = [model for model in store if model.place == OWN or (model.place == HUB and model.used is not None)]
    mine = sorted((model for model in mine if model.name not in store.registry.pins), key=lambda model: -model.age)
    found = [model for model in mine if older_than is not None and model.age > older_than]
    left = [model for model in mine if model not in found]
    size = sum(model.size for model in left)
    while left and max_size is not None and size > max_size:
        model = left.pop(0)
        size -= model.size
        found.append(model)
    return found


def remove(store: Listing, models: Sequence[StoredModel], *, dry_run: bool) -> Removal:
    """Delete models, the first that cannot be ends it. Everything is checked before anything is deleted."""
    for model in models:
        if model.place not in (OWN, HUB, ELSEWHERE):
            raise StoreError(f"{model.name} belongs to {model.place}: remove it there")
        if model.place == ELSEWHERE and model.name not in store.registry.own:
            raise StoreError(f"{model.name} is a file of {store.registry.find(model.name).origin}, and no name of yours")
        if model.place == OWN:
            for file in model.files:
                _require_inside(store.root, file)
    freed = 0
    for model in models:
        if model.place == HUB:
            freed += hub_files.remove(model.files, dry_run=dry_run)
        elif model.place == OWN:
            freed += sum(file.stat().st_size for file in model.files if file.stat().st_nlink == 1)
            if not dry_run:
                _delete(store.root, model.files)
        if not dry_run:
            records.forget(model.path)
            if model.name in store.registry.own and f"file:{model.path}" in map(str, store.registry.own[model.name].variants[0].sources):
                store.registry.remove(model.name)
    return Removal(tuple(models), freed, dry_run)


def _require_inside(root: Path, file: Path) -> None:
    """StoreError unless a file lies in the store itself and not behind a link that leads out of it."""
    whole = Path(os.path.realpath(root))
    folder = Path(os.path.realpath(file.parent))
    if folder != whole and whole not in folder.parents:
        raise StoreError(f"{file} lies outside the store {root}: it was not touched")


def _delete(root: Path, files: Sequence[Path]) -> None:
    for file in files:
        _require_inside(root, file)
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{file} cannot be deleted ({error.strerror or error})") from error
    folder = files[0].parent
    with contextlib.suppress(OSError):  # what is in use, or holds something else, stays
        while folder != root and root in folder.parents:
            folder.rmdir()
            folder = folder.parent
