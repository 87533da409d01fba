"""What is inside a wheel, as a CycloneDX document in its `*.dist-info/sboms` (PEP 770)."""

from __future__ import annotations

import base64
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from tools import natives, pins
from tools.pins import Package

NAMESPACE = uuid.UUID("6f1bb6c2-1a3f-5b0e-9d43-0d3c0f3c8f10")  # of serial numbers: the same content has the same


@dataclass(frozen=True)
class Vendored:
    """A library whose source llama.cpp carries; its version is what the pattern finds in the file."""

    name: str
    licence: str
    repository: str
    file: str = ""
    pattern: str = ""

    def version(self, source: Path) -> str | None:
        if not self.file:
            return None
        found = re.search(self.pattern, (source / self.file).read_text(encoding="utf-8", errors="replace"), re.DOTALL)
        if found is None:
            raise natives.NativesError(f"{self.file} of llama.cpp no longer states the version of {self.name}: mend tools/sbom.py")
        return ".".join(found.groups())


VENDORED = (
    Vendored("nlohmann-json", "MIT", "nlohmann/json", "vendor/nlohmann/json.hpp",
             r"VERSION_MAJOR (\d+).*VERSION_MINOR (\d+).*VERSION_PATCH (\d+)"),
    Vendored("cpp-httplib", "MIT", "yhirose/cpp-httplib", "vendor/cpp-httplib/httplib.h", r'CPPHTTPLIB_VERSION "([\d.]+)"'),
    Vendored("stb_image", "MIT OR Unlicense", "nothings/stb", "vendor/stb/stb_image.h", r"stb_image - v([\d.]+)"),
    Vendored("miniaudio", "Unlicense OR MIT-0", "mackron/miniaudio", "vendor/miniaudio/miniaudio.h",
             r"VERSION_MAJOR +(\d+).*VERSION_MINOR +(\d+).*VERSION_REVISION +(\d+)"),
    Vendored("subprocess.h", "Unlicense", "sheredom/subprocess.h"),
    Vendored("xxHash", "BSD-2-Clause", "Cyan4973/xxHash"),
)
ZIG = "libc++ and compiler-rt"  # what zig links in


def document(name: str, version: str, packages: Iterable[Package], files: Mapping[str, str], *, core: bool, zig: str = "") -> str:
    """The document for a wheel: made from these packages, and holding these files with their sha256."""
    pinned, packages = pins.load(), list(packages)
    bom = Bom(serial_number=uuid.uuid5(NAMESPACE, f"{name} {version} {sorted(files.items())}"))
    bom.metadata.timestamp = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), timezone.utc)
    root = Component(name=name, version=version, type=ComponentType.LIBRARY, purl=PackageURL("pypi", None, name, version),
                     licenses=[LicenseExpression("MIT")], bom_ref=name)
    bom.metadata.component = root
    llama = Component(name="llama.cpp", version=pinned.release, type=ComponentType.LIBRARY, licenses=[LicenseExpression("MIT")],
                      purl=PackageURL("github", "ggml-org", "llama.cpp", pinned.commit), bom_ref="llama.cpp")
    parts = [llama, *map(_package, packages), *map(_file, files.items())]
    parts += [*_vendored(natives.source_tree())] if core else []
    if zig:
        parts.append(Component(name=ZIG, version=zig, type=ComponentType.LIBRARY, bom_ref=ZIG,
                               licenses=[LicenseExpression("Apache-2.0 WITH LLVM-exception")]))
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(root, parts)
    return str(JsonV1Dot6(bom).output_as_string(indent=2)) + "\n"


def _vendored(source: Path) -> Iterator[Component]:
    for part in VENDORED:
        owner, name = part.repository.split("/")
        version = part.version(source)
        yield Component(name=part.name, version=version, type=ComponentType.LIBRARY, licenses=[LicenseExpression(part.licence)],
                        purl=PackageURL("github", owner, name, version), bom_ref=part.name)


def _package(package: Package) -> Component:
    """An npm package, by the digest that npm states."""
    scope, _, name = package.name.rpartition("/")
    digest = HashType(alg=HashAlgorithm.SHA_512, content=base64.b64decode(package.sha512).hex())
    reference = ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(f"npm:{package.spec}"), hashes=[digest])
    return Component(name=package.name, version=package.version, type=ComponentType.LIBRARY, licenses=[LicenseExpression("MIT")],
                     purl=PackageURL("npm", scope or None, name, package.version), hashes=[digest], external_references=[reference],
                     bom_ref=package.spec)


def _file(entry: tuple[str, str]) -> Component:
    name, digest = entry
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
    return Component(name=name, type=ComponentType.FILE, hashes=hashes, bom_ref=f"file:{name}")


def write(folder: Path, name: str, text: str) -> None:
    """Into a wheel's dist-info folder."""
    (folder / "sboms").mkdir(exist_ok=True)
    (folder / "sboms" / f"{name}.cdx.json").write_text(text, encoding="utf-8")
