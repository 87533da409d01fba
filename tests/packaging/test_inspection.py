"""Libraries of platforms that are not here, read with lief: `pytest -m slow tests/packaging/test_inspection.py`.

Fetches the native packages of every row, 700 MB of them once. What the shim imports is read from this machine's, which is linked.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import lief
import pytest

import gollama
from gollama import _native
from tools import natives, pins

pytestmark = [pytest.mark.slow, pytest.mark.skipif(_native.build()["provider"] != "prebuilt", reason="the shim has llama.cpp inside")]
CORES = sorted({wheel.native for wheel in pins.load().wheels if wheel.core and wheel.native})
MODULES = [wheel for wheel in pins.load().wheels if not wheel.core and wheel.native]
# what a module may need beside the core, its own requirements and the C and C++ libraries
SYSTEM = {
    "linux": r"lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|gomp)\.so\.\d+|ld-linux.*|libcuda\.so\.1|libvulkan\.so\.1",
    "windows": r"(?i)(kernel32|advapi32|ws2_32|user32|shell32|ole32|msvcp140|vcruntime140(_1)?|api-ms-win-crt-[\w-]+|ucrtbase|vcomp140"
               r"|nvcuda|vulkan-1)\.dll",
    "macos": r"/usr/lib/.*|/System/Library/Frameworks/.*",
}


def parsed(file: Path) -> Any:
    found = lief.parse(str(file))
    assert found is not None, file
    return found


@cache
def exports(target: str) -> set[str]:
    """What the libraries of a package export, without the modules of processors."""
    found: set[str] = set()
    for file in natives.library_folder(target).iterdir():
        if file.suffix not in (".so", ".dylib", ".dll") or "ggml-cpu-" in file.name:
            continue
        library = parsed(file)
        symbols = library.get_export().entries if file.suffix == ".dll" else library.exported_symbols
        found |= {symbol.name.removeprefix("_") if target.startswith("mac") else symbol.name for symbol in symbols}
    return found


def imports() -> set[str]:
    """What the shim takes of llama.cpp's libraries."""
    shim = parsed(Path(gollama.__file__).parent / "lib" / "libgollama.so")
    return {symbol.name for symbol in shim.imported_symbols} & exports("linux-x64")


def spelled(name: str) -> tuple[str, ...]:
    """The scopes and the name in a mangled one: without arguments, results and marks of the ABI, which differ between C++ libraries."""
    found, rest = [], re.sub(r"^_Z(T[VIS])?N?K?", "", name)
    while digits := re.match(r"\d+", rest):
        end = digits.end() + int(digits[0])
        found.append(rest[digits.end():end])
        rest = re.sub(r"^B5cxx11", "", rest[end:])
    return tuple(found)


@pytest.mark.parametrize("target", CORES)
def test_every_c_function_that_is_bound_or_used_is_exported(target: str) -> None:
    wanted = {name for name in imports() if not name.startswith("_Z")}
    extension = parsed(next(Path(gollama.__file__).parent.glob("_llama*.so")))
    wanted |= {symbol.name for symbol in extension.imported_symbols if symbol.name in exports("linux-x64")}
    assert len(wanted) > 300 and wanted - exports(target) == set()


@pytest.mark.parametrize("target", CORES)
def test_every_cpp_function_that_the_shim_uses_is_exported(target: str) -> None:
    """By its mangled name where the C++ library is the same, by its spelled one on macOS and, under MSVC's mangling, its plain one."""
    wanted, found = {name for name in imports() if name.startswith("_Z")}, exports(target)
    assert len(wanted) > 100
    if target.startswith("linux"):
        assert wanted - found == set()
    elif target.startswith("mac"):
        assert {spelled(name) for name in wanted} - {spelled(name) for name in found} == set()
    else:  # a Windows core is built from source, with all of this inside: the C++ names are told, and not needed
        functions = {spelled(name)[0] for name in wanted if re.match(r"_Z\d", name)}
        plain = {name[1:].split("@")[0] for name in found if name.startswith("?")} | found
        assert len(functions) > 30 and functions - plain <= {"llama_build_number"}


@pytest.mark.parametrize("wheel", MODULES, ids=lambda wheel: wheel.name)
def test_a_backend_module_needs_the_core_its_requirements_and_the_system(wheel: pins.Wheel) -> None:
    core = next(row.native for row in pins.load().wheels
                if row.core and (row.system, row.machine, row.libc) == (wheel.system, wheel.machine, wheel.libc) and row.native)
    provided = {file.name for file in natives.library_folder(str(core)).iterdir()} | set(wheel.preload)
    for name in wheel.modules:
        library = parsed(natives.library_folder(wheel.prebuilt) / name)
        needed = [getattr(one, "name", one) for one in (library.imports if wheel.system == "windows" else library.libraries)]
        assert "ggml-base" in " ".join(needed)
        for one in needed:
            assert Path(one).name in provided or re.fullmatch(SYSTEM[wheel.system], one), one


@pytest.mark.parametrize("wheel", [wheel for wheel in MODULES if wheel.system != "windows"], ids=lambda wheel: wheel.name)
def test_what_a_module_takes_of_the_core_is_there(wheel: pins.Wheel) -> None:
    core = next(row.native for row in pins.load().wheels
                if row.core and (row.system, row.machine, row.libc) == (wheel.system, wheel.machine, wheel.libc) and row.native)
    found = exports(str(core))
    for name in wheel.modules:
        library = parsed(natives.library_folder(wheel.prebuilt) / name)  # whose symbols live no longer than it
        taken = {symbol.name.removeprefix("_") if wheel.system == "macos" else symbol.name
                 for symbol in library.imported_symbols}
        assert {one for one in taken if re.match(r"(ggml|gguf|llama)_", one)} - found == set()


@pytest.mark.parametrize("distribution", ["gollama-cuda12", "gollama-cuda13"])
@pytest.mark.parametrize("system", ["linux", "windows"])
def test_the_recommendation_knows_which_code_the_cuda_modules_hold(distribution: str, system: str) -> None:
    from gollama.machine.recommending import CUDA

    wheel = next(one for one in MODULES if (one.distribution, one.system) == (distribution, system))
    machine_code, intermediate = fat_binaries((natives.library_folder(wheel.prebuilt) / wheel.modules[0]).read_bytes())
    assert tuple(sorted(machine_code)) == CUDA[distribution].machine_code and min(intermediate) == CUDA[distribution].intermediate


def fat_binaries(content: bytes) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Compute capabilities of the machine code and of the PTX in NVIDIA's fat binaries: a header, and for each part a header of its own."""
    found: dict[int, set[tuple[int, int]]] = {1: set(), 2: set()}
    start = 0
    while (start := content.find(b"\x50\xed\x55\xba", start)) >= 0:
        header, size = int.from_bytes(content[start + 6:start + 8], "little"), int.from_bytes(content[start + 8:start + 16], "little")
        if content[start + 4:start + 6] != b"\x01\x00" or start + header + size > len(content):
            start += 4
            continue
        part, end = start + header, start + header + size
        while part < end:
            kind, length = int.from_bytes(content[part:part + 2], "little"), int.from_bytes(content[part + 8:part + 16], "little")
            found[kind].add(divmod(int.from_bytes(content[part + 28:part + 32], "little"), 10))
            part += int.from_bytes(content[part + 4:part + 8], "little") + length
        start = end
    return found[2], found[1]
