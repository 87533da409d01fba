"""ModelStore: the model files on this machine, to list, verify, import and delete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gollama.errors import OptionError
from gollama.models import deleting, importing, records
from gollama.models.deleting import Removal
from gollama.models.files import LocalModel
from gollama.models.listing import ELSEWHERE, HUB, OWN, Listing, StoredModel
from gollama.models.names import FileSource, Source, UrlSource, parse_source
from gollama.models.sources import hub_cache

__all__ = ["ModelStore", "Removal", "StoredModel", "Verification"]


@dataclass(frozen=True)
class Verification:
    """Whether a model's files are what they were: True, False, or None where nobody said what they must be."""

    name: str
    path: Path
    right: bool | None
    sha256: str
    expected: str | None


class ModelStore(Listing):
    """The model files on this machine. `registry` gives them their names; None: the user's.

    Deletes nothing outside gollama's own folder but what huggingface_hub deletes in its cache; files of other tools are only read.
    """

    def remove(self, *names: str, dry_run: bool = False) -> Removal:
        """Delete models' files, and forget them. A file that was imported by reference stays where it is.

        ModelNotFoundError for a name that is not here and StoreError for a model of another tool, before anything is deleted;
        StoreError also for what cannot be deleted.
        """
        found = list(self)
        return deleting.remove(self, list(dict.fromkeys(self._among(found, name) for name in names)), dry_run=dry_run)

    def prune(self, *, older_than: float | None = None, max_size: int | None = None, dry_run: bool = False) -> Removal:
        """Delete what was not used for `older_than` seconds, then the least recently used until at most `max_size` bytes are left.

        Counts gollama's own models and those that it fetched into the Hugging Face cache. Pinned models and those of other tools stay.
        """
        for key, value in (("older_than", older_than), ("max_size", max_size)):
            if value is not None and not value >= 0:
                raise OptionError(f"{key} must be at least 0, not {value}")
        if older_than is None and max_size is None:
            raise OptionError("prune needs older_than, max_size or both")
        return deleting.remove(self, deleting.chosen(self, older_than, max_size), dry_run=dry_run)

    def verify(self, name: str | None = None, on_block: records.OnBlock | None = None) -> Iterator[Verification]:
        """Read a model, or every one of gollama's and the Hugging Face cache, and compare each file's sha256 with what is known of it.

        Known are the digests of registries, pins and lock files, of the Hub, of addresses, and those that gollama noted before.
        """
        for model in [self.find(name)] if name is not None else [model for model in self if model.place in (OWN, HUB, ELSEWHERE)]:
            expected = self._expected(model)
            for file in model.files:
                found = records.sha256(file, on_block)
                known = expected.get(file.name)
                if known is None:
                    records.digest(LocalModel(_source(model), model.files, model.revision), file, known=found)
                yield Verification(model.name, file, None if known is None else found == known, found, known)

    def disk_usage(self) -> dict[str, tuple[int, int]]:
        """By place: how many models, and their bytes on disk, a file with several names counted once."""
        usage: dict[str, tuple[int, int]] = {}
        seen = set()
        for model in self:
            number, size = usage.get(model.place, (0, 0))
            for file in model.files:
                status = file.stat()
                size += 0 if (status.st_dev, status.st_ino) in seen else status.st_size
                seen.add((status.st_dev, status.st_ino))
            usage[model.place] = (number + 1, size)
        return usage

    def add(self, path: str | os.PathLike[str], name: str, *, how: str = "auto", replace: bool = False) -> StoredModel:
        """Give a model file a name, without copying it: `how` is link (a hard link in the store), reference (the path is noted),
        auto (link, or reference where that cannot be) or copy. The parts of a split model come along. The name joins the user's registry.

        ModelNotFoundError, InvalidModelError for what is no GGUF file, StoreError; RegistryError for a name that is taken.
        """
        importing.add(self, Path(path), name, how, replace)
        return self.find(name)

    def _expected(self, model: StoredModel) -> dict[str, str]:
        """The sha256 that each file must have, by the file's name, as far as anybody says."""
        record = records.read(model.path)
        known = {Path(path).name: digest for path, digest in record.digests.items()} if record else {}
        held = (self.registry.locked or {}).get(model.name) or self.registry.pins.get(model.name)
        known |= {Path(file.name).name: file.sha256 for file in held.files} if held else {}
        if len(model.files) == 1 and model.sha256:
            known[model.path.name] = model.sha256
        source = _source(model)
        if isinstance(source, UrlSource) and source.sha256:
            known[model.path.name] = source.sha256
        if model.place == HUB:
            known |= {file.name: digest for file in model.files if (digest := hub_cache.digest(file))}
        return known


def _source(model: StoredModel) -> Source:
    return parse_source(model.source) if model.source else FileSource(str(model.path))
