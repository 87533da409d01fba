"""Request bodies: JSON to checked records."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request

from gollama.server.errors import ApiError
from gollama.server.record import CLIENT_GONE

MOST_SHOWN = 200  # characters of what was wrong


class Body(BaseModel):
    """A request's fields. One that does not exist is an error, and so is a value of another type: nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    def given(self, *names: str) -> dict[str, Any]:
        """Those of the fields that are not None."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}


BodyType = TypeVar("BodyType", bound=Body)


async def read_body(request: Request, kind: type[BodyType]) -> BodyType:
    """The request's body. ApiError 400 names the field that is wrong; pydantic's parser refuses what is nested deeper than 200."""
    try:
        data = await request.body()
    except ClientDisconnect:
        raise ApiError(CLIENT_GONE, "the client has left", code="client_gone") from None
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise _told(kind, error) from None


def _told(kind: type[Body], error: ValidationError) -> ApiError:
    found = _telling(error.errors(include_url=False, include_context=True, include_input=False))
    message = found["msg"][:MOST_SHOWN]
    if found["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {message.removeprefix('Invalid JSON: ')}", code="invalid_json")
    path = field_path(found["loc"])
    if found["type"] == "extra_forbidden":
        close = difflib.get_close_matches(path, list(kind.model_fields), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return ApiError(400, f"there is no field {path[:MOST_SHOWN]!r}{hint}", param=path[:MOST_SHOWN], code="unknown_parameter")
    if found["type"] == "too_long":
        return ApiError(400, f"{path}: {message[:1].lower()}{message[1:]}", param=path, code="too_many")
    if found["type"] == "missing":
        return ApiError(400, f"{path} is missing", param=path, code="missing_required_parameter")
    return ApiError(400, f"{path or 'the body'}: {message[:1].lower()}{message[1:]}", param=path or None, code="invalid_type")


def _telling(found: list[Any]) -> Any:
    """The error to tell: the first. Where a text or a list may stand and a list was given, what is wrong in the list."""
    first = found[0]
    if first["type"] != "string_type" or first["loc"][-1] != "str":
        return first
    return next((one for one in found if len(one["loc"]) > len(first["loc"]) and one["loc"][: len(first["loc"]) - 1] == first["loc"][:-1]),
                first)


def field_path(location: tuple[int | str, ...]) -> str:
    """messages[0].role. What pydantic adds for the members of a union is left out."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() and part not in ("str", "int", "float", "bool"):
            path += f".{part}" if path else part
    return path
