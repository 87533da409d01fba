"""A core for musl, without a Python for it: `pytest -m slow tests/packaging/test_musl.py`, with Debian's package musl.

A small C program over the shim is run by musl's own loader. The first run builds the whole core, for 15 minutes on two cores.
test_foreign.py runs the wheel, with a Python that `zig cc -target x86_64-linux-musl -dynamic` has compiled and / for a root.
"""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import pytest

import gollama
from gollama import models
from tools import compile, pins, source_build

MACHINE = platform.machine()
LOADER = Path(f"/lib/ld-musl-{MACHINE}.so.1")
TARGET = f"{MACHINE}-linux-musl"
PROMPT, COUNT = "The capital of France is", 16
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.skipif(not LOADER.exists(), reason="musl is not installed")]


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the libraries."""
    pytest.importorskip("ziglang")
    pytest.importorskip("cmake")
    folder = tmp_path_factory.mktemp("core")
    wheel = next(wheel for wheel in pins.load().wheels if wheel.target == TARGET)
    source_build.provide(pins.ROOT, wheel, folder, tmp_path_factory.mktemp("scratch"))
    return folder


def test_it_says_what_this_machine_s_library_says(core: Path, tmp_path: Path) -> None:
    """The program also sees to it that exceptions of a bad model and a bad grammar end as codes."""
    with gollama.LLM("smollm2", context_size=64, threads=1) as llm:
        expected = list(llm.generate(PROMPT, max_tokens=COUNT, temperature=0).tokens)
    zig, executable = source_build.toolchain(TARGET), tmp_path / "program"
    includes = [f"-I{folder}" for folder in (pins.ROOT / "include", pins.ROOT / "include" / "llama.cpp")]
    libraries = [str(core / name) for name in ("libgollama.so", "libggml-base.so")]
    source = pins.ROOT / "tests" / "support" / "core_program.c"
    options = ["-dynamic", "-std=c11", "-O1", f"-Wl,-rpath,{core}"]
    compile.run([*zig.compiler.c, *options, *includes, str(source), *libraries, "-o", str(executable)])
    variant = core / f"libggml-cpu-{'x64' if MACHINE == 'x86_64' else 'armv8.0_1'}.so"
    command = [str(LOADER), str(executable), str(models.resolve("smollm2")), str(variant), PROMPT, str(COUNT)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, env={"PATH": os.environ["PATH"]})
    assert result.returncode == 0, (result.returncode, result.stderr[-2000:])
    assert [int(line) for line in result.stdout.split()] == expected


def test_its_libraries_need_musl_alone(core: Path) -> None:
    lief = pytest.importorskip("lief")
    for file in core.iterdir():
        library = lief.parse(str(file))
        assert set(library.libraries) <= {f"libc.musl-{MACHINE}.so.1", "libggml-base.so"}, file.name


def test_they_take_nothing_that_came_after_the_musl_of_the_tag(core: Path) -> None:
    """The compiler's own musl is a newer one. What came after 1.2.0 is listed by musl's release notes."""
    lief = pytest.importorskip("lief")
    newer = {"gettid", "_Fork", "reallocarray", "qsort_r", "pthread_getname_np", "tcgetwinsize", "tcsetwinsize", "preadv2", "pwritev2",
             "statx"}
    for file in core.iterdir():
        library = lief.parse(str(file))
        assert not {symbol.name for symbol in library.imported_symbols} & newer, file.name
