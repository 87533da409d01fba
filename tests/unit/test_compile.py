"""What is taken from llama.cpp's source to compile against, and how the extension is compiled."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import assemble, pins
from tools.compile import chat_templates_header
from tools.core import Core
from tools.natives import NativesError

DEFINITION = "struct common_chat_templates {\n    bool add_bos;\n    struct { int x; } y;\n};\n"


def source(folder: Path, text: str) -> Path:
    (folder / "common").mkdir()
    (folder / "common" / "chat.cpp").write_text(text)
    return folder


def test_the_definition_of_the_templates_is_taken_out(tmp_path: Path) -> None:
    text = f'#include "chat.h"\nvoid f(struct common_chat_templates * t);\n\n{DEFINITION}\nint g() {{\n    return 1;\n}};\n'
    assert chat_templates_header(source(tmp_path, text)).endswith(f'#include "chat.h"\n\n{DEFINITION}')


@pytest.mark.parametrize("text", ["", "struct common_chat_templates;\n", DEFINITION * 2, DEFINITION.replace("struct c", "class c")])
def test_another_definition_is_a_build_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(NativesError, match="its chat templates have changed"):
        chat_templates_header(source(tmp_path, text))


@pytest.mark.parametrize(("stable", "macro", "other"), [
    (True, "Py_LIMITED_API", "_CFFI_NO_LIMITED_API"),
    (False, "_CFFI_NO_LIMITED_API", "Py_LIMITED_API"),  # else cffi's C code takes the limited API, which free-threaded Python lacks
])
def test_the_extension_takes_the_api_of_its_python(stable: bool, macro: str, other: str, tmp_path: Path) -> None:
    extension = SimpleNamespace(py_limited_api=stable)
    core = Core(tmp_path, load_order=(), linked=(), modules={}, packages={}, build={}, licences={})
    assemble.extension(extension, pins.ROOT, core, tmp_path)
    assert macro in dict(extension.define_macros) and other not in dict(extension.define_macros)
