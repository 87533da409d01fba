"""Pinned headers to the cffi module `gollama._llama` (out of line, API mode).

Nothing happens at import. `header_folder` lays the pinned headers out under include/llama.cpp, `declarations` turns
them into a cdef, and `extension` makes the setuptools extension that setup.py builds.

The C compiler lays out every struct and gives every constant its value: enums and structs go into the cdef with `...`
where a number would stand, so nothing in here can drift from the headers.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pycparser import c_ast, c_generator, c_parser

from tools import natives

ROOT = Path(__file__).resolve().parent
INCLUDE = ROOT / "include"
UPSTREAM = INCLUDE / "llama.cpp"

# bound as a whole, in this order
BOUND = ("llama.h", "ggml-backend.h", "gguf.h", "mtmd.h", "mtmd-helper.h", "gollama.h")
# bound for the types the others need, and for the functions named here; binding all of ggml costs 20 s of compiling,
# and the functions of ggml-cpu.h live in a module that is loaded at run time
TYPES_ONLY = ("ggml.h", "ggml-cpu.h", "ggml-opt.h", "ggml-alloc.h")
GGML_FUNCTIONS = {
    "ggml_version", "ggml_commit", "ggml_type_name", "ggml_type_size", "ggml_blck_size", "ggml_row_size",
    "ggml_is_quantized", "ggml_nbytes", "ggml_nelements", "ggml_get_name", "ggml_time_us", "ggml_time_init",
    "ggml_init", "ggml_free", "ggml_get_first_tensor", "ggml_get_next_tensor", "ggml_log_set", "ggml_log_get",
    "ggml_set_abort_callback", "ggml_threadpool_params_default", "ggml_threadpool_params_init",
}
CALLBACKS = """
extern "Python" void gollama_python_log(int32_t level, const char * line);
extern "Python" bool gollama_python_progress(float progress, void * handle);
"""
PRELUDE = "".join(f"typedef int {name};\n" for name in (
    "size_t", "bool", "FILE", "int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t", "uint32_t", "int64_t", "uint64_t",
    "uintptr_t", "intptr_t", "va_list",
))


def header_folder(source: Path) -> Path:
    """Lay the pinned C headers and licence of llama.cpp out under include/llama.cpp, from its source tree."""
    stamp, digest = UPSTREAM / ".source", natives.digest(source)
    if not stamp.exists() or stamp.read_text() != digest:
        shutil.rmtree(UPSTREAM, ignore_errors=True)
        UPSTREAM.mkdir(parents=True)
        for folder in ("include", "ggml/include", "tools/mtmd"):
            for header in sorted((source / folder).glob("*.h")):
                if folder != "tools/mtmd" or header.name in BOUND:
                    shutil.copy(header, UPSTREAM / header.name)
        shutil.copy(source / "LICENSE", UPSTREAM / "LICENSE")
        stamp.write_text(digest)
    return UPSTREAM


def preprocess(compiler: Sequence[str], *flags: str) -> str:
    """The bound headers as the C preprocessor leaves them, with line markers; without a compiler given, the interpreter's own."""
    source = "".join(f'#include "{name}"\n' for name in BOUND)
    compiler = compiler or shlex.split(sysconfig.get_config_var("CC") or "cc")
    command = [*compiler, "-E", *flags, f"-I{INCLUDE}", f"-I{UPSTREAM}", "-xc", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout


def lines_of(text: str) -> Iterator[tuple[str, str]]:
    """(header's name, line) for the lines that come from one of our headers."""
    name = ""
    for line in text.splitlines():
        if line.startswith("# "):
            name = line.split('"')[1].rsplit("/", 1)[-1]
        elif name in BOUND or name in TYPES_ONLY:
            yield name, line


def statements(text: str) -> Iterator[tuple[str, str, bool]]:
    """(header's name, declaration, deprecated) for each declaration at file level, attributes taken out."""
    pending = ""
    depth = 0
    for name, line in lines_of(text):
        for character in line + "\n":
            pending += character
            depth += (character in "{(") - (character in "})")
            if character == ";" and depth == 0:
                bare = without_attributes(pending)
                yield name, bare, "deprecated" in pending and "deprecated" not in bare
                pending = ""


def without_attributes(text: str) -> str:
    while (start := text.find("__attribute__")) >= 0:
        end = text.index("(", start)
        depth = 1
        while depth:
            end += 1
            depth += (text[end] == "(") - (text[end] == ")")
        text = text[:start] + text[end + 1:]
    return text.replace("__extension__", "")


class _Cdef(c_ast.NodeVisitor):  # type: ignore[misc]  # pycparser has no types
    """Rewrites one declaration into cffi's dialect: `...` for every number that the compiler knows."""

    def visit_Enum(self, node: Any) -> None:
        for enumerator in node.values.enumerators if node.values else ():
            enumerator.value = c_ast.ID("...")

    def visit_ArrayDecl(self, node: Any) -> None:
        if node.dim is not None and not isinstance(node.dim, c_ast.Constant):
            node.dim = c_ast.ID("...")
        self.generic_visit(node)

    def visit_IdentifierType(self, node: Any) -> None:
        # cffi takes FILE for its own
        node.names = ["void" if name == "FILE" else name for name in node.names]


def wanted(name: str, node: Any) -> bool:
    """Whether a parsed declaration goes into the cdef."""
    if isinstance(node, c_ast.FuncDef) or "static" in getattr(node, "storage", ()):
        return False
    if isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.FuncDecl):
        return name in BOUND or node.name in GGML_FUNCTIONS
    return not isinstance(node, c_ast.Decl) or isinstance(node.type, (c_ast.Struct, c_ast.Enum, c_ast.Union))


def constants(compiler: Sequence[str] = ()) -> Iterator[str]:
    """The object-like macros of the bound headers whose text is a number."""
    found: set[str] = set()
    for name, line in lines_of(preprocess(compiler, "-dD")):
        words = line.split(None, 2)
        if name in BOUND and len(words) == 3 and words[0] == "#define" and words[1].isidentifier():
            value = words[2].split("//")[0].strip().strip("()").rstrip("uUlL")
            if value not in found:
                try:
                    int(value, 0)
                except ValueError:
                    continue
            found.add(words[1])
            yield f"#define {words[1]} ..."


def declarations(compiler: Sequence[str] = ()) -> str:
    """The cdef: what cffi reads."""
    text = preprocess(compiler)
    kept = [(name, statement) for name, statement, deprecated in statements(text) if not deprecated]
    generator = c_generator.CGenerator()
    lines = []
    # every statement is parsed behind all earlier ones, since C needs their typedefs; one pass does it
    tree = c_parser.CParser().parse(PRELUDE + "".join(
        f'# 1 "{name}"\n{statement}\n' for name, statement in kept), "prelude")
    for node in tree.ext:
        if node.coord.file == "prelude" or not wanted(node.coord.file, node):
            continue
        _Cdef().visit(node)
        lines.append(generator.visit(node) + ";")
    # two headers may repeat one typedef
    return "\n".join([*dict.fromkeys([*constants(compiler), *lines]), CALLBACKS])


def ffi_builder(compiler: Sequence[str] = ()) -> Any:
    """The cffi.FFI with the declarations and the C prelude set; the caller says how to compile it."""
    import cffi

    builder = cffi.FFI()
    builder.cdef(declarations(compiler))
    return builder


if __name__ == "__main__":
    header_folder(natives.source_tree())
    print(declarations())
