"""What whoever runs the server asks: is it well, is it ready, what does it do; load and unload models."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.responses import PlainTextResponse

from gollama.backends import DeviceMemory
from gollama.llm import LLM
from gollama.server.body import Body, read_body
from gollama.server.documents import taking
from gollama.server.errors import ApiError
from gollama.server.openai.models import model_object
from gollama.server.record import record_of
from gollama.server.replies import json_response
from gollama.server.service import Service, service_of

router = APIRouter(tags=["operations"])

ROOM = "memory"  # of what the service keeps for the routers
MEMORY_SECONDS = 0.5  # an engine tells between two steps
PROMETHEUS = "text/plain; version=1.0.0; charset=utf-8"


class ModelRequest(Body):
    model: str = Field(max_length=256)


@router.get("/health")
@router.get("/v1/health", include_in_schema=False)
async def health() -> Response:
    """The process answers."""
    return json_response({"status": "ok"})


@router.get("/ready")
async def ready(request: Request) -> Response:
    """Whether requests should be sent here: models that are loaded first are there, and no shutdown has begun."""
    service = service_of(request)
    if service.draining or not service.ready:
        state = "the server ends" if service.draining else "models are being loaded"
        raise ApiError(503, state, type="server_error", code="not_ready", headers={"Retry-After": "1"})
    return json_response({"status": "ready"})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """For Prometheus."""
    service = service_of(request)
    if not service.config.metrics:
        raise ApiError(404, "metrics are switched off (metrics)", code="not_found")
    return Response(service.metrics.text(await _memory(service)), media_type=PROMETHEUS)


async def _memory(service: Service) -> dict[str, tuple[DeviceMemory, ...]]:
    """What each loaded model takes of each device; one that is busy for longer is left out."""
    asked: dict[LLM, asyncio.Future[tuple[DeviceMemory, ...]]] = service.rooms.setdefault(ROOM, {})
    answers = {}
    for one in service.models():
        if one.llm is not None and one.llm.model.is_generative:
            if one.llm not in asked:  # one question at a time to a busy one, whoever wants to know
                asked[one.llm] = asyncio.ensure_future(asyncio.to_thread(one.llm.memory))
            answers[one.name] = asked[one.llm]
    if answers:
        await asyncio.wait(set(answers.values()), timeout=MEMORY_SECONDS)
    for llm in [llm for llm, answer in asked.items() if answer.done()]:
        asked.pop(llm).exception()
    return {name: answer.result() for name, answer in answers.items() if answer.done() and answer.exception() is None}


@router.post("/models/load", openapi_extra=taking(ModelRequest, stream=False))
async def load(request: Request) -> Response:
    """Load a model that is served, and answer when it is there."""
    return await _changed(request, load=True)


@router.post("/models/unload", openapi_extra=taking(ModelRequest, stream=False))
async def unload(request: Request) -> Response:
    """Free a model; it is loaded again when somebody asks for it."""
    return await _changed(request, load=False)


async def _changed(request: Request, *, load: bool) -> Response:
    service = service_of(request)
    body = await read_body(request, ModelRequest)
    service.served(body.model)
    record_of(request.scope).model = body.model
    if load:
        async with service.leased(body.model):
            pass
    else:
        await service.unload(body.model)
    return json_response(model_object(service.served(body.model)))
