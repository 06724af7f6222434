"""The price of a CPU-second: what every source of watts is turned into."""

from __future__ import annotations

from typing import NamedTuple

from rag.cost import Method
from rag.power.figure import Band


class Price(NamedTuple):
    """What a busy CPU-second and a reserved hardware thread cost.

    Attributes:
        active_w: Joules per CPU-second beyond idle, that is watts per busy hardware thread.
        idle_w: Watts per hardware thread of an idle machine.
        method: How the watts came about; never ``measured``, because a share of a machine is apportioned at best.
        source: Where they come from, for people.
        boundary: ``server_wall``, ``platform``, ``cpu_package`` or ``cpu_package+dram``.
        window_s: Seconds of the counter window, where counters were read.
        year: Of the data, where it has one.
    """

    active_w: Band
    idle_w: Band
    method: Method
    source: str
    boundary: str
    window_s: float | None = None
    year: int | None = None

    @property
    def holds_dram(self) -> bool:
        """Whether memory is inside the boundary."""
        return self.boundary != "cpu_package"
