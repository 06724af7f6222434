"""Names under which costs leave the process: Prometheus samples and OpenTelemetry attributes, without either library.

OpenTelemetry knows no name for the energy of a request (`hw.energy` is for hardware), so joules and grams go under our own name;
token counts go under those of the GenAI conventions. Prometheus names end in their unit. A counter ``x_total`` and a histogram ``x``
would collide in its client, hence ``rag_energy_joules_total`` beside ``rag_request_energy_joules``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rag.cost import Energy, Measurement
from rag.ledger import Account
from rag.power import Price

Kind = Literal["counter", "histogram"]
# Stage of joules that belong to no stage: idle power and all that is not a CPU.
_NO_STAGE = "none"


@dataclass(frozen=True, slots=True)
class Sample:
    """One number for a metrics library.

    Attributes:
        name: Full name with unit.
        kind: A counter grows by the value, a histogram observes it.
        labels: Pairs of name and value, in the order of the metric's declaration; values come from small fixed sets.
        value: In the unit of the name.
    """

    name: str
    kind: Kind
    labels: tuple[tuple[str, str], ...]
    value: float


def request_samples(measurement: Measurement) -> tuple[Sample, ...]:
    """What a finished request adds to the metrics.

    Args:
        measurement: Of the request.

    Returns:
        ``rag_cpu_seconds_total{stage}``, and with a power model ``rag_energy_joules_total{stage,component,method}``,
        ``rag_request_energy_joules`` and ``rag_carbon_grams_total{method}``. CPU seconds and joules of the samples add up to those of
        the measurement: what lies between stages is stage ``none``.
    """
    between = max(0.0, measurement.cpu_s - sum(stage.cpu_s for stage in measurement.stages))
    samples = [Sample("rag_cpu_seconds_total", "counter", (("stage", s.name),), s.cpu_s) for s in measurement.stages]
    samples.append(Sample("rag_cpu_seconds_total", "counter", (("stage", _NO_STAGE),), between))
    if measurement.energy is not None:
        samples += _energy_samples(measurement, measurement.energy)
    return tuple(samples)


def _energy_samples(measurement: Measurement, energy: Energy) -> list[Sample]:
    def joules(stage: str, component: str, method: str, value: float) -> Sample:
        return Sample("rag_energy_joules_total", "counter", (("stage", stage), ("component", component), ("method", method)), value)

    staged = [(stage.name, stage.energy_j or 0.0) for stage in measurement.stages]
    rest = max(0.0, energy.active.value - sum(value for _, value in staged))
    samples = [joules(name, "active", energy.active.method, value) for name, value in [*staged, (_NO_STAGE, rest)]]
    for component in ("idle", "dram", "gpu", "remote", "facility"):
        part = getattr(energy, component)
        if part is not None:
            samples.append(joules(_NO_STAGE, component, part.method, part.value))
    samples.append(Sample("rag_request_energy_joules", "histogram", (), energy.total.value))
    samples.append(Sample("rag_carbon_grams_total", "counter", (("method", energy.carbon.method),), energy.carbon.value))
    return samples


def unattributed_joules(before: Account, now: Account, price: Price, n_reserved_threads: int, pue: float = 1.0) -> float:
    """What ``rag_unattributed_energy_joules_total`` grows by: joules of a process that no request bears.

    Args:
        before: The account when this was asked last.
        now: The account now.
        price: Of a CPU-second and a reserved thread meanwhile.
        n_reserved_threads: Hardware threads kept for the process.
        pue: Of the site.

    Returns:
        Active joules of unattributed CPU seconds and idle joules of the time without a request in flight; at least 0, because native
        threads of a request in flight count as unattributed until it ends.
    """
    cpu_s, idle_s = now.unattributed_s - before.unattributed_s, now.idle_s - before.idle_s
    return pue * max(0.0, price.active_w.value * cpu_s + price.idle_w.value * n_reserved_threads * idle_s)


def span_attributes(measurement: Measurement) -> dict[str, str | int | float]:
    """OpenTelemetry attributes of the span of a request.

    Args:
        measurement: Of the request.

    Returns:
        GenAI token usage, and our own energy, carbon, method and boundary; no attribute for what is not known.
    """
    tokens = measurement.tokens
    attributes: dict[str, str | int | float] = {"ragwatt.request.cpu_time": measurement.cpu_s}
    if tokens.prompt or tokens.completion:
        attributes |= {"gen_ai.usage.input_tokens": tokens.prompt, "gen_ai.usage.output_tokens": tokens.completion}
    if (energy := measurement.energy) is not None:
        attributes |= {
            "ragwatt.request.energy": energy.total.value,
            "ragwatt.request.energy.lo": energy.total.lo,
            "ragwatt.request.energy.hi": energy.total.hi,
            "ragwatt.request.energy.method": energy.total.method,
            "ragwatt.request.energy.boundary": energy.total.boundary,
            "ragwatt.request.carbon": energy.carbon.value,
            "ragwatt.request.carbon.method": energy.carbon.method,
        }
    return attributes
