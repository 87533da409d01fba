"""llama.cpp's common sampler."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gollama._native.failures import Failures
from gollama._native.handles import Handle
from gollama._native.library import library
from gollama._native.model import ModelHandle
from gollama._native.text import c_string, decode
from gollama.errors import GrammarError, OptionError

_ARRAYS = {"logit_bias", "dry_sequence_breakers", "grammar", "grammar_triggers"}


def sampling_defaults() -> dict[str, Any]:
    """llama.cpp's own defaults of every sampling option, by gollama's names."""
    loaded = library()
    ffi, lib = loaded.ffi, loaded.lib
    defaults = lib.gollama_sampling_default()
    fields: dict[str, Any] = {
        name: getattr(defaults, name) for name, field in ffi.typeof("gollama_sampling").fields
        if field.type.kind == "primitive" and not name.startswith("n_")
    }
    breakers: list[str] = []
    while (found := lib.gollama_dry_sequence_breaker_default(len(breakers))) != ffi.NULL:
        breakers.append(ffi.string(found).decode())
    return {**fields, "dry_sequence_breakers": tuple(breakers)}


class SamplerHandle(Handle):
    """Owns a sampler. One thread at a time."""

    exclusive = True

    def __init__(self, model: ModelHandle, options: Mapping[str, Any], chat: Mapping[str, Any] | None = None) -> None:
        """`options` has every field of gollama_sampling, `logit_bias` as a mapping, `grammar` a str or None; `chat` apart."""
        loaded = library()
        ffi, lib = loaded.ffi, loaded.lib
        params = ffi.new("gollama_sampling *")
        for name, value in options.items():
            if name not in _ARRAYS:
                setattr(params, name, value)
        keep: list[Any] = [ffi.new("char[]", c_string(text, "dry_sequence_breakers")) for text in options["dry_sequence_breakers"]]
        breakers = ffi.new("char *[]", keep)
        params.dry_sequence_breakers = ffi.cast("const char **", breakers)
        params.n_dry_sequence_breakers = len(keep)
        biases = ffi.new("llama_logit_bias[]", [tuple(pair) for pair in options["logit_bias"].items()])
        params.logit_bias = biases
        params.n_logit_bias = len(biases)
        grammar = ffi.NULL if options["grammar"] is None else ffi.new("char[]", c_string(options["grammar"], "the grammar"))
        params.grammar = grammar
        words = [ffi.new("char[]", c_string(text, "grammar_triggers")) for text in options["grammar_triggers"]]
        triggers = ffi.new("char *[]", words)
        params.grammar_triggers = ffi.cast("const char **", triggers)
        params.n_grammar_triggers = len(words)
        format_ = ffi.NULL if chat is None else ffi.new("char[]", c_string(json.dumps(chat, ensure_ascii=True), "the chat's format"))
        params.chat = format_
        failures = Failures(loaded)
        with model.use() as pointer:
            sampler = lib.gollama_sampler_new(pointer, params, failures.error)
            failures.check(otherwise=OptionError if options["grammar"] is None and chat is None else GrammarError)
            super().__init__("the sampler", sampler, lib.gollama_sampler_free, model)
        self._ffi, self._lib, self._failures = ffi, lib, failures

    def reset(self) -> None:
        with self.use() as sampler:
            self._lib.gollama_sampler_reset(sampler, self._failures.error)
            self._failures.check()

    def accept(self, tokens: Sequence[int], generated: bool) -> None:
        with self.use() as sampler:
            given = self._ffi.new("llama_token[]", list(tokens))
            self._lib.gollama_sampler_accept(sampler, given, len(tokens), generated, self._failures.error)
            self._failures.check(otherwise=GrammarError)

    def describe(self) -> str:
        capacity = 4096
        with self.use() as sampler:
            buffer = self._ffi.new("char[]", capacity)
            length = self._lib.gollama_sampler_describe(sampler, buffer, capacity, self._failures.error)
            self._failures.check()
            return decode(self._ffi.unpack(buffer, min(abs(length), capacity)))
