"""setuptools' build backend, which asks for the compiler from PyPI only where the core is to be built from source."""

from __future__ import annotations

from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

from tools import pins, source_build

__all__ = [  # PEP 517 and PEP 660
    "build_editable", "build_sdist", "build_wheel", "get_requires_for_build_editable", "get_requires_for_build_sdist",
    "get_requires_for_build_wheel", "prepare_metadata_for_build_editable", "prepare_metadata_for_build_wheel",
]
Settings = dict[str, Any] | None


def _requirements() -> list[str]:
    try:
        return list(source_build.REQUIREMENTS) if pins.chosen()[1] == "source" else []
    except pins.PinsError:
        return []  # the build itself says it


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_requirements()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    return [*build_meta.get_requires_for_build_editable(config_settings), *_requirements()]
