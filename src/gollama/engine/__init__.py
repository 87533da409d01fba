"""The engine: many requests in one batch, over token ids only. See engine.engine.Engine."""

from gollama.engine.device import ContextDevice, sampler_handle
from gollama.engine.engine import Engine, EngineStats
from gollama.engine.prefixes import Prefixes, Saved
from gollama.engine.request import BASE, Adapters, Counts, EndReason, Listener, Request

__all__ = [
    "BASE",
    "Adapters",
    "ContextDevice",
    "Counts",
    "EndReason",
    "Engine",
    "EngineStats",
    "Listener",
    "Prefixes",
    "Request",
    "Saved",
    "sampler_handle",
]
