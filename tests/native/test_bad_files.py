"""Model files that nobody vouches for: each gets a specific exception, and the process lives."""

from __future__ import annotations

import ast
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest

import gollama
from gollama import InvalidModelError, Model, ModelNotFoundError, OptionError

ROOT = Path(__file__).resolve().parents[2]
CUTS = 40
CORRUPTIONS = 500


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no such file"):
        Model(tmp_path / "missing.gguf")
    with pytest.raises(FileNotFoundError):
        gollama.LLM(str(tmp_path / "missing.gguf"))


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is a folder"):
        Model(tmp_path)


def test_a_device() -> None:
    with pytest.raises(ModelNotFoundError, match="not a regular file"):
        Model("/dev/zero")


def test_a_name_with_a_nul() -> None:
    with pytest.raises((OptionError, ModelNotFoundError), match="NUL"):
        Model("a\0b.gguf")


@pytest.mark.parametrize(("content", "message"), [
    (b"", "the file is empty"), (b"Hello, I am a text file.\n" * 50, "not in GGUF format"), (b"GGUF", "GGUF header is damaged"),
    (b"GGUF" + b"\xff" * 100, "GGUF header is damaged"), (b"PK\x03\x04" + b"\0" * 100, "not in GGUF format"),
])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(content)
    with pytest.raises(InvalidModelError, match=message):
        Model(file)


def test_the_library_s_own_words_are_in_the_message(tmp_path: Path, tiny_path: Path) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(tiny_path.read_bytes().replace(b"blk.0.attn_q.weight", b"blk.0.attn_X.weight"))
    with pytest.raises(InvalidModelError, match=r"tensor 'blk\.0\.attn_q\.weight' not found"):
        Model(file)


@pytest.mark.parametrize("key", [b"llama.attention.head_count", b"llama.block_count", b"llama.context_length", b"llama.embedding_length"])
@pytest.mark.parametrize("value", [0, 2**31 - 1, 2**32 - 1])
def test_a_size_that_cannot_be(tmp_path: Path, tiny_path: Path, key: bytes, value: int) -> None:
    file = tmp_path / "odd.gguf"
    content = bytearray(tiny_path.read_bytes())
    at = content.index(key) + len(key) + 4
    content[at : at + 4] = value.to_bytes(4, "little")
    file.write_bytes(content)
    with pytest.raises(InvalidModelError), gollama.LLM(file) as llm:
        llm.generate("the", max_tokens=1)


def test_a_size_that_llama_cpp_divides_by(tmp_path: Path, tiny_path: Path) -> None:
    file = tmp_path / "odd.gguf"
    content = bytearray(tiny_path.read_bytes().replace(b"llama.", b"olmo2.").replace(b"llama", b"olmo2", 1))
    at = content.index(b"olmo2.attention.head_count") + len("olmo2.attention.head_count") + 4
    content[at : at + 4] = bytes(4)
    file.write_bytes(content)
    with pytest.raises(InvalidModelError, match="olmo2.attention.head_count is 0"):
        Model(file)


class Child:
    """A process that loads files and says what became of each; a new one for each that dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def load(self, file: Path) -> str:
        """The outcome; "died: ..." if the process did."""
        if self._process is None:
            self._process = subprocess.Popen([sys.executable, "-m", "tests.support.load_damaged"], cwd=ROOT, text=True,
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._process.stdin.write(f"{file}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if answer:
            return str(ast.literal_eval(answer))
        code, text = self._process.wait(), self._process.stderr.read()
        self._process = None
        return f"died: {code} {text[-500:]}"

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.close()


def test_a_file_cut_anywhere_is_told(tmp_path: Path, tiny_path: Path, child: Child) -> None:
    content = tiny_path.read_bytes()
    outcomes = {}
    for number in range(CUTS):
        length = len(content) * number // CUTS
        file = tmp_path / f"cut{number}.gguf"
        file.write_bytes(content[:length])
        outcomes[length] = child.load(file)
    assert {length: outcome for length, outcome in outcomes.items() if not outcome.startswith("InvalidModelError")} == {}


def corrupted(content: bytes, places: list[int], seed: int) -> bytes:
    """One to eight changes at the places: bytes, bits, extreme numbers, cuts and insertions."""
    chance = random.Random(seed)
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 8))):
        at, kind = chance.choice(places), chance.random()
        if kind < 0.4:
            data[at] = chance.randrange(256)
        elif kind < 0.6:
            data[at] ^= 1 << chance.randrange(8)
        elif kind < 0.8:
            value, width = chance.choice((0, 1, 255, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)), chance.choice((4, 8))
            data[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")
        elif kind < 0.9:
            del data[at : at + chance.randrange(1, 16)]
        else:
            data[at:at] = chance.randbytes(chance.randrange(1, 16))
    return bytes(data)


def header_places(file: Path) -> list[int]:
    """The header and the tensor table, less the inside of the vocabulary, which is most of it."""
    content = file.read_bytes()
    end = min(tensor.data_offset for tensor in gguf.GGUFReader(file).tensors)
    tokens, behind = content.index(b"tokenizer.ggml.tokens"), content.index(b"tokenizer.ggml.scores")
    return [*range(tokens + 200), *range(behind, behind + 60), *range(content.index(b"tokenizer.ggml.bos"), end)]


def test_a_corrupted_header_never_kills_the_process(tmp_path: Path, tiny_path: Path, child: Child) -> None:
    content, places = tiny_path.read_bytes(), header_places(tiny_path)
    outcomes = {}
    for seed in range(CORRUPTIONS):
        file = tmp_path / f"{seed}.gguf"
        file.write_bytes(corrupted(content, places, seed))
        outcomes[seed] = child.load(file)
        file.unlink()
    assert {seed: outcome for seed, outcome in outcomes.items() if outcome.startswith("died")} == {}
    kinds = {outcome.split(":")[0] for outcome in outcomes.values()}
    assert kinds <= {"InvalidModelError", "loaded", "NativeError", "OutOfMemoryError"} and "loaded" in kinds
