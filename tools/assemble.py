"""Put the package together: the folder of libraries, the licences, the build's manifest, the extension's C source."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import build_ffi
from tools import natives, pins, prebuilt, sbom, source_build, tags
from tools.core import Core

SYMBOLS = "{ global: PyInit__llama; local: *; };\n"
# for each system the compiler's and the linker's options for the extension; the binding needs no speed of its own, and -O1 halves the time
GCC = ("-O1", "-g0", "-fvisibility=hidden", "-Wno-deprecated-declarations", "-Wno-unused-function")
COMPILE = {"linux": GCC, "macos": GCC, "windows": ()}
LINK = {"linux": ("-s", "-Wl,-rpath,$ORIGIN/lib", "-Wl,--version-script={symbols}"),
        "macos": ("-Wl,-rpath,@loader_path/lib", "-Wl,-exported_symbol,_PyInit__llama"),
        "windows": ()}  # where setuptools exports the one symbol, and the loader finds the libraries by their names, in memory already
PROVIDERS = {"prebuilt": prebuilt.provide, "source": source_build.provide}


def headers() -> None:
    build_ffi.header_folder(natives.source_tree())


def package(root: Path, folder: Path, scratch: Path) -> Core:
    """Fill `folder`/lib, `folder`/licenses and `folder`/_build.json; `scratch` takes what only the build needs."""
    wheel, provider = pins.chosen()
    if wheel.system == "macos":  # what is compiled asks for the system that the tag names
        os.environ["MACOSX_DEPLOYMENT_TARGET"] = ".".join(wheel.tag.split("_")[1:3])
    lib = folder / "lib"
    shutil.rmtree(lib, ignore_errors=True)
    lib.mkdir(parents=True)
    core = PROVIDERS[provider](root, wheel, lib, scratch)
    source = natives.source_tree()
    build_ffi.header_folder(source)
    _licenses(source, core.licences, folder / "licenses")
    manifest = {**_manifest(core), "architectures": architectures(source)}
    (folder / "_build.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return core


def _licenses(source: Path, more: dict[str, Path], folder: Path) -> None:
    """The licence texts of everything whose code is in the libraries."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    texts = {"llama.cpp": source / "LICENSE",
             **more,
             **{file.name.removeprefix("LICENSE-"): file for file in (source / "licenses").glob("LICENSE-*")},
             **{file.parent.name: file for file in (source / "vendor").rglob("LICENSE*")}}
    for name, file in texts.items():
        if file.exists():
            shutil.copy(file, folder / f"{name}.txt")


def architectures(source: Path) -> list[str]:
    """The architectures that llama.cpp knows, as a file's general.architecture says them: its source has the one list of them."""
    table = (source / "src" / "llama-arch.cpp").read_text(encoding="utf-8").partition("LLM_ARCH_NAMES = {")[2].partition("};")[0]
    names = re.findall(r'\{\s*LLM_ARCH_\w+,\s*"([^"()]+)"\s*\}', table)
    if "llama" not in names:
        raise natives.NativesError(f"{source} has no list of architectures where it was: tools/assemble.py must be told where it is")
    return sorted(names)


def _manifest(core: Core) -> dict[str, Any]:
    """What the package was built from; the loader reads it instead of searching."""
    pinned = pins.load()
    wheel, provider = pins.chosen()
    files = sorted(file.name for file in core.lib.iterdir())
    backends = [row for row in pinned.wheels if not row.core and (row.system, row.machine) == (wheel.system, wheel.machine)]
    return {
        "llama_cpp": {"release": pinned.release, "commit": pinned.commit},
        "provider": provider,
        "build": core.build,
        "system": wheel.system,
        "machine": wheel.machine,
        "packages": core.packages,
        "load_order": core.load_order,
        "cpu_variants": [name for name in files if "ggml-cpu" in name],
        "wheels": [{"distribution": row.distribution, "backend": row.backend, "tag": row.tag} for row in backends],
        "modules": core.modules,
        "libraries": {name: hashlib.sha256((core.lib / name).read_bytes()).hexdigest() for name in files},
    }


def platform_tag(folder: Path) -> str:
    """The wheel's platform tag, by what the libraries of the finished package need."""
    return tags.platform_tag(*pins.chosen(), sorted(folder.rglob("*.so")))


def bill_of_materials(folder: Path, name: str, version: str) -> str:
    """The SBOM of the finished package."""
    manifest, pinned = json.loads((folder / "_build.json").read_text(encoding="utf-8")), pins.load()
    packages = [package for package in (*pinned.natives.values(), pinned.source) if package.spec in manifest["packages"]]
    return sbom.document(name, version, packages, manifest["libraries"], core=True, zig=manifest["build"].get("compiler", ""))


def extension(extension: Any, root: Path, core: Core, scratch: Path) -> None:
    """Write the C source of `gollama._llama` and tell setuptools how to compile and link it."""
    scratch.mkdir(parents=True, exist_ok=True)
    builder = build_ffi.ffi_builder(core.compiler)
    includes = "".join(f'#include "{name}"\n' for name in build_ffi.BOUND)
    builder.set_source("gollama._llama", includes, py_limited_api=extension.py_limited_api)
    source = scratch / "_llama.c"
    builder.emit_c_code(str(source))
    symbols = scratch / "_llama.map"
    symbols.write_text(SYMBOLS)

    extension.sources = [str(source)]
    extension.include_dirs = [str(build_ffi.INCLUDE), str(build_ffi.UPSTREAM)]
    # cffi's C code takes the limited API by itself where it is not told otherwise
    abi = ("Py_LIMITED_API", "0x030a0000") if extension.py_limited_api else ("_CFFI_NO_LIMITED_API", None)
    extension.define_macros = [("LLAMA_SHARED", None), abi]
    system = pins.chosen()[0].system
    extension.extra_compile_args = list(COMPILE[system])
    extension.extra_objects = [str(file.resolve()) for file in reversed(core.linked)]
    extension.extra_link_args = [word.replace("{symbols}", str(symbols)) for word in LINK[system]]
    extension.depends = [str(root / "include" / "gollama.h")]


def finish(extension: Path) -> None:
    """The linked extension, where the core is from source."""
    source_build.name_libc(str(pins.chosen()[0].target), [extension])
