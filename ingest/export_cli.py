"""`rag export`: a collection to a file or to standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, cast

from ingest.export import ExportFormat, ExportReport, export, replacing
from ingest.progress import open_progress
from rag.console import line, show_cost
from rag.errors import InputError
from rag.meter import Meter
from rag.power import open_power
from rag.settings import Settings
from rag.usage import Parser
from rag.wire import measurement_json


def main(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag export`.

    Args:
        argv: Arguments behind the command.
        settings: Defaults for what they leave open.
        as_json: Print the summary as JSON. It goes to standard output, or to standard error where the documents go there.

    Returns:
        0 when everything was written.
    """
    options = _parser(settings).parse_args(argv)
    path = None if options.out in (None, "-") else Path(options.out)
    form = _format(options.format, path)
    meter = Meter(power=open_power(settings.energy, settings.data_dir, sci_unit="g/run"), from_process_start=True)
    progress = open_progress()
    try:
        with meter.stage("export"), _sink(path, force=options.force) as sink:
            report = export(settings.data_dir, options.collection, sink, form, progress)
            sink.flush()
    finally:
        progress.close()
    with redirect_stdout(sys.stderr) if path is None else nullcontext():
        _show(report, path, meter, as_json=as_json)
    return 0


def _sink(path: Path | None, *, force: bool) -> AbstractContextManager[BinaryIO]:
    return nullcontext(cast("BinaryIO", sys.stdout.buffer)) if path is None else replacing(path, force=force)


def _parser(settings: Settings) -> Parser:
    parser = Parser(
        prog="rag export",
        description="Write every document of a collection, whole and in order of id, as JSONL or Parquet; 'rag ingest FILE' brings them "
        "back.",
        epilog="Every command also takes --data-dir DIR, --config FILE and --json.",
        allow_abbrev=False,
    )
    parser.add_argument("--collection", default=settings.collection, metavar="C", help="(default: %(default)s)")
    parser.add_argument("--format", choices=("jsonl", "parquet"), help="(default: parquet for a FILE of that name, else jsonl)")
    parser.add_argument(
        "--out", metavar="FILE", help="where to; .gz compresses JSONL; - is standard output (default: standard output)"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    return parser


def _format(wanted: ExportFormat | None, path: Path | None) -> ExportFormat:
    """The format that option and name agree on: `rag ingest` goes by the name."""
    if path is not None and not path.name:
        raise InputError("--out is ''; name a file, or - for standard output", code="usage")
    named = path is not None and path.name.lower().endswith(".parquet")
    form = wanted or ("parquet" if named else "jsonl")
    if form == "parquet" and not named:
        raise InputError(
            f"--format parquet with --out {'-' if path is None else path}; name a file that ends in .parquet", code="usage"
        )
    if form == "jsonl" and named:
        raise InputError(f"--format jsonl with --out {path}; name a file that ends in .jsonl or .jsonl.gz", code="usage")
    return form


def _show(report: ExportReport, path: Path | None, meter: Meter, *, as_json: bool) -> None:
    measurement = meter.finish()
    out = None if path is None else str(path)
    if as_json:
        n_bytes = None if path is None else path.stat().st_size
        shown = asdict(report) | {"out": out, "n_bytes": n_bytes, "measurement": measurement_json(measurement)}
        sys.stdout.write(json.dumps(shown, ensure_ascii=False) + "\n")
        return
    line(
        f"{report.collection}: version {report.version} exported to {out or 'standard output'}: "
        f"{report.n_documents} documents, {report.n_chunks} chunks"
    )
    show_cost(measurement)
