"""Put the package together: the folder of libraries, the licences, the build's manifest, the extension's C source."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import build_ffi
from tools import compile as compiling
from tools import natives, pins

SYMBOLS = "{ global: PyInit__llama; local: *; };\n"


def load_order() -> list[str]:
    """The libraries that `_llama` stands on, each behind those that it needs itself."""
    release = pins.load().release
    return ["libggml-base.so", f"libggml.{release}.so", f"libllama.{release}.so", "libllama-common.so", "libmtmd.so",
            "libgollama.so"]


def headers() -> None:
    build_ffi.header_folder(natives.source_tree())


def package(root: Path, folder: Path) -> None:
    """Fill `folder`/lib, `folder`/licenses and `folder`/_build.json."""
    pinned = pins.load()
    target = pinned.core_wheel(*pins.this_platform()).prebuilt
    libraries, source = natives.fetch(target)
    build_ffi.header_folder(source)

    lib = folder / "lib"
    shutil.rmtree(lib, ignore_errors=True)
    lib.mkdir(parents=True)
    prebuilt = sorted(file for file in libraries.iterdir() if ".so" in file.name)
    if not any(pinned.release in file.name for file in prebuilt):
        raise natives.NativesError(f"{libraries} holds no libraries of llama.cpp {pinned.release}: "
                                   "it was made for another version of gollama, make it anew")
    for file in prebuilt:
        compiling.copy_native(file, lib)

    digest = natives.digest(source)
    with ThreadPoolExecutor(2) as pool:
        upstream = [compiling.mtmd(source, pinned.release), compiling.rpc(source)]
        for built in pool.map(lambda library: compiling.build_cached(library, lib, digest), upstream):
            shutil.copy(built, lib / built.name)
    with tempfile.TemporaryDirectory() as generated:
        compiling.build(compiling.shim(root, source, pinned.release, Path(generated)), lib, lib / "libgollama.so")

    _licenses(source, libraries, folder / "licenses")
    (folder / "_build.json").write_text(json.dumps(_manifest(target, lib), indent=2) + "\n")


def _licenses(source: Path, libraries: Path, folder: Path) -> None:
    """The licence texts of everything whose code is in the libraries."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    texts = {"llama.cpp": source / "LICENSE", "node-llama-cpp": libraries / "LICENSE",
             **{file.name.removeprefix("LICENSE-"): file for file in (source / "licenses").glob("LICENSE-*")},
             **{file.parent.name: file for file in (source / "vendor").rglob("LICENSE*")}}
    for name, file in texts.items():
        if file.exists():
            shutil.copy(file, folder / f"{name}.txt")


def _manifest(target: str, lib: Path) -> dict[str, Any]:
    """What the package was built from; the loader reads it instead of searching."""
    pinned = pins.load()
    files = sorted(file.name for file in lib.iterdir())
    system, machine = pins.this_platform()
    backends = [wheel for wheel in pinned.wheels if not wheel.core and (wheel.system, wheel.machine) == (system, machine)]
    return {
        "llama_cpp": {"release": pinned.release, "commit": pinned.commit},
        "target": target,
        "machine": platform.machine(),
        "packages": {package.spec: package.sha512 for package in (pinned.natives[target], pinned.source)},
        "load_order": load_order(),
        "cpu_variants": [name for name in files if "ggml-cpu" in name],
        "wheels": [{"distribution": wheel.distribution, "backend": wheel.backend} for wheel in backends],
        "modules": {"rpc": "libggml-rpc.so"},
        "libraries": {name: hashlib.sha256((lib / name).read_bytes()).hexdigest() for name in files},
    }


def extension(extension: Any, root: Path, package_folder: Path, scratch: Path) -> None:
    """Write the C source of `gollama._llama` and tell setuptools how to compile and link it."""
    scratch.mkdir(parents=True, exist_ok=True)
    builder = build_ffi.ffi_builder()
    includes = "".join(f'#include "{name}"\n' for name in build_ffi.BOUND)
    # the binding needs no speed of its own, and -O1 halves the time to compile it
    builder.set_source("gollama._llama", includes, py_limited_api=True)
    source = scratch / "_llama.c"
    builder.emit_c_code(str(source))
    symbols = scratch / "_llama.map"
    symbols.write_text(SYMBOLS)

    lib = package_folder / "lib"
    linked = [name for name in reversed(load_order()) if name != "libllama-common.so"]  # C++ only
    extension.sources = [str(source)]
    extension.include_dirs = [str(build_ffi.INCLUDE), str(build_ffi.UPSTREAM)]
    extension.define_macros = [("LLAMA_SHARED", None), ("Py_LIMITED_API", "0x030a0000")]
    extension.extra_compile_args = ["-O1", "-g0", "-fvisibility=hidden", "-Wno-deprecated-declarations", "-Wno-unused-function"]
    extension.extra_objects = [str((lib / name).resolve()) for name in linked]
    extension.extra_link_args = ["-s", "-Wl,-rpath,$ORIGIN/lib", f"-Wl,--version-script={symbols}"]
    extension.depends = [str(root / "include" / "gollama.h")]
