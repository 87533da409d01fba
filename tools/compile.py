"""Compile what the wheel does not take ready-made: the shim, libmtmd and the RPC backend module.

Upstream's parts are kept in the cache directory under a key of source digest, flags and compiler, so that they are
compiled once per machine. The shim is small and compiled each time.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from tools.natives import NativesError, cache_directory
from tools.pins import this_platform

WORKERS = max(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2)


def _command(variable: str, otherwise: str) -> list[str]:
    return shlex.split(os.environ.get(variable) or sysconfig.get_config_var(variable) or otherwise)


@dataclass(frozen=True)
class Compiler:
    """The commands that compile, and the system they compile for in wheels.toml's words."""

    c: tuple[str, ...]
    cpp: tuple[str, ...]
    system: str

    def version(self) -> str:
        """One line; those below it may name folders, which differ from build to build."""
        command = [*self.cpp, "--version"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def this_compiler() -> Compiler:
    """The machine's own: CC and CXX, else what the interpreter was built with."""
    return Compiler(tuple(_command("CC", "cc")), tuple(_command("CXX", "c++")), this_platform()[0])


@dataclass(frozen=True)
class Library:
    """A shared library to be made: its file's name, its sources, and how they are compiled and linked."""

    name: str
    sources: tuple[Path, ...]
    includes: tuple[Path, ...]
    defines: tuple[str, ...] = ()
    links: tuple[str, ...] = ()  # file names of libraries beside it
    flags: tuple[str, ...] = ()
    compiler: Compiler = field(default_factory=this_compiler)
    objects: tuple[Path, ...] = ()  # compiled already
    exports: Path | None = None  # a linker script of the functions that leave the library
    system_libraries: tuple[str, ...] = ("-lpthread",)

    def compile_command(self, source: Path, output: Path) -> list[str]:
        c = source.suffix == ".c" and source.name != "sha1.c"  # sha1.c holds C++, upstream compiles it as such
        compiler = [*self.compiler.c, "-std=c11"] if c else [*self.compiler.cpp, "-xc++", "-std=c++17"]
        position = [] if self.compiler.system == "windows" else ["-fPIC"]
        return [*compiler, "-O2", "-DNDEBUG", *position, "-fvisibility=hidden", *self.flags,
                *(f"-D{define}" for define in self.defines),
                *(word for include in self.includes for word in ("-isystem", str(include))),
                "-c", str(source), "-o", str(output)]

    def link_command(self, objects: Iterable[Path], libraries: Path, output: Path) -> list[str]:
        special = {"linux": ["-s", f"-Wl,-soname,{self.name}", "-Wl,--as-needed", "-Wl,-rpath,$ORIGIN"],
                   "macos": [f"-Wl,-install_name,@rpath/{self.name}", "-Wl,-rpath,@loader_path"],
                   "windows": ["-s", f"-Wl,--out-implib,{libraries / import_library(self.name)}"]}[self.compiler.system]
        exports = [f"-Wl,--version-script={self.exports}"] if self.exports and self.compiler.system == "linux" else []
        links = [str(libraries / import_library(link)) for link in self.links]
        return [*self.compiler.cpp, "-shared", *map(str, objects), *map(str, self.objects), *links, *special, *exports,
                *self.system_libraries, "-o", str(output)]

    def key(self, digest: str) -> str:
        """Changes whenever the library would come out otherwise."""
        command = replace(self, includes=()).compile_command(Path("x.cpp"), Path("x.o"))
        parts = [digest, self.compiler.version(), *command, *self.links, *(source.name for source in self.sources)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def import_library(name: str) -> str:
    """What a library is linked by: on Windows not by itself."""
    return f"{name.removesuffix('.dll')}.lib" if name.endswith(".dll") else name


def build(library: Library, libraries: Path, output: Path) -> Path:
    """Compile a library's sources in parallel and link it against those in the folder `libraries`."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(WORKERS) as pool:
        objects = [Path(scratch) / f"{number}.o" for number in range(len(library.sources))]
        # large files first, so that no core waits at the end
        order = sorted(zip(library.sources, objects, strict=True), key=lambda pair: -pair[0].stat().st_size)
        list(pool.map(lambda pair: run(library.compile_command(*pair)), order))
        output.parent.mkdir(parents=True, exist_ok=True)
        # linked under its own name, which a DLL carries in itself, and moved there whole
        with tempfile.TemporaryDirectory(prefix=".linked-", dir=output.parent) as folder:
            partial = Path(folder) / output.name
            run(library.link_command(objects, libraries, partial))
            partial.replace(output)
    return output


def build_cached(library: Library, libraries: Path, digest: str) -> Path:
    """The library from the cache directory, built there first if need be."""
    output = cache_directory() / "compiled" / f"{library.name}-{library.key(digest)}" / library.name
    if not output.exists():
        print(f"gollama: compiling {library.name} ({len(library.sources)} files; kept for the next build)", flush=True)
        build(library, libraries, output)
    return output


def run(command: list[str], **more: str) -> None:
    """Run a build step; NativesError with the end of what it said where it fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, env={**environment(), **more})
    except FileNotFoundError:
        raise NativesError(f"the compiler {command[0]!r} is not on PATH: install a C and a C++ compiler (Debian: "
                           "`apt install g++`), or name yours in CC and CXX") from None
    if result.returncode:
        raise NativesError(f"{shlex.join(command)} failed:\n{(result.stdout + result.stderr)[-4000:]}")


def environment() -> dict[str, str]:
    """This process's, less the variable that switches ggml's instruction sets off (it is for reproducible builds)."""
    return {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}


def file_name(system: str, library: str) -> str:
    """What a shared library is called on a system."""
    return {"linux": f"lib{library}.so", "macos": f"lib{library}.dylib", "windows": f"{library}.dll"}[system]


def mtmd(source: Path, names: Mapping[str, str]) -> Library:
    """llama.cpp's images and audio, which the prebuilt packages lack; `names` are those of the libraries it stands on."""
    folder, vendor = source / "tools" / "mtmd", source / "vendor"
    stems = ("mtmd", "mtmd-audio", "mtmd-image", "mtmd-helper", "mtmd-helper-gen", "clip")
    sources = [*(folder / f"{name}.cpp" for name in stems), *sorted((folder / "models").glob("*.cpp")),
               vendor / "hash" / "hash.cpp", vendor / "hash" / "xxhash" / "xxhash.c",
               vendor / "hash" / "sha1" / "sha1.c", vendor / "hash" / "sha256" / "sha256.c"]
    includes = (source / "include", source / "ggml" / "include", folder, vendor, vendor / "hash", vendor / "stb",
                vendor / "miniaudio", vendor / "sheredom")
    links = (names["llama"], names["ggml"], names["ggml-base"])
    return Library(names["mtmd"], tuple(sources), includes, ("LLAMA_SHARED", "LLAMA_BUILD", "MTMD_VIDEO"), links, ("-w",))


def rpc(source: Path, names: Mapping[str, str]) -> Library:
    """The backend module that computes on other machines, which the prebuilt packages lack."""
    folder = source / "ggml" / "src"
    includes = (source / "ggml" / "include", folder)
    defines = ("GGML_BACKEND_DL", "GGML_BACKEND_SHARED", "GGML_BACKEND_BUILD", "GGML_SHARED", "_GNU_SOURCE")
    sources = (folder / "ggml-rpc" / "ggml-rpc.cpp", folder / "ggml-rpc" / "transport.cpp")
    return Library("libggml-rpc.so", sources, includes, defines, (names["ggml-base"],), ("-w",))


def chat_templates_header(source: Path) -> str:
    """What chat.cpp alone defines: the struct that holds the parsed chat templates, which the shim changes."""
    text = (source / "common" / "chat.cpp").read_text(encoding="utf-8")
    found = re.findall(r"^struct common_chat_templates \{\n.*?^\};\n", text, re.DOTALL | re.MULTILINE)
    if len(found) != 1:
        raise NativesError(f"llama.cpp's common/chat.cpp defines `struct common_chat_templates` {len(found)} times, and not once: "
                           "its chat templates have changed, and src/native/template_load.cpp must change with them")
    return f'#pragma once\n\n#include "chat.h"\n\n{found[0]}'


def shim(root: Path, source: Path, names: Mapping[str, str], generated: Path) -> Library:
    """Our own library, with the toolchain of the libraries it calls; a header for it is written to the folder `generated`."""
    (generated / "common_chat_templates.h").write_text(chat_templates_header(source), encoding="utf-8")
    upstream = ("include", "ggml/include", "common", "src", "vendor", "tools/mtmd")
    includes = (root / "include", generated, *(source / part for part in upstream))
    links = tuple(name for library, name in names.items() if library != "gollama")
    sources = tuple(sorted((root / "src" / "native").glob("*.cpp")))
    return Library(names["gollama"], sources, includes, ("LLAMA_SHARED",), links, ("-Wall", "-Wextra", "-Wno-unused-parameter"))


def copy_native(file: Path, folder: Path) -> None:
    """Copy a prebuilt library, and take the empty entry out of its search path.

    Upstream links with the run path `$ORIGIN:`, whose empty second part makes the loader look for every further
    library in the current directory. The colon is overwritten in place, so nothing in the file moves.
    """
    content = file.read_bytes()
    if content.startswith(b"\x7fELF"):
        content = content.replace(b"\0$ORIGIN:\0", b"\0$ORIGIN\0\0")
    target = folder / file.name
    target.write_bytes(content)
    shutil.copymode(file, target)
