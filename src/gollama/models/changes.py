"""What ModelRegistry changes: the user's registry, the teams' copies, lock files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gollama.errors import OptionError, RegistryError
from gollama.models import lockfile, targets, team, userfile
from gollama.models._documents import printable
from gollama.models.entries import ModelEntry
from gollama.models.files import Progress
from gollama.models.lockfile import LockedModel
from gollama.models.lookup import Lookup
from gollama.models.names import HubSource
from gollama.models.targets import Target
from gollama.models.userfile import TeamRegistry

YOURS = "your registry.json"


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade did to a model, or to a registry: its revision, or its digest, before and after; equal if nothing was new."""

    name: str
    before: str | None
    after: str | None


def add(registry: Lookup, entry: ModelEntry, *, replace: bool) -> ModelEntry:
    own = registry.own.get(entry.name)
    if own is not None and not replace:
        new = entry.variants[0].quantization.upper()
        variants = (*(variant for variant in own.variants if variant.quantization.upper() != new), *entry.variants)
        facts = {key: getattr(entry, key) or getattr(own, key) for key in ("title", "license", "abilities", "context")}
        entry = dataclasses.replace(own, variants=variants, **facts)
    elif not replace:
        known = next((other for other in registry if other.name == entry.name), None)
        if known is not None:
            raise RegistryError(f"{entry.name!r} is known already, from {known.origin}: take another name, or replace it")

    def edit(table: dict[str, Any]) -> None:
        table["models"][entry.name] = entry.table()

    _change(registry, edit)
    return entry


def remove(registry: Lookup, name: str) -> None:
    if name not in registry.own and name not in registry.pins:
        known = next((entry for entry in registry if entry.name == name), None)
        raise RegistryError(f"{printable(name)[:80]!r} is not in {YOURS}" + (f": it comes from {known.origin}" if known else ""))

    def edit(table: dict[str, Any]) -> None:
        table["models"].pop(name, None)
        table["pins"].pop(name, None)

    _change(registry, edit)


def add_registry(registry: Lookup, location: str, sha256: str | None) -> int:
    place = location if team.is_address(location) else os.path.abspath(location)
    models = team.refresh(TeamRegistry(place, sha256))

    def edit(table: dict[str, Any]) -> None:
        others = [row for row in table["registries"] if row.get("location") != place]
        table["registries"] = [*others, {"location": place, "sha256": sha256}]

    _change(registry, edit)
    return len(models)


def remove_registry(registry: Lookup, location: str) -> None:
    known = {found.location: found for found in registry.registries}
    found = known.get(location) or known.get(os.path.abspath(location))
    if found is None:
        raise RegistryError(f"{printable(location)[:200]!r} is not among your registries: {', '.join(known) or 'there are none'}")

    def edit(table: dict[str, Any]) -> None:
        table["registries"] = [row for row in table["registries"] if row.get("location") != found.location]

    _change(registry, edit)
    team.forget(found)


def pin(registry: Lookup, name: str, revision: str | None, on_progress: Progress | None) -> LockedModel:
    target = _unheld(registry, name)
    if revision is not None:
        at = tuple(HubSource(source.repository, source.quantization, source.file, revision)
                   for source in target.sources if isinstance(source, HubSource))
        if not at:
            raise OptionError(f"{name} comes from no repository with revisions: pin it without one, as it is here")
        target = dataclasses.replace(target, sources=at)
    return _hold(registry, target, targets.fetch(target, on_progress=on_progress))


def upgrade(registry: Lookup, name: str | None, on_progress: Progress | None) -> list[Upgrade]:
    if name is not None:
        return [_upgrade(registry, name, on_progress)]
    done = []
    for place in registry.registries:
        before = team.digest(place)
        team.refresh(place)
        done.append(Upgrade(place.location, before, team.digest(place)))
    registry.reload()
    return done + [_upgrade(registry, pinned, on_progress) for pinned in registry.pins]


def lock(registry: Lookup, wanted: Iterable[str], path: Path, on_progress: Progress | None, *,
         write: bool) -> dict[str, LockedModel]:
    held = lockfile.read(path) if path.exists() else {}
    for name in wanted:
        target = registry.target(name, with_lock=False)
        held[target.name] = lockfile.locked(targets.fetch(target, on_progress=on_progress), target.quantization)
    if write:
        lockfile.write(path, held)
    return held


def _upgrade(registry: Lookup, name: str, on_progress: Progress | None) -> Upgrade:
    target = _unheld(registry, name)
    pinned = registry.pins.get(target.name)
    here = targets.find(target, note=False)
    before = pinned.revision if pinned else here.revision if here else None
    model = targets.fetch(target, refresh=True, on_progress=on_progress)
    if pinned is not None:
        _hold(registry, target, model)
    return Upgrade(target.name, before, model.revision)


def _unheld(registry: Lookup, name: str) -> Target:
    """What an alias stands for when neither a lock file nor a pin holds it."""
    entry, variant = registry.choose(name)
    return Target(entry.name, variant.sources, variant.quantization, variant.size, variant.sha256)


def _hold(registry: Lookup, target: Target, model: Any) -> LockedModel:
    held = lockfile.locked(model, target.quantization)

    def edit(table: dict[str, Any]) -> None:
        table["pins"][target.name] = held.table()

    _change(registry, edit)
    return held


def _change(registry: Lookup, edit: Any) -> None:
    userfile.change(edit, registry.folder)
    registry.reload()
