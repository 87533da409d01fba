"""/v1/embeddings."""

from __future__ import annotations

import base64
import threading
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from gollama.aio import AsyncLLM
from gollama.errors import NativeError, OptionError, TextError
from gollama.results import Usage
from gollama.server.body import Body, read_body
from gollama.server.config import ServerConfig
from gollama.server.documents import taking
from gollama.server.errors import ApiError, incapable
from gollama.server.replies import json_response
from gollama.server.service import record, service_of

if TYPE_CHECKING:
    import numpy

router = APIRouter(tags=["OpenAI"])

Input = str | list[str] | list[int] | list[list[int]]


class EmbeddingsRequest(Body):
    model: str | None = Field(None, max_length=256)
    input: Input
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None


def inputs_of(given: Any, name: str, config: ServerConfig) -> list[str | list[int]]:
    """One text or several, each of them a str or token ids; ApiError for none, or too many."""
    inputs = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else list(given)
    if not inputs:
        raise ApiError(400, f"{name} is empty", param=name, code="invalid_value")
    if len(inputs) > config.max_inputs:
        raise ApiError(400, f"{name} may hold {config.max_inputs} texts at most (max_inputs), not {len(inputs)}", param=name,
                       code="too_many")
    return inputs


@router.post("/v1/embeddings", openapi_extra=taking(EmbeddingsRequest, stream=False))
@router.post("/embeddings", include_in_schema=False)
async def embeddings(request: Request) -> Response:
    """Texts to vectors of length 1."""
    service = service_of(request)
    body = await read_body(request, EmbeddingsRequest)
    inputs = inputs_of(body.input, "input", service.config)
    async with service.model(request, body.model) as (name, llm):
        vectors, tokens = await embedded(request, llm, inputs)
    if body.dimensions is not None:
        vectors = shortened(vectors, body.dimensions)
    record(request).note(Usage(tokens, 0), None)
    data = [{"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
            for index, vector in enumerate(vectors)]
    return json_response({"object": "list", "data": data, "model": name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})


async def embedded(request: Request, llm: AsyncLLM, inputs: list[str | list[int]], *,
                   truncate: bool = False) -> tuple[numpy.ndarray, int]:
    """The vectors, and the number of tokens. With `truncate` of a text that is too long the beginning counts. ApiError names `input`, or
    a model that cannot."""
    def run(stop: threading.Event) -> tuple[numpy.ndarray, int]:
        for index, one in enumerate(inputs):
            if not isinstance(one, str):
                try:
                    llm.sync.model.check_tokens(one)
                except OptionError as error:
                    raise TextError(f"texts[{index}]: {error}") from None
        tokens = sum(len(llm.sync.tokenize(one)) if isinstance(one, str) else len(one) for one in inputs)
        return llm.sync.embed(inputs, truncate=truncate, stop=stop), tokens

    try:
        return await service_of(request).compute(request, run)
    except TextError as error:
        raise ApiError(400, str(error).replace("texts[", "input["), param="input", code="invalid_value") from None
    except (OptionError, NativeError) as error:
        raise incapable(error, llm.sync.model.path) from None


def shortened(vectors: numpy.ndarray, dimensions: int) -> numpy.ndarray:
    """The first numbers of each vector, brought to length 1 again."""
    import numpy

    if dimensions > vectors.shape[1]:
        raise ApiError(400, f"dimensions must be at most {vectors.shape[1]} for this model, not {dimensions}", param="dimensions",
                       code="invalid_value")
    short = vectors[:, :dimensions]
    lengths = numpy.linalg.norm(short, axis=1, keepdims=True)
    return numpy.ascontiguousarray(short / numpy.where(lengths > 0, lengths, 1))


def _encoded(vector: numpy.ndarray, encoding: str) -> Any:
    """Numbers, or their little-endian float32 bytes in base64."""
    return vector if encoding == "float" else base64.b64encode(vector.astype("<f4").tobytes()).decode()
