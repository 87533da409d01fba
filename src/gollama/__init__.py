"""gollama: llama.cpp for Python.

>>> import gollama
>>> with gollama.LLM("smollm2") as llm:
...     reply = llm.chat([{"role": "user", "content": "Say hello."}], max_tokens=32)

Importing does nothing: the compiled libraries are loaded on first use, and models are fetched when they are asked for.
llama.cpp's log goes to the logger `gollama`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gollama.backends import Device, devices
from gollama.chat import AssistantMessage, ChatOptions, ChatPrompt, SystemMessage, TextPart, Tool, ToolMessage, UserMessage
from gollama.context import Context
from gollama.conversation import AsyncConversation, Conversation
from gollama.embedding import Embedder
from gollama.engine import EngineStats
from gollama.errors import (
    AccessFileError,
    AdapterNotFoundError,
    BackendError,
    BrokenError,
    BusyError,
    CancelledError,
    ChatError,
    ClosedError,
    ContextOverflowError,
    DownloadError,
    GollamaError,
    GrammarError,
    InvalidModelError,
    LibraryError,
    ModelNameError,
    ModelNotFoundError,
    NativeError,
    OptionError,
    OutOfMemoryError,
    RegistryError,
    SchemaError,
    StateError,
    StoreError,
    TextError,
    ThinkingError,
    UnknownOptionError,
)
from gollama.jobs import Stream
from gollama.llm import LLM
from gollama.model import Model
from gollama.options import LoadOptions, SamplingParams
from gollama.results import (
    ChatChunk,
    ChatCompletion,
    Chunk,
    Completion,
    DeviceUse,
    Perplexity,
    RerankResult,
    Score,
    Timings,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from gollama.sampler import Sampler
from gollama.tool_loop import ToolResult, ToolRun
from gollama.version import VersionInfo, __version__, version_info

__all__ = [
    "LLM",
    "AccessFileError",
    "AdapterNotFoundError",
    "AssistantMessage",
    "AsyncConversation",
    "AsyncLLM",
    "AsyncModelPool",
    "AsyncStream",
    "BackendError",
    "BrokenError",
    "BusyError",
    "CancelledError",
    "ChatChunk",
    "ChatCompletion",
    "ChatError",
    "ChatOptions",
    "ChatPrompt",
    "Chunk",
    "ClosedError",
    "Completion",
    "Context",
    "ContextOverflowError",
    "Conversation",
    "Device",
    "DeviceMonitor",
    "DeviceSample",
    "DeviceUse",
    "DownloadError",
    "Embedder",
    "EngineStats",
    "GollamaError",
    "GrammarError",
    "InvalidModelError",
    "LibraryError",
    "LoadOptions",
    "Model",
    "ModelNameError",
    "ModelNotFoundError",
    "ModelPool",
    "ModelRegistry",
    "ModelStatus",
    "ModelStore",
    "NativeError",
    "OptionError",
    "OutOfMemoryError",
    "Perplexity",
    "PoolEvent",
    "RegistryError",
    "RerankResult",
    "Sampler",
    "SamplingParams",
    "Schema",
    "SchemaError",
    "Score",
    "StateError",
    "StoreError",
    "Stream",
    "SystemMessage",
    "TextError",
    "TextPart",
    "ThinkingError",
    "Timings",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolMessage",
    "ToolResult",
    "ToolRun",
    "UnknownOptionError",
    "Usage",
    "UserMessage",
    "VersionInfo",
    "__version__",
    "devices",
    "gguf",
    "version_info",
]


if TYPE_CHECKING:
    from gollama import gguf
    from gollama.aio import AsyncLLM
    from gollama.async_jobs import AsyncStream
    from gollama.chat.schemas import Schema
    from gollama.models import ModelRegistry, ModelStore
    from gollama.monitor import DeviceMonitor, DeviceSample
    from gollama.pool import AsyncModelPool, ModelPool, ModelStatus, PoolEvent


def __getattr__(name: str) -> Any:
    """asyncio takes longer to import than all the rest, and schemas a third of it, so what needs them waits until it is asked for."""
    if name in ("AsyncLLM", "AsyncStream"):
        from gollama import aio

        return getattr(aio, name)
    if name in ("DeviceMonitor", "DeviceSample"):
        from gollama import monitor

        return getattr(monitor, name)
    if name in ("ModelRegistry", "ModelStore"):
        from gollama import models

        return getattr(models, name)
    if name in ("AsyncModelPool", "ModelPool", "ModelStatus", "PoolEvent"):
        from gollama import pool

        return getattr(pool, name)
    if name == "Schema":
        from gollama.chat.schemas import Schema

        return Schema
    if name == "gguf":
        return importlib.import_module("gollama.gguf")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
