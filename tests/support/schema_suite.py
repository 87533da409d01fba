"""The official JSON-Schema-Test-Suite, out of jsonschema's source distribution, which carries it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE, VERSION = "jsonschema", "4.26.0"
SHA256 = "0c26707e2efad8aa1bfc5b7ce170f3fccc2e4918ff85989ba9ffa9facb2be326"
DRAFTS = ("draft7", "draft2020-12")


@dataclass(frozen=True)
class Case:
    """One schema of the suite, and what it says of some values."""

    draft: str
    name: str
    schema: Any
    valid: tuple[Any, ...]


def fetch(folder: Path) -> Path:
    """The source distribution, downloaded with pip and verified."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE, "--dest", str(folder)]
    subprocess.run([*command, f"{PACKAGE}=={VERSION}"], check=True, capture_output=True)
    archive = next(folder.glob("*.tar.gz"))
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256
    return archive


def read(archive: Path) -> list[Case]:
    """The cases of the two drafts, the optional ones too."""
    cases = []
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            _, _, path = member.name.partition("/json/tests/")
            draft, _, file = path.partition("/")
            if draft in DRAFTS and file.endswith(".json"):
                content = tar.extractfile(member)
                assert content is not None
                for group in json.load(content):
                    valid = tuple(test["data"] for test in group["tests"] if test["valid"])
                    cases.append(Case(draft, f"{draft}/{file}: {group['description']}", group["schema"], valid))
    return cases
