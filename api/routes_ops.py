"""Probes, metrics, version, reload: for those who run the service. Probes need no key, wait for nothing and tell no secret."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from api.auth import AnyCaller, require
from api.errors import problem_responses
from api.metrics import exposition
from api.reply import json_response, plain_response
from api.service import service_of
from rag import __version__

router = APIRouter(responses=problem_responses(), tags=["operations"])
_OPEN: dict[str, Any] = {"security": []}  # no key is looked at
_GOING_DOWN: dict[int | str, dict[str, Any]] = {503: {"description": "Going down."}}


@router.head("/livez", include_in_schema=False)
@router.get("/livez", openapi_extra=_OPEN)
async def livez() -> dict[str, str]:
    """Whether the process works at all."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses=_GOING_DOWN, openapi_extra=_OPEN)
async def readyz(request: Request) -> Response:
    """Whether requests should be sent here; not while the service goes down."""
    is_draining = service_of(request).admission.is_draining
    return json_response({"status": "draining" if is_draining else "ok"}, 503 if is_draining else 200)


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", responses=_GOING_DOWN, openapi_extra=_OPEN)
async def healthz(request: Request) -> Response:
    """Readiness, and what is going on."""
    admission = service_of(request).admission
    status = "draining" if admission.is_draining else "ok"
    body = {"status": status, "inflight": admission.n_running, "queue": admission.n_waiting}
    return json_response(body, 503 if admission.is_draining else 200)


@router.get("/version", openapi_extra=_OPEN)
async def version() -> dict[str, str]:
    """The version of the program."""
    return {"name": "ragwatt", "version": __version__}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(who: AnyCaller, request: Request) -> Response:
    """Everything that is counted, for Prometheus."""
    service = service_of(request)
    require(who, "admin")
    service.metrics.unattributed(service.unattributed.joules())
    return Response(exposition(service.metrics), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.post("/v1/admin/reload")
def reload(who: AnyCaller, request: Request) -> Response:
    """Look for new versions now, open them, and open collections that nobody has asked for yet."""
    require(who, "admin")
    found = service_of(request).engines.refresh(open_new=True)
    return plain_response(request, {"collections": [asdict(one) for one in found if who.sees(one.collection)]})
