"""What is taken from llama.cpp's source to compile against."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.compile import chat_templates_header
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
