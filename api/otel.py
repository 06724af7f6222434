"""Spans and metrics of the service over OTLP/HTTP: the extra [otel], and every name under which they leave the process.

Off unless ``api.otel_endpoint`` is set. A request is told when it is over, so its stages become spans after the fact; texts of queries,
documents and answers are never part of it. Export runs in threads of the SDK with a bounded queue: a collector that is down or slow
costs spans, never a request. The names of the GenAI conventions are in development: those here are of version 1.37, but for the operation
``retrieval``, which is newer. Token counts and joules of a span have their names from `rag.telemetry`.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from api.ticket import Ticket
from rag import __version__
from rag.cost import TokenCounts
from rag.errors import ConfigError, MissingExtraError
from rag.telemetry import span_attributes

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

_Attributes = Mapping[str, str | int | list[str]]
# Operation by route; other routes are not traced. ``rerank`` is ours.
OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/answer": "chat",
    "/v1/embeddings": "embeddings",
    "/v1/search": "retrieval",
    "/v1/context": "retrieval",
    "/v1/rerank": "rerank",
}
_OPERATION, _PROVIDER, _MODEL = "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"
_FINISH, _SOURCE, _TOKEN_TYPE = "gen_ai.response.finish_reasons", "gen_ai.data_source.id", "gen_ai.token.type"
_TRACE_HEADERS = ("traceparent", "tracestate")
_ROUTE, _STATUS, _ERROR = "http.route", "http.response.status_code", "error.type"
_REQUEST_ID, _CACHE, _CPU, _ENERGY = "ragwatt.request.id", "ragwatt.cache", "ragwatt.stage.cpu_time", "ragwatt.stage.energy"
_FACTS = {"version": "ragwatt.index.version", "degraded": "ragwatt.request.degraded", "shared": "ragwatt.request.shared"}
# Name, unit and bucket bounds of the histograms; the conventions fix the bounds.
_TOKENS, _CLIENT_S = "gen_ai.client.token.usage", "gen_ai.client.operation.duration"
_SERVER_S, _FIRST_S = "gen_ai.server.request.duration", "gen_ai.server.time_to_first_token"
_EACH_S = "gen_ai.server.time_per_output_token"
_DOUBLING = tuple(0.01 * 2**i for i in range(14))
_HISTOGRAMS: dict[str, tuple[str, tuple[float, ...]]] = {
    _TOKENS: ("{token}", tuple(4.0**i for i in range(14))),
    _CLIENT_S: ("s", _DOUBLING),
    _SERVER_S: ("s", _DOUBLING),
    _FIRST_S: ("s", (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)),
    _EACH_S: ("s", (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)),
}
# Without a user, who would get into logs.
_BASE_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d{1,5})?(/[\w.~/-]*)?", re.ASCII)
# One export, retries included; a drain waits longer than one. The log is told of a collector that is down once a minute.
_EXPORT_S, FLUSH_S, _TELL_S = 2.0, 5.0, 60.0
# Of about 1 kB; what comes while the queue is full is dropped.
_MAX_SPANS = 2048


def check_endpoint(endpoint: str) -> None:
    """Refuse an endpoint that cannot be used, before anything is opened.

    Args:
        endpoint: ``api.otel_endpoint``; empty means none.

    Raises:
        ConfigError: If it is no base URL.
        MissingExtraError: If the packages are not installed.
    """
    if not endpoint:
        return
    if not _BASE_URL.fullmatch(endpoint):
        raise ConfigError(
            f"api.otel_endpoint is {endpoint[:200]!r}; allowed: the base URL of a collector without user or query, "
            "such as http://127.0.0.1:4318"
        )
    try:
        import_module("opentelemetry.sdk.metrics.export")
        import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError as error:
        raise MissingExtraError("api.otel_endpoint", "otel") from error


class Otel:
    """Tells a collector of requests; safe to share between threads.

    Args:
        endpoint: Base URL that `check_endpoint` let pass; ``/v1/traces`` and ``/v1/metrics`` are added.
        log: Told at most once a minute when export fails.
    """

    def __init__(self, endpoint: str, log: FilteringBoundLogger) -> None:
        import requests
        from opentelemetry.exporter.otlp.proto.http import metric_exporter, trace_exporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        base, sessions = endpoint.rstrip("/"), (requests.Session(), requests.Session())
        for session in sessions:  # no proxy variable is read and no redirect followed: it goes where the settings say
            session.trust_env, session.max_redirects = False, 0
        resource = Resource.create({"service.name": "ragwatt", "service.version": __version__})
        self._told = _ToLog(log)
        logging.getLogger("opentelemetry").addHandler(self._told)
        self._spans = TracerProvider(resource=resource, shutdown_on_exit=False)
        spans = trace_exporter.OTLPSpanExporter(f"{base}/v1/traces", timeout=_EXPORT_S, session=sessions[0])
        self._spans.add_span_processor(BatchSpanProcessor(spans, max_queue_size=_MAX_SPANS))
        metrics = metric_exporter.OTLPMetricExporter(f"{base}/v1/metrics", timeout=_EXPORT_S, session=sessions[1])
        self._metrics = MeterProvider([PeriodicExportingMetricReader(metrics)], resource, shutdown_on_exit=False)
        self._tracer = self._spans.get_tracer("ragwatt", __version__)
        meter = self._metrics.get_meter("ragwatt", __version__)
        self._histograms = {
            name: meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=bounds)
            for name, (unit, bounds) in _HISTOGRAMS.items()
        }
        self._parents = TraceContextTextMapPropagator()

    def request(self, ticket: Ticket, route: str, status: int, seconds: float, headers: Mapping[str, str]) -> None:
        """Tell of a request that is over; nothing for a route without a model.

        Args:
            ticket: Of the request.
            route: Its path as it is declared.
            status: That it ended with.
            seconds: Until its last byte.
            headers: That it came with; ``traceparent`` and ``tracestate`` are continued.
        """
        operation = OPERATIONS.get(route)
        if operation is None:
            return
        model, source = str(ticket.facts.get("model", "")), str(ticket.facts.get("collection", ""))
        if operation == "chat":  # behind the mode is a collection, in the words of the client: it is no label
            model = model.partition("/")[0]
        common: dict[str, str | int | list[str]] = {_OPERATION: operation, _PROVIDER: "ragwatt"}
        common |= {_MODEL: model} if model else {}
        common |= {_ERROR: str(ticket.facts.get("error", status))} if status >= 400 else {}
        self._count(ticket, common, seconds)
        about = common | {_ROUTE: route, _STATUS: status, _REQUEST_ID: ticket.request_id}
        about |= {_SOURCE: source} if source else {}
        about |= {_FINISH: ["stop"]} if operation == "chat" and status < 400 else {}
        name = f"{operation} {source if operation == 'retrieval' else model}"
        self._trace(ticket, name.strip(), about, seconds, headers)

    def close(self) -> None:
        """Send what waits, for at most five seconds."""
        closing = [threading.Thread(target=one.shutdown, daemon=True) for one in (self._spans, self._metrics)]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(FLUSH_S / 2)
        logging.getLogger("opentelemetry").removeHandler(self._told)

    def _count(self, ticket: Ticket, attributes: _Attributes, seconds: float) -> None:
        measurement, of = ticket.measurement, self._histograms
        of[_SERVER_S].record(seconds, attributes)
        of[_CLIENT_S].record(measurement.wall_s if measurement else seconds, attributes)
        tokens = measurement.tokens if measurement else TokenCounts()
        if "shared" not in ticket.facts:  # what several requests shared is counted once
            for kind, count in (("input", tokens.prompt), ("output", tokens.completion)):
                if count:
                    of[_TOKENS].record(count, {**attributes, _TOKEN_TYPE: kind})
        if ticket.first_s is not None:
            of[_FIRST_S].record(ticket.first_s, attributes)
            if tokens.completion > 1:
                of[_EACH_S].record(max(0.0, seconds - ticket.first_s) / (tokens.completion - 1), attributes)

    def _trace(self, ticket: Ticket, name: str, attributes: _Attributes, seconds: float, headers: Mapping[str, str]) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        ended_ns = time.time_ns()
        parent = self._parents.extract({key: headers[key] for key in _TRACE_HEADERS if key in headers}, Context())
        began_ns = ended_ns - int(seconds * 1e9)
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes, start_time=began_ns)
        if attributes[_STATUS] >= 500:  # type: ignore[operator]
            span.set_status(StatusCode.ERROR)
        for fact in _FACTS.keys() & ticket.facts.keys():
            span.set_attribute(_FACTS[fact], ticket.facts[fact])  # type: ignore[arg-type]  # a number, names, a truth
        measurement = None if "shared" in ticket.facts else ticket.measurement
        if measurement:
            span.set_attributes({**span_attributes(measurement), _CACHE: measurement.cache})
            # One after the other, as they began: a measurement knows how long each stage took, not when.
            now_ns = ticket.measured_ns - int(measurement.wall_s * 1e9)
            within = set_span_in_context(span, Context())
            for stage in measurement.stages:
                about = {_CPU: stage.cpu_s} | ({} if stage.energy_j is None else {_ENERGY: stage.energy_j})
                if stage.wall_s > 0:
                    child = self._tracer.start_span(stage.name, within, attributes=about, start_time=now_ns)
                    now_ns += int(stage.wall_s * 1e9)
                    child.end(now_ns)
        span.end(ended_ns)


class _ToLog(logging.Handler):
    """What the SDK complains of, as a line of our log now and then."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._at = -_TELL_S

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now - self._at >= _TELL_S:
            self._at = now
            self._log.warning("otel", message=" ".join(record.getMessage().split())[:300])
