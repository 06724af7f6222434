"""The tables of a report as text: what is not known says so, in words, and a proxy is called one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eval.record import DataRecord, Estimate, Result
from eval.report.figures import Entry, Stages, View, known_metric, releases
from eval.report.questions import Failure, StepRow, Worst, failures, slices, steps

NOT_MEASURED = "not measured"
_MIB = 1 << 20
# Name, what it is, and by what it is divided for the table.
_COSTS = (
    ("cpu_s", "CPU seconds per answer", 1),
    ("wall_s_p50", "wall-clock seconds, median", 1),
    ("wall_s_p95", "wall-clock seconds, 95th percentile", 1),
    ("energy_j", "joules per answer", 1),
    ("carbon_g", "grams of CO2e per answer", 1),
    ("peak_rss_bytes", "highest resident memory, MiB", _MIB),
    ("cpu_s_per_correct", "CPU seconds per correct answer", 1),
    ("energy_j_per_correct", "joules per correct answer", 1),
)
# More reasons than these are not read; the result file has all of them.
_MAX_REASONS = 20
# A claim or a piece of evidence is a sentence or two: what is longer is a fault of its own, and must not fill the page.
_MAX_TEXT = 600
_MAX_CLAIMS = 12


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says; never empty.
        small: What else there is to say; may be empty.
        is_text: Whether it is somebody's words, in any script and direction.
    """

    text: str
    small: str = ""
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        caption: What it shows.
        columns: Headings; the first is that of the row headings.
        rows: A row heading, then a cell for every other column.
        note: How to read it; may be empty.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


def number(value: float | None) -> str:
    """A number of three significant digits; ``not measured`` for what is None or not finite."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def shorten(text: str, limit: int = _MAX_TEXT) -> str:
    """Cut a text and say by how much."""
    return (
        text
        if len(text) <= limit
        else f"{text[:limit]}\N{HORIZONTAL ELLIPSIS} ({len(text) - limit:,} characters more in the result file)"
    )


def head_table(results: Sequence[Result]) -> Table:
    """What was run, with what, and where."""
    rows = (
        ("suite", [result.suite for result in results]),
        ("suite file, SHA-256", [result.suite_checksum for result in results]),
        ("seed", [str(result.seed) for result in results]),
        ("version", [result.version for result in results]),
        ("groundedness scorer", [result.scorer for result in results]),
        ("judge", [result.judge or "none" for result in results]),
        ("machine", [result.machine for result in results]),
        ("started", [result.effort.started_at for result in results]),
    )
    return _table("What was run", ("what", *_columns(results)), rows)


def effort_table(results: Sequence[Result]) -> Table:
    """What the measuring took, apart from the answers."""
    efforts = [result.effort for result in results]

    def judged(values: Sequence[float | None]) -> list[str]:
        return [number(value) if result.judge else "no judge" for value, result in zip(values, results, strict=True)]

    rows = (
        ("answers of the pipelines, CPU seconds", [number(effort.answers_cpu_s) for effort in efforts]),
        ("making the collections, CPU seconds", [number(effort.ingest_cpu_s) for effort in efforts]),
        ("harness: scoring and bookkeeping, CPU seconds", [number(effort.harness_cpu_s) for effort in efforts]),
        ("judge, CPU seconds in this process", judged([effort.judge_cpu_s for effort in efforts])),
        ("judge, tokens", judged([effort.judge_tokens for effort in efforts])),
        ("judge, joules", judged([effort.judge_energy_j for effort in efforts])),
        ("whole run, wall-clock seconds", [number(effort.wall_s) for effort in efforts]),
    )
    return _table(
        "What the measuring took",
        ("what", *_columns(results)),
        rows,
        "The costs of answers below hold none of this but its first row.",
    )


def data_table(results: Sequence[Result]) -> Table:
    """The data sets with checksums and licences."""
    columns = ("data set", "questions", "documents", "licence", "SHA-256")
    named: dict[DataRecord, list[str]] = {}
    for release, result in zip(releases(results), results, strict=True):
        for data in result.data:
            named.setdefault(data, []).append(release)
    rows = []
    for data, of in named.items():
        where = "" if len(of) == len(results) else ", ".join(of)
        texts = (f"{data.n_questions:,}", f"{data.n_documents:,}", data.licence or "unknown", data.checksum or "not recorded")
        rows.append((Cell(data.name, where), *map(Cell, texts)))
    return Table("Data sets", columns, tuple(rows))


def settings_table(view: View) -> Table:
    """What the suite set for each pipeline."""
    keys = list(dict.fromkeys(key for entry in view.entries for key in entry.run.settings))
    rows = ((key, [entry.run.settings.get(key, "default") or "empty" for entry in view.entries]) for key in keys)
    return _table("Settings that the suite gave", ("setting", *(entry.name for entry in view.entries)), rows)


def quality_table(view: View) -> Table:
    """Metrics by run, with interval and counts."""
    rows = []
    for name in view.metrics:
        known = known_metric(name)
        is_tokens = known is not None and known.unit == "tokens"
        meaning = (
            f"{known.meaning}; {'higher' if known.is_better_high else 'lower'} is better" if known else "not known to this version"
        )
        title = f"{name} (proxy)" if known and known.is_proxy else name
        cells = (_quality_cell(entry.run.quality.get(name), is_tokens=is_tokens) for entry in view.entries)
        rows.append((Cell(title, meaning), *cells))
    note = "Mean over the scored questions with its 95 % cluster bootstrap interval. No reference stands behind a proxy: it may move alone."
    return Table("Quality", ("metric", *(entry.name for entry in view.entries)), tuple(rows), note)


def _quality_cell(estimate: Estimate | None, *, is_tokens: bool = False) -> Cell:
    if estimate is None:
        return Cell(NOT_MEASURED)
    n = f"n {estimate.n:,}" + (f", {estimate.n_unscored:,} unscored" if estimate.n_unscored else "")
    if estimate.value is None or not math.isfinite(estimate.value):
        return Cell(NOT_MEASURED, n)
    digits = 1 if is_tokens else 3
    is_bounded = all(end is not None and math.isfinite(end) for end in (estimate.lo, estimate.hi))
    interval = f"{estimate.lo:.{digits}f} to {estimate.hi:.{digits}f}" if is_bounded else "no interval"
    return Cell(f"{estimate.value:.{digits}f}", f"{interval}; {n}")


def cost_table(view: View) -> Table:
    """Costs by run, with band, method and boundary."""
    rows = [(Cell(meaning), *(_cost_cell(entry, name, divisor) for entry in view.entries)) for name, meaning, divisor in _COSTS]
    rows.append((Cell("method of the joules"), *(Cell(entry.run.method or NOT_MEASURED) for entry in view.entries)))
    rows.append((Cell("what the joules cover"), *(Cell(entry.run.boundary or NOT_MEASURED) for entry in view.entries)))
    note = "The band is how far off the method may be; the interval is that of drawing questions."
    return Table("Costs", ("cost", *(entry.name for entry in view.entries)), tuple(rows), note)


def _cost_cell(entry: Entry, name: str, divisor: int) -> Cell:
    costs = entry.run.cost
    estimate = costs.get(name)
    if estimate is None or estimate.value is None or not math.isfinite(estimate.value):
        return Cell(NOT_MEASURED)
    said = []
    if name == "energy_j":
        ends = [costs[end].value if end in costs else None for end in ("energy_lo_j", "energy_hi_j")]
        said.append(f"band {number(ends[0])} to {number(ends[1])}" if None not in ends else "no band")
    if estimate.lo is not None and estimate.hi is not None:
        said.append(f"interval {number(estimate.lo / divisor)} to {number(estimate.hi / divisor)}")
    return Cell(number(estimate.value / divisor), "; ".join(said))


def stage_table(bars: Stages) -> Table:
    """The plot of stages in figures."""
    unit = "joules" if bars.unit == "J" else "CPU seconds"
    rows = [
        (Cell(entry.name), *(Cell(number(part)) for part in parts), Cell(number(math.fsum(parts))))
        for entry, parts in zip(bars.entries, bars.parts, strict=True)
    ]
    note = "Outside of stages: idle power, memory, remote models, and what is done between stages."
    return Table(f"Mean {unit} per answer by stage", ("pipeline", *bars.names, "all"), tuple(rows), note)


def slice_tables(view: View) -> tuple[Table, ...]:
    """One table a headline; none where there is but one slice."""
    if len({question.slice for entry in view.entries for question in entry.run.questions}) < 2:
        return ()
    note = "A slice of few questions says little: see its interval."
    columns = ("slice", *(entry.name for entry in view.entries))
    return tuple(
        Table(
            f"{name} by slice",
            columns,
            tuple((Cell(row.name or "unnamed"), *(_quality_cell(one) for one in row.estimates)) for row in slices(view, name)),
            note,
        )
        for name in view.headlines
    )


def step_table(view: View) -> Table:
    """What each generator of each run gave and took."""
    columns = (
        "pipeline: answers by",
        "tried",
        "answers",
        "correct",
        "cost per answer",
        "gained",
        "extra cost",
        "per answer gained",
    )
    rows = []
    for entry in view.entries:
        for row in steps(entry, view.correct):
            tried = ", ".join(f"{outcome} {n:,}" for outcome, n in row.outcomes) or "no steps recorded"
            right = f"{row.n_correct:,} of {row.n_scored:,}" if view.correct and row.n_scored else NOT_MEASURED
            cells = (tried, f"{row.n_written:,}", right, _with_unit(row.per_answer, row), *_gain(entry, row))
            rows.append((Cell(f"{entry.name}: {row.generator or 'all'}"), *map(Cell, cells)))
    note = "Gained: correct answers beyond those of the pipeline without a model on the same questions; extra cost likewise."
    return Table("What each step bought", columns, tuple(rows), f"{note} Correct: {view.correct} = 1." if view.correct else note)


def _with_unit(value: float | None, row: StepRow) -> str:
    return f"{number(value)} {row.unit}" if value is not None else NOT_MEASURED


def _gain(entry: Entry, row: StepRow) -> tuple[str, str, str]:
    if entry.is_baseline:
        return ("is the baseline",) * 3
    if row.n_gained is None:
        return ("nothing to compare",) * 3
    per_gained = "nothing gained" if row.n_gained <= 0 else _with_unit(row.per_gained, row)
    return f"{row.n_gained:+,}", _with_unit(row.extra, row), per_gained


def failure_table(view: View) -> Table:
    """Failed and unscored questions by reason."""
    rows = []
    for entry in view.entries:
        found = failures(entry.run)
        rows += [_failure_row(entry, failure) for failure in found[:_MAX_REASONS]]
        if len(found) > _MAX_REASONS:
            rows.append(
                (
                    Cell(entry.name),
                    Cell(f"{len(found) - _MAX_REASONS} more reasons"),
                    Cell("see the result file"),
                    Cell("see there"),
                )
            )
        if not found:
            rows.append((Cell(entry.name), Cell("none: every question was answered and scored"), Cell("none"), Cell("0")))
    return Table("Failed and unscored", ("pipeline", "reason", "what could not be scored", "questions"), tuple(rows))


def _failure_row(entry: Entry, failure: Failure) -> tuple[Cell, ...]:
    what = ", ".join(failure.metrics) or "the question failed"
    return Cell(entry.name), Cell(shorten(failure.reason) or "no reason recorded"), Cell(what), Cell(f"{failure.n:,}")


def claim_table(worst: Worst) -> Table:
    """The claims of an answer beside their evidence."""
    rows = []
    for text, claim in worst.claims[:_MAX_CLAIMS]:
        support = "not scored" if claim.support is None else f"support {number(claim.support)}"
        flags = "; ".join((support, *(f"flag: {flag}" for flag in claim.flags), *([claim.reason] if claim.reason else [])))
        evidence = Cell(shorten(claim.evidence) or "no evidence found", claim.doc_id, is_text=bool(claim.evidence))
        rows.append((Cell(shorten(text) or "empty", is_text=True), evidence, Cell(claim.verdict, flags)))
    n_more = len(worst.claims) - len(rows)
    return Table(
        f"Claims and evidence: question {shorten(worst.question.question_id, 80)}",
        ("claim", "best evidence", "verdict"),
        tuple(rows),
        f"{n_more} more claims in the result file" if n_more else "",
    )


def _columns(results: Sequence[Result]) -> tuple[str, ...]:
    return tuple(release or "this result" for release in releases(results))


def _table(caption: str, columns: tuple[str, ...], rows: Iterable[tuple[str, Sequence[str]]], note: str = "") -> Table:
    return Table(
        caption, columns, tuple((Cell(head), *(Cell(text or "not recorded") for text in texts)) for head, texts in rows), note
    )
