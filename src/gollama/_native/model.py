"""A loaded model, its vocabulary and metadata."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gollama._locks import ForkLock
from gollama._native import callbacks, log
from gollama._native.failures import Failures
from gollama._native.handles import Handle
from gollama._native.library import library
from gollama._native.parameters import LoadFields, ModelParams
from gollama._native.text import c_text, decode, path_bytes
from gollama.errors import NativeError, TextError


class ModelHandle(Handle):
    """Owns a llama_model. May be used by many threads."""

    def __init__(self, path: str | os.PathLike[str], fields: LoadFields, on_progress: Callable[[float], object] | None) -> None:
        loaded = library()
        ffi, lib = loaded.ffi, loaded.lib
        log.follow_level(lib)
        placed = ModelParams(loaded, fields)
        params = placed.params
        failures = Failures(loaded)
        with callbacks.progress(loaded, on_progress) as (params.progress_callback, params.progress_callback_user_data):
            pointer = lib.gollama_model_load(path_bytes(path), params, failures.error)
        failures.check(str(path))
        super().__init__(f"the model {path}", pointer, lib.llama_model_free)
        self._ffi, self._lib = ffi, lib
        self.adapting = ForkLock()  # llama.cpp looks at all of a model's adapters when it makes a context or changes one's
        self._vocab = lib.llama_model_get_vocab(pointer)
        self._has_vocabulary = lib.llama_vocab_type(self._vocab) != lib.LLAMA_VOCAB_TYPE_NONE

    def facts(self) -> dict[str, int]:
        """Every field of gollama_model_facts, by its name."""
        facts = self._ffi.new("gollama_model_facts *")
        failures = Failures(library())
        with self.use() as model:
            self._lib.gollama_model_describe(model, facts, failures.error)
            failures.check()
        return {name: getattr(facts, name) for name, _ in self._ffi.typeof("gollama_model_facts").fields}

    # ---- strings ----

    def _buffered(self, call: Callable[[Any, int], int]) -> str:
        """What a llama.h function writes into a buffer; it is asked again where the buffer was too small."""
        capacity = 256
        while True:
            buffer = self._ffi.new("char[]", capacity)
            length = call(buffer, capacity)
            if length < capacity:
                return decode(self._ffi.unpack(buffer, max(length, 0)))
            capacity = length + 1

    def description(self) -> str:
        with self.use() as model:
            return self._buffered(lambda buffer, size: int(self._lib.llama_model_desc(model, buffer, size)))

    def file_type(self) -> str:
        with self.use() as model:
            return c_text(self._ffi, self._lib.llama_ftype_name(self._lib.llama_model_ftype(model))) or ""

    def metadata(self) -> dict[str, str]:
        """The GGUF's scalar metadata as text, arrays in llama.cpp's short form."""
        lib = self._lib
        with self.use() as model:
            return {
                self._buffered(lambda buffer, size: int(lib.llama_model_meta_key_by_index(model, index, buffer, size))):  # noqa: B023
                self._buffered(lambda buffer, size: int(lib.llama_model_meta_val_str_by_index(model, index, buffer, size)))  # noqa: B023
                for index in range(lib.llama_model_meta_count(model))
            }

    def chat_template(self, name: str | None = None) -> str | None:
        with self.use() as model:
            given = self._ffi.NULL if name is None else name.encode()
            return c_text(self._ffi, self._lib.llama_model_chat_template(model, given))

    # ---- vocabulary ----

    def vocabulary_type(self) -> str:
        """NONE, SPM, BPE, WPM, UGM, RWKV or PLAMO2, as llama.h calls them."""
        with self.use():
            name = self._ffi.string(self._ffi.cast("enum llama_vocab_type", self._lib.llama_vocab_type(self._vocab)))
        return str(name).removeprefix("LLAMA_VOCAB_TYPE_")

    def special_tokens(self) -> dict[str, int]:
        """The ids of the special tokens there are: bos, eos, eot, sep, nl, pad, mask, fim_*."""
        names = ("bos", "eos", "eot", "sep", "nl", "pad", "mask", "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep")
        with self.use():
            found = {name: int(getattr(self._lib, f"llama_vocab_{name}")(self._vocab)) for name in names}
        return {name: token for name, token in found.items() if token >= 0}

    @contextmanager
    def _use_vocabulary(self) -> Iterator[None]:
        """As `use`; llama.cpp asserts that there is a vocabulary wherever it is asked about one."""
        with self.use():
            if not self._has_vocabulary:
                raise NativeError(f"{self._owned.name} has no vocabulary")
            yield

    def is_control(self, token: int) -> bool:
        with self._use_vocabulary():
            return bool(self._lib.llama_vocab_is_control(self._vocab, token))

    def is_end_of_generation(self, token: int) -> bool:
        with self._use_vocabulary():
            return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def end_tokens(self) -> list[int]:
        """Every token that ends a generation."""
        failures = Failures(library())
        capacity = 64
        with self._use_vocabulary():
            while True:
                tokens = self._ffi.new("llama_token[]", capacity)
                count = self._lib.gollama_end_tokens(self._vocab, tokens, capacity, failures.error)
                failures.check()
                if count <= capacity:
                    return list(self._ffi.unpack(tokens, count)) if count else []
                capacity = count

    def token_text(self, token: int) -> str:
        """The token as the vocabulary writes it."""
        with self._use_vocabulary():
            return c_text(self._ffi, self._lib.llama_vocab_get_text(self._vocab, token)) or ""

    def control_tokens(self) -> dict[int, str]:
        """Every control token and its text."""
        lib = self._lib
        with self._use_vocabulary():
            count = lib.llama_vocab_n_tokens(self._vocab)
            ids = [token for token in range(count) if lib.llama_vocab_is_control(self._vocab, token)]
        return {token: self.token_text(token) for token in ids}

    def tokenize(self, data: bytes, add_special: bool, parse_special: bool) -> list[int]:
        if len(data) >= 2**31:
            raise TextError(f"the text has {len(data)} bytes; llama.cpp takes less than 2 GiB at once")
        failures = Failures(library())
        capacity = len(data) // 2 + 16
        with self._use_vocabulary():
            while True:
                tokens = self._ffi.new("llama_token[]", capacity)
                count = self._lib.gollama_tokenize(
                    self._vocab, data, len(data), tokens, capacity, add_special, parse_special, failures.error)
                failures.check(otherwise=TextError)
                if count >= 0:
                    return list(self._ffi.unpack(tokens, count)) if count else []
                capacity = -count

    def detokenize(self, tokens: Sequence[int], special: bool, start: bool) -> bytes:
        failures = Failures(library())
        capacity = 8 * len(tokens) + 64
        with self._use_vocabulary():
            given = self._ffi.new("llama_token[]", list(tokens))
            while True:
                buffer = self._ffi.new("char[]", capacity)
                length = self._lib.gollama_detokenize(
                    self._vocab, given, len(tokens), buffer, capacity, special, start, failures.error)
                failures.check()
                if length >= 0:
                    return bytes(self._ffi.buffer(buffer, length))
                capacity = -length
