"""ModelRegistry: names to models, from the built-in list, the user's own and teams' registries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gollama.models.entries import ModelEntry, Variant
from gollama.models.files import Progress
from gollama.models.lookup import Lookup

if TYPE_CHECKING:
    from gollama.models.changes import Upgrade
    from gollama.models.lockfile import LockedModel


class ModelRegistry(Lookup):
    """The models there are by name. Cheap to make: it reads a few small files and no network.

    A name means, in this order: what the lock file says, the user's pin, the user's `registry.toml`, the user's `registry.json`,
    the teams' registries in the order they were added, the built-in list. `lock`: a lock file's path; None: GOLLAMA_LOCK's, if that is
    set. With a lock file, a name that is not in it is a ModelNotFoundError. `folder`: where the user's files lie; None: the settings
    directory. RegistryError says which of these files is wrong, and where. One thread may change a registry at a time, any may read it.

    >>> from gollama import ModelRegistry
    >>> ModelRegistry().find("gemma3:270m").license
    'Gemma'
    """

    def add(self, name: str, sources: Sequence[str], *, quantization: str, title: str = "", license: str = "", size: int | None = None,
            sha256: str | None = None, abilities: Iterable[str] = (), context: int | None = None, replace: bool = False) -> ModelEntry:
        """Add a model to the user's registry, or a variant to one that is there.

        `sources` in order of preference, as names are spelled. RegistryError for a name that another registry has, unless `replace`.
        """
        from gollama.models import changes

        variant = Variant.read(quantization, {"sources": list(sources), "size": size, "sha256": sha256})
        entry = ModelEntry(name, (variant,), title, license, tuple(abilities), context, origin=changes.YOURS)
        return changes.add(self, entry, replace=replace)

    def remove(self, name: str) -> None:
        """Remove a model, and the pin of one, from the user's registry. What was fetched stays (`gollama rm`)."""
        from gollama.models import changes

        changes.remove(self, name)

    def add_registry(self, location: str, sha256: str | None = None) -> int:
        """Use a team's registry, at an https address or a path; how many models it has. With `sha256` that very content is taken only."""
        from gollama.models import changes

        return changes.add_registry(self, location, sha256)

    def remove_registry(self, location: str) -> None:
        """Use a team's registry no longer."""
        from gollama.models import changes

        changes.remove_registry(self, location)

    def pin(self, name: str, revision: str | None = None, *, on_progress: Progress | None = None) -> LockedModel:
        """Hold a model at a revision of its repository, or as it is here; fetches it if need be, and notes its digests."""
        from gollama.models import changes

        return changes.pin(self, name, revision, on_progress)

    def upgrade(self, name: str | None = None, *, on_progress: Progress | None = None) -> list[Upgrade]:
        """Get the newest of a model's branch, and move its pin there. Without a name: the newest of every team's registry and every pin."""
        from gollama.models import changes

        return changes.upgrade(self, name, on_progress)

    def lock(self, wanted: Iterable[str], path: str | os.PathLike[str] = "gollama.lock", *, write: bool = True,
             on_progress: Progress | None = None) -> dict[str, LockedModel]:
        """Write a lock file of these models, beside those that are in it; fetches what is not here, and reads every file once.

        With `write=False` only tell what it would hold.
        """
        from gollama.models import changes

        return changes.lock(self, wanted, Path(path), on_progress, write=write)
