"""The binding against the pinned headers, read at test time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import gollama
from gollama import _native
from gollama.lowlevel import ffi, lib

PACKAGE = Path(gollama.__file__).parent


def declared_functions(header: Path) -> set[str]:
    """The non-deprecated functions of a header, found without the build's own parser: by the API macro in its text."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", header.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"#ifdef __cplusplus.*?#endif", "", text, flags=re.DOTALL)
    text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    names = set()
    for match in re.finditer(r"(?:LLAMA_API|GGML_API|MTMD_API|GOLLAMA_API)\b([^;{}]*?)\b(\w+)\s*\(", text):
        before = text[max(0, match.start() - 40) : match.start()]
        if "DEPRECATED" not in (match[1] + match[2]) and not re.search(r"DEPRECATED\(\s*$", before):
            names.add(match[2])
    return names


@pytest.mark.parametrize(("header", "least"), [
    ("include/llama.h", 200), ("ggml/include/ggml-backend.h", 80), ("ggml/include/gguf.h", 50),
    ("tools/mtmd/mtmd.h", 50), ("tools/mtmd/mtmd-helper.h", 20),
])
def test_every_function_of_the_header_is_reachable(source_tree: Path, header: str, least: int) -> None:
    names = declared_functions(source_tree / header)
    assert len(names) >= least
    missing = {name for name in names if not hasattr(lib, name)}
    assert missing == set()


def test_deprecated_functions_are_left_out() -> None:
    assert not hasattr(lib, "llama_load_model_from_file")


def test_constants_and_enums_have_the_headers_values() -> None:
    assert lib.LLAMA_DEFAULT_SEED == 0xFFFFFFFF
    assert lib.LLAMA_SESSION_MAGIC == lib.LLAMA_FILE_MAGIC_GGSN == 0x6767736E
    assert lib.LLAMA_TOKEN_NULL == -1
    assert lib.LLAMA_FLASH_ATTN_TYPE_AUTO == -1
    assert lib.LLAMA_TOKEN_ATTR_SINGLE_WORD == 1 << 9


def test_struct_sizes_are_the_compilers() -> None:
    assert ffi.sizeof("llama_token_data") == 12
    assert ffi.sizeof("gollama_error") == 1024


def test_the_door_for_experts_loads_on_first_use_and_lists_its_names() -> None:
    code = "import sys, gollama.lowlevel as low; assert 'gollama._llama' not in sys.modules; assert dir(low) == ['ffi', 'lib']; low.lib"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == ""
    import gollama.lowlevel

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gollama.lowlevel.nothing


def test_the_extension_exports_its_init_function_and_no_more() -> None:
    extension, = PACKAGE.glob("_llama.*")
    listing = subprocess.run(["nm", "-D", "--defined-only", extension], capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in listing.splitlines()] == ["PyInit__llama"]


def test_the_shim_exports_its_c_face_and_no_more() -> None:
    shim = PACKAGE / "lib" / "libgollama.so"
    listing = subprocess.run(["nm", "-D", "--defined-only", shim], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1] for line in listing.splitlines() if line.split()[-2] == "T"}
    declared = declared_functions(Path(__file__).resolve().parents[2] / "include" / "gollama.h")
    if _native.build()["provider"] == "source":  # llama.cpp's own C functions are in the same library
        assert all(name.startswith(("llama_", "mtmd_", "ggml_", "gguf_")) for name in names - declared) and declared <= names
    else:
        assert names == declared
