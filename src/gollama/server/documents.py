"""What the OpenAPI document says of routes that read their bodies themselves."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gollama.server.body import Body

ERROR_SCHEMA = {"type": "object", "required": ["error"], "properties": {"error": {
    "type": "object", "required": ["message", "type", "param", "code"], "properties": {
        "message": {"type": "string"}, "type": {"type": "string"}, "param": {"type": ["string", "null"]},
        "code": {"type": ["string", "null"]}}}}}


def document(app: FastAPI) -> dict[str, Any]:
    """The app's document, without FastAPI's own words for invalid requests, which have their API's form here."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, routes=app.routes, summary="Language models by llama.cpp")
        for operations in found["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                operation["responses"] = {**refusals(), **operation["responses"]}
        found.pop("components", None)
        app.openapi_schema = found
    return app.openapi_schema


def taking(kind: type[Body], *, stream: bool | str = True, errors: dict[str, Any] = ERROR_SCHEMA) -> dict[str, Any]:
    """`openapi_extra` of a route that takes such a body, and may answer with a stream, of events or of the media type `stream`."""
    schema = kind.model_json_schema(ref_template=f"#/x-bodies/{kind.__name__}/$defs/{{model}}")
    definitions = schema.pop("$defs", {})
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if stream:
        content[stream if isinstance(stream, str) else "text/event-stream"] = {"schema": {"type": "string"}}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _inlined(schema, definitions)}}},
            "responses": {"200": {"description": "The answer", "content": content}, **refusals(errors)}}


def refusals(schema: dict[str, Any] = ERROR_SCHEMA) -> dict[str, Any]:
    """The responses that any route may give."""
    told = {"description": "What is wrong with the request, or why it cannot be answered now",
            "content": {"application/json": {"schema": schema}}}
    return {"4XX": told, "5XX": told}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with its few definitions in place."""
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return _inlined(definitions[reference.rpartition("/")[2]], definitions)
        return {name: _inlined(value, definitions) for name, value in schema.items()}
    return [_inlined(one, definitions) for one in schema] if isinstance(schema, list) else schema
