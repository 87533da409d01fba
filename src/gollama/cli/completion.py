"""Names that a shell completes. None of it may fail: a shell has no place to say so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from gollama.errors import GollamaError


def names(incomplete: str) -> list[tuple[str, str]]:
    """Every name that can be loaded: of the registries, and of what other tools have here."""
    return _matching(incomplete, _known, _others)


def here(incomplete: str) -> list[tuple[str, str]]:
    """The names of what is on this machine."""
    return _matching(incomplete, _stored)


def own(incomplete: str) -> list[tuple[str, str]]:
    """The names in the user's own registry, and the registries of teams."""
    return _matching(incomplete, _own)


def _matching(incomplete: str, *kinds: Callable[[], Iterable[tuple[str, str]]]) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for kind in kinds:
        try:
            found |= {name: text for name, text in kind() if name.startswith(incomplete)}
        except (GollamaError, OSError):
            continue
    return list(found.items())


def _known() -> Iterator[tuple[str, str]]:
    from gollama.models import ModelRegistry

    for entry in ModelRegistry():
        if entry.default:
            yield entry.alias, entry.title
        yield entry.name, entry.title


def _others() -> Iterator[tuple[str, str]]:
    from gollama.models import others

    for model in others.scan():
        yield model.name, model.tool


def _stored() -> Iterator[tuple[str, str]]:
    from gollama.models import ModelStore

    for model in ModelStore():
        yield model.name, model.place


def _own() -> Iterator[tuple[str, str]]:
    from gollama.models import ModelRegistry

    registry = ModelRegistry()
    yield from ((name, "yours") for name in registry.own)
    yield from ((name, "pinned") for name in registry.pins)
    yield from ((found.location, "a registry") for found in registry.registries)
