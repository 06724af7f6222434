"""The page: one HTML file that asks for nothing else, with every text of a result escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.record import Result
from eval.report import tables
from eval.report.figures import Entry, View, cautions, releases, stages
from eval.report.plots import PALETTE, Plot, inline
from eval.report.questions import Worst, worst_answers
from eval.report.tables import Table
from rag.errors import MissingExtraError

# In full for each pipeline; fewer where there are many runs, so that the page stays one that a browser opens at once.
_MAX_WORST = 20
_MAX_WORST_IN_ALL = 240
_MIN_WORST = 3
_MAX_ANSWER = 1500


@dataclass(frozen=True, slots=True)
class Case:
    """A worst answer with the table of its claims; None where it has none."""

    worst: Worst
    claims: Table | None


@dataclass(frozen=True, slots=True)
class Section:
    """What the page shows of a data set."""

    view: View
    anchor: str
    tables: tuple[Table, ...]
    plots: tuple[tuple[Plot, str], ...]
    details: tuple[Table, ...]
    worst: tuple[tuple[Entry, tuple[Case, ...]], ...]
    notes: tuple[tuple[str, str], ...]


def page(results: Sequence[Result], views: Sequence[View], plots: Sequence[Plot]) -> str:
    """Write the page.

    Args:
        results: At least one.
        views: Of these results.
        plots: Of these views.

    Returns:
        HTML; the same for the same input.

    Raises:
        MissingExtraError: If jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("a report", "eval") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cut"] = tables.shorten
    n_runs = sum(len(view.entries) for view in views)
    limit = min(_MAX_WORST, max(_MIN_WORST, _MAX_WORST_IN_ALL // max(1, n_runs)))
    return environment.get_template("page.html.j2").render(
        results=results,
        releases=releases(results),
        cautions=cautions(results),
        head=(tables.head_table(results), tables.data_table(results), tables.effort_table(results)),
        sections=[_section(n, view, plots, limit) for n, view in enumerate(views, start=1)],
        palette=PALETTE,
        max_answer=_MAX_ANSWER,
        limit=limit,
    )


def _section(n: int, view: View, plots: Sequence[Plot], limit: int) -> Section:
    return Section(
        view=view,
        anchor=f"data-{n}",
        tables=(tables.quality_table(view), tables.cost_table(view)),
        plots=tuple((plot, inline(plot)) for plot in plots if plot.data == view.data),
        details=(
            *(tables.stage_table(bars) for bars in stages(view)),
            tables.step_table(view),
            *tables.slice_tables(view),
            tables.failure_table(view),
            tables.settings_table(view),
        ),
        worst=tuple(
            (entry, tuple(Case(worst, tables.claim_table(worst) if worst.claims else None) for worst in found))
            for entry in view.entries
            for found in (worst_answers(entry.run, view.correct, limit),)
        ),
        notes=tuple((entry.name, note) for entry in view.entries for note in entry.run.notes),
    )
