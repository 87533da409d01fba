"""What is installed: files, licences, sizes, metadata."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

import gollama
from gollama import _native

PACKAGE = Path(gollama.__file__).parent


def test_the_manifest_states_every_library_by_digest() -> None:
    libraries = _native.build()["libraries"]
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (PACKAGE / "lib").iterdir()}
    assert files == libraries
    assert {"libgollama.so", "libggml-rpc.so", "libggml-base.so", *_native.build()["load_order"]} <= set(files)
    assert len(_native.build()["cpu_variants"]) == 14


def test_the_licences_are_shipped() -> None:
    texts = {file.stem: file.read_text() for file in (PACKAGE / "licenses").iterdir()}
    origin = {"prebuilt": "node-llama-cpp", "source": "libc++"}[_native.build()["provider"]]
    assert {"llama.cpp", origin, "jsonhpp", "cpp-httplib", "xxhash"} <= set(texts)
    assert all("copyright" in text.lower() or "public domain" in text.lower() for text in texts.values())


def test_the_installed_package_is_at_most_60_megabytes() -> None:
    size = sum(file.stat().st_size for file in PACKAGE.rglob("*") if file.is_file())
    assert size <= 60_000_000


def test_the_distribution_is_named_and_needs_what_it_says() -> None:
    metadata = importlib.metadata.metadata("gollama-cpu")
    assert metadata["Version"] == gollama.__version__ and metadata["License-Expression"] == "MIT"
    needed = {line.split(">")[0].split(";")[0].strip() for line in metadata.get_all("Requires-Dist", []) if "extra" not in line}
    assert needed == {"cffi", "filelock", "gguf", "huggingface_hub", "numpy", "platformdirs", "rich", "tomli", "truststore", "typer"}


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_the_page_s_files_are_shipped() -> None:
    kinds = {file.suffix for file in (PACKAGE / "server" / "page").iterdir()}
    assert kinds >= {".html", ".js", ".css", ".svg"}
