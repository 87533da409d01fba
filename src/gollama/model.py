"""A model: vocabulary, metadata, sizes, chat template."""

from __future__ import annotations

import hashlib
import operator
import os
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

from gollama import _native
from gollama._resource import Resource
from gollama.backends.placement import place, unplaced
from gollama.errors import ModelNotFoundError, OptionError
from gollama.options import LoadOptions

FINGERPRINT_PARTS = 64
FINGERPRINT_BYTES = 2**16


def existing_file(path: str | os.PathLike[str]) -> Path:
    """The path of a file; ModelNotFoundError or OptionError if it is none."""
    file = Path(path)
    if "\0" in str(file):
        raise OptionError("a path may not hold a NUL character")
    try:
        exists = file.exists()
    except OSError as error:  # a name that is too long, say
        raise ModelNotFoundError(f"{file}: {error.strerror}") from None
    if not exists:
        raise ModelNotFoundError(f"{file}: there is no such file")
    if file.is_dir():
        raise ModelNotFoundError(f"{file}: is a folder, not a model file")
    if not file.is_file():
        raise ModelNotFoundError(f"{file}: is not a regular file")
    return file


def file_fingerprint(path: Path) -> str:
    """A digest of a large file: of its size and of 64 evenly spaced parts, the first and last among them."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for part in range(FINGERPRINT_PARTS):
            file.seek(max(0, size - FINGERPRINT_BYTES) * part // (FINGERPRINT_PARTS - 1))
            digest.update(file.read(FINGERPRINT_BYTES))
    return digest.hexdigest()


class Model(Resource):
    """A GGUF model, loaded. A `with` block; usable by itself and by many threads at once.

    Raises ModelNotFoundError, InvalidModelError (with llama.cpp's words), OutOfMemoryError; all are GollamaErrors.

    `on_progress` is called with the share loaded, 0.0 to 1.0; an exception it raises, or returning False, stops the load.
    `vocab_only` loads the tokenizer and the metadata, not the weights.
    """

    def __init__(self, path: str | os.PathLike[str], options: LoadOptions | None = None, *, vocab_only: bool = False,
                 on_progress: Callable[[float], object] | None = None) -> None:
        self.path = existing_file(path)
        self.vocab_only = vocab_only
        options = options or LoadOptions()
        self.placement = unplaced() if vocab_only else place(self.path, options)
        fields = self.placement.fields(options, vocab_only=vocab_only)
        self._handle: _native.ModelHandle = _native.ModelHandle(self.path, fields, on_progress)
        self._facts = self._handle.facts()

    def __repr__(self) -> str:
        return f"<gollama.Model {self.path.name}{' (closed)' if self.closed else ''}>"

    # ---- what it is ----

    @property
    def description(self) -> str:
        """llama.cpp's one-line description: architecture, size, quantization."""
        return self._handle.description()

    @property
    def file_type(self) -> str:
        """The quantization, as llama.cpp names it: "Q4_K - Medium"."""
        return self._handle.file_type()

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The GGUF's metadata as text; arrays in llama.cpp's short form."""
        return self._handle.metadata()

    @property
    def architecture(self) -> str:
        return self.metadata.get("general.architecture", "")

    def _size(self, fact: str, key: str) -> int:
        """A size as llama.cpp read it, or from the metadata where only the vocabulary was loaded; 0 if it is not told."""
        value = self.metadata.get(f"{self.architecture}.{key}", "") if self.vocab_only else ""
        return int(value) if value.isdecimal() else self._facts[fact]

    @property
    def n_params(self) -> int:
        """Number of weights."""
        return self._facts["n_params"]

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return self._facts["size"]

    @property
    def n_ctx_train(self) -> int:
        """Tokens of context that the model was trained for."""
        return self._size("n_ctx_train", "context_length")

    @property
    def n_embd(self) -> int:
        """Length of the hidden state."""
        return self._size("n_embd", "embedding_length")

    @property
    def n_layer(self) -> int:
        return self._size("n_layer", "block_count")

    @property
    def n_head(self) -> int:
        return self._size("n_head", "attention.head_count")

    @property
    def n_head_kv(self) -> int:
        return self._size("n_head_kv", "attention.head_count_kv")

    @property
    def n_swa(self) -> int:
        """Tokens of the sliding attention window; 0 if there is none."""
        return self._size("n_swa", "attention.sliding_window")

    @property
    def n_positions(self) -> int:
        """Positions that the model has learned embeddings for, which no context can pass; 0 if it computes them."""
        return self._facts["n_positions"]

    @cached_property
    def is_generative(self) -> bool:
        """Whether it continues text: it has a decoder, needs no encoder, and a token sees only those before it."""
        facts = self._facts
        sees_all = self.architecture == "gemma-embedding" or self.metadata.get(f"{self.architecture}.attention.causal") == "false"
        return bool(facts["has_decoder"] and not facts["has_encoder"] and not facts["is_diffusion"] and not sees_all)

    @property
    def is_recurrent(self) -> bool:
        return bool(self._facts["is_recurrent"])

    @property
    def is_hybrid(self) -> bool:
        """Whether some of its layers are recurrent."""
        return bool(self._facts["is_hybrid"])

    def chat_template(self, name: str | None = None) -> str | None:
        """The template in the file (Jinja), the default one or one of several by name; None if there is none."""
        return self._handle.chat_template(name)

    # ---- vocabulary ----

    @property
    def n_vocab(self) -> int:
        """Number of tokens in the vocabulary; ids run from 0 to n_vocab - 1."""
        return self._facts["n_vocab"]

    @property
    def vocabulary_type(self) -> str:
        """SPM, BPE, WPM, UGM, RWKV, PLAMO2 or NONE."""
        return self._handle.vocabulary_type()

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """The special tokens that the model has, by llama.cpp's names (bos, eos, eot, …)."""
        return self._handle.special_tokens()

    @property
    def adds_bos(self) -> bool:
        """Whether `tokenize` puts the BOS token in front."""
        return bool(self._facts["add_bos"])

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Text to token ids.

        `add_special` adds BOS and EOS where the model wants them. With `parse_special`, the text of a control token
        becomes that token; leave it off for text of users. TextError for a lone surrogate.
        """
        return self._handle.tokenize(_native.utf8(text), add_special, parse_special)

    def detokenize(self, tokens: Iterable[int], *, special: bool = False) -> str:
        """Token ids to text, exactly: no clean-up. Bytes that are no whole character become U+FFFD.

        Control tokens give no text unless `special`. OptionError for an id that is not in the vocabulary.
        """
        return self._handle.detokenize(self.check_tokens(tokens), special, True).decode("utf-8", "replace")

    def token_bytes(self, token: int, *, special: bool = True) -> bytes:
        """The bytes that a token stands for, all of them."""
        return self._handle.detokenize(self.check_tokens([token]), special, False)

    def token_text(self, token: int) -> str:
        """The token as the vocabulary writes it, with its marks for spaces and bytes."""
        return self._handle.token_text(self.check_tokens([token])[0])

    def is_control(self, token: int) -> bool:
        """Whether it is a control token, which has no text of its own."""
        return self._handle.is_control(self.check_tokens([token])[0])

    def is_end_of_generation(self, token: int) -> bool:
        return self._handle.is_end_of_generation(self.check_tokens([token])[0])

    @cached_property
    def control_tokens(self) -> dict[int, str]:
        """Every control token's id and text."""
        return self._handle.control_tokens()

    @cached_property
    def fingerprint(self) -> str:
        """A digest that tells model files apart."""
        return file_fingerprint(self.path)

    def check_tokens(self, tokens: Iterable[int]) -> list[int]:
        """The token ids as a list of int; OptionError for one that is not in the vocabulary."""
        try:
            ids = [operator.index(token) for token in tokens]
        except TypeError:
            raise OptionError(f"token ids are whole numbers, not {tokens!r:.80}") from None
        for token in ids:
            if not 0 <= token < self.n_vocab:
                raise OptionError(f"token {token} is not in the vocabulary of {self.n_vocab} tokens")
        return ids

    @cached_property
    def end_tokens(self) -> list[int]:
        """Every token that ends a generation."""
        return self._handle.end_tokens()
