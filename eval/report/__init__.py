"""The report of a run or of several releases side by side: one HTML page, and its plots as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eval.record import Result
from eval.report.figures import views
from eval.report.page import page
from eval.report.plots import draw
from rag.errors import InputError


def write_report(results: Sequence[Result], out: Path, plots: Path | None = None) -> None:
    """Write the report; the same results give the same bytes.

    Args:
        results: At least one; several are shown side by side in this order.
        out: HTML file; its folder is made, and what was there is replaced in one step.
        plots: Folder for the plots as SVG and PNG; None writes none.

    Raises:
        InputError: If there is no result, or a file cannot be written.
        MissingExtraError: If the extra [eval] is not installed.
    """
    if not results:
        raise InputError("a report of no result was asked for; give at least one result of 'rag eval run'", code="report")
    of_data = views(results)
    drawn = draw(of_data, with_png=plots is not None)
    # A name in a result file may hold half a surrogate pair, which no file can: it becomes a question mark.
    _write(out, page(results, of_data, drawn).encode("utf-8", "replace"))
    if plots is not None:
        for plot in drawn:
            _write(plots / f"{plot.name}.svg", plot.svg.encode("utf-8"))
            _write(plots / f"{plot.name}.png", plot.png)


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        raise InputError(f"report {path} cannot be written: {error.strerror}; give another path", code="report") from error
