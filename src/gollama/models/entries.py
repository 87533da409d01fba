"""What a registry says of a model, and reading it from JSON or TOML that anybody may have written."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gollama.errors import ModelNameError, RegistryError
from gollama.models import names
from gollama.models._documents import printable
from gollama.models.names import Alias, FileSource, HubSource, Source, UrlSource, parse_source

ABILITIES = ("chat", "tools", "thinking", "vision", "audio", "embedding", "rerank", "infill", "code")
FORMAT = 1
MOST_MODELS = 5_000
MOST_VARIANTS = 64
LARGEST_SIZE = 1 << 50  # bytes

_QUANTIZATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


@dataclass(frozen=True)
class Variant:
    """A model in one quantization. The first source that can be had serves; `size` is in bytes and None where nobody measured it.

    `verified`: its sha256 was compared with a file that was loaded and ran. Without one, the source's own digest is checked.
    """

    quantization: str
    sources: tuple[Source, ...]
    size: int | None = None
    sha256: str | None = None
    verified: bool = False

    def __post_init__(self) -> None:
        _require(isinstance(self.quantization, str) and _QUANTIZATION.fullmatch(self.quantization), "quantization", self.quantization,
                 "a word such as Q4_K_M")
        _require(isinstance(self.sources, tuple) and 0 < len(self.sources) <= MOST_VARIANTS, "sources", self.sources, "one source or more")
        _require(self.size is None or _whole(self.size, LARGEST_SIZE), "size", self.size, "a number of bytes")
        _require(self.sha256 is None or names.is_sha256(self.sha256), "sha256", self.sha256, "64 small hexadecimal digits")
        _require(isinstance(self.verified, bool), "verified", self.verified, "true or false")
        _require(not self.verified or self.sha256, "sha256", None, "there where a model is marked as verified")

    @classmethod
    def read(cls, quantization: str, table: object) -> Variant:
        """From a registry's table, or its list of sources."""
        table = _table("a variant", {"sources": table} if isinstance(table, list) else table, "sources", "size", "sha256", "verified")
        sources = _strings("sources", table.get("sources"))
        return cls(quantization, tuple(_source(text) for text in sources),
                   table.get("size"), table.get("sha256"), table.get("verified", False))


@dataclass(frozen=True)
class ModelEntry:
    """A model by its full name, `alias:tag` or `alias`. The first variant is the one to take unless another is asked for.

    `abilities` are among ABILITIES, `context` is the tokens it was trained for, `origin` the registry that says all this.
    """

    name: str
    variants: tuple[Variant, ...]
    title: str = ""
    license: str = ""
    abilities: tuple[str, ...] = ()
    context: int | None = None
    default: bool = False
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        alias = _alias(self.name)
        _require(str(alias) == self.name, "name", self.name, "alias:tag or alias")
        _require(isinstance(self.variants, tuple) and 0 < len(self.variants) <= MOST_VARIANTS, "variants", self.name, "one variant or more")
        kinds = [variant.quantization.upper() for variant in self.variants]
        _require(len(set(kinds)) == len(kinds), "variants", kinds, "each quantization once")
        for key in ("title", "license"):
            text = getattr(self, key)
            _require(isinstance(text, str) and len(text) <= 200 and text == printable(text), key, text, "a line of text")
        for ability in self.abilities:
            _require(ability in ABILITIES, "abilities", ability, f"among {', '.join(ABILITIES)}")
        _require(self.context is None or _whole(self.context, 1 << 31), "context", self.context, "a number of tokens")
        _require(isinstance(self.default, bool), "default", self.default, "true or false")

    @property
    def alias(self) -> str:
        """The name without its tag."""
        return self.name.partition(":")[0]

    @property
    def quantizations(self) -> tuple[str, ...]:
        return tuple(variant.quantization for variant in self.variants)

    def spelled(self, variant: Variant) -> str:
        """The name that means this very variant."""
        if variant is self.variants[0]:
            return self.name
        return f"{self.name}{'-' if ':' in self.name else ':'}{variant.quantization}"

    def variant(self, quantization: str | None = None) -> Variant:
        """The variant of a quantization, in any case; the first without one. RegistryError names those there are."""
        if quantization is None:
            return self.variants[0]
        for variant in self.variants:
            if variant.quantization.upper() == quantization.upper():
                return variant
        raise RegistryError(f"{self.name} is not known in the quantization {printable(quantization)[:40]!r}; "
                            f"there are: {', '.join(self.quantizations)}")

    @classmethod
    def read(cls, name: str, table: object, origin: str = "") -> ModelEntry:
        """From a registry's table.

        `variants` are tables of sources by quantization; `repository` with a list of `quantizations` spells the same for a
        repository whose files are named by theirs.
        """
        known = ("title", "license", "abilities", "context", "default", "variants", "repository", "quantizations")
        table = _table(f"the model {printable(name)[:80]!r}", table, *known)
        variants = dict(_table("variants", table.get("variants", {})))
        repository = table.get("repository")
        quantizations = _strings("quantizations", table.get("quantizations", []))
        _require((repository is None) == (not quantizations), "repository", repository, "with its list of quantizations")
        found = [Variant.read(quantization, row) for quantization, row in variants.items()]
        for quantization in quantizations:
            source = _source(f"{repository}:{quantization}")
            _require(isinstance(source, HubSource), "repository", repository, "hf:OWNER/NAME")
            found.append(Variant(quantization, (source,)))
        return cls(name, tuple(found), table.get("title", ""), table.get("license", ""),
                   tuple(_strings("abilities", table.get("abilities", []))), table.get("context"), table.get("default", False), origin)

    def table(self) -> dict[str, Any]:
        """What `read` makes this entry of."""
        rows: dict[str, Any] = {}
        for variant in self.variants:
            row: dict[str, Any] = {"sources": [str(source) for source in variant.sources]}
            row |= {key: value for key in ("size", "sha256") if (value := getattr(variant, key)) is not None}
            rows[variant.quantization] = {**row, "verified": True} if variant.verified else row
        facts = {"title": self.title, "license": self.license, "abilities": list(self.abilities), "context": self.context,
                 "default": self.default}
        return {**{key: value for key, value in facts.items() if value}, "variants": rows}


class Layer(Mapping[str, ModelEntry]):
    """The models of one registry by name. An entry is read when it is asked for, since most never are."""

    def __init__(self, rows: Mapping[str, Any], origin: str) -> None:
        self._rows = rows
        self._origin = origin
        self._read: dict[str, ModelEntry] = {}

    def __getitem__(self, name: str) -> ModelEntry:
        if name not in self._read:
            self._read[name] = ModelEntry.read(name, self._rows[name], self._origin)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def default(self, alias: str) -> ModelEntry | None:
        """What an alias means without a tag: the model of this very name, else the one that is marked."""
        if alias in self._rows:
            return self[alias]
        stem = f"{alias}:"
        return next((self[name] for name, row in self._rows.items() if name.startswith(stem) and row.get("default")), None)


def read_models(table: Mapping[str, Any], origin: str, *, distant: bool) -> Layer:
    """The models of a registry, all of them checked. RegistryError names what is wrong in it, and where.

    A `distant` registry came over the network, and may not name files of this machine or addresses that only its own network has.
    """
    if table.get("format") != FORMAT:
        raise RegistryError(f"{origin} must say \"format\": {FORMAT}, the one that this gollama reads, "
                            f"not {printable(repr(table.get('format')))[:40]}")
    models = table.get("models", {})
    if not isinstance(models, dict) or len(models) > MOST_MODELS:
        raise RegistryError(f"{origin}: models must be a table of {MOST_MODELS} at most")
    found = Layer(models, origin)
    for name in models:
        try:
            entry = found[name]
            if distant:
                _check_distant(entry)
        except (RegistryError, ModelNameError) as error:
            raise RegistryError(f"{origin}, model {printable(name)[:80]!r}: {error}") from None
    return found


def _check_distant(entry: ModelEntry) -> None:
    for variant in entry.variants:
        for source in variant.sources:
            if isinstance(source, FileSource):
                raise RegistryError("a registry that came over the network may not name a file of this machine")
            if isinstance(source, UrlSource) and _is_private(urlsplit(source.url).hostname or ""):
                raise RegistryError("a registry that came over the network may not name a private address")


def _is_private(host: str) -> bool:
    """Whether a host is spelled as an address that only this machine or its own network has. A name is not looked up."""
    address = host.strip("[]")
    try:  # an IPv4 address inside an IPv6 one is refused always: which of the two counts differs between versions of Python
        return names.is_private(address) or getattr(ipaddress.ip_address(address), "ipv4_mapped", None) is not None
    except ValueError:
        return host.lower().rstrip(".").rpartition(".")[2] in ("localhost", "local", "internal")


def _alias(name: object) -> Alias:
    alias = names.parse(name) if isinstance(name, str) else None
    if not isinstance(alias, Alias):
        raise RegistryError(f"{printable(str(name))[:80]!r} is no name for a model: alias:tag, of letters, digits, dots and dashes")
    return alias


def _source(text: str) -> Source:
    try:
        return parse_source(text)
    except ModelNameError as error:
        raise RegistryError(f"the source {printable(text)[:200]!r} is none: {error}") from None


def _table(what: str, value: object, *known: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RegistryError(f"{what} must be a table, not {type(value).__name__}")
    for key in value:
        if known and key not in known:
            raise RegistryError(f"{what} has {printable(str(key))[:80]!r}, which is not among {', '.join(known)}")
    return value


def _strings(key: str, value: object) -> list[str]:
    if not isinstance(value, list) or len(value) > MOST_VARIANTS or not all(isinstance(item, str) for item in value):
        raise RegistryError(f"{key} must be a list of texts, {MOST_VARIANTS} at most")
    return value


def _whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def _require(holds: object, key: str, value: object, rule: str) -> None:
    if not holds:
        raise RegistryError(f"{key} must be {rule}, not {printable(repr(value))[:120]}")
