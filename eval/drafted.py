"""Where drafts go: the data set that was taken from them, and the table in which a spreadsheet program shows them."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from eval.datasets.jsonl import QuestionLine, read_lines
from eval.datasets.lines import file_content
from eval.draft import GAP, Draft, split_answers
from rag.errors import InputError

_YES = frozenset({"y", "yes", "x", "1", "true"})
_NO = frozenset({"", "n", "no", "0", "false"})
_COLUMNS = ("accept", "question", "answers", "note", "passage", "doc_id", "id")
_NEEDED = ("accept", "question", "answers", "doc_id", "id")
# A cell that begins so is a formula to a spreadsheet program; an apostrophe makes it text. Cells that begin with apostrophes before
# such a sign get one more, so that every cell comes back as it was.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What became of drafts.

    Attributes:
        n_accepted: Questions added to the data set.
        n_skipped: Drafts that the person did not want.
        n_known: Drafts that had been decided before.
    """

    n_accepted: int
    n_skipped: int
    n_known: int = 0


def decided(out: Path) -> frozenset[str]:
    """Tell which drafts were taken or skipped before.

    Args:
        out: The data set, which may not exist yet.

    Returns:
        Their ids.

    Raises:
        InputError: If it is malformed.
    """
    skipped = _skipped(out).read_text(encoding="utf-8").split("\n") if _skipped(out).exists() else []
    return _taken(out) | frozenset(skipped)


def keep(decisions: Iterable[Draft | str], out: Path) -> Reviewed:
    """Write every decision down as soon as it is there.

    Args:
        decisions: From `eval.draft.review`: what was taken, and ids of what was skipped.
        out: The data set; its folder is made. Skipped ids go beside it, so that a second review does not ask again.

    Returns:
        How many there were.

    Raises:
        InputError: If a file cannot be written.
    """
    n_accepted = n_skipped = 0
    for decision in decisions:
        if isinstance(decision, Draft):
            _append(out, msgspec.json.encode(_line(decision)))
            n_accepted += 1
        else:
            _append(_skipped(out), decision.encode())
            n_skipped += 1
    return Reviewed(n_accepted, n_skipped)


def write_table(waiting: Iterable[Draft], path: Path) -> int:
    """Write drafts as CSV: comma-separated UTF-8 with a byte order mark, as spreadsheet programs expect it.

    Args:
        waiting: Drafts.
        path: The file, which must not exist: somebody may be at work on it.

    Returns:
        Rows.

    Raises:
        InputError: If it exists or cannot be written.
    """
    n = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for n, draft in enumerate(waiting, start=1):  # noqa: B007 - the number of the last is the count
                cells = ("", draft.question, " | ".join(draft.answers), draft.note, draft.passage, draft.doc_id, draft.id)
                writer.writerow([guarded(cell) for cell in cells])
    except FileExistsError as error:
        raise InputError(f"table {path} exists; read it with --from-csv, or give another path", code="draft") from error
    except OSError as error:
        raise InputError(f"table {path} cannot be written: {error.strerror}; give another path", code="draft") from error
    return n


def read_table(path: Path, out: Path) -> Reviewed:
    """Take the rows of a table that a person has accepted into a data set.

    Args:
        path: From `write_table`, saved by a spreadsheet program: commas, semicolons or tabs; columns in any order, others beside them.
        out: The data set. Rows that it has already stay as they are there.

    Returns:
        How many rows were accepted, not accepted, and there before.

    Raises:
        InputError: If the table is malformed, or a row is accepted that is no question yet, with its line. Nothing is written then.
    """
    rows = list(_rows(path))
    before = _taken(out)
    accepted = {draft.id: draft for _, draft in rows if draft is not None}
    new = [draft for draft in accepted.values() if draft.id not in before]
    keep(new, out)
    return Reviewed(len(new), sum(draft is None for _, draft in rows), len(accepted) - len(new))


def guarded(cell: str) -> str:
    """Make a cell that no spreadsheet program takes for a formula.

    Args:
        cell: Any text.

    Returns:
        The text, with an apostrophe in front where one is needed; `unguarded` takes it away.

    Example:
        >>> guarded("=1+1"), guarded("'tis"), unguarded(guarded("'=x"))
        ("'=1+1", "'tis", "'=x")
    """
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unguarded(cell: str) -> str:
    """See `guarded`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _rows(path: Path) -> Iterator[tuple[int, Draft | None]]:
    """Last line and draft of every row; None for one that is not accepted."""
    try:
        text = file_content(path, "give a table that 'rag eval new --csv' wrote").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason}; save it as CSV in UTF-8", code="draft") from error
    heading = text.partition("\n")[0]
    delimiter = max(",;\t", key=heading.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
    if missing := [column for column in _NEEDED if column not in (reader.fieldnames or ())]:
        raise InputError(
            f"{path}, line 1 lacks the columns {', '.join(missing)}; keep the first row as it was written", code="draft"
        )
    ids: set[str] = set()
    try:
        for row in reader:
            yield reader.line_num, _from_row({key: unguarded(row[key]) for key in _NEEDED}, f"{path}, line {reader.line_num}", ids)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num} is not CSV: {error}; save it as CSV again", code="draft") from error


def _from_row(row: dict[str, str], place: str, ids: set[str]) -> Draft | None:
    mark = row["accept"].strip().lower()
    if mark not in _YES | _NO:
        raise InputError(f"{place}: accept is {row['accept']!r}; allowed: yes, or no (or nothing)", code="draft")
    if mark in _NO:
        return None
    draft = Draft(row["id"], row["question"].strip(), split_answers(row["answers"]), row["doc_id"], "")
    if not draft.is_question:
        raise InputError(
            f"{place}: question {draft.question!r} is accepted, but no question with an answer; fill in both, without {GAP}, or clear accept",
            code="draft",
        )
    if not draft.id or not draft.doc_id or draft.id in ids:
        fault = "stands twice" if draft.id in ids else "or doc_id is empty"
        raise InputError(f"{place}: id {draft.id!r} {fault}; leave these columns as they were written", code="draft")
    ids.add(draft.id)
    return draft


def _line(draft: Draft) -> QuestionLine:
    documents = (draft.doc_id,)
    return QuestionLine(
        question=draft.question, answers=draft.answers, relevant=documents, citations=documents, id=draft.id, group=draft.doc_id
    )


def _taken(out: Path) -> frozenset[str]:
    if not out.exists():
        return frozenset()
    return frozenset(line.id for _, line in read_lines(out, file_content(out, "")) if line.id)


def _skipped(out: Path) -> Path:
    return out.with_name(f"{out.name}.skipped")


def _append(path: Path, line: bytes) -> None:
    """Add a line that is on the disk when this returns."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; give another --out", code="draft") from error
