"""What metering costs: CPU microseconds a request, CPU milliseconds of the import, and the libraries that come with it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rag.clocks import thread_clock
from rag.engine import Engine
from rag.ledger import Ledger
from rag.meter import Meter
from rag.power import Power
from rag.types import Query

# Those of a hybrid search: five.
_STAGES = ("embed", "bm25", "vector", "fuse", "fetch")


@dataclass(frozen=True, slots=True)
class Overhead:
    """A metered request that does nothing, in CPU microseconds: medians over rounds of the median of a round.

    Attributes:
        n_stages: Stages entered and left.
        n_requests: A round.
        n_rounds: Rounds.
        bare_us: Neither ledger nor power.
        ledger_us: With a ledger, which reads the clock of an event loop.
        power_us: Priced.
        full_us: With both.
        cold_us: With both, each request right after a search by words, which leaves other things in the caches.
        bm25_us: That search, metered with both.
        hybrid_us: A hybrid search, metered with both.
    """

    n_stages: int
    n_requests: int
    n_rounds: int
    bare_us: float
    ledger_us: float
    power_us: float
    full_us: float
    cold_us: float
    bm25_us: float
    hybrid_us: float


@dataclass(frozen=True, slots=True)
class Import:
    """CPU milliseconds of importing in a new process, with byte code: medians over rounds.

    Attributes:
        n_rounds: Processes of each kind.
        all_ms: ``rag.meter`` and ``rag.power`` into a bare interpreter, with all that they import.
        added_ms: The same where ``rag.types``, ``rag.errors`` and ``rag.settings`` are loaded already, as in every command.
        every_ms: The same with all modules of ``rag.power``, most of which few commands load.
        open_ms: Opening the power of this machine after that of ``added_ms``, with the modules and tables that it reads.
        modules: Those that ``all_ms`` loads and that are neither ours nor of the standard library.
    """

    n_rounds: int
    all_ms: float
    added_ms: float
    every_ms: float
    open_ms: float
    modules: tuple[str, ...]


def measure_overhead(engine: Engine, power: Power, text: str, n_requests: int, n_rounds: int) -> Overhead:
    """Time empty requests of every kind, and real ones beside them, in turns.

    Args:
        engine: Warm.
        power: Prices.
        text: Query of the real ones.
        n_requests: A round and kind; of real ones, a twentieth.
        n_rounds: Rounds.

    Returns:
        Medians.
    """
    ledger = Ledger(framework=thread_clock(threading.get_ident()))
    n_real = max(1, n_requests // 20)
    found: dict[str, list[float]] = {}

    def note(name: str, n: int, work: Callable[[], object], between: Callable[[], object] | None = None) -> None:
        found.setdefault(name, []).append(_median_us(n, work, between))

    def search(query: Query) -> None:
        with Meter("thread", ledger=ledger, power=power) as meter:
            engine.search(query, meter)

    by_words, hybrid = Query(text, mode="bm25"), Query(text)
    for _ in range(n_rounds):
        note("bare", n_requests, lambda: _empty(None, None))
        note("ledger", n_requests, lambda: _empty(ledger, None))
        note("power", n_requests, lambda: _empty(None, power))
        note("full", n_requests, lambda: _empty(ledger, power))
        note("cold", n_real, lambda: _empty(ledger, power), lambda: search(by_words))
        note("bm25", n_real, lambda: search(by_words))
        note("hybrid", n_real, lambda: search(hybrid))
    middle = {f"{name}_us": statistics.median(values) for name, values in found.items()}
    return Overhead(n_stages=len(_STAGES), n_requests=n_requests, n_rounds=n_rounds, **middle)


def _empty(ledger: Ledger | None, power: Power | None) -> None:
    with Meter("thread", ledger=ledger, power=power) as meter:
        for name in _STAGES:
            with meter.stage(name):
                pass
        meter.finish()


def _median_us(n: int, work: Callable[[], object], between: Callable[[], object] | None) -> float:
    """Median CPU microseconds of the calling thread, the two readings of its clock included (below one)."""
    times = []
    for _ in range(n):
        if between:
            between()
        began = time.thread_time_ns()
        work()
        times.append(time.thread_time_ns() - began)
    return statistics.median(times) / 1e3


_LOADED = "import json, sys, time, rag.types, rag.errors, rag.settings"
_METER = "import rag.meter, rag.power"
_OPEN = "from pathlib import Path; rag.power.open_power(rag.settings.EnergySettings(), Path('ragwatt-data'), service=True)"
_NAMES = "import importlib, pkgutil, rag; names = [m.name for m in pkgutil.iter_modules([f'{p}/power' for p in rag.__path__])]"
_EVERY = f"{_METER}\nfor name in names: importlib.import_module('rag.power.' + name)"
# Setup, then what is timed.
_KINDS = {
    "all": ("import json, sys, time", _METER),
    "added": (_LOADED, _METER),
    "every": (f"{_LOADED}\n{_NAMES}", _EVERY),
    "open": (f"{_LOADED}\n{_METER}", _OPEN),
}
_CHILD = """
{setup}
before = set(sys.modules)
began = time.process_time_ns()
{timed}
cpu_ns = time.process_time_ns() - began
print(json.dumps([cpu_ns / 1e6, sorted(set(sys.modules) - before)]))
"""


def measure_import(n_rounds: int) -> Import:
    """Import in new processes of every kind in turns, after one of each that is not counted.

    Args:
        n_rounds: Processes of each kind.

    Returns:
        Medians.

    Raises:
        SystemExit: If one fails.
    """
    times: dict[str, list[float]] = {name: [] for name in _KINDS}
    modules: set[str] = set()
    for n_round in range(n_rounds + 1):
        for name, (setup, timed) in _KINDS.items():
            cpu_ms, loaded = _child(_CHILD.format(setup=setup, timed=timed))
            if n_round:  # the first may have to write byte code
                times[name].append(cpu_ms)
            modules.update(loaded if name == "all" else ())
    middle = {f"{name}_ms": statistics.median(values) for name, values in times.items()}
    return Import(n_rounds=n_rounds, modules=foreign(sorted(modules)), **middle)


def foreign(modules: Sequence[str]) -> tuple[str, ...]:
    """Those that are neither ours nor of the standard library.

    Args:
        modules: Full names.

    Returns:
        In the order given.
    """
    ours = sys.stdlib_module_names | {"rag", "__main__"}
    return tuple(name for name in modules if name.partition(".")[0] not in ours)


def _child(code: str) -> tuple[float, list[str]]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAG_", "PYTHON"))}
    done = subprocess.run([sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"importing in a new process failed: {done.stderr.strip()[-400:]}")
    cpu_ms, loaded = json.loads(done.stdout)
    return float(cpu_ms), list(map(str, loaded))
