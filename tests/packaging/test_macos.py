"""macOS without macOS: `pytest -m slow tests/packaging/test_macos.py`.

What the core adds to the prebuilt libraries is compiled by zig and linked with them.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tools import compile as compiling
from tools import natives, pins, prebuilt, source_build
from tools.compile import Compiler

lief = pytest.importorskip("lief")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
TARGETS = {"mac-arm64-metal": "aarch64-macos.14.0", "mac-x64": "x86_64-macos.14.0"}


@pytest.fixture(scope="module", params=TARGETS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The libraries that a build on macOS compiles, as lief reads them; they do not link if a symbol is missing."""
    pytest.importorskip("ziglang")
    folder, generated = tmp_path_factory.mktemp("lib"), tmp_path_factory.mktemp("generated")
    zig = str(source_build.toolchain(TARGETS[request.param]).zig)
    compiler = Compiler((zig, "cc", "-target", TARGETS[request.param]), (zig, "c++", "-target", TARGETS[request.param]), "macos")
    prebuilt_files = [file for file in natives.library_folder(request.param).iterdir() if file.suffix in (".so", ".dylib")]
    files = [Path(shutil.copy(file, folder)) for file in prebuilt_files]
    names, source = prebuilt.file_names("macos", files), natives.source_tree()
    made = [compiling.mtmd(source, names), compiling.rpc(source, names), compiling.shim(pins.ROOT, source, names, generated)]
    return [lief.parse(str(compiling.build(replace(library, compiler=compiler), folder, folder / library.name))) for library in made]


def test_each_library_is_found_beside_those_that_need_it(built: list[Any]) -> None:
    for library in built:
        assert [path.path for path in library.rpaths] == ["@loader_path"]
        own, *needed = [entry.name for entry in library.libraries]
        assert own.startswith("@rpath/lib") and all(name.startswith(("@rpath/lib", "/usr/lib/")) for name in needed), needed


def test_the_shim_exports_its_own_functions_alone(built: list[Any]) -> None:
    """And none of llama.cpp's; zig's C++ library, which Apple's compiler does not link into it, has some of its own."""
    exported = {symbol.name for symbol in built[-1].exported_symbols}
    ours = {name for name in exported if name.startswith("_gollama_")}
    assert len(ours) > 40 and not [name for name in exported - ours if "llama" in name or "ggml" in name or "json" in name]


@pytest.mark.parametrize("target", TARGETS)
def test_the_tag_promises_no_older_system_than_the_libraries_need(target: str) -> None:
    tag = next(wheel.tag for wheel in pins.load().wheels if wheel.core and wheel.native == target)
    for file in natives.library_folder(target).iterdir():
        if file.suffix in (".so", ".dylib"):
            library = lief.parse(str(file))
            assert tuple(library.build_version.minos[:2]) <= tuple(map(int, tag.split("_")[1:3])), file.name
