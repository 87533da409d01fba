"""The least Python that can generate with the same libraries: cffi calls and nothing else. What gollama is held against."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import Any

ALL = 9999  # layers


class BareLoop:
    """Loads a model and decodes greedily, by llama.h alone."""

    def __init__(self, path: str, *, context_size: int = 2048, threads: int = 2, gpu_layers: int = 0) -> None:
        _llama = importlib.import_module("gollama._llama")
        self.ffi, self.lib = _llama.ffi, _llama.lib
        ffi, lib = self.ffi, self.lib
        folder = Path(str(_llama.__file__)).parent / "lib"
        self._silent = ffi.callback("void(enum ggml_log_level, const char *, void *)", lambda level, text, data: None)
        lib.llama_log_set(self._silent, ffi.NULL)
        if lib.ggml_backend_reg_count() == 0:
            lib.ggml_backend_load_all_from_path(os.fsencode(folder))
            lib.llama_backend_init()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        params.load_mode = lib.LLAMA_LOAD_MODE_MMAP
        self.model = lib.llama_model_load_from_file(os.fsencode(path), params)
        self.vocab = lib.llama_model_get_vocab(self.model)
        settings = lib.llama_context_default_params()
        settings.n_ctx = context_size
        settings.n_batch = 2048
        settings.n_threads = settings.n_threads_batch = threads
        settings.no_perf = True
        self.context = lib.llama_init_from_model(self.model, settings)
        self.memory = lib.llama_get_memory(self.context)
        self.sampler = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        lib.llama_sampler_chain_add(self.sampler, lib.llama_sampler_init_greedy())
        self.buffer = ffi.new("char[]", 512)

    def generate(self, tokens: list[int], count: int) -> dict[str, Any]:
        """Greedy: the prompt, then `count` tokens, each turned into bytes. Seconds for both parts."""
        ffi, lib, context = self.ffi, self.lib, self.context
        lib.llama_memory_clear(self.memory, False)
        prompt = ffi.new("llama_token[]", tokens)
        start = time.perf_counter()
        lib.llama_decode(context, lib.llama_batch_get_one(prompt, len(tokens)))
        token = lib.llama_sampler_sample(self.sampler, context, -1)
        first = time.perf_counter()
        one = ffi.new("llama_token[]", 1)
        pieces = []
        for _ in range(count - 1):
            length = lib.llama_token_to_piece(self.vocab, token, self.buffer, 512, 0, False)
            pieces.append(ffi.unpack(self.buffer, length))
            one[0] = token
            lib.llama_decode(context, lib.llama_batch_get_one(one, 1))
            token = lib.llama_sampler_sample(self.sampler, context, -1)
        last = time.perf_counter()
        return {"prompt": first - start, "decode": last - first}

    def close(self) -> None:
        self.lib.llama_sampler_free(self.sampler)
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)
