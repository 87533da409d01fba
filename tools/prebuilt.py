"""The prebuilt provider: pinned libraries of an npm package, and the parts it lacks compiled by this machine's compiler."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools import compile as compiling
from tools import natives, pins
from tools.core import Core
from tools.pins import Wheel


def provide(root: Path, wheel: Wheel, lib: Path, _scratch: Path) -> Core:
    """Fill the folder `lib`."""
    pinned = pins.load()
    if wheel.system == "windows":
        raise natives.NativesError("the prebuilt libraries for Windows have Microsoft's C++ ABI, which the shim is not compiled for: "
                                   "unset GOLLAMA_NATIVE, or set it to source")
    # one package may serve the core and a backend wheel
    elsewhere = {name for row in pinned.wheels if row.native == wheel.native for name in row.modules}
    libraries, source = natives.fetch(wheel.prebuilt)
    prebuilt = sorted(file for file in libraries.iterdir() if file.suffix in (".so", ".dylib") and file.name not in elsewhere)
    if not any(pinned.release in file.name for file in prebuilt):
        raise natives.NativesError(f"{libraries} holds no libraries of llama.cpp {pinned.release}: "
                                   "it was made for another version of gollama, make it anew")
    for file in prebuilt:
        compiling.copy_native(file, lib)

    names = file_names(wheel.system, prebuilt)
    digest = natives.digest(source)
    with ThreadPoolExecutor(2) as pool:
        upstream = [compiling.mtmd(source, names), compiling.rpc(source, names)]
        for built in pool.map(lambda library: compiling.build_cached(library, lib, digest), upstream):
            shutil.copy(built, lib / built.name)
    with tempfile.TemporaryDirectory() as generated:
        compiling.build(compiling.shim(root, source, names, Path(generated)), lib, lib / names["gollama"])

    linked = tuple(lib / name for library, name in names.items() if library != "llama-common")
    packages = {package.spec: package.sha512 for package in (pinned.natives[wheel.prebuilt], pinned.source)}
    return Core(lib, load_order=tuple(names.values()), linked=linked, modules={"rpc": "libggml-rpc.so"}, packages=packages,
                build={"package": wheel.prebuilt}, licences={"node-llama-cpp": libraries / "LICENSE"})


def file_names(system: str, prebuilt: Sequence[Path]) -> dict[str, str]:
    """The files of llama.cpp's libraries and ours, each behind those that it needs itself."""
    names = {library: _named(library, prebuilt) for library in ("ggml-base", "ggml", "llama", "llama-common")}
    return names | {library: compiling.file_name(system, library) for library in ("mtmd", "gollama")}


def _named(library: str, files: Iterable[Path]) -> str:
    """The file of a library, whose name may carry the package's backend and llama.cpp's release."""
    found = [file.name for file in files if re.fullmatch(rf"lib{library}(\.[a-z]+)?(\.v[\d.]+)?\.(so|dylib)", file.name)]
    if len(found) != 1:
        raise natives.NativesError(f"the prebuilt package has {len(found)} files for lib{library}, and not one")
    return found[0]
