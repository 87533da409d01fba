"""Registries that others keep, at an https address or a path: copied when they are added or upgraded, then used without a network."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gollama._cache import cache_directory
from gollama.errors import DownloadError, ModelNameError, RegistryError
from gollama.models import _documents, names
from gollama.models.entries import Layer, read_models
from gollama.models.userfile import TeamRegistry


def is_address(location: str) -> bool:
    """Whether a registry's location is an address; else it is a path."""
    return "://" in location


def check(registry: TeamRegistry) -> None:
    """RegistryError unless the location can be one: https, http of this machine, or a path."""
    if is_address(registry.location):
        try:
            names.check_url(registry.location)
        except ModelNameError as error:
            raise RegistryError(f"a registry's address: {error}") from None
    if registry.sha256 is not None and not names.is_sha256(registry.sha256):
        raise RegistryError(f"a sha256 is 64 small hexadecimal digits, not {_documents.printable(registry.sha256)[:80]!r}")


def refresh(registry: TeamRegistry) -> Layer:
    """Get the registry anew, check it, keep a copy. What was kept before stays if anything is wrong with what came.

    RegistryError for what is not a registry or not the pinned one, DownloadError for what could not be had.
    """
    check(registry)
    content = _get(registry.location)
    models = _read(content, registry)
    _documents.write_bytes(_copy(registry), content)
    return models


def load(registry: TeamRegistry) -> Layer:
    """The models of the kept copy. RegistryError if there is none, or it is not the pinned one."""
    try:
        content = _documents.read(_copy(registry), RegistryError)
    except FileNotFoundError:
        raise RegistryError(f"the registry {registry.location} is not here yet: `gollama registry upgrade` gets it") from None
    return _read(content, registry)


def digest(registry: TeamRegistry) -> str | None:
    """The sha256 of the kept copy, None if there is none."""
    try:
        return hashlib.sha256(_documents.read(_copy(registry), RegistryError)).hexdigest()
    except FileNotFoundError:
        return None


def forget(registry: TeamRegistry) -> None:
    """Remove the kept copy."""
    _copy(registry).unlink(missing_ok=True)


def _get(location: str) -> bytes:
    if is_address(location):
        from gollama.models.downloading import read_all

        return read_all(location, _documents.LARGEST)
    try:
        return _documents.read(Path(location), RegistryError)
    except FileNotFoundError:
        raise DownloadError(f"there is no registry at {location}") from None


def _read(content: bytes, registry: TeamRegistry) -> Layer:
    location = registry.location
    found = hashlib.sha256(content).hexdigest()
    if registry.sha256 is not None and found != registry.sha256:
        raise RegistryError(f"the registry {location} has the sha256 {found[:16]}…, and {registry.sha256[:16]}… is pinned: it was refused")
    table = _documents.parse(content, f"the registry {location}", RegistryError, toml=location.endswith(".toml"))
    if set(table) - {"format", "models"}:
        raise RegistryError(f"the registry {location} may have format and models, and nothing else")
    return read_models(table, location, distant=is_address(location))


def _copy(registry: TeamRegistry) -> Path:
    return cache_directory() / "registries" / f"{hashlib.sha256(registry.location.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}.json"
