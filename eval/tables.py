"""Comparisons and reports of the gate for people and for programs: text, Markdown for a build server, JSON."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from eval.compare import Comparison, Row
from eval.gate import Against, Report, Verdict

# Of what is no terminal; most windows show as much.
_WIDTH = 100
# Left out of a table for a terminal, in this order, until it fits: first what nobody decides by.
_SPARE = ("McNemar", "MDE", "needed", "worst slice")
_COLUMNS: tuple[Against, ...] = ("bounds", "base", "anchor", "interleaved", "failures")
# More than any table takes, so that none is wrapped.
_ANY_WIDTH = 10_000
_MIB = 1 << 20


def as_json(value: object) -> str:
    """Write a comparison, or a report of the gate, as JSON.

    Args:
        value: A dataclass of this package.

    Returns:
        Keys in order, indented, with a line end.
    """
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=1).decode() + "\n"


def as_text(comparison: Comparison, width: int = 0) -> str:
    """Write a comparison as tables for a terminal.

    Args:
        comparison: The comparison.
        width: Columns; 0 takes those of the terminal, or 100 without one. McNemar, MDE, needed and the worst slice are left out, in this
            order, until a table fits; what is still wider is not cut, because a figure that wraps is unreadable.

    Returns:
        Lines without colours.
    """
    width = width or shutil.get_terminal_size((_WIDTH, 0)).columns
    tables = "\n".join(_fitted(head, lines, width) for head, lines in _tables(comparison))
    first = f"{comparison.base} against {comparison.candidate}, suite {comparison.suite}"
    return "\n".join((first, "", tables, *_end(comparison)))


def _fitted(head: Sequence[str], lines: Sequence[Sequence[str]], width: int) -> str:
    """A table without the columns that it can spare, as far as it must."""
    spare = [name for name in _SPARE if name in head]
    texts = [_drawn(head, lines, {*spare[:n]}) for n in range(len(spare) + 1)]
    return next((text for text in texts if max(map(len, text.splitlines())) <= width), texts[-1])


def _drawn(head: Sequence[str], lines: Sequence[Sequence[str]], without: set[str]) -> str:
    from rich.box import SIMPLE
    from rich.console import Console  # 75 ms of CPU, for people only
    from rich.table import Table
    from rich.text import Text

    shown = [n for n, name in enumerate(head) if name not in without]
    table = Table(*(head[n] for n in shown), box=SIMPLE, show_edge=False, padding=(0, 1, 0, 0))
    for cells in lines:
        table.add_row(*(Text(cells[n]) for n in shown))
    out = Console(file=io.StringIO(), width=_ANY_WIDTH, color_system=None)
    out.print(table)
    assert isinstance(out.file, io.StringIO), "this is a bug"
    return "\n".join(line.rstrip() for line in out.file.getvalue().splitlines())


def as_markdown(comparison: Comparison) -> str:
    """Write a comparison as Markdown.

    Args:
        comparison: The comparison.

    Returns:
        Tables and notes.
    """
    parts = [f"## Comparison of suite {comparison.suite}: {comparison.base} against {comparison.candidate}"]
    parts += [markdown_table(head, lines) for head, lines in _tables(comparison)]
    parts += [f"- {note}" for note in _end(comparison)]
    return "\n\n".join(parts) + "\n"


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Write a table of Markdown; bars and line ends in cells are made harmless."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |" for cells in rows)


def figure(value: float | None, name: str = "", *, is_signed: bool = False) -> str:
    """A figure for people: four decimals, one from 10 on, below 0.001 as 2.3e-05; a dash for none.

    Args:
        value: The figure.
        name: What it is of; where that ends in ``_bytes`` it is told in MiB.
        is_signed: Whether a plus is shown.

    Returns:
        The figure as text.
    """
    if value is None:
        return "-"
    is_bytes = name.endswith("_bytes")
    value = value / _MIB if is_bytes else value
    form = ".1f" if abs(value) >= 10 else ".1e" if 0 < abs(value) < 0.001 else ".4f"
    return f"{value:{'+' if is_signed else ''}{form}}{' MiB' if is_bytes else ''}"


def _tables(comparison: Comparison) -> list[tuple[Sequence[str], list[Sequence[str]]]]:
    head = ("data", "pipeline", "metric", "base", "candidate", "gain", "95 % interval", "p worse", "McNemar", "n", "lost / new", "MDE",
            "needed", "worst slice")  # fmt: skip
    tables: list[tuple[Sequence[str], list[Sequence[str]]]] = [(head, [_cells(row) for row in comparison.rows])]
    if comparison.costs:
        costs = [
            (row.place.data, row.place.pipeline, row.place.metric, figure(row.base, row.place.metric), figure(row.candidate, row.place.metric),
             figure(row.ratio), _span(row.lo, row.hi), f"{row.n}", ", ".join(filter(None, (row.method, row.note))))
            for row in comparison.costs
        ]  # fmt: skip
        tables.append((("data", "pipeline", "cost", "base", "candidate", "ratio", "95 % interval", "n", "note"), list(costs)))
    return tables


def _cells(row: Row) -> Sequence[str]:
    place = (row.place.data, row.place.pipeline, row.place.metric)
    unpaired = f"{row.n_lost} / {row.n_gained}"
    if row.paired is None:
        return (*place, *["-"] * 7, unpaired, "-", "-", "-")
    gain = row.paired.gain
    slice_text = f"{row.worst.name}: {figure(row.worst.gain, is_signed=True)} (n {row.worst.n})" if row.worst else "-"
    return (
        *place,
        figure(row.base),
        figure(row.candidate),
        figure(gain.value, is_signed=True),
        _span(gain.lo, gain.hi, is_signed=True),
        _chance(row.paired.p_worse),
        _chance(row.mcnemar_p),
        f"{row.paired.n}",
        unpaired,
        figure(row.paired.mde),
        "-" if row.paired.n_needed is None else f"{row.paired.n_needed}",
        slice_text,
    )


def _end(comparison: Comparison) -> list[str]:
    lost = [
        f"{row.place.metric} of {row.place.pipeline} on {row.place.data}: {row.n_lost} questions are scored in the base only: "
        + ", ".join(f"{reason} ({n})" for reason, n in row.lost.items())
        for row in comparison.rows
        if row.n_lost
    ]
    apart = [
        f"{row.place.metric} of {row.place.pipeline} on {row.place.data} is not comparable: {row.reason}"
        for row in comparison.rows
        if row.paired is None
    ]
    return [*apart, *lost, *comparison.notes]


def _span(lo: float | None, hi: float | None, *, is_signed: bool = False) -> str:
    return "-" if lo is None or hi is None else f"{figure(lo, is_signed=is_signed)} to {figure(hi, is_signed=is_signed)}"


def _chance(p: float | None) -> str:
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def check_lines(verdict: Verdict) -> list[str]:
    """A line for each check of a gate: what it was held against, how that went, and why."""
    return [f"{check.against}: {check.outcome}: {check.reason}" for check in verdict.checks]


def report_text(report: Report) -> str:
    """Write a report of the gate for a terminal.

    Args:
        report: The report.

    Returns:
        A block a gate, then errors, notes and the verdict, which is the last line.
    """
    lines = []
    for verdict in report.verdicts:
        place = verdict.place
        lines.append(f"{verdict.outcome.upper():<12}  {place.metric} of {place.pipeline} on {place.data}")
        lines += [f"{'':<12}  {line}" for line in (*check_lines(verdict), *filter(None, (verdict.waiver,)))]
    lines += [f"error: {error}" for error in report.errors]
    lines += [f"note: {note}" for note in report.notes]
    return "\n".join((*lines, _whole(report)))


def report_markdown(report: Report) -> str:
    """Write a report of the gate as Markdown: for the summary of a build.

    Args:
        report: The report.

    Returns:
        The verdict as heading, a table with a column for each thing that gates were held against, errors and notes.
    """
    columns = [against for against in _COLUMNS if any(check.against == against for v in report.verdicts for check in v.checks)]
    lines = []
    for verdict in report.verdicts:
        said = {check.against: f"{check.outcome}: {check.reason}" for check in verdict.checks}
        place = verdict.place
        outcome = f"**{verdict.outcome}**" + (f" ({verdict.waiver})" if verdict.waiver else "")
        lines.append((place.data, place.pipeline, place.metric, outcome, *(said.get(column, "-") for column in columns)))
    parts = [f"## {_whole(report)}", markdown_table(("data", "pipeline", "metric", "verdict", *columns), lines)]
    ends = (*(f"- error: {error}" for error in report.errors), *(f"- {note}" for note in report.notes))
    return "\n\n".join((*parts, *filter(None, ("\n".join(ends),)))) + "\n"


def _whole(report: Report) -> str:
    counts = Counter(verdict.outcome for verdict in report.verdicts)
    said = ", ".join(f"{counts[outcome]} {outcome}" for outcome in sorted(counts))
    return f"{report.outcome}: {report.candidate} of suite {report.suite} ({said}; exit status {report.exit_code})"
