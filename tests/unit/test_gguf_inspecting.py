"""What a file's header shows, and what about it looks wrong or hostile."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gollama.gguf import Inspection, RangeBytes, formats, inspect, read
from gollama.gguf.templates import suspicions
from tests.support import gguf_bytes as raw
from tests.support import tiny

ARCHITECTURE = raw.string("general.architecture", "llama")
NORMAL, CONTROL = 1, 3


def looked_at(content: bytes) -> Inspection:
    return inspect(RangeBytes(lambda offset, length: content[offset : offset + length], len(content), "x.gguf"))


def vocabulary(tokens: Sequence[str | bytes], types: Sequence[int], **special: int) -> list[bytes]:
    return [ARCHITECTURE, raw.string("tokenizer.ggml.model", "gpt2"), raw.strings("tokenizer.ggml.tokens", tokens),
            raw.array("tokenizer.ggml.token_type", raw.INT32, len(types), struct.pack(f"<{len(types)}i", *types)),
            *(raw.uint32(f"tokenizer.ggml.{name}_token_id", token) for name, token in special.items())]


def findings(content: bytes) -> list[tuple[str, str]]:
    return [(finding.kind, finding.message) for finding in looked_at(content).findings]


def test_a_miniature_is_described(tiny_path: Path) -> None:
    found = inspect(tiny_path)
    assert (found.kind, found.architecture, found.layers, found.heads, found.context_length) == ("model", "llama", 2, 4, 128)
    assert found.parameters == sum(tensor.elements for tensor in read(tiny_path).tensors) and found.bits_per_weight == 32.0
    (share,) = found.types
    assert (share.type, share.share, share.bytes) == ("F32", 1.0, found.tensor_bytes)
    assert found.vocabulary is not None and found.vocabulary.special == {"bos": 1, "eos": 2, "unknown": 0}
    assert found.vocabulary.text(1) == "<s>" and found.vocabulary.text(10**6) is None and found.vocabulary.control == (1, 2)
    assert found.templates == () and found.findings == ()


def test_shares_of_types_are_by_bytes() -> None:
    found = looked_at(raw.whole([ARCHITECTURE], [raw.tensor("a", [32]), raw.tensor("b", [64], kind=8, offset=128)], data=224))
    assert [(share.type, share.tensors, share.bytes) for share in found.types] == [("F32", 1, 128), ("Q8_0", 1, 68)]
    assert found.bits_per_weight == pytest.approx(8 * 196 / 96)


def test_a_file_cut_off_and_one_with_more_are_told() -> None:
    content = raw.whole([ARCHITECTURE], [raw.tensor("a", [32])], data=128)
    assert findings(content) == []
    ((kind, message),) = findings(content[:-1])
    assert kind == "layout" and "cut off" in message
    ((kind, message),) = findings(content + bytes(7))
    assert kind == "size" and "7 bytes of nothing known" in message


def test_architectures_are_those_of_the_pinned_llama_cpp(source_tree: Path) -> None:
    from tools import assemble

    assert formats.architectures() == set(assemble.architectures(source_tree))
    assert {"llama", "gemma3", "qwen3moe"} <= formats.architectures()
    (finding,) = findings(raw.whole([raw.string("general.architecture", "frobnicate\x1b[2J")]))
    assert finding[0] == "architecture" and "\x1b" not in finding[1] and "none that this release" in finding[1]
    assert "does not say" in findings(raw.whole([raw.uint32("x", 1)]))[0][1]


def test_files_that_llama_cpp_does_not_load_here_are_told(tmp_path: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "big.gguf", "llama", endianess=gguf.GGUFEndian.BIG)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert "big-endian" in inspect(tmp_path / "big.gguf").findings[0].message


# ---- vocabularies ----

@pytest.mark.parametrize(("values", "message"), [
    (vocabulary(["<s>", "a"], [CONTROL, NORMAL], eos=7), "special tokens outside the vocabulary of 2: eos (7)"),
    (vocabulary(["<s>", "a"], [CONTROL]), "there are 2 tokens and 1 values of tokenizer.ggml.token_type"),
    (vocabulary(["<s>", "yes"], [CONTROL, CONTROL]), "control tokens that are words of normal text: 1 'yes'"),
    (vocabulary(["<s>", "<\u202es>"], [CONTROL, CONTROL]), "control tokens with characters that cannot be seen: 1"),
    (vocabulary(["<s>", "the"], [CONTROL, NORMAL], eos=1), "the special token eos (1) is 'the', a word of normal text"),
    (vocabulary(["<s>", "<\x1b[2J>"], [CONTROL, NORMAL], bos=1), "the special token bos (1) holds characters that cannot be seen"),
])
def test_tokens_that_look_wrong_are_told(values: list[bytes], message: str) -> None:
    assert ("vocabulary", message) in findings(raw.whole(values))


def test_types_that_were_not_read_are_not_judged() -> None:
    content = raw.whole(vocabulary(["a"] * 5000, [CONTROL] * 5000))
    file = read(RangeBytes(lambda offset, length: content[offset : offset + length], len(content), "x", chunk=128), skip_numbers=True)
    found = inspect(file)
    assert found.vocabulary is not None and found.vocabulary.control is None and found.findings == ()


# ---- templates ----

def test_upstream_s_templates_look_harmless(source_tree: Path) -> None:
    templates = sorted((source_tree / "models" / "templates").glob("*.jinja"))
    told = {file.name: suspicions(file.read_text(encoding="utf-8")) for file in templates}
    assert len(told) > 50 and {name: found for name, found in told.items() if found} == {}


@pytest.mark.parametrize(("template", "words"), [
    ("{{ ''.__class__.__mro__ }}", "__class__"),
    ("{{ messages['__globals__'] }}", "__globals__"),
    ("{%- set a = x|attr('y') -%}", "attr"),
    ("{{ cycler.init.func_globals }}", "func_globals"),
    ("{% include 'other' %}", "other files"),
    ("{% for i in range(1000000000) %}x{% endfor %}", "the number 1000000000"),
    ("{{ 'a' * 99999999 }}", "the number 99999999"),
    ("{{ 10 ** 10 }}", "powers"),
    ("{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}", "more than a million"),
    ("{% if a %}" * 30 + "{% endif %}" * 30, "blocks nested 30 deep"),
    ("{{ " + "(" * 50 + "1" + ")" * 50 + " }}", "brackets nested 50 deep"),
    ("x" * 100_000, "100,000 characters"),
    ("a\u202eb", "U+202E"),
    ("{{ '\x1b[2J' }}", "U+001B"),
])
def test_a_template_that_looks_hostile_is_told(template: str, words: str) -> None:
    assert any(words in suspicion for suspicion in suspicions(template))
    content = raw.whole([ARCHITECTURE, raw.string("tokenizer.chat_template", template)])
    assert all("\x1b" not in message and "\u202e" not in message for _, message in findings(content))


def test_a_template_of_another_model_is_told() -> None:
    template = raw.string("tokenizer.chat_template", "<|im_start|>{{ x }}<|im_end|>")
    assert findings(raw.whole([*vocabulary(["<|im_start|>", "<|im_end|>"], [CONTROL] * 2), template])) == []
    ((kind, message),) = findings(raw.whole([*vocabulary(["<|im_start|>", "<|end|>"], [CONTROL] * 2), template]))
    assert kind == "template" and "writes <|im_end|>, of which the vocabulary has no token" in message


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="{}%#'\"\\ ()[]-a_1*\n|.", max_size=200))
def test_any_text_is_looked_at(template: str) -> None:
    assert isinstance(suspicions(template), list)


def test_a_long_text_of_open_tags_and_quotes_is_looked_at_once() -> None:
    for text in ('{{ "' + '\\"' * 500_000, "{%" * 500_000, "{{ " + "{" * 1_000_000, "{{ '" + "\\" * 1_000_001, "{#" * 500_000):
        suspicions(text)  # quadratic time would run into the test's limit


# ---- split models ----

def test_parts_beside_a_file_belong_to_it(tmp_path: Path) -> None:
    split = [raw.value("split.count", 2, struct.pack("<H", 2)), raw.value("split.no", 2, struct.pack("<H", 0))]
    first, second = tmp_path / "m-00001-of-00002.gguf", tmp_path / "m-00002-of-00002.gguf"
    first.write_bytes(raw.whole([ARCHITECTURE, *split], [raw.tensor("a", [8])], data=32))
    assert [finding.message for finding in inspect(first).findings] == ["the model is split into 2 files, of which 1 are not here"]
    second.write_bytes(raw.whole([split[0]], [raw.tensor("b", [8])], data=32))
    found = inspect(first)
    assert found.findings == () and found.parameters == 16 and found.split == (0, 2)
    assert found.size == first.stat().st_size + second.stat().st_size


def test_a_miniature_s_own_template_is_looked_at(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "t.gguf", template="{{ x.__class__ }}")
    (finding,) = inspect(path).findings
    assert finding.kind == "template" and "'default' reaches for __class__" in finding.message
