"""Which gollama, which llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass

from gollama import _native

__version__ = "0.1.0"


@dataclass(frozen=True)
class VersionInfo:
    gollama: str
    llama_cpp: str  # the release the libraries are of
    target: str  # what the libraries were made for, and how: "linux x86_64, prebuilt"
    cpu_variant: str  # the CPU library chosen for this processor


def version_info() -> VersionInfo:
    """The versions; loads the libraries if that has not been done."""
    library = _native.library()
    target = "{system} {machine}, {provider}".format(**_native.build())
    return VersionInfo(__version__, library.release, target, library.cpu_variant)
