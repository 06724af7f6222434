"""What `/metrics` tells: names and units of `rag.telemetry` and of the service; every label has few values, and none names a tenant."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from api.admission import Admission
from api.engines import Engines, Reload
from rag.cost import Measurement
from rag.ledger import Ledger
from rag.power import Power
from rag.settings import EnergySettings
from rag.telemetry import request_samples, unattributed_joules
from rag.types import Answer

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# An upload takes tenths of a second, or hours behind others.
_LAG_SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
# Extraction takes hundredths of a joule, a language model tens.
_JOULES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Metrics:
    """Counts what happens; safe to share between threads.

    Args:
        admission: Whose queue is told.
        engines: Whose versions are told.
    """

    def __init__(self, admission: Admission, engines: Engines) -> None:
        self.registry = CollectorRegistry()
        one = self.registry
        self._requests = Counter("rag_requests", "Requests by route and status.", ["route", "code"], registry=one)
        self._duration = Histogram(
            "rag_request_duration_seconds", "Until the last byte.", ["route"], buckets=_SECONDS, registry=one
        )
        self._stage = Histogram("rag_stage_duration_seconds", "Wall-clock.", ["stage"], buckets=_SECONDS, registry=one)
        self._first = Histogram("rag_time_to_first_token_seconds", "Of streams.", buckets=_SECONDS, registry=one)
        self._tokens = Counter("rag_tokens", "Tokens by purpose.", ["kind"], registry=one)
        self._context = Histogram("rag_context_tokens", "Of packed contexts.", buckets=_TOKENS, registry=one)
        self._rejected = Counter("rag_rejected", "Requests refused before any work.", ["reason"], registry=one)
        self._cancelled = Counter("rag_cancelled", "Requests whose client left.", registry=one)
        self._degraded = Counter("rag_degraded", "Answers made with less than was asked.", ["to"], registry=one)
        self._shared = Counter("rag_shared", "Requests answered by the work of an identical one in flight.", registry=one)
        self._hits = Counter("rag_cache_hits", "Answers from the cache.", registry=one)
        self._misses = Counter("rag_cache_misses", "Answers that the cache did not have.", registry=one)
        self._reload = Counter("rag_reload", "Versions opened, or not.", ["result"], registry=one)
        self._citations = Counter("rag_citations", "Citations sent, and sentences without.", ["verified"], registry=one)
        self._abstained = Counter("rag_abstained", "Questions that the documents do not answer.", registry=one)
        self._unloaded = Counter("rag_idle_unloads", "Times that idle models were let go.", registry=one)
        self._cpu = Counter("rag_cpu_seconds", "CPU seconds of requests.", ["stage"], registry=one)
        self._energy = Counter("rag_energy_joules", "Of requests.", ["stage", "component", "method"], registry=one)
        self._unborne = Counter("rag_unattributed_energy_joules", "Of the process, borne by no request.", registry=one)
        self._request_energy = Histogram("rag_request_energy_joules", "Of a request.", buckets=_JOULES, registry=one)
        self._carbon = Counter("rag_carbon_grams", "CO2 equivalent of requests.", ["method"], registry=one)
        self._documents = Counter("rag_documents", "Documents that were sent in, by outcome.", ["result"], registry=one)
        self._lag = Histogram("rag_ingest_lag_seconds", "From an upload until it can be found.", buckets=_LAG_SECONDS, registry=one)
        for kind in ("context", "prompt", "completion", "saved"):
            self._tokens.labels(kind)
        one.register(_State(admission, engines))
        ProcessCollector(registry=one)

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request is over."""
        self._requests.labels(route, str(status)).inc()
        self._duration.labels(route).observe(seconds)

    def work(self, measurement: Measurement) -> None:
        """A piece of work is done; one that several requests shared is told once."""
        for sample in request_samples(measurement):
            labels = [value for _, value in sample.labels]
            match sample.name:
                case "rag_cpu_seconds_total":
                    self._cpu.labels(*labels).inc(sample.value)
                case "rag_energy_joules_total":
                    self._energy.labels(*labels).inc(sample.value)
                case "rag_request_energy_joules":
                    self._request_energy.observe(sample.value)
                case "rag_carbon_grams_total":
                    self._carbon.labels(*labels).inc(sample.value)
        for stage in measurement.stages:
            self._stage.labels(stage.name).observe(stage.wall_s)
        tokens = measurement.tokens
        for kind, count in (("prompt", tokens.prompt), ("completion", tokens.completion), ("saved", tokens.saved)):
            self._tokens.labels(kind).inc(count)
        if tokens.context:
            self._tokens.labels("context").inc(tokens.context)
            self._context.observe(tokens.context)
        if measurement.cache != "off":
            (self._hits if measurement.cache == "hit" else self._misses).inc()

    def answer(self, answer: Answer) -> None:
        """An answer is given."""
        self._citations.labels("true").inc(len(answer.citations))
        self._citations.labels("false").inc(len(answer.unverified))
        if answer.abstained:
            self._abstained.inc()

    def first_token(self, seconds: float) -> None:
        """The first words of a stream are sent."""
        self._first.observe(seconds)

    def rejected(self, reason: str) -> None:
        """A request was refused before any work."""
        self._rejected.labels(reason).inc()

    def cancelled(self) -> None:
        """A client has left."""
        self._cancelled.inc()

    def degraded(self, to: str) -> None:
        """An answer is made with less than was asked."""
        self._degraded.labels(to).inc()

    def shared(self) -> None:
        """A request had no work of its own."""
        self._shared.inc()

    def reload(self, reload: Reload) -> None:
        """A version was opened, or could not be."""
        self._reload.labels("failed" if reload.error else "ok").inc()

    def ingested(self, seconds: float, n_ok: int, n_failed: int) -> None:
        """An upload is over, so many seconds after it was sent."""
        self._documents.labels("ok").inc(n_ok)
        self._documents.labels("failed").inc(n_failed)
        if n_ok:
            self._lag.observe(seconds)

    def unloaded(self) -> None:
        """Idle models were let go."""
        self._unloaded.inc()

    def unattributed(self, joules: float) -> None:
        """Joules that no request bears."""
        self._unborne.inc(joules)


class Unattributed:
    """Counts the joules that no request bears, from one look to the next.

    Args:
        ledger: The account.
        power: Their price.
        settings: PUE, and the threads reserved.
    """

    def __init__(self, ledger: Ledger, power: Power, settings: EnergySettings) -> None:
        self._ledger, self._power = ledger, power
        self._pue = settings.pue
        self._n_threads = settings.reserved_threads or len(os.sched_getaffinity(0))
        self._before = ledger.account()
        self._began_ns = time.monotonic_ns()

    def joules(self) -> float:
        """Since the last call."""
        now = self._ledger.account()
        joules = unattributed_joules(self._before, now, self._power.price(self._began_ns), self._n_threads, self._pue)
        self._before, self._began_ns = now, time.monotonic_ns()
        return joules


def exposition(metrics: Metrics) -> bytes:
    """All metrics in the text format of Prometheus."""
    return generate_latest(metrics.registry)


class _State(Collector):
    """What is so now, read when it is asked for."""

    def __init__(self, admission: Admission, engines: Engines) -> None:
        self._admission = admission
        self._engines = engines

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("rag_inflight", "Requests that are worked on.", value=self._admission.n_running)
        yield GaugeMetricFamily("rag_queue_length", "Requests that wait.", value=self._admission.n_waiting)
        info = GaugeMetricFamily("rag_index_version_info", "Always 1; the version is a label.", labels=["collection", "version"])
        age = GaugeMetricFamily("rag_index_age_seconds", "Since it was published.", labels=["collection"])
        chunks = GaugeMetricFamily("rag_index_chunks", "That can be found.", labels=["collection"])
        for row in self._engines.open_versions():
            info.add_metric([row.collection, str(row.version)], 1)
            age.add_metric([row.collection], max(0.0, time.time() - row.published))
            chunks.add_metric([row.collection], row.n_chunks)
        yield from (info, age, chunks)
