"""Layers and the door: who may import what."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import gollama

PACKAGE = Path(gollama.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# top to bottom; a module imports from its own layer or one below
LAYERS = (
    ("__main__",), ("cli",), ("server",), ("__init__", "lowlevel"), ("pool",), ("aio", "bench", "doctor"), ("llm",), ("conversation",),
    ("intake", "tool_loop", "states", "scoring"), ("adapters", "jobs", "async_jobs"),
    ("generation",), ("chat",), ("engine",), ("context", "embedding"), ("sampler", "_rerank"), ("model",), ("compatibility",), ("monitor",),
    ("models", "version", "backends"), ("gguf", "machine"),
    ("_resource",), ("_native",), ("results", "options", "_text", "_threads", "_memory"),
    ("_options", "_cache", "_files", "_locks", "_weak"), ("errors",),
)
LEVEL = {name: number for number, layer in enumerate(LAYERS) for name in layer}


def imported(file: Path) -> set[str]:
    """The first parts, behind `gollama.`, of what a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "gollama":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gollama."):
            found.add((node.module or "").split(".")[1])
    return found


def module(file: Path) -> str:
    return ".".join(("gollama", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module(file): file for file in FILES}


def imported_modules(file: Path) -> set[str]:
    """All that a file imports of ours, also if only for types."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            found |= {name if (name := f"{node.module}.{alias.name}") in MODULES else str(node.module) for alias in node.names}
    return found


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_only_native_touches_the_compiled_module(file: Path) -> None:
    if room(file) == "_native":
        return
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | {
        alias.name for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}
    assert not names & {"_llama", "ffi", "lib", "cffi", "ctypes"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_layer_uses_only_those_below(file: Path) -> None:
    own = LEVEL[room(file)]
    assert {name for name in imported(file) if LEVEL.get(name, own) < own} == set()


def test_no_modules_import_each_other() -> None:
    graphlib.TopologicalSorter({name: imported_modules(file) for name, file in MODULES.items()}).prepare()


def test_what_native_offers_is_what_is_used() -> None:
    from gollama import _native

    used: set[str] = set()
    for file in FILES:
        if room(file) != "_native":
            tree = ast.parse(file.read_text(encoding="utf-8"))
            used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
                     and isinstance(node.value, ast.Name) and node.value.id == "_native"}
            used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
                     and node.module == "gollama._native" for alias in node.names}
    assert used <= {*_native.__all__}


def test_the_public_names_are_sorted_and_there() -> None:
    from collections.abc import Sequence

    def order(names: Sequence[str]) -> list[str]:
        return sorted(names, key=lambda name: (not name.isupper(), name.startswith("_") or name[0].islower(), name))

    assert gollama.__all__ == order(gollama.__all__)
    assert all(hasattr(gollama, name) for name in gollama.__all__)


def test_every_exception_is_a_gollama_error_and_a_builtin_one() -> None:
    from gollama import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind is not errors.GollamaError]
    for kind in kinds:
        assert issubclass(kind, errors.GollamaError)
        assert any(base.__module__ == "builtins" and base not in (Exception, BaseException, object) for base in kind.__mro__)


def test_importing_loads_no_library_and_prints_nothing() -> None:
    code = ("import sys, logging, signal; before = signal.getsignal(signal.SIGINT); import gollama; "
            "assert 'gollama._llama' not in sys.modules and 'numpy' not in sys.modules and 'rich' not in sys.modules; "
            "assert not any('ggml' in line for line in open('/proc/self/maps')); assert signal.getsignal(signal.SIGINT) is before")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
