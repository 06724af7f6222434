"""A result as a short Markdown table, and into the README with it.

    python -m bench.table RESULT.json [--write] [--readme README.md]

``--write`` replaces what stands between ``<!-- bench:begin -->`` and ``<!-- bench:end -->``; everything else stays as it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bench.bars import Bar
from bench.machine import CHECKOUT
from rag.errors import InputError

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"
# Of a figure below 1 three decimals say enough; of milliseconds and megabytes three digits.
_SIGNIFICANT = 3


@dataclass(frozen=True, slots=True)
class Summary:
    """What the table tells of a result.

    Attributes:
        commit: Of the code.
        date: Of the run.
        cpu: Model of the processor.
        n_cores: Its cores.
        python: Version of the interpreter.
        factors: How many times longer than on the reference machine the model takes for a query and for 184 tokens; None when it
            was not timed.
        bars: In the order of the result.
    """

    commit: str
    date: str
    cpu: str
    n_cores: int
    python: str
    factors: tuple[float, float] | None
    bars: tuple[Bar, ...]


def read_summary(path: Path) -> Summary:
    """Read a result of `bench.retrieval`.

    Args:
        path: The JSON file.

    Returns:
        What the table needs of it.

    Raises:
        InputError: If the file cannot be read or is not such a result.
    """
    try:
        return summarise(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"result {path} cannot be read: {error.strerror}; name a file of bench/results") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a result of bench.retrieval: {error!r}; run 'make bench' to make one") from error


def summarise(result: Mapping[str, Any]) -> Summary:
    """Take what the table needs out of a result.

    Args:
        result: As written by `bench.retrieval`; a missing key is a KeyError.

    Returns:
        The summary.
    """
    machine = result["machine"]
    cost = result["measured"]["cost"]
    calibration = cost and cost["calibration"]
    names = [field.name for field in fields(Bar)]
    return Summary(
        commit=result["commit"],
        date=result["date"],
        cpu=machine["cpu"],
        n_cores=machine["n_cores"],
        python=machine["python"],
        factors=(calibration["query_factor"], calibration["document_factor"]) if calibration else None,
        bars=tuple(Bar(**{name: bar[name] for name in names}) for bar in result["bars"]),
    )


def markdown(summary: Summary) -> str:
    """The table, with a line on where it comes from.

    Args:
        summary: Of one result.

    Returns:
        Markdown that ends without a newline.
    """
    is_scaled = any(bar.scaled is not None for bar in summary.bars)
    head = ["what", "bar", "measured", *(["estimate at reference speed"] if is_scaled else []), "met"]
    lines = [_row(head), _row(["---"] * len(head))]
    for bar in summary.bars:
        scaled = [] if not is_scaled else ["" if bar.scaled is None else _figure(bar.scaled, bar.unit)]
        lines.append(
            _row([bar.what, f"{bar.side} {_figure(bar.limit, bar.unit)}", _figure(bar.figure, bar.unit), *scaled, _met(bar)])
        )
    return "\n".join([*lines, "", _origin(summary)])


def replace_between_markers(text: str, table: str) -> str:
    """Put a table between the markers.

    Args:
        text: A page with both markers, each once, in order.
        table: What will stand between them.

    Returns:
        The page with the new table.

    Raises:
        InputError: If the markers are not there as described.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(f"the page needs one line {BEGIN} and after it one line {END}; add them where the table belongs")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _met(bar: Bar) -> str:
    if bar.met:
        return "yes"
    return "**no**; by estimate yes" if bar.met_scaled else "**no**"


def _figure(value: float, unit: str) -> str:
    """Three decimals below 10, one below 100, none above; whole numbers as such."""
    if value == int(value):
        shown = f"{int(value)}"
    elif abs(value) < 10:
        shown = f"{value:.{_SIGNIFICANT}f}".rstrip("0")
    else:
        shown = f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"
    return f"{shown} {unit}".strip()


def _origin(summary: Summary) -> str:
    lines = [
        f"Commit {summary.commit}, {summary.date}, on {summary.cpu}, {summary.n_cores} cores, Python {summary.python}; "
        "CPU time is user and system, one thread."
    ]
    if summary.factors:
        query, document = summary.factors
        lines.append(
            f"This machine takes {query:.1f} times as long for the forward pass of a query, and {document:.1f} times for 184 tokens, "
            "as the one for which the bars were stated; the estimate divides by that, as if all other work scaled alike."
        )
    return " ".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, or write it into the README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("--write", action="store_true", help="replace what is between the markers of the README")
    parser.add_argument("--readme", type=Path, default=CHECKOUT / "README.md")
    options = parser.parse_args(argv)
    try:
        table = markdown(read_summary(options.result))
        if options.write:
            page = options.readme.read_text(encoding="utf-8")
            options.readme.write_text(replace_between_markers(page, table), encoding="utf-8")
        else:
            print(table)
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
