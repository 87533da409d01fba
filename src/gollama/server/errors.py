"""What went wrong, as HTTP tells it: a status and, in each API's own form, a body."""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gollama import errors

logger = logging.getLogger("gollama.server")

INVALID = "invalid_request_error"
MOST_TOLD = 600  # characters of a message
# a message of gollama's that begins with the path of the field it is about
FIELD = re.compile(r"([a-z][a-z_]*(?:\[\d+\]|\.[A-Za-z_]\w*)*)(?=[ :.]|$)")


class ApiError(Exception):
    """A request that is answered with an error. `param` is the field it is about, `code` a word for programs."""

    def __init__(self, status: int, message: str, *, type: str = INVALID, param: str | None = None, code: str | None = None,
                 headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.type, self.param, self.code = status, message, type, param, code
        self.headers = headers or {}


Form = Callable[[ApiError], Any]


def openai_form(error: ApiError) -> Any:
    """{"error": {"message", "type", "param", "code"}}."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


class ErrorForms:
    """The form of each API's errors, by the beginnings of its paths; OpenAI's for all others."""

    def __init__(self) -> None:
        self._forms: list[tuple[str, Form]] = []

    def add(self, prefix: str, form: Form) -> None:
        self._forms.append((prefix, form))

    def of(self, path: str) -> Form:
        """The longest beginning counts."""
        fitting = [(prefix, form) for prefix, form in self._forms if path.startswith(prefix)]
        return max(fitting, key=lambda one: len(one[0]))[1] if fitting else openai_form


def unavailable(message: str, code: str) -> ApiError:
    """An error that passes."""
    return ApiError(503, message, type="server_error", code=code, headers={"Retry-After": "1"})


def as_api_error(error: BaseException, known: frozenset[str] = frozenset()) -> ApiError:
    """Any exception as an answer. `known` are the request's fields, which a message may begin with."""
    if isinstance(error, ApiError):
        return error
    message = _clipped(str(error))
    if isinstance(error, errors.ContextOverflowError):
        return ApiError(400, message, param="messages" if "messages" in known else "prompt" if "prompt" in known else "input",
                        code="context_length_exceeded")
    if isinstance(error, errors.BusyError):
        return unavailable(message, "overloaded")
    if isinstance(error, (errors.OptionError, errors.UnknownOptionError, errors.ChatError, errors.TextError, errors.SchemaError,
                          errors.GrammarError, errors.AdapterNotFoundError)):
        return ApiError(400, message, param=_field(message, known), code="invalid_value")
    if isinstance(error, (errors.ClosedError, errors.CancelledError)):
        return unavailable("the model was unloaded, or the server ends: try again", "unavailable")
    if isinstance(error, errors.OutOfMemoryError):
        return unavailable("memory ran out", "out_of_memory")
    log_failure(error)
    return ApiError(500, "something went wrong in the server; its log says more", type="server_error", code="internal_error")


def incapable(error: Exception, path: Path, param: str = "model") -> ApiError:
    """What a model cannot do, without the folder of its file. That memory ran out or llama.cpp failed is another matter."""
    if isinstance(error, (errors.OutOfMemoryError, errors.BrokenError)):
        return as_api_error(error)
    return ApiError(400, str(error).replace(f"{path.parent}{os.sep}", ""), param=param, code="unsupported")


def _clipped(message: str) -> str:
    """Without the middle of a long one, which cites what was sent."""
    return message if len(message) <= MOST_TOLD else f"{message[:MOST_TOLD // 2]} … {message[-MOST_TOLD // 2:]}"


def _field(message: str, known: frozenset[str]) -> str | None:
    found = FIELD.match(message)
    return found[1] if found and re.split(r"[.\[]", found[1])[0] in known else None


def log_failure(error: BaseException) -> None:
    """Tell where an unforeseen exception came from. Not what it says: that may hold a part of somebody's text."""
    where = "".join(traceback.format_tb(error.__traceback__))
    technical = (errors.NativeError, errors.BackendError, errors.InvalidModelError, errors.DownloadError)
    said = f": {error}" if isinstance(error, technical) else ""
    logger.error("%s%s\n%s", type(error).__name__, said, where)
