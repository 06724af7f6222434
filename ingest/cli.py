"""`rag ingest`: arguments in, one pipeline run with progress, the report out."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ingest.check import check_request
from ingest.pipeline import IngestReport, IngestRequest, ingest
from ingest.progress import open_progress
from ingest.read import Failure
from rag.console import line, show_cost
from rag.cost import Figure
from rag.embed import Embedder, open_embedder
from rag.errors import InputError, RagError
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

    Raises:
        InputError: If options contradict each other or a value is not allowed.
    """
    options = _parser(settings).parse_args(argv)
    deferral = parse_deferral(options, time.time())
    asked = [name for name in ("watch", "dry_run", "defer_until") if getattr(options, name)]
    if len(asked) > 1:
        first, second = (f"--{name.replace('_', '-')}" for name in asked[:2])
        raise InputError(f"{first} and {second} contradict each other; give one of them", code="usage")
    request = _request(options)
    if options.dry_run:
        from ingest.dry_run import dry_run

        return dry_run(request, settings, as_json)
    if options.watch:
        return _watch(request, settings, as_json)
    embedder: Embedder | None = None
    deferred: Deferred | None = None
    if deferral is not None:
        # Who waits for hours and comes back to a misspelt path has lost the clean hours.
        embedder = open_embedder(settings.embedder, settings.data_dir / "models")
        check_request(request, settings, embedder)
        deferred = wait(deferral, time.time, time.sleep, _tell)
    meter = Meter(power=open_power(settings.energy, settings.data_dir, sci_unit="g/run"), from_process_start=True)
    if embedder is None:
        embedder = open_embedder(settings.embedder, settings.data_dir / "models")
    report = _ingested(request, settings, embedder, meter)
    if as_json:
        _write(_report_json(report, deferred))
    else:
        _show(report)
        _show_saving(report, deferred)
    return _PARTLY_FAILED if report.failed else 0


def _watch(request: IngestRequest, settings: Settings, as_json: bool) -> int:
    """Ingest whenever something changed, until a signal asks for an end."""
    from ingest.watch import check_watch, keep_in_step, stopped_by_signals

    check_watch(request)
    power = open_power(settings.energy, settings.data_dir, sci_unit="g/run")
    embedder = open_embedder(settings.embedder, settings.data_dir / "models")
    told: set[Failure] = set()

    def run() -> None:
        report = _ingested(request, settings, embedder, Meter(power=power))
        if as_json:
            _write(_report_json(report, None))
        else:
            _show_failures([failure for failure in report.failed if failure not in told])
            energy = report.measurement.energy
            line(_summary(report) + (f"; {said(energy.total)}" if energy else ""))
        told.clear()
        told.update(report.failed)
        sys.stdout.flush()

    def tell(error: RagError) -> None:
        if as_json:
            _write({"error": {"code": error.code, "message": str(error)}})
            sys.stdout.flush()
        else:
            _tell(f"not ingested: {error}")

    with stopped_by_signals() as stop:
        _tell(f"watching {', '.join(map(str, request.paths))}; Ctrl-C ends it")
        keep_in_step(request, settings.data_dir, run, tell, stop)
    return 0


def _ingested(request: IngestRequest, settings: Settings, embedder: Embedder, meter: Meter) -> IngestReport:
    progress = open_progress()
    try:
        return ingest(request, settings, embedder, progress, meter)
    finally:
        progress.close()


def _write(value: Json) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


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
        "unchanged ones cost nothing. Reads text, Markdown, HTML, PDF, Office documents, tables, JSONL, mail, notebooks, archives and "
        "source code; addresses are fetched if web.enabled is set.",
        epilog="A file .ragignore in a folder leaves files out, in the manner of .gitignore. On file systems that tell no changes, such as "
        "those of a network, --watch needs WATCHFILES_FORCE_POLLING=true. "
        "Every command also takes --data-dir DIR, --config FILE and --json.",
        allow_abbrev=False,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="folders, files and addresses")
    parser.add_argument("--collection", default=settings.collection, metavar="C", help="(default: %(default)s)")
    parser.add_argument(
        "--include", action="append", default=[], metavar="GLOB", help="take only matching files; may be given more than once"
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="leave matching files out; may be given more than once"
    )
    parser.add_argument("--meta", action="append", default=[], metavar="KEY=VALUE", help="metadata for every document of this run")
    parser.add_argument("--prefix", default="", metavar="NAME", help="put NAME/ before every document id, to keep folders apart")
    parser.add_argument("--watch", action="store_true", help="ingest, then again whenever something in the folders changes")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would happen and estimate what it would take; write nothing"
    )
    add_defer_options(parser)
    return parser


def _request(options: argparse.Namespace) -> IngestRequest:
    if "" in options.paths:  # what is left of an unset shell variable; Path("") would be the working directory
        raise InputError("PATH is ''; give the path of a file or folder", code="usage")
    # A path that looks like an address can be written as ./https:/...
    urls = [text for text in options.paths if "://" in text and _is_address(text)]
    return IngestRequest(
        paths=tuple(Path(text) for text in options.paths if text not in urls),
        collection=options.collection,
        include=tuple(options.include),
        exclude=tuple(options.exclude),
        prefix=options.prefix,
        metadata=_metadata(options.meta),
        urls=tuple(urls),
    )


def _is_address(text: str) -> bool:
    from ingest.fetch import is_address  # only where something looks like one

    return is_address(text)


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
    _show_failures(report.failed)
    line(_summary(report))
    show_cost(report.measurement)


def _show_failures(failed: Sequence[Failure]) -> None:
    for failure in failed[:_MAX_SHOWN_FAILURES]:
        line(f"not read: {failure.path}: {failure.code}: {failure.message}")
    if len(failed) > _MAX_SHOWN_FAILURES:
        line(f"not read: {len(failed) - _MAX_SHOWN_FAILURES} more; --json lists them")


def _summary(report: IngestReport) -> str:
    done = f"version {report.version} published" if report.published else f"nothing changed, version {report.version} stays"
    return (
        f"{report.collection}: {done}; documents: {report.n_added} added, {report.n_updated} updated, {report.n_unchanged} unchanged, "
        f"{report.n_removed} removed, {len(report.failed)} failed; {report.n_chunks} chunks "
        f"({report.n_duplicates} duplicates collapsed), {report.n_embedded} embedded"
    )
