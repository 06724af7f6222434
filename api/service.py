"""What all routes share, opened once a process."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request

from api.admission import Admission, Flights
from api.counted import PoolMeter
from api.engines import Engines
from api.jobs import Jobs
from api.keys import KeyStore
from api.limits import Limiter
from api.metrics import Metrics, Unattributed
from api.otel import Otel
from rag.clocks import thread_clock
from rag.ledger import Ledger
from rag.power import Power, open_power
from rag.settings import ServiceSettings, Settings

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a running service."""

    settings: Settings
    options: ServiceSettings
    log: FilteringBoundLogger
    power: Power
    ledger: Ledger
    keys: KeyStore
    limiter: Limiter
    engines: Engines
    admission: Admission
    flights: Flights
    metrics: Metrics
    unattributed: Unattributed
    jobs: Jobs
    otel: Otel | None


def open_service(settings: Settings, options: ServiceSettings, log: FilteringBoundLogger) -> Service:
    """Open the parts; call it in the thread of the event loop, whose time the ledger shares out.

    Args:
        settings: Of the core.
        options: Of the service.
        log: Where lines go.

    Returns:
        The parts; nothing is loaded yet.
    """
    power = open_power(settings.energy, settings.data_dir, service=True)
    ledger = Ledger(thread_clock(threading.get_ident()))
    admission = Admission(options)
    engines = Engines(settings, power, lambda reload: metrics.reload(reload))
    metrics = Metrics(admission, engines)
    jobs = Jobs(settings.data_dir, options.keep_jobs_s, lambda: PoolMeter(power, ledger), metrics.work, log)
    return Service(
        settings=settings,
        options=options,
        log=log,
        power=power,
        ledger=ledger,
        keys=KeyStore(settings.data_dir),
        limiter=Limiter(),
        engines=engines,
        admission=admission,
        flights=Flights(),
        metrics=metrics,
        unattributed=Unattributed(ledger, power, settings.energy),
        jobs=jobs,
        otel=Otel(options.otel_endpoint, log) if options.otel_endpoint else None,
    )


def service_of(request: Request) -> Service:
    """The parts of the service that a request came to."""
    service = request.app.state.service
    assert isinstance(service, Service), "the application opens its service before the first request; this is a bug"
    return service
