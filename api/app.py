"""The application: routes, errors, the gate, and what lives as long as the process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware

from api import mcp, routes_collections, routes_native, routes_openai, routes_ops, routes_ui
from api.errors import install
from api.gate import Gate
from api.log import open_log
from api.otel import check_endpoint
from api.schemas import OpenAIError, Problem, UploadRequest
from api.service import Service, open_service
from rag import __version__
from rag.errors import RagError
from rag.settings import ServiceSettings, Settings

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig
    from structlog.typing import FilteringBoundLogger

_DEFAULTS = ServiceSettings()
# Newer FastAPI has telemetry of its own, which records validation errors with the values that were sent; older ones ignore this.
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def create_app(settings: Settings, options: ServiceSettings = _DEFAULTS, log: FilteringBoundLogger | None = None) -> FastAPI:
    """Make the application.

    Args:
        settings: Of the core.
        options: Of the service.
        log: Where lines go; None means standard error.

    Returns:
        An ASGI application; what it needs is opened when it starts, in the thread of its event loop.

    Raises:
        ConfigError: If the endpoint of OpenTelemetry is no base URL.
        MissingExtraError: If there is one and the extra is not installed.
    """
    check_endpoint(options.otel_endpoint)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = open_service(settings, options, log or open_log(sys.stderr))
        app.state.service = service
        service.jobs.open()
        looking = asyncio.ensure_future(look_around(service))
        try:
            yield
        finally:
            looking.cancel()
            service.admission.is_draining = True
            service.jobs.close()
            service.admission.close()
            service.engines.close()
            service.keys.close()
            service.power.close()
            if service.otel:
                service.otel.close()

    app = FastAPI(
        title="Ragwatt",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would lead from https behind a proxy to http, key and all
        telemetry=_NO_TELEMETRY,
    )
    for routes in (routes_native, routes_openai, routes_collections, routes_ops, routes_ui, mcp):
        app.include_router(routes.router)
    install(app)
    origins = [origin.strip() for origin in options.cors_origins.split(",") if origin.strip()]
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=["*"])
    app.add_middleware(Gate)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


async def look_around(service: Service) -> None:
    """Follow new versions, and let idle models go, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(service.options.poll_s)
        try:
            await loop.run_in_executor(None, service.engines.refresh)
        except RagError as error:
            service.log.warning("reload", message=str(error), error=error.code)
        idle_s = service.options.idle_unload_s
        if idle_s and await loop.run_in_executor(None, service.engines.unload_idle, idle_s):
            service.metrics.unloaded()
            service.log.info("unload")


def _described(app: FastAPI) -> dict[str, Any]:
    """The description of all routes, with the errors, and how a key is sent, which is needed once there is one."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        parts = schema.setdefault("components", {})
        schemas = parts.setdefault("schemas", {})
        for model in (Problem, OpenAIError, UploadRequest):
            described = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= described.pop("$defs", {}) | {model.__name__: described}
        parts["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        app.openapi_schema = schema
    keys: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
    return app.openapi_schema | {"security": [*keys, {}] if app.state.service.keys.is_empty() else keys}
