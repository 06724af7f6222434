"""`rag ingest`: arguments in, one pipeline run with progress, the report out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ingest.check import check_request
from ingest.pipeline import IngestReport, IngestRequest, ingest
from ingest.progress import open_progress
from rag.console import line, show_cost
from rag.cost import Figure
from rag.embed import Embedder, open_embedder
from rag.errors import InputError
from rag.meter import Meter
from rag.power import open_power
from rag.power.defer import Deferred, add_defer_options, parse_deferral, saved_carbon, wait
from rag.power.figure import said
from rag.settings import Settings
from rag.usage import Parser
from rag.wire import Json, figure_json, measurement_json

_PARTLY_FAILED = 3
_RESERVED = frozenset({"doc_id", "kind"})
# Failures beyond these are counted; --json has them all.
_MAX_SHOWN_FAILURES = 20


def main(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag ingest`.

    Args:
        argv: Arguments behind the command.
        settings: Defaults for what they leave open.
        as_json: Print the report as JSON; progress goes to standard error all the same.

    Returns:
        0 when everything was read, 3 when something could not be.
    """
    options = _parser(settings).parse_args(argv)
    request = IngestRequest(
        paths=tuple(options.paths),
        collection=options.collection,
        include=tuple(options.include),
        exclude=tuple(options.exclude),
        prefix=options.prefix,
        metadata=_metadata(options.meta),
    )
    models_dir = settings.data_dir / "models"
    deferral = parse_deferral(options, time.time())
    embedder: Embedder | None = None
    deferred: Deferred | None = None
    if deferral is not None:
        # Who waits for hours and comes back to a misspelt path has lost the clean hours.
        embedder = open_embedder(settings.embedder, models_dir)
        check_request(request, settings, embedder)
        deferred = wait(deferral, time.time, time.sleep, _tell)
    meter = Meter(power=open_power(settings.energy, settings.data_dir, sci_unit="g/run"), from_process_start=True)
    if embedder is None:
        embedder = open_embedder(settings.embedder, models_dir)
    progress = open_progress()
    try:
        report = ingest(request, settings, embedder, progress, meter)
    finally:
        progress.close()
    if as_json:
        sys.stdout.write(json.dumps(_report_json(report, deferred), ensure_ascii=False) + "\n")
    else:
        _show(report)
        _show_saving(report, deferred)
    return _PARTLY_FAILED if report.failed else 0


def _report_json(report: IngestReport, deferred: Deferred | None) -> Json:
    """The report; ``deferred`` is null when no deferral was asked for."""
    shown = asdict(report) | {"measurement": measurement_json(report.measurement), "deferred": None}
    if deferred is not None:
        saved = _saved(report, deferred)
        shown["deferred"] = asdict(deferred) | {"saved_g": figure_json(saved) if saved else None}
    return shown


def _saved(report: IngestReport, deferred: Deferred) -> Figure | None:
    energy = report.measurement.energy
    return saved_carbon(energy.total, deferred) if energy else None


def _show_saving(report: IngestReport, deferred: Deferred | None) -> None:
    if deferred is not None:
        saved = _saved(report, deferred)
        counted = f"; saved against a start at once, by the forecast: {said(saved)} CO2e" if saved and saved.value else ""
        line(f"started {deferred.started_at} after {deferred.waited_s:.0f} s of waiting: {deferred.reason}{counted}")


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


def _parser(settings: Settings) -> Parser:
    parser = Parser(
        prog="rag ingest",
        description="Bring a collection in step with folders and files: new and changed ones are read, those that are gone are removed, "
        "unchanged ones cost nothing. Reads text, Markdown, HTML, CSV, JSONL, EML and source code.",
        epilog="A file .ragignore in a folder leaves files out, in the manner of .gitignore. "
        "Every command also takes --data-dir DIR, --config FILE and --json.",
        allow_abbrev=False,
    )
    parser.add_argument("paths", nargs="+", type=_path, metavar="PATH", help="folders and files")
    parser.add_argument("--collection", default=settings.collection, metavar="C", help="(default: %(default)s)")
    parser.add_argument(
        "--include", action="append", default=[], metavar="GLOB", help="take only matching files; may be given more than once"
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="leave matching files out; may be given more than once"
    )
    parser.add_argument("--meta", action="append", default=[], metavar="KEY=VALUE", help="metadata for every document of this run")
    parser.add_argument("--prefix", default="", metavar="NAME", help="put NAME/ before every document id, to keep folders apart")
    add_defer_options(parser)
    return parser


def _path(text: str) -> Path:
    if not text:  # what is left of an unset shell variable; Path("") would be the working directory
        raise InputError("PATH is ''; give the path of a file or folder", code="usage")
    return Path(text)


def _metadata(given: Sequence[str]) -> dict[str, str]:
    metadata = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise InputError(f"--meta {item!r} is not KEY=VALUE; for example --meta team=support", code="meta")
        if key in _RESERVED:
            raise InputError(f"--meta {item!r} names {key!r}, which every document has already; use another key", code="meta")
        metadata[key] = value
    return metadata


def _show(report: IngestReport) -> None:
    for failure in report.failed[:_MAX_SHOWN_FAILURES]:
        line(f"not read: {failure.path}: {failure.code}: {failure.message}")
    if len(report.failed) > _MAX_SHOWN_FAILURES:
        line(f"not read: {len(report.failed) - _MAX_SHOWN_FAILURES} more; --json lists them")
    done = f"version {report.version} published" if report.published else f"nothing changed, version {report.version} stays"
    line(
        f"{report.collection}: {done}; documents: {report.n_added} added, {report.n_updated} updated, {report.n_unchanged} unchanged, "
        f"{report.n_removed} removed, {len(report.failed)} failed; {report.n_chunks} chunks "
        f"({report.n_duplicates} duplicates collapsed), {report.n_embedded} embedded"
    )
    show_cost(report.measurement)
