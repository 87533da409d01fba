"""/v1/models."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from gollama.server.pool import ServedModel
from gollama.server.replies import json_response
from gollama.server.service import service_of

router = APIRouter(tags=["OpenAI"])
STARTED = int(time.time())


def model_object(model: ServedModel) -> dict[str, Any]:
    """OpenAI's, with llama-server's `meta` where the model is loaded."""
    found: dict[str, Any] = {"id": model.name, "object": "model", "created": STARTED, "owned_by": "gollama", "state": model.state}
    if model.llm is not None:
        loaded = model.llm.model
        found["meta"] = {"n_vocab": loaded.n_vocab, "n_ctx_train": loaded.n_ctx_train, "n_embd": loaded.n_embd, "n_params": loaded.n_params,
                         "size": loaded.size, "description": loaded.description}
        if loaded.is_generative:
            found["meta"]["n_ctx"] = model.llm.context_size
    return found


@router.get("/v1/models")
@router.get("/models", include_in_schema=False)
async def list_models(request: Request) -> Response:
    """What is served; the first one answers requests that name none."""
    models = [model_object(model) for model in service_of(request).models()]
    return json_response({"object": "list", "data": models})


@router.get("/v1/models/{name:path}")
async def one_model(request: Request, name: str) -> Response:
    """One of them."""
    return json_response(model_object(service_of(request).served(name)))
