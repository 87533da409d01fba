"""llama_context_params, for all that computes."""

from __future__ import annotations

from typing import Any, TypedDict


class ComputeFields(TypedDict):
    """What every context is told, by gollama's names."""

    threads: int
    threads_batch: int
    flash_attention: str  # "auto", "on" or "off"


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
    params.kv_unified = False
    params.swa_full = False
    params.no_perf = True
    return params
