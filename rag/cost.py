"""What work costs: seconds, tokens, joules and grams, as frozen values without behaviour.

A `Measurement` goes with every result. Its joules are `Figure` values, which say how they came about and how far off they may be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Method = Literal["measured", "apportioned", "modelled", "assumed"]
Unit = Literal["J", "g", "g/answer", "g/run"]


class StageCost(NamedTuple):
    """What one stage took; a named tuple, as `Figure` is and for the same reason.

    Attributes:
        name: Stable across releases.
        wall_s: Wall-clock seconds, without those of stages entered inside it.
        cpu_s: CPU seconds, user and system, of all threads and child processes that worked for it, without those of stages inside.
        energy_j: Active joules of those CPU seconds, with the method and the relative band of the part ``active``; None without a
            power model.
    """

    name: str
    wall_s: float
    cpu_s: float
    energy_j: float | None = None


class Figure(NamedTuple):
    """A quantity that cannot be read exactly, with how it came about.

    A named tuple: every answer makes half a dozen, and a frozen dataclass takes four times as long to make.

    Attributes:
        value: Best estimate, between ``lo`` and ``hi``.
        lo: Lower end of what it may be, 0 or more.
        hi: Upper end.
        unit: ``J``, ``g`` (of CO2 equivalent), ``g/answer`` or, of an ingest, ``g/run``.
        method: ``measured`` is the difference of a counter over a window; ``apportioned`` a share of one; ``modelled`` computed from
            measured CPU seconds and a table or formula; ``assumed`` a constant that nobody confirmed. From strong to weak.
        source: Where the price of a unit comes from, for people.
        boundary: What the figure covers, for example ``server_wall`` or ``cpu_package+dram``.
        window_s: Seconds of the counter window, where one was read.
        year: Of the data behind it, where it has one.
    """

    value: float
    lo: float
    hi: float
    unit: Unit
    method: Method
    source: str
    boundary: str
    window_s: float | None = None
    year: int | None = None


class Energy(NamedTuple):
    """The joules of a piece of work, and the grams that they stand for; a named tuple, as `Figure` is.

    Attributes:
        total: Sum of the parts, with the weakest of their methods.
        active: What the CPU seconds took beyond an idle machine.
        idle: Share of the idle power of the hardware threads that the work kept reserved.
        dram: Memory, where the price of the CPU does not hold it already.
        gpu: Of this machine's devices, where they are counted.
        remote: Of servers elsewhere that worked for it.
        facility: What cooling and power supply of the site add (PUE - 1).
        carbon: Grams of CO2 equivalent of ``total``: operation only.
        embodied: Share of what making the hardware emitted.
        sci: Software Carbon Intensity of one answer or run: ``carbon`` plus ``embodied`` (ISO/IEC 21031).
        assumed: Names of the inputs that nobody told and no table knew.
        not_modelled: Names of the quantities that no figure above covers.
        notes: Sources that were passed over, and why.
    """

    total: Figure
    active: Figure
    idle: Figure
    dram: Figure | None
    gpu: Figure | None
    remote: Figure | None
    facility: Figure | None
    carbon: Figure
    embodied: Figure | None
    sci: Figure
    assumed: tuple[str, ...]
    not_modelled: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens by purpose.

    Attributes:
        context: In the packed context.
        prompt: Sent to a language model.
        completion: Returned by a language model, or in an extractive answer.
        saved: In the passages found but not packed: what a plain top-k prompt would have sent on top.
    """

    context: int = 0
    prompt: int = 0
    completion: int = 0
    saved: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a result cost.

    Attributes:
        wall_s: Wall-clock seconds.
        cpu_s: CPU seconds, user and system.
        energy: Joules and grams; None without a power model.
        tokens: By purpose.
        stages: In the order in which they began; what lies between stages is in no stage.
        cache: ``off``, ``miss`` or ``hit``.
        peak_rss_bytes: Highest resident memory of the process so far.
        saved_cpu_s: Of a cache hit, CPU seconds that the answer took when it was made, less those of this measurement; at least 0.
        saved_j: Of a cache hit, its joules likewise; None where they were not known.
    """

    wall_s: float
    cpu_s: float
    energy: Energy | None
    tokens: TokenCounts
    stages: tuple[StageCost, ...]
    cache: Literal["off", "miss", "hit"]
    peak_rss_bytes: int
    saved_cpu_s: float = 0.0
    saved_j: Figure | None = None
