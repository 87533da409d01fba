"""What a model may be called: examples and laws of the names, and which of a source's files a name means."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gollama import ModelNameError, ModelNotFoundError
from gollama.models import Alias, FileSource, HubSource, UrlSource, WheelPart, WheelSource, choosing, parse

DIGEST = "a" * 64


@pytest.mark.parametrize(("text", "record"), [
    ("smollm2", Alias("smollm2")),
    ("gemma3:270m", Alias("gemma3", "270m")),
    ("hf:ggml-org/gemma-3-1b-it-GGUF", HubSource("ggml-org/gemma-3-1b-it-GGUF")),
    ("hf:ggml-org/gemma-3-1b-it-GGUF:Q4_K_M", HubSource("ggml-org/gemma-3-1b-it-GGUF", "Q4_K_M")),
    ("hf:a/b/deep/x.gguf@refs/pr/1", HubSource("a/b", file="deep/x.gguf", revision="refs/pr/1")),
    ("pypi:one==1.0+cpu/one/x.gguf", WheelSource((WheelPart("one", "1.0+cpu", "one/x.gguf"),))),
    ("pypi:one==1/x.00+two==2/x.01", WheelSource((WheelPart("one", "1", "x.00"), WheelPart("two", "2", "x.01")))),
    (f"https://example.org/x.gguf#sha256={DIGEST}", UrlSource("https://example.org/x.gguf", DIGEST)),
    ("file:a b%20.gguf", FileSource("a b%20.gguf")),
    ("file:///a%20b.gguf", FileSource("/a b.gguf")),
    ("C:\\models\\x.gguf", FileSource("C:\\models\\x.gguf")),
    ("x.gguf", FileSource("x.gguf")),
    ("./smollm2", FileSource("./smollm2")),
])
def test_a_name_becomes_its_record(text: str, record: object) -> None:
    assert parse(text) == record


@pytest.mark.parametrize("text", [
    "", "hf:", "hf:a", "hf:a/b:", "hf:a/b@", "hf:a/b/", "hf:a/b/x.bin", "hf:a/../b", "hf:a/b/../x.gguf", "hf:a/b/x/../../y.gguf",
    "hf:a/b//x.gguf", "hf:a/b/\\x.gguf", "hf:a/b/C:x.gguf", "hf:a--b/c", "hf:a/b@../x", "hf:a/b:Q4/K", "pypi:one",
    "pypi:one==1", "pypi:one>=1/x",
    "pypi:one==1/../x", "pypi:one==1//etc/passwd", "pypi:-r==1/x", "pypi:one==1/x+two==/y", "https://example.org/", "https://example.org/%2e%2e",
    "http://example.org/x.gguf", "https://user:secret@example.org/x.gguf", "https://[::1/x", "https://example.org/x.gguf#md5=1", "https://example.org/x.gguf#sha256=1",
    "ftp://example.org/x", "file://example.org/x", "file:", "a\0b", "a\nb", "a\x1b[2Jb", "a\u202eb", "\ud800", "x" * 3000,
    "hf:a/" + "x" * 300,
])
def test_what_cannot_be_a_name_is_one_specific_error(text: str) -> None:
    with pytest.raises(ModelNameError):
        parse(text)


def test_what_is_no_text_is_told() -> None:
    with pytest.raises(ModelNameError, match="not bytes"):
        parse(b"smollm2")  # type: ignore[arg-type]


WORDS = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=12).filter(
    lambda word: word[0].isalnum() and word[-1].isalnum())
SAFE = WORDS.filter(lambda word: ".." not in word and "--" not in word)
PATHS = st.lists(SAFE, min_size=1, max_size=3).map("/".join)
GGUF = PATHS.map(lambda path: path + ".gguf")
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
ALIASES = st.builds(Alias, WORDS.filter(lambda word: not word.lower().endswith(".gguf")), st.none() | WORDS).filter(
    lambda alias: alias.tag is None or alias.name.lower() not in ("hf", "pypi", "http", "https", "file"))
HUBS = st.builds(HubSource, st.tuples(SAFE, SAFE).map("/".join), quantization=st.none() | WORDS, revision=st.none() | PATHS) | st.builds(
    HubSource, st.tuples(SAFE, SAFE).map("/".join), file=GGUF, revision=st.none() | PATHS)
WHEELS = st.lists(st.builds(WheelPart, SAFE, WORDS, PATHS), min_size=1, max_size=4).map(lambda parts: WheelSource(tuple(parts)))
URLS = st.builds(UrlSource, st.tuples(SAFE, GGUF).map(lambda parts: "https://" + "/".join(parts)), st.none() | DIGESTS)
FILES = st.builds(FileSource, st.text(st.characters(min_codepoint=33, max_codepoint=0x7FF), min_size=1, max_size=30)
                  .filter(lambda path: not any(0x7F <= ord(character) < 0xA0 for character in path)))


@given(ALIASES | HUBS | WHEELS | URLS | FILES)
def test_the_text_of_a_record_is_its_name(record: Any) -> None:
    assert parse(str(record)) == record


@given(st.text(max_size=60) | st.tuples(st.sampled_from(["hf:", "pypi:", "https://", "file:", ""]),
                                        st.text("ab/.:@=+#%\\\0 -", max_size=20)).map("".join))
def test_any_text_is_a_name_or_the_one_error(text: str) -> None:
    try:
        record = parse(text)
    except ModelNameError:
        return
    assert parse(str(record)) == record


@given(st.text("ab./\\:@", max_size=20))
def test_no_path_inside_a_source_leaves_it(path: str) -> None:
    try:
        WheelPart("one", "1", path)
    except ModelNameError:
        return
    assert ".." not in path.split("/") and not path.startswith("/") and "\\" not in path


# ---- which file ----


@pytest.mark.parametrize(("name", "quantization"), [
    ("gemma-3-1b-it-Q4_K_M.gguf", "Q4_K_M"), ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"), ("x-IQ2_XXS.gguf", "IQ2_XXS"),
    ("x-f16.gguf", "F16"), ("x-fp16.gguf", "F16"), ("x-BF16-00001-of-00002.gguf", "BF16"),
    ("UD-Q4_K_XL/x-UD-Q4_K_XL-00001-of-00003.gguf", "Q4_K_XL"),
    ("Q8_0/x.gguf", "Q8_0"), ("gpt-oss-20b-mxfp4.gguf", "MXFP4"), ("plain.gguf", None), ("q8_0-x-Q4_0.gguf", "Q4_0"),
])
def test_a_files_name_tells_its_quantization(name: str, quantization: str | None) -> None:
    assert choosing.quantization(name) == quantization


def test_parts_of_a_split_file_are_one_model_and_incomplete_ones_none() -> None:
    names = [f"a-Q8_0-0000{number}-of-00003.gguf" for number in (3, 1, 2)]
    names += ["b-00001-of-00002.gguf", "mmproj-a.gguf", "README.md", "a-Q4_0.gguf"]
    assert choosing.models(names) == {
        "a-Q4_0.gguf": ["a-Q4_0.gguf"], "a-Q8_0.gguf": [f"a-Q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)]}


@pytest.mark.parametrize("name", ["x-00000-of-00002.gguf", "x-00003-of-00002.gguf", "x-00001-of-99999.gguf"])
def test_parts_that_cannot_be_are_told(name: str) -> None:
    with pytest.raises(ModelNotFoundError):
        choosing.parts(name)


SIZES = {"a-Q2_K.gguf": 10, "a-Q4_K_M.gguf": 20, "a-Q8_0.gguf": 40, "a-F16.gguf": 80}


@pytest.mark.parametrize(("memory", "chosen"), [(None, "a-Q4_K_M.gguf"), (1000, "a-Q4_K_M.gguf"), (15, "a-Q2_K.gguf"), (1, "a-Q2_K.gguf")])
def test_the_default_is_llamas_unless_memory_is_short(memory: int | None, chosen: str) -> None:
    assert choosing.choose(SIZES, memory) == chosen


@given(st.dictionaries(st.sampled_from([f"a-{name}.gguf" for name in choosing.PREFERRED]), st.integers(1, 1000), min_size=1),
       st.integers(1, 2000))
def test_what_is_chosen_fits_if_anything_does(sizes: dict[str, int], memory: int) -> None:
    chosen = choosing.choose(sizes, memory)
    assert sizes[chosen] <= memory or min(sizes.values()) > memory * choosing.SHARE


def test_a_quantization_is_found_in_any_case_and_by_its_word() -> None:
    names = ["x-Q4_K_M.gguf", "x-UD-Q4_K_M.gguf", "x-Q4_K_S.gguf"]
    assert choosing.named(names, "q4_k_m")[0] == "x-Q4_K_M.gguf"
    assert choosing.named(names, "UD-Q4_K_M") == ["x-UD-Q4_K_M.gguf"]
    assert choosing.named(names, "Q4_K") == []
