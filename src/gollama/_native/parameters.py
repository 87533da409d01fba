"""llama_model_params and llama_context_params, for all that loads and computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from gollama._native.library import Library
from gollama.errors import OptionError


class PlacementFields(TypedDict):
    """Where a model's tensors go, by gollama's names."""

    devices: Sequence[str]  # by ggml's names; none: the CPU alone
    gpu_layers: int  # -1: all
    split_mode: str  # "none", "layer", "row" or "tensor"
    main_gpu: int  # among `devices`
    tensor_split: Sequence[float]  # a share for each device; none: as much as each has free
    tensor_overrides: Sequence[tuple[str, str]]  # (regular expression of tensors' names, device), the first that fits counts


class LoadFields(PlacementFields):
    """llama_model_params by gollama's names."""

    use_mmap: bool
    use_mlock: bool
    check_tensors: bool
    vocab_only: bool


class ComputeFields(TypedDict):
    """What every context is told, by gollama's names."""

    threads: int
    threads_batch: int
    flash_attention: str  # "auto", "on" or "off"
    cache_type_k: str
    cache_type_v: str


class ModelParams:
    """A llama_model_params, and the arrays that it points to. Valid as long as this lives."""

    def __init__(self, loaded: Library, fields: LoadFields) -> None:
        ffi, lib = loaded.ffi, loaded.lib
        params = lib.llama_model_default_params()
        params.n_gpu_layers = fields["gpu_layers"]
        params.split_mode = getattr(lib, f"LLAMA_SPLIT_MODE_{fields['split_mode'].upper()}")
        params.main_gpu = fields["main_gpu"]
        params.check_tensors = fields["check_tensors"]
        params.vocab_only = fields["vocab_only"]
        params.load_mode = {
            (False, False): lib.LLAMA_LOAD_MODE_NONE,
            (True, False): lib.LLAMA_LOAD_MODE_MMAP,
            (False, True): lib.LLAMA_LOAD_MODE_MLOCK,
            (True, True): lib.LLAMA_LOAD_MODE_MMAP_MLOCK,
        }[fields["use_mmap"], fields["use_mlock"]]
        # an empty list keeps llama.cpp from taking every device there is
        self._devices = ffi.new("ggml_backend_dev_t[]", [*(device(loaded, name) for name in fields["devices"]), ffi.NULL])
        params.devices = self._devices
        self.tensor_split = ffi.new("float[]", lib.llama_max_devices())
        self.tensor_split[0 : len(fields["tensor_split"])] = list(fields["tensor_split"])
        if fields["tensor_split"]:
            params.tensor_split = self.tensor_split
        self.overrides = ffi.new("struct llama_model_tensor_buft_override[]", lib.llama_max_tensor_buft_overrides())
        self._patterns = []
        for index, (pattern, name) in enumerate(fields["tensor_overrides"]):
            self._patterns.append(ffi.new("char[]", pattern.encode()))
            self.overrides[index].pattern = self._patterns[-1]
            self.overrides[index].buft = lib.ggml_backend_dev_buffer_type(device(loaded, name))
        if fields["tensor_overrides"]:
            params.tensor_buft_overrides = self.overrides
        self.params = params


def device(loaded: Library, name: str) -> Any:
    """ggml's device of a name."""
    found = loaded.lib.ggml_backend_dev_by_name(name.encode())
    if found == loaded.ffi.NULL:
        raise OptionError(f"there is no device {name!r}")
    return found


def context_params(lib: Any, fields: ComputeFields) -> Any:
    """llama.cpp's defaults with these in them."""
    params = lib.llama_context_default_params()
    params.n_threads = fields["threads"]
    params.n_threads_batch = fields["threads_batch"]
    params.flash_attn_type = {
        "auto": lib.LLAMA_FLASH_ATTN_TYPE_AUTO,
        "on": lib.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        "off": lib.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    }[fields["flash_attention"]]
    params.type_k = getattr(lib, f"GGML_TYPE_{fields['cache_type_k'].upper()}")
    params.type_v = getattr(lib, f"GGML_TYPE_{fields['cache_type_v'].upper()}")
    params.kv_unified = False
    params.swa_full = False
    params.no_perf = True
    return params
