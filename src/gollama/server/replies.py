"""JSON out."""

from __future__ import annotations

import json
from typing import Any

import orjson
from starlette.responses import Response


def dumps(value: Any) -> bytes:
    """A value as JSON; numpy's arrays too."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError:  # a request's whole number of more than 64 bits, which is told back
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(dumps(value), status, headers, "application/json")
