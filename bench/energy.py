"""The meter against the truth: what is charged to whom, what metering costs, and one answer with its joules, as a JSON file by commit.

    python -m bench.energy [--quick] [--out DIR] [--only SECTION ...]

The guide in docs/ is ingested by the shipped pipeline into a temporary folder; no other data is needed. What is compared runs in turns,
and figures are medians over rounds, so that a machine whose speed moves does not favour one side; leave it alone meanwhile all the
same. --quick runs everything once and briefly: its figures mean nothing. Linux only, for its clocks of single threads.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.attribution import Kind, Pair, measure_pair
from bench.bars import Bar
from bench.conservation import Conservation, Load, measure_conservation, thread_times
from bench.corpora import COLLECTION
from bench.machine import CHECKOUT, Machine, commit, this_machine
from bench.metering import Import, Overhead, measure_import, measure_overhead
from bench.result import result_parser, today, write_result
from rag.cost import Energy, Figure
from rag.embed import Embedder, open_embedder
from rag.engine import Engine, open_engine
from rag.power import Power, open_power
from rag.settings import Settings
from rag.types import Query

SECTIONS = ("conservation", "attribution", "overhead", "import", "sample")
_FORMAT = 1
_N_CONCURRENT = (1, 4, 16)
_HEAVY_TOKENS = 200
_QUESTIONS = (
    "why is the embedder run with batch size one",
    "how is a document cut into chunks",
    "what happens to a file that cannot be read",
    "how are lexical and dense scores fused",
    "which models ship with the package",
    "what does the abstention threshold mean",
    "how many versions of a collection are kept",
    "where do the settings come from",
    "what is not modelled in a measurement",
    "how do I filter by metadata",
    "how large is the index on disk",
    "can several programs read while one writes",
)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is run.

    Attributes:
        n_rounds: Rounds of everything but imports.
        n_requests: Of a window of service.
        n_heavy: Heavy calls of a turn.
        n_light: Light calls of a turn that are not counted by heavy ones beside them; about as much CPU time.
        n_empty: Empty requests of a round.
        n_imports: New processes of each kind.
    """

    n_rounds: int = 5
    n_requests: int = 192
    n_heavy: int = 15
    n_light: int = 90
    n_empty: int = 4000
    n_imports: int = 15


QUICK = Effort(n_rounds=1, n_requests=20, n_heavy=2, n_light=4, n_empty=40, n_imports=1)


@dataclass(frozen=True, slots=True)
class Part:
    """A figure of an answer's energy; attributes as in `rag.types.Figure`, ``name`` is the attribute of `rag.types.Energy`."""

    name: str
    value: float
    lo: float
    hi: float
    unit: str
    method: str
    source: str
    boundary: str
    window_s: float | None
    year: int | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer as ``rag ask`` gives it, and its joules.

    Attributes:
        question: As asked.
        text: The answer.
        cpu_s: CPU seconds.
        parts: All figures of its energy.
        n_outside: Of these, such whose value lies outside their band, or whose band is negative.
        assumed: Inputs that nobody told.
        not_modelled: Quantities that no figure covers.
        notes: Sources that were passed over, and why.
    """

    question: str
    text: str
    cpu_s: float
    parts: tuple[Part, ...]
    n_outside: int
    assumed: tuple[str, ...]
    not_modelled: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run measured; what it left out is None or empty."""

    conservation: Sequence[Conservation] = ()
    attribution: Sequence[Pair] = ()
    overhead: Overhead | None = None
    imports: Import | None = None
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A whole result, as written.

    Attributes:
        format: Of this file.
        commit: Of the code.
        date: Of the run, UTC.
        machine: Where it ran.
        effort: How much was run.
        bars: Promises and figures.
        measured: All figures.
    """

    format: int
    commit: str
    date: str
    machine: Machine
    effort: Effort
    bars: tuple[Bar, ...]
    measured: Measured


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the bars and write the result."""
    options = _options(argv)
    thread_times()  # refuses other systems before anything is done
    effort = QUICK if options.quick else Effort()
    commit_name, machine = commit(), this_machine()
    with TemporaryDirectory() as folder:
        measured = measure(options.docs, Path(folder), effort, options.only or SECTIONS)
    result = Result(_FORMAT, commit_name, today(), machine, effort, bars_of(measured), measured)
    for bar in result.bars:
        print(f"{'ok  ' if bar.met else 'MISS'} {bar.what}: {bar.figure:.4g} {bar.unit}, bar {bar.side} {bar.limit:g}")
    write_result(result, options.out, "energy", "quick" if options.quick else "")


def measure(docs: Path, work: Path, effort: Effort, sections: Sequence[str] = SECTIONS) -> Measured:
    """Ingest documents and run the wanted sections.

    Args:
        docs: Folder of the documents.
        work: Empty folder for the collection.
        effort: How much is run.
        sections: Of `SECTIONS`.

    Returns:
        What was measured.
    """

    def wanted(section: str) -> bool:
        if section in sections:
            print(section, flush=True)
        return section in sections

    settings = replace(Settings(), data_dir=work)
    embedder = open_embedder(settings.embedder, work / "models")
    _ingest(docs, work)
    power = open_power(settings.energy, work, service=True)
    with open_engine(settings, COLLECTION, power) as engine:
        engine.ask(Query(_QUESTIONS[0]))  # loads the model and whatever else the first question does
        return Measured(
            conservation=_conservation(settings, engine, power, effort) if wanted("conservation") else (),
            attribution=_attribution(settings, embedder, docs, effort) if wanted("attribution") else (),
            overhead=_overhead(engine, power, effort) if wanted("overhead") else None,
            imports=measure_import(effort.n_imports) if wanted("import") else None,
            sample=_sample(engine) if wanted("sample") else None,
        )


def _ingest(docs: Path, work: Path) -> None:
    """Ingest in a process of its own, as before a server: threads that building an index leaves behind change how others wait.

    Raises:
        SystemExit: If it fails.
    """
    command = [sys.executable, "-P", "-m", "rag", "ingest", str(docs), "--data-dir", str(work), "--collection", COLLECTION]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAG_", "PYTHON"))}
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"rag ingest failed: {done.stderr.strip()[-400:]}")


def _conservation(settings: Settings, engine: Engine, power: Power, effort: Effort) -> tuple[Conservation, ...]:
    texts = [_QUESTIONS[i % len(_QUESTIONS)] for i in range(effort.n_requests)]
    with open_engine(_with_threads(settings, 2), COLLECTION, power) as pooled:
        before = thread_times().keys()
        pooled.search(Query(_QUESTIONS[0]))  # starts its native threads, and no others: the other engine has been asked before
        lane = frozenset(thread_times().keys() - before)
        loads = [*(Load(engine, n) for n in _N_CONCURRENT), Load(pooled, 4, threads=2, lane=lane)]
        return measure_conservation(loads, texts, effort.n_rounds, power)


def _attribution(settings: Settings, embedder: Embedder, docs: Path, effort: Effort) -> tuple[Pair, ...]:
    text = " ".join(" ".join(path.read_text(encoding="utf-8") for path in sorted(docs.glob("*.md"))).split())
    spans = embedder.token_spans(text)
    long = text[: spans[min(_HEAVY_TOKENS, len(spans)) - 1][1]]
    heavy = Kind(long, embedder.count_tokens(long), effort.n_heavy)
    light = Kind(_QUESTIONS[0], embedder.count_tokens(_QUESTIONS[0]), effort.n_light)
    return tuple(measure_pair(settings.data_dir, threads, heavy, light, effort.n_rounds) for threads in (1, 2))


def _overhead(engine: Engine, power: Power, effort: Effort) -> Overhead:
    return measure_overhead(engine, power, _QUESTIONS[0], effort.n_empty, effort.n_rounds)


def _with_threads(settings: Settings, threads: int) -> Settings:
    return replace(settings, embedder=replace(settings.embedder, threads=threads))


def _sample(engine: Engine) -> Sample:
    """Ask once.

    Raises:
        SystemExit: If the answer has no joules.
    """
    answer = engine.ask(Query(_QUESTIONS[0]))
    energy = answer.measurement.energy
    if energy is None:
        raise SystemExit("an answer of an engine with a power model has no joules: Meter or Engine has lost it")
    parts = parts_of(energy)
    return Sample(
        question=_QUESTIONS[0],
        text=answer.text,
        cpu_s=answer.measurement.cpu_s,
        parts=parts,
        n_outside=sum(not 0 <= part.lo <= part.value <= part.hi for part in parts),
        assumed=energy.assumed,
        not_modelled=energy.not_modelled,
        notes=energy.notes,
    )


def parts_of(energy: Energy) -> tuple[Part, ...]:
    """All figures that there are, in the order of the attributes."""
    found = energy._asdict().items()
    return tuple(
        Part(name, f.value, f.lo, f.hi, f.unit, f.method, f.source, f.boundary, f.window_s, f.year)
        for name, f in found
        if isinstance(f, Figure)
    )


def bars_of(measured: Measured) -> tuple[Bar, ...]:
    """Hold a result against every bar that it has a figure for.

    Args:
        measured: The result.

    Returns:
        One entry a bar, in a fixed order.
    """
    return (
        *_conservation_bars(measured.conservation),
        *_attribution_bars(measured.attribution),
        *(_overhead_bars(measured.overhead) if measured.overhead else ()),
        *(_import_bars(measured.imports) if measured.imports else ()),
        *(_sample_bars(measured.sample) if measured.sample else ()),
    )


def _at_most(what: str, limit: float, figure: float, unit: str = "") -> Bar:
    return Bar(what, "<=", limit, figure, unit, figure <= limit)


def _conservation_bars(found: Sequence[Conservation]) -> Iterator[Bar]:
    for one in found:
        where = f"{one.n_concurrent} requests at once" + (f", {one.threads} threads a text" if one.threads > 1 else "")
        yield _at_most(f"CPU seconds charged twice or lost, {where}, worst round", 0.02, abs(one.worst_error))
    if found:
        others = max(one.others_share for one in found)
        yield _at_most("CPU seconds of threads that work for no known request, most of all kinds", 0.02, others)


def _attribution_bars(pairs: Sequence[Pair]) -> Iterator[Bar]:
    for pair in pairs:
        for name, charged in (("heavy", pair.heavy), ("light", pair.light)):
            what = f"{name} request beside the other, error against itself alone, {pair.threads} threads a text"
            yield _at_most(what, 0.1, abs(charged.error))


def _overhead_bars(found: Overhead) -> Iterator[Bar]:
    yield _at_most(f"metering a request of {found.n_stages} stages, CPU, median", 50, found.full_us, "us")


def _import_bars(found: Import) -> Iterator[Bar]:
    yield _at_most("import of meter and power on top of the settings, CPU", 5, found.added_ms, "ms")
    yield _at_most("modules of others that the import loads", 0, float(len(found.modules)))


def _sample_bars(found: Sample) -> Iterator[Bar]:
    yield _at_most("figures of an answer outside their band", 0, float(found.n_outside))


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = result_parser(__doc__, has_data=False)
    parser.add_argument("--docs", type=Path, default=CHECKOUT / "docs", help="folder of Markdown files")
    parser.add_argument("--only", nargs="+", choices=SECTIONS)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(argv)
    if not any(options.docs.glob("*.md")):
        parser.error(f"no Markdown files in {options.docs}; give a folder that has some with --docs")
    return options


if __name__ == "__main__":
    main()
