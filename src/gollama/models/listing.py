"""The model files on this machine: gollama's own and those that other tools fetched, found where they lie."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gollama._cache import cache_directory
from gollama.errors import GollamaError, ModelNotFoundError, StoreError
from gollama.models import choosing, hub_files, names, others, records, sources
from gollama.models._documents import printable
from gollama.models.entries import Variant
from gollama.models.lookup import OTHERS
from gollama.models.names import Alias, FileSource, HubSource, parse_source
from gollama.models.records import Record
from gollama.models.registry import ModelRegistry

OWN, HUB, ELSEWHERE = "gollama", "Hugging Face", "elsewhere"


@dataclass(frozen=True)
class StoredModel:
    """A model on this machine. `name` loads it; `size` is bytes; `used` is when gollama used it last, in seconds since 1970.

    `place` is gollama, Hugging Face, Ollama, LM Studio, or elsewhere: a file that was imported by reference. `files` in loading order.
    """

    name: str
    place: str
    files: tuple[Path, ...]
    size: int
    quantization: str | None
    used: float | None
    source: str | None
    revision: str | None = None
    sha256: str | None = None

    @property
    def path(self) -> Path:
        return self.files[0]

    @property
    def age(self) -> float:
        """Seconds since it was used, or, if it never was, since it came."""
        return time.time() - (self.used if self.used is not None else max(file.stat().st_mtime for file in self.files))


class Listing:
    """What ModelStore lists. `registry` gives the files their names; None: the user's."""

    def __init__(self, registry: ModelRegistry | None = None) -> None:
        self.registry = registry or ModelRegistry()
        self.root = cache_directory() / "models"

    def __iter__(self) -> Iterator[StoredModel]:
        """Every model that is here, by place and name. Looks at folders, reads no model, uses no network.

        StoreError for a folder of gollama's or of the Hugging Face cache that cannot be read.
        """
        found = [*self._own(), *self._hub(), *self._elsewhere()]
        for model in others.scan():
            found.append(StoredModel(model.name, model.tool, model.files, model.size, model.quantization, _used(records.read(model.path)),
                                     model.name, None, model.sha256))
        return iter(sorted(found, key=lambda model: (model.place != OWN, model.place, model.name, str(model.path))))

    def find(self, name: str) -> StoredModel:
        """The model of a name or a path, among those that are here. ModelNotFoundError if it is not."""
        return self._among(list(self), name)

    def _among(self, found: Sequence[StoredModel], name: str) -> StoredModel:
        path = os.path.abspath(self._path(name) or name)
        same = [model for model in found if os.path.abspath(model.path) == path]  # several, where one file has several names
        full = self._full_name(name)
        for model in same or found:
            if full == model.name or name in (model.name, model.source, str(model.path)):
                return model
        if same:
            return same[0]
        raise ModelNotFoundError(f"{printable(name)[:200]!r} is not here; `gollama list` names what is: "
                                 f"{', '.join(model.name for model in found[:20]) or 'nothing'}")

    def _full_name(self, name: str) -> str | None:
        """How an alias stands in the list."""
        try:
            entry, variant = self.registry.choose(name)
        except GollamaError:
            return None
        return entry.spelled(variant)

    def _path(self, name: str) -> Path | None:
        if name.startswith(OTHERS):
            return others.find(name).path
        try:
            local = self.registry.locate(name, note=False)
        except GollamaError:  # one that is damaged can be looked at and removed too
            return None
        return None if local is None else local.path

    def _own(self) -> Iterator[StoredModel]:
        for files in _models_in(self.root):
            record = records.read(files[0])
            yield self._stored(OWN, files, record, record.source if record else None)

    def _hub(self) -> Iterator[StoredModel]:
        snapshots: dict[Path, dict[str, hub_files.HubFile]] = {}
        for file in hub_files.scan():
            snapshots.setdefault(file.snapshot, {})[file.name] = file
        for snapshot, there in snapshots.items():
            for parts in choosing.models(there).values():
                first, files = there[parts[0]], tuple(snapshot / name for name in parts)
                spelled = None if "@" in first.name else str(HubSource(first.repository, file=first.name))
                record = records.read(files[0])
                digest = first.sha256 if len(files) == 1 else None
                yield self._stored(HUB, files, record, record.source if record else spelled, first.revision, digest, spelled)

    def _elsewhere(self) -> Iterator[StoredModel]:
        for entry in self.registry:
            for variant in entry.variants:
                for source in variant.sources:
                    model = sources.find(source) if isinstance(source, FileSource) else None
                    if model is not None and not model.path.is_relative_to(self.root):
                        name = entry.spelled(variant)
                        yield self._stored(ELSEWHERE, model.files, records.read(model.path), str(source), name=name)

    def _stored(self, place: str, files: tuple[Path, ...], record: Record | None, source: str | None, revision: str | None = None,
                sha256: str | None = None, spelled: str | None = None, name: str | None = None) -> StoredModel:
        name = name or self._named(files[0], [source, spelled]) or spelled or source or f"file:{files[0]}"
        found = self._variant(name)
        quantization = found.quantization if found else choosing.quantization(files[0].name)
        if revision is None and record is not None:
            revision = record.revision
        return StoredModel(name, place, files, sum(file.stat().st_size for file in files), quantization, _used(record), source,
                           revision, sha256 or (found.sha256 if found else None))

    def _named(self, path: Path, spelled: Iterable[str | None]) -> str | None:
        """The alias that stands for a file or a source, if there is one."""
        wanted = {str(FileSource(str(path))), *filter(None, spelled)}
        for text in list(wanted):
            source = parse_source(text)
            if isinstance(source, HubSource):  # a registry names a quantization where a cache has a file
                quantization = source.quantization or choosing.quantization(path.name)
                wanted |= {str(HubSource(source.repository, quantization)).upper(), str(HubSource(source.repository)).upper()}
        for entry in self.registry:
            for variant in entry.variants:
                if any(str(source) in wanted or (isinstance(source, HubSource) and str(source).upper() in wanted)
                       for source in variant.sources):
                    return entry.spelled(variant)
        return None

    def _variant(self, name: str) -> Variant | None:
        if not isinstance(names.parse(name), Alias):
            return None
        try:
            return self.registry.choose(name)[1]
        except ModelNotFoundError:
            return None


def _used(record: Record | None) -> float | None:
    return None if record is None else record.used


def _models_in(root: Path) -> list[tuple[Path, ...]]:
    """The GGUF files below a folder, the parts of a split one together; what is reached through links is left out."""
    found = []
    for folder, folders, files in os.walk(root, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in files if not name.startswith(".")]
    there = [path.relative_to(root).as_posix() for path in found if not path.is_symlink() and path.is_file()]
    return [tuple(root / name for name in names) for names in choosing.models(there).values()]


def _unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise StoreError(f"{error.filename} cannot be read ({error.strerror or error})") from error
