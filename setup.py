"""Thin: gets the natives, compiles the shim and `gollama._llama`, puts the libraries into the package.

What there is to know stands in pyproject.toml (metadata), wheels.toml (pins), build_ffi.py (the extension) and
tools/ (fetching, compiling).
"""

import os
import sys
import sysconfig
from pathlib import Path

from setuptools import Distribution, Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
STABLE = not sysconfig.get_config_var("Py_GIL_DISABLED")  # free-threaded Python has no stable ABI
sys.path.insert(0, str(ROOT))

from tools import assemble, natives, sbom  # noqa: E402  # the source tree is not a package of the build environment


class BuildExtension(build_ext):
    """`gollama._llama`, and beside it the folder of libraries that it loads."""

    def run(self) -> None:
        natives.run_or_exit(self._assemble)
        super().run()

    def _assemble(self) -> None:
        os.chdir(ROOT)
        package = ROOT / "src" / "gollama" if self.editable_mode or self.inplace else Path(self.build_lib) / "gollama"
        self.core = assemble.package(ROOT, package, Path(self.build_temp))
        assemble.extension(self.extensions[0], ROOT, self.core, Path(self.build_temp))

    def build_extensions(self) -> None:
        if self.core.compiler and os.name == "posix":  # on Windows C code of any compiler goes with that of any other
            # with none of the interpreter's flags: they are for its own compiler
            self.compiler.set_executables(compiler_so=[*self.core.compiler, "-fPIC"], linker_so=[*self.core.compiler, "-shared"])
        # the interpreter's own link flags may name its builder's folders; a wheel must not carry those along
        if os.name == "posix":
            self.compiler.linker_so = [word for word in self.compiler.linker_so if not word.startswith(("-Wl,-rpath", "-L"))]
        super().build_extensions()
        if self.core.compiler:
            natives.run_or_exit(lambda: assemble.finish(Path(self.get_ext_fullpath(self.extensions[0].name))))

    def get_source_files(self) -> list[str]:
        return []  # the generated C file is not part of an sdist


class SourceDistribution(sdist):
    """Ships the pinned headers and licence laid out, so that an sdist can be read and built offline."""

    def run(self) -> None:
        natives.run_or_exit(assemble.headers)
        super().run()


class Wheel(bdist_wheel):
    """Named by what the libraries need, and not by this machine; with an SBOM."""

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, platform = super().get_tag()
        package = Path(self.bdist_dir) / "gollama"
        # an editable wheel holds no libraries, and stays on this machine
        return python, abi, assemble.platform_tag(package) if (package / "lib").is_dir() else platform

    def write_wheelfile(self, wheelfile_base: str, *generator: str) -> None:
        super().write_wheelfile(wheelfile_base, *generator)
        package = Path(self.bdist_dir) / "gollama"
        if (package / "lib").is_dir():
            name, version = self.distribution.get_name(), self.distribution.get_version()
            sbom.write(Path(wheelfile_base), name, assemble.bill_of_materials(package, name, version))


class NativeDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True


setup(
    distclass=NativeDistribution,
    ext_modules=[Extension("gollama._llama", sources=[], py_limited_api=STABLE)],
    cmdclass={"build_ext": BuildExtension, "sdist": SourceDistribution, "bdist_wheel": Wheel},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if STABLE else {},
)
