"""/api/tags, /api/ps, /api/show and /api/version."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timezone
from typing import Any

from fastapi import APIRouter, Request, Response

from gollama.llm import LLM
from gollama.model import Model
from gollama.server.body import read_body
from gollama.server.documents import refusals, taking
from gollama.server.ollama.fields import ShowBody, refused
from gollama.server.ollama.names import plain_name, tagged
from gollama.server.ollama.told import ERROR_SCHEMA
from gollama.server.openai.models import STARTED
from gollama.server.pool import ServedModel
from gollama.server.replies import json_response
from gollama.server.service import service_of
from gollama.version import __version__

router = APIRouter(tags=["Ollama"])

NEVER = "9999-12-31T23:59:59Z"  # when a model is unloaded for want of requests
MILLION, BILLION = 10**6, 10**9
LONGEST_FACT = 4096  # characters of one of the file's facts; chat templates have a field of their own
FILL_IN = ("fim_pre", "fim_suf")
REFUSALS = {"responses": refusals(ERROR_SCHEMA)}


def _listed(model: ServedModel) -> dict[str, Any]:
    """What a list says; the size and the details of a model are known once it was loaded. Reads of its file: call it in a thread."""
    loaded = None if model.llm is None else model.llm.model
    name, digest = tagged(model.name), ""
    with contextlib.suppress(OSError):  # a file may be removed while it is loaded
        digest = "" if loaded is None else loaded.fingerprint
    return {"name": name, "model": name, "modified_at": _modified(loaded), "size": 0 if loaded is None else loaded.size,
            "digest": digest, "details": _details(loaded)}


def _modified(model: Model | None) -> str:
    seconds: float = STARTED
    with contextlib.suppress(OSError):
        seconds = seconds if model is None else model.path.stat().st_mtime
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def _details(model: Model | None) -> dict[str, Any]:
    found: dict[str, Any] = {"parent_model": "", "format": "gguf", "family": "", "families": [], "parameter_size": "",
                             "quantization_level": ""}
    if model is not None:
        found |= {"family": model.architecture, "families": [model.architecture], "parameter_size": _rounded(model.n_params),
                  "quantization_level": model.file_type}
    return found


def _rounded(n_params: int) -> str:
    return f"{n_params / BILLION:.1f}B" if n_params >= BILLION else f"{n_params / MILLION:.2f}M"


@router.get("/api/tags", openapi_extra=REFUSALS)
async def tags(request: Request) -> Response:
    """The models that are served."""
    models = service_of(request).models()
    return json_response({"models": await asyncio.to_thread(lambda: [_listed(model) for model in models])})


@router.get("/api/ps", openapi_extra=REFUSALS)
async def running(request: Request) -> Response:
    """The models that are loaded."""
    loaded = [model for model in service_of(request).models() if model.llm is not None]
    listed = await asyncio.to_thread(lambda: [_listed(model) for model in loaded])
    return json_response({"models": [{**told, "expires_at": NEVER, "size_vram": 0, "context_length": _context(model.llm)}
                                     for told, model in zip(listed, loaded)]})


def _context(llm: LLM | None) -> int:
    return llm.context_size if llm is not None and llm.model.is_generative else 0


@router.post("/api/show", openapi_extra=taking(ShowBody, stream=False, errors=ERROR_SCHEMA))
async def show(request: Request) -> Response:
    """What a model is. One that is not loaded is loaded first."""
    service = service_of(request)
    body = await read_body(request, ShowBody)
    asked = body.model or body.name
    if asked is None:
        raise refused("model is missing", "model", "missing_required_parameter")
    async with service.model(request, plain_name(service, asked)) as (_, llm):
        model = llm.sync.model
        facts: dict[str, Any] = {name: value for name, value in model.metadata.items()
                                 if len(value) <= LONGEST_FACT and not name.startswith("tokenizer.chat_template")}
        facts |= {"general.parameter_count": model.n_params, f"{model.architecture}.context_length": model.n_ctx_train,
                  f"{model.architecture}.embedding_length": model.n_embd}
        return json_response({"modelfile": "", "parameters": "", "template": model.chat_template() or "", "details": _details(model),
                              "model_info": facts, "capabilities": _capabilities(model), "modified_at": _modified(model)})


def _capabilities(model: Model) -> list[str]:
    if not model.is_generative:
        return ["embedding"]
    fills_in = all(name in model.special_tokens for name in FILL_IN)
    return ["completion", *(["tools"] if model.chat_template() else []), *(["insert"] if fills_in else [])]


@router.get("/api/version", openapi_extra=REFUSALS)
async def version() -> Response:
    """gollama's."""
    return json_response({"version": __version__})
