"""`rag serve` under load on loopback: speed, CPU and joules a request, memory, streams, cold start, and what an overload leaves of it.

    python -m bench.service [--quick] [--data DIR] [--out DIR] [--work DIR] [--only SECTION ...]

The service is a process of its own on SciFact, as `rag serve` starts it; the load comes from this process and shares the cores with it.
Bodies are distinct, because identical requests in flight are one piece of work. What is compared runs in turns: the peak that an
overload is held against is measured right before and after it. Leave the machine alone meanwhile: wall-clock figures and goodput mean
nothing beside other work. Linux only, for the CPU time and memory of another process. --quick runs everything once and briefly.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import strain
from bench.bars import Bar, Side
from bench.corpora import COLLECTION, Corpus, open_corpus
from bench.machine import Machine, commit, this_machine
from bench.result import result_parser, today, write_result
from bench.serving import Bodies, serving
from bench.strain import Cold, Effort, Level, Overhead, Overload, Stream
from rag.engine import open_engine

SECTIONS = ("traffic", "overhead", "stream", "overload", "cold")
_FORMAT = 1
_FACTORS = (1.0, 2.0, 10.0)
_PATHS = ("/v1/search", "/v1/answer")
# Everything once and briefly.
QUICK = Effort(n_requests=16, n_turn=4, n_turns=1, n_streams=4, overload_s=3.0, n_cold=1)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run measured; what it left out is None or empty."""

    traffic: Sequence[Level] = ()
    loaded_mb: float | None = None
    overhead: Sequence[Overhead] = ()
    stream: Stream | None = None
    overload: Sequence[Overload] = ()
    cold: Cold | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A whole result, as written."""

    format: int
    commit: str
    date: str
    machine: Machine
    effort: Effort
    bars: tuple[Bar, ...]
    measured: Measured


def measure(corpus: Corpus, effort: Effort, sections: Sequence[str] = SECTIONS) -> Measured:
    """Run the wanted sections, each against a fresh service.

    Args:
        corpus: What is served.
        effort: How much is run.
        sections: Of `SECTIONS`.

    Returns:
        What was measured.
    """
    bodies = Bodies([query.text for query in corpus.dataset.queries])
    data_dir = corpus.settings.data_dir
    traffic: list[Level] = []
    overhead: list[Overhead] = []
    overload: list[Overload] = []
    loaded_mb = stream = cold = None
    with serving(data_dir) as server:
        for path in _PATHS:
            server.closed(bodies.take(server.address, path, max(8, effort.n_turn)), 2)  # loads the models and fills the caches
        if "traffic" in sections:
            for path, n in itertools.product(_PATHS, strain.CONNECTIONS):
                traffic.append(strain.level(server, bodies, path, n, effort.n_requests))
            loaded_mb = server.rss_mb
        if "stream" in sections:
            stream = strain.stream(server, bodies, effort.n_streams)
        if "overhead" in sections:
            with open_engine(corpus.settings, COLLECTION) as engine:
                overhead = [strain.overhead(server, engine, bodies, path, effort) for path in _PATHS]
        if "overload" in sections:
            overload = [strain.overload(server, bodies, factor, effort) for factor in _FACTORS]
    if "cold" in sections:
        with serving(data_dir, idle_unload_s="1", poll_s="0.2") as server:
            cold = strain.cold(server, bodies, effort.n_cold)
    return Measured(traffic, loaded_mb, overhead, stream, overload, cold)


def bars_of(measured: Measured) -> Iterator[Bar]:
    """Hold a result against every bar that it has a figure for."""

    def bar(what: str, side: Side, limit: float, figure: float, unit: str = "") -> Bar:
        return Bar(what, side, limit, figure, unit, figure >= limit if side == ">=" else figure <= limit)

    if measured.loaded_mb:
        yield bar("memory with SciFact loaded", "<=", 200, measured.loaded_mb, "MB")
    for one in measured.overhead:
        yield bar(f"CPU of the service over the engine, {one.path}", "<=", 3.0, one.overhead_ms, "ms")
    if measured.stream:
        yield bar("first streamed byte after retrieval, p95", "<=", 50, measured.stream.after_retrieval_p95_ms, "ms")
    for found in measured.overload:
        where = f"at {found.factor:g} times the capacity"
        if found.factor > 1:
            yield bar(f"goodput {where}, share of peak", ">=", 0.9, found.share)
        if found.refused.n:
            yield bar(f"refusal {where}, p50", "<=", 10, found.refused.p50_ms, "ms")
        yield bar(f"probes that failed {where}", "<=", 0, found.n_bad_probes)
        yield bar(f"refusals without Retry-After and broken requests {where}", "<=", 0, found.n_without_retry + found.n_failed)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the bars and write the result."""
    options = _options(argv)
    effort = QUICK if options.quick else Effort()
    commit_name, machine = commit(), this_machine()
    with ExitStack() as held:
        work = options.work or Path(held.enter_context(TemporaryDirectory()))
        corpus = open_corpus(options.data / "scifact", work)
        held.callback(corpus.store.close)
        measured = measure(corpus, effort, options.only or SECTIONS)
    result = Result(_FORMAT, commit_name, today(), machine, effort, tuple(bars_of(measured)), measured)
    for one in result.bars:
        print(f"{'ok  ' if one.met else 'MISS'} {one.what}: {one.figure:.4g} {one.unit}, bar {one.side} {one.limit:g}")
    write_result(result, options.out, "service", "quick" if options.quick else "")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = result_parser(__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--only", nargs="+", choices=SECTIONS)
    options = parser.parse_args(argv)
    if not (options.data / "scifact").is_dir():
        parser.error(f"no folder 'scifact' in {options.data}; set --data or RAGWATT_TEST_DATA to a folder of BEIR data sets")
    return options


if __name__ == "__main__":
    main()
