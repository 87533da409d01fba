"""Windows without Windows: `pytest -m slow tests/packaging/test_windows.py`, with wine64 and what a build from source requires.

Small C programs, compiled by zig and run by Wine. The first run builds the whole core for Windows, for 20 minutes on two cores.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import gollama
from gollama import models
from tools import assemble, compile, natives, pins, source_build
from tools.source_build import Toolchain

WINE = shutil.which("wine")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.skipif(not WINE, reason="Wine is not installed")]
TARGET = "x86_64-windows-gnu"
PROMPT, COUNT = "The capital of France is", 16
Core = tuple[Path, list[Path]]
SUPPORT = pins.ROOT / "tests" / "support"


@pytest.fixture(scope="module")
def zig() -> Toolchain:
    pytest.importorskip("ziglang")
    return source_build.toolchain(TARGET)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, zig: Toolchain) -> Core:
    """The folder of a core's libraries, and what its C functions are linked by."""
    pytest.importorskip("cmake")
    folder, scratch = tmp_path_factory.mktemp("core"), tmp_path_factory.mktemp("scratch")
    wheel = next(wheel for wheel in pins.load().wheels if wheel.target == TARGET)
    made = source_build.provide(pins.ROOT, wheel, folder, scratch)
    return folder, list(made.linked)


@pytest.fixture(scope="module")
def expected() -> list[int]:
    """What this machine's own library says."""
    with gollama.LLM("smollm2", context_size=64, threads=1) as llm:
        return list(llm.generate(PROMPT, max_tokens=COUNT, temperature=0).tokens)


def program(zig: Toolchain, name: str, libraries: list[Path], folder: Path) -> Path:
    """A program of tests/support, put beside the libraries that it needs."""
    output = folder / f"{Path(name).stem}.exe"
    defines = [f"-D{part}_SHARED" for part in ("LLAMA", "GGML", "GGML_BACKEND")]
    includes = [f"-I{folder}" for folder in (pins.ROOT / "include", pins.ROOT / "include" / "llama.cpp")]
    compile.run([*zig.compiler.c, "-std=c11", "-O1", *defines, *includes, str(SUPPORT / name), *map(str, libraries), "-o", str(output)])
    return output


def tokens(executable: Path, cpu: str, prefix: Path) -> list[int]:
    """What the program prints under Wine."""
    assert WINE
    model = f"Z:{models.resolve('smollm2')}".replace("/", "\\")
    environment = {**os.environ, "WINEPREFIX": str(prefix), "WINEDEBUG": "-all", "DISPLAY": ""}
    command = [WINE, str(executable), model, str(executable.parent / cpu), PROMPT, str(COUNT)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, cwd=executable.parent, timeout=900)
    assert result.returncode == 0, (result.returncode, result.stderr[-2000:])
    return [int(line) for line in result.stdout.split()]


def test_the_pinned_libraries_say_what_linux_says(zig: Toolchain, expected: list[int], tmp_path: Path) -> None:
    assemble.headers()
    for file in natives.library_folder("win-x64").glob("*.dll"):
        shutil.copy(file, tmp_path)
    release = pins.load().release
    libraries = [tmp_path / name for name in (f"llama.{release}.dll", f"ggml.{release}.dll", "ggml-base.dll")]
    assert tokens(program(zig, "llama_program.c", libraries, tmp_path), "ggml-cpu-x64.dll", tmp_path / "wine") == expected


def test_a_core_from_source_says_what_linux_says(core: Core, zig: Toolchain, expected: list[int], tmp_path: Path) -> None:
    """With the shim; the program also sees to it that exceptions of a bad model and a bad grammar end as codes."""
    folder, linked = core
    executable = program(zig, "core_program.c", list(reversed(linked)), folder)
    for cpu in ("ggml-cpu-x64.dll", "ggml-cpu-haswell.dll"):
        assert tokens(executable, cpu, tmp_path / "wine") == expected


def test_a_core_from_source_exports_what_upstream_means_to(core: Core) -> None:
    lief = pytest.importorskip("lief")
    for file in core[0].glob("*.dll"):
        library = lief.parse(str(file))  # held, since its parts live no longer
        exported = {entry.name for entry in library.get_export().entries}
        # what upstream's headers mark as theirs; a few of these functions are C++
        ours = re.compile(r"(llama|ggml|gguf|gollama|mtmd)_|(de)?quantize_|iq[23]xs_|_Z\d\d(gguf|llama|mtmd)_|_ZT[IS]P?F")
        assert exported and not [name for name in exported if not ours.match(name)], file.name


def test_a_core_from_source_needs_windows_alone(core: Core) -> None:
    lief = pytest.importorskip("lief")
    ours = {file.name.lower() for file in core[0].iterdir()}
    for file in core[0].glob("*.dll"):
        library = lief.parse(str(file))
        needed = {entry.name.lower() for entry in library.imports}
        system = ("api-ms-win-crt-", "kernel32", "advapi32", "ws2_32", "ntdll", "ole32", "shell32", "user32", "bcrypt", "crypt32")
        assert not [name for name in needed - ours if not name.startswith(system)], file.name
