"""/api/embed, and its older form /api/embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from gollama.results import Usage
from gollama.server.body import read_body
from gollama.server.documents import taking
from gollama.server.ollama.fields import EmbedBody, EmbeddingsBody, OllamaBody, check_keep_alive
from gollama.server.ollama.names import plain_name
from gollama.server.ollama.told import ERROR_SCHEMA, durations
from gollama.server.openai.embeddings import embedded, inputs_of, shortened
from gollama.server.replies import json_response
from gollama.server.service import record, service_of

if TYPE_CHECKING:
    import numpy

router = APIRouter(tags=["Ollama"])


async def _vectors(request: Request, body: OllamaBody, texts: list[str], *, truncate: bool) -> tuple[numpy.ndarray, int]:
    service = service_of(request)
    check_keep_alive(body.keep_alive)
    async with service.model(request, plain_name(service, body.model)) as (_, llm):
        vectors, tokens = await embedded(request, llm, inputs_of(texts, "input", service.config), truncate=truncate)
    record(request).note(Usage(tokens, 0), None)
    return vectors, tokens


@router.post("/api/embed", openapi_extra=taking(EmbedBody, stream=False, errors=ERROR_SCHEMA))
async def embed(request: Request) -> Response:
    """Texts to vectors of length 1."""
    body = await read_body(request, EmbedBody)
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not texts:
        return json_response({"model": body.model, "embeddings": []})
    vectors, tokens = await _vectors(request, body, texts, truncate=body.truncate is not False)
    if body.dimensions is not None:
        vectors = shortened(vectors, body.dimensions)
    return json_response({"model": body.model, "embeddings": vectors, **durations(record(request)), "prompt_eval_count": tokens})


@router.post("/api/embeddings", openapi_extra=taking(EmbeddingsBody, stream=False, errors=ERROR_SCHEMA))
async def embeddings(request: Request) -> Response:
    """A text to a vector."""
    body = await read_body(request, EmbeddingsBody)
    if not body.prompt:
        return json_response({"embedding": []})
    vectors, _ = await _vectors(request, body, [body.prompt], truncate=True)
    return json_response({"embedding": vectors[0]})
