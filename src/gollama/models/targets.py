"""From what a name stands for to files that are here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gollama.errors import DownloadError, GollamaError, ModelNotFoundError, OptionError
from gollama.models import records, sources
from gollama.models.files import LocalModel, Progress
from gollama.models.names import HubSource, Source

if TYPE_CHECKING:
    from gollama.models.lockfile import LockedModel


@dataclass(frozen=True)
class Target:
    """What a name stands for: where it may come from, in order, and what is known of it. `locked` if it is held fast."""

    name: str
    sources: tuple[Source, ...]
    quantization: str | None = None
    size: int | None = None
    sha256: str | None = None
    locked: LockedModel | None = None

    def held(self, locked: LockedModel) -> Target:
        """This target, held fast."""
        only = locked.files[0] if len(locked.files) == 1 else None
        return Target(self.name, (locked.source,), locked.quantization, locked.size, only.sha256 if only else None, locked)


def find(target: Target, *, note: bool = True) -> LocalModel | None:
    """The model if it is here, without a network; `note`: as a use. DownloadError if it is not the one that is held fast."""
    for source in target.sources:
        model = sources.find(source)
        if model is not None:
            if target.locked is not None:
                target.locked.check(model)
            if note:
                records.touch(model)
            return model
    return None


def fetch(target: Target, *, refresh: bool = False, on_progress: Progress | None = None) -> LocalModel:
    """The model from the first source that has it; what came before is used unless `refresh`. DownloadError tells what each said."""
    here = None if refresh else find(target)
    if here is not None:
        return here
    failures: list[GollamaError] = []
    for source in target.sources:
        try:
            one = len(target.locked.files) == 1 if target.locked else True
            model = sources.fetch(source, sha256=target.sha256, size=target.size if one else None, refresh=refresh,
                                  title=target.name, on_progress=on_progress)
        except (DownloadError, ModelNotFoundError) as error:
            failures.append(error)
            continue
        if target.locked is not None:
            target.locked.check(model)
        records.touch(model)
        return model
    if len(failures) == 1:
        raise failures[0]
    said = "; ".join(f"{source}: {error}" for source, error in zip(target.sources, failures, strict=True))
    raise DownloadError(f"{target.name} cannot be had from any of its sources: {said}") from failures[-1]


def quantized(source: Source, quantization: str) -> Source:
    """A source in a quantization. OptionError unless it is a repository without a file."""
    if not isinstance(source, HubSource) or source.file is not None or source.quantization not in (None, quantization):
        raise OptionError(f"a quantization can be chosen of an alias and of a repository, not of {source}")
    return HubSource(source.repository, quantization, None, source.revision)
