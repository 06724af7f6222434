"""A request's way through the queue to the engine and back, with less than was asked where a stage takes too long.

Order of degradation: there is no reranker to leave out; a vector that does not come leaves search by words alone; a language model
that does not come leaves extraction. What was left out is in `Done.degraded`. A mode that was asked for by name (``dense``) is kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from api.admission import GoneError
from api.patience import EMBED_STAGES, GENERATE_STAGES, LateError, Patience, PatientMeter
from api.schemas import AnswerMode
from api.service import Service
from api.ticket import Ticket
from rag.cost import Measurement
from rag.engine import Engine
from rag.http import watched
from rag.meter import Meter
from rag.power.figure import rounded
from rag.settings import GeneratorName, Settings
from rag.types import SearchMode

_T = TypeVar("_T")
_VECTOR_STAGES = EMBED_STAGES | {"vector", "fuse"}


@dataclass(frozen=True, slots=True)
class Way:
    """How a question is answered: which indexes are asked, and who writes."""

    mode: SearchMode
    generator: GeneratorName = "extractive"


@dataclass(frozen=True, slots=True)
class Done(Generic[_T]):
    """Work that is done.

    Attributes:
        result: What came of it.
        measurement: What it cost.
        degraded: What was left out, in order; empty when nothing was.
        is_shared: Whether the work was done for another request too, which bears its cost.
    """

    result: _T
    measurement: Measurement
    degraded: tuple[str, ...] = ()
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class Work(Generic[_T]):
    """What is to be done.

    Attributes:
        key: Everything that decides the result; equal keys in flight are one piece of work.
        way: How, if there is time.
        run: Does it, in a thread, and says what it cost.
        on_stage: Told of each stage that begins, in that thread.
        facts: For the log.
    """

    key: Hashable
    way: Way
    run: Callable[[Way, Meter], tuple[_T, Measurement]]
    on_stage: Callable[[str], None] | None = None
    facts: dict[str, object] = field(default_factory=dict)


def answer_way(mode: AnswerMode, settings: Settings) -> Way:
    """How a mode of `rag ask` is answered."""
    match mode:
        case "eco":
            return Way("bm25", "extractive")
        case "standard":
            return Way("hybrid", settings.answer.generator)
        case "generative":
            return Way("hybrid", "model")
        case "auto":
            return Way("hybrid", "auto")


def degraded(way: Way, stage: str) -> tuple[Way, str] | None:
    """What is left when a stage takes too long.

    Args:
        way: As it was tried.
        stage: That took too long.

    Returns:
        The next way and its name for people and metrics; None when nothing can be left out.
    """
    if stage in _VECTOR_STAGES and way.mode == "hybrid":
        return replace(way, mode="bm25"), "bm25"
    if stage in GENERATE_STAGES and way.generator != "extractive":
        return replace(way, generator="extractive"), "extractive"
    return None


async def perform(service: Service, ticket: Ticket, work: Work[_T]) -> Done[_T]:
    """Do a piece of work, or share in that of an identical request.

    Args:
        service: The parts.
        ticket: Of the request.
        work: What is to be done.

    Returns:
        The result.

    Raises:
        OverloadedError: If there is no place.
        GoneError: If the client has left.
        LateError: If it takes too long and nothing can be left out.
    """
    ticket.facts.update(work.facts)
    deadline = ticket.began + service.options.timeout_s

    async def start(nobody: asyncio.Future[None]) -> Done[_T]:
        service.admission.arrived(ticket.gone)
        way, left_out = work.way, []
        while True:
            try:
                done = await _attempt(service, work, way, deadline, nobody)
            except LateError as late:
                found = degraded(way, late.stage)
                if found is None:
                    raise
                way, name = found
                left_out.append(name)
                service.metrics.degraded(name)
            else:
                return replace(done, degraded=tuple(left_out))

    if service.flights.has(work.key):
        service.admission.arrived(ticket.gone)
    try:
        done, is_shared = await service.flights.join(work.key, start, ticket.gone)
    except GoneError:
        service.metrics.cancelled()
        raise
    if is_shared:
        service.metrics.shared()
    _tell(ticket, done, is_shared=is_shared)
    return replace(done, is_shared=is_shared)


async def _attempt(service: Service, work: Work[_T], way: Way, deadline: float, nobody: asyncio.Future[None]) -> Done[_T]:
    patience = Patience(service.options, deadline, work.on_stage)

    def run() -> tuple[_T, Measurement]:
        patience.begin("open")
        with watched(patience.check), PatientMeter(patience, service.power, service.ledger) as meter:
            return work.run(way, meter)

    result, measurement = await service.admission.run(run, patience, nobody)
    service.metrics.work(measurement)
    return Done(result, measurement)


def with_engine(service: Service, collection: str, call: Callable[[Engine, Way, Meter], _T]) -> Callable[[Way, Meter], _T]:
    """Let a call have the engine of a collection for as long as it runs."""

    def run(way: Way, meter: Meter) -> _T:
        with service.engines.engine(collection, way.generator) as engine:
            return call(engine, way, meter)

    return run


def _tell(ticket: Ticket, done: Done[_T], *, is_shared: bool) -> None:
    """Cost in headers and in the log; a shared answer cost this request nothing more, and joules must add up."""
    measurement = done.measurement
    ticket.measurement, ticket.measured_ns = measurement, time.time_ns()
    cpu_ms = 0.0 if is_shared else measurement.cpu_s * 1000
    tokens = measurement.tokens
    n_tokens = tokens.prompt + tokens.completion + tokens.context
    ticket.headers["x-rag-cpu-ms"] = f"{cpu_ms:.3f}"
    ticket.headers["x-rag-tokens"] = str(n_tokens)
    ticket.headers["x-rag-tokens-saved"] = str(tokens.saved)
    ticket.headers["x-rag-cache"] = measurement.cache
    ticket.facts |= {"cpu_ms": round(cpu_ms, 3), "tokens": n_tokens}
    if measurement.energy is not None:
        total, carbon = rounded(measurement.energy.total), rounded(measurement.energy.carbon)
        ticket.headers["x-rag-energy-j"] = f"{0.0 if is_shared else total.value:g}"
        ticket.headers["x-rag-energy-method"] = total.method
        ticket.headers["x-rag-carbon-g"] = f"{0.0 if is_shared else carbon.value:g}"
        ticket.facts["energy_j"] = 0.0 if is_shared else total.value
    if is_shared:
        ticket.headers["x-rag-shared"] = "1"
        ticket.facts["shared"] = True
    if done.degraded:
        ticket.headers["x-rag-degraded"] = ",".join(done.degraded)
        ticket.facts["degraded"] = list(done.degraded)
