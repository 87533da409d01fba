"""Every exception that gollama raises. Each derives from GollamaError and from the builtin that fits it."""

from __future__ import annotations


class GollamaError(Exception):
    """Base of every exception that gollama raises."""


class LibraryError(GollamaError, ImportError):
    """The compiled libraries are missing, cannot be loaded, or are not the ones gollama was built with."""


class BackendError(GollamaError, RuntimeError):
    """A backend or a device that was asked for and cannot be had; the message says what was found and what would help."""


class NativeError(GollamaError, RuntimeError):
    """llama.cpp refused or failed; the message carries its own words."""


class BrokenError(NativeError):
    """An assertion of llama.cpp failed. The process lives; the object concerned must not be used again."""


class OutOfMemoryError(NativeError, MemoryError):
    """Memory ran out, or the context's memory has no free cells."""


class ModelNotFoundError(GollamaError, FileNotFoundError):
    """There is no model by this path or name."""


class AdapterNotFoundError(GollamaError, LookupError):
    """No adapter or control vector of this name was loaded; the message names those that were."""


class ModelNameError(GollamaError, ValueError):
    """A model's name that cannot be one: control characters, a path that leaves its place, absurd lengths, malformed parts."""


class InvalidModelError(GollamaError, ValueError):
    """The file is not a model that llama.cpp can load: damaged, cut off, of another format or unsupported."""


class DownloadError(GollamaError, OSError):
    """A model could not be fetched, or what came is not what was pinned."""


class RegistryError(GollamaError, ValueError):
    """A registry of models or a lock file that cannot be used, or that does not have what was asked for."""


class StoreError(GollamaError, OSError):
    """The folder of models cannot be read or written, or holds something that is not to be touched."""


class AccessFileError(GollamaError, OSError):
    """The server's file of keys, usage and the audit log cannot be used, is of something else, or is open to others."""


class OptionError(GollamaError, ValueError):
    """An option has a value it cannot have."""


class UnknownOptionError(GollamaError, TypeError):
    """An option that does not exist."""


class TextError(GollamaError, ValueError):
    """A text that is not valid Unicode (a lone surrogate), is empty, or holds a character it may not hold."""


class SchemaError(GollamaError, ValueError):
    """A JSON schema with a part that cannot be enforced, or a text that a schema does not admit."""


class GrammarError(GollamaError, ValueError):
    """A grammar that does not parse."""


class ChatError(GollamaError, ValueError):
    """Messages or a chat template that cannot be turned into a prompt."""


class ThinkingError(ChatError):
    """A limit of thinking for a model that does not think."""


class ContextOverflowError(GollamaError, ValueError):
    """The prompt does not fit the context."""


class StateError(GollamaError, ValueError):
    """A state file that is damaged, or was saved with another model or other settings."""


class CancelledError(GollamaError, RuntimeError):
    """The call was cancelled."""


class ClosedError(GollamaError, ValueError):
    """The object was closed."""


class BusyError(GollamaError, RuntimeError):
    """The object is in use by another thread and takes one at a time."""
