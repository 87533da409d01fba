"""The prebuilt provider: pinned libraries of an npm package, and the parts it lacks compiled by this machine's compiler."""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools import compile as compiling
from tools import natives, pins
from tools.core import Core
from tools.pins import Wheel


def provide(root: Path, wheel: Wheel, lib: Path) -> Core:
    """Fill the folder `lib`."""
    pinned = pins.load()
    libraries, source = natives.fetch(wheel.prebuilt)
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

    c_and_cpp = ("libggml-base.so", f"libggml.{pinned.release}.so", f"libllama.{pinned.release}.so", "libmtmd.so", "libgollama.so")
    packages = {package.spec: package.sha512 for package in (pinned.natives[wheel.prebuilt], pinned.source)}
    return Core(lib, load_order=(*c_and_cpp[:3], "libllama-common.so", *c_and_cpp[3:]), linked=c_and_cpp,
                modules={"rpc": "libggml-rpc.so"}, packages=packages, build={"package": wheel.prebuilt},
                licences={"node-llama-cpp": libraries / "LICENSE"})
