"""What names mean: the built-in list, the user's own and teams' registries, pins, lock files."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gollama.errors import ModelNotFoundError, RegistryError
from gollama.models import _documents, names, records, targets, userfile
from gollama.models._documents import printable
from gollama.models.entries import Layer, ModelEntry, Variant
from gollama.models.files import LocalModel, Progress
from gollama.models.names import Alias, FileSource
from gollama.models.targets import Target
from gollama.models.userfile import TeamRegistry

if TYPE_CHECKING:
    from gollama.models.lockfile import LockedModel

log = logging.getLogger("gollama")
OTHERS = ("ollama:", "lmstudio:")  # what the names of other tools' models begin with


class Lookup:
    """What ModelRegistry reads: registries, pins and a lock file, and what a name means by them."""

    def __init__(self, *, lock: str | os.PathLike[str] | None = None, folder: Path | None = None) -> None:
        self.folder = folder
        chosen = lock if lock is not None else os.environ.get("GOLLAMA_LOCK") or None
        self.lock_path = None if chosen is None else Path(chosen)
        self.locked = None if self.lock_path is None else _locked(self.lock_path)
        self.reload()

    def reload(self) -> None:
        """Read the user's files and the copies of the teams' anew."""
        by_hand, own = userfile.read(self.folder)
        self.registries: tuple[TeamRegistry, ...] = tuple(dict.fromkeys((*by_hand.registries, *own.registries)))
        self.pins: dict[str, LockedModel] = {**own.pins, **by_hand.pins}
        self.own = own.models
        self._layers = (by_hand.models, own.models, *map(_kept, self.registries), built_in())

    def __iter__(self) -> Iterator[ModelEntry]:
        """Every model, each name once: the one that the name means."""
        seen: set[str] = set()
        for layer in self._layers:
            for name, entry in layer.items():
                if name not in seen:
                    seen.add(name)
                    yield entry

    def find(self, name: str) -> ModelEntry:
        """The model of an alias. Without a tag: that of this very name, else its default, else its only one.

        ModelNotFoundError names those there are; RegistryError for several without a default.
        """
        for layer in self._layers:
            entry = layer.get(name) if ":" in name else layer.default(name)
            if entry is not None:
                return entry
        same = [] if ":" in name else [entry for entry in self if entry.alias == name]
        if len(same) == 1:
            return same[0]
        if same:
            raise RegistryError(f"{name!r} has no default: say which, of {', '.join(entry.name for entry in same)}")
        alias = name.partition(":")[0]
        close = [entry.name for entry in self if entry.alias == alias] or list(dict.fromkeys(entry.alias for entry in self))
        raise ModelNotFoundError(f"there is no model named {printable(name)[:80]!r} and no file of that name; the names are: "
                                 f"{', '.join(close)}")

    def choose(self, name: str, quantization: str | None = None) -> tuple[ModelEntry, Variant]:
        """The model and the variant of an alias. The quantization may also stand in the name: `qwen3:4b-Q8_0`, `qwen3:Q8_0`."""
        try:
            entry = self.find(name)
        except ModelNotFoundError:
            spelled = self._spelled(name) if quantization is None else None
            if spelled is None:
                raise
            return spelled
        return entry, entry.variant(quantization)

    def _spelled(self, name: str) -> tuple[ModelEntry, Variant] | None:
        alias, _, tag = name.partition(":")
        for entry in self:
            if entry.alias == alias:
                stems = [entry.name.partition(":")[2]] + [""] * (entry.default or ":" not in entry.name)
                for variant in entry.variants:
                    if tag.upper() in {f"{stem}-{variant.quantization}".lstrip("-").upper() for stem in stems}:
                        return entry, variant
        return None

    def target(self, name: str, quantization: str | None = None, *, with_lock: bool = True) -> Target:
        """What a name stands for, an alias or a source spelled out. `with_lock=False` looks past the lock file."""
        parsed = names.parse(name)
        if isinstance(parsed, Alias):
            entry, variant = self.choose(str(parsed), quantization)
            target = Target(entry.name, variant.sources, variant.quantization, variant.size, variant.sha256)
        else:
            source = parsed if quantization is None else targets.quantized(parsed, quantization)
            target = Target(str(source), (source,), quantization, sha256=getattr(source, "sha256", None))
        locked = self._hold(target) if with_lock else self.pins.get(target.name)
        if locked is None:
            return target
        if locked.quantization != target.quantization and isinstance(parsed, Alias) and quantization is not None:
            raise RegistryError(f"{target.name} is held in {locked.quantization}, and {target.quantization} was asked for")
        return target.held(locked)

    def _hold(self, target: Target) -> LockedModel | None:
        if self.locked is None:
            return self.pins.get(target.name)
        if target.name in self.locked or isinstance(target.sources[0], FileSource):
            return self.locked.get(target.name)
        raise ModelNotFoundError(f"{target.name!r} is not in {self.lock_path}, which holds {', '.join(self.locked) or 'nothing'}: "
                                 f"`gollama lock {target.name} --file {self.lock_path}` adds it")

    def locate(self, name: str, quantization: str | None = None, *, note: bool = True) -> LocalModel | None:
        """The model if it is here, without a network; None if it is not. `note` it as a use, which `prune` asks for."""
        if name.startswith(OTHERS):
            model = _of_others(name)
            if note:
                records.touch(model)
            return model
        return targets.find(self.target(name, quantization), note=note)

    def fetch(self, name: str, quantization: str | None = None, *, refresh: bool = False,
              on_progress: Progress | None = None) -> LocalModel:
        """The model's verified files; what is not here is downloaded, from the first source that has it.

        ModelNotFoundError, RegistryError, OptionError; DownloadError tells what each source said. `refresh` asks a Hub whether a branch
        moved. `on_progress` gets (bytes done, bytes in all); without it a bar is shown where stderr is a terminal.
        """
        if name.startswith(OTHERS):
            model = _of_others(name)
            records.touch(model)
            return model
        return targets.fetch(self.target(name, quantization), refresh=refresh, on_progress=on_progress)

    def resolve(self, model: str | os.PathLike[str], quantization: str | None = None, *, on_progress: Progress | None = None) -> Path:
        """The file to load: a path as it is, or a name's, fetched if need be. A file of an alias' name goes behind the alias."""
        if not isinstance(model, str):
            return Path(model)
        if not model.startswith(OTHERS):
            parsed = names.parse(model)
            if isinstance(parsed, FileSource):
                return Path(parsed.path)
            if isinstance(parsed, Alias) and os.path.exists(model) and not self._knows(model):
                return Path(model)
        return self.fetch(model, quantization, on_progress=on_progress).path

    def _knows(self, name: str) -> bool:
        try:
            self.choose(name)
        except ModelNotFoundError:
            return False
        except RegistryError:
            pass
        return True


@functools.cache
def built_in() -> Layer:
    """The models that gollama comes with."""
    content = (Path(__file__).parent / "registry.json").read_bytes()
    return Layer(_documents.parse(content, "registry.json", RegistryError)["models"], "gollama")


def _kept(registry: TeamRegistry) -> Layer:
    """The models of a team's registry; none, and a line in the log, where its copy is gone: the user's own models must go on working."""
    from gollama.models import team

    try:
        return team.load(registry)
    except RegistryError as error:
        log.warning("%s", error)
        return Layer({}, registry.location)


def _locked(path: Path) -> dict[str, LockedModel]:
    from gollama.models import lockfile

    return lockfile.read(path)


def _of_others(name: str) -> LocalModel:
    from gollama.models import others

    found = others.find(name)
    return LocalModel(FileSource(str(found.path)), found.files)
