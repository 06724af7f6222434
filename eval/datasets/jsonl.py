"""Questions alone, one JSON object a line, for documents or a collection that somebody has anyway."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import msgspec

from eval.datasets import Dataset, EvalQuery, Probe, ProbeKind, relevant_documents
from eval.datasets.kind import question_kind
from eval.datasets.lines import checksum, file_content, malformed, placed_lines

_Text = Annotated[str, msgspec.Meta(pattern=r"\S")]
_Grade = Annotated[int, msgspec.Meta(ge=0)]
# Enough that no two of a billion questions meet by chance, and short enough to read.
_N_ID_CHARS = 16


class ProbeLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See `eval.datasets.Probe`."""

    kind: ProbeKind
    markers: tuple[_Text, ...] = ()


class QuestionLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line of the file.

    Attributes:
        question: As asked.
        answers: Any of which is right.
        relevant: Ids of the documents that answer it, or grade by id.
        answerable: Whether the documents answer it; left out, an answer or a relevant document means that they do.
        citations: Ids of the documents that an answer should cite.
        id: Unique; left out, made of the question.
        group: Unit of independence; left out, the id.
        slice: For tables; left out, the kind of question.
        probe: If it is an attack.
    """

    question: _Text
    answers: tuple[_Text, ...] = ()
    relevant: tuple[_Text, ...] | dict[_Text, _Grade] = ()
    answerable: bool | None = None
    citations: tuple[_Text, ...] = ()
    id: _Text | None = None
    group: _Text | None = None
    slice: _Text | None = None
    probe: ProbeLine | None = None


def read_jsonl(path: Path) -> Dataset:
    """Read questions.

    Args:
        path: The file, ``.jsonl`` or ``.jsonl.gz``.

    Returns:
        A data set without documents; whether its document ids are those of the collection is known only when that is asked.

    Raises:
        InputError: If the file is missing or empty, a line is malformed, has an unknown key or contradicts itself, or an id is repeated.
    """
    content = file_content(path, "give a file of one JSON object a line (.jsonl or .jsonl.gz)")
    queries: dict[str, EvalQuery] = {}
    qrels: dict[str, Mapping[str, int]] = {}
    for place, line in read_lines(path, content):
        query, grades = _query(line)
        if query.query_id in queries:
            what = f"id {line.id!r}" if line.id else "this question, without an id,"
            raise malformed(f"{place}: {what} stands twice; give every line an id of its own")
        queries[query.query_id] = query
        if grades:
            qrels[query.query_id] = MappingProxyType(grades)
    if not queries:
        raise malformed(f"{path} has no questions; expected one JSON object with the key question a line")
    return Dataset(path.name.partition(".")[0], (), tuple(queries.values()), MappingProxyType(qrels), checksum([content]))


def read_lines(path: Path, content: bytes) -> Iterator[tuple[str, QuestionLine]]:
    """Check the lines of a file.

    Args:
        path: The file, for messages.
        content: Its bytes.

    Yields:
        Place (``file, line n``) and value of every line that is not blank.

    Raises:
        InputError: With file, line and key.
    """
    for place, text in placed_lines(path, content):
        try:
            line = msgspec.json.decode(text, type=QuestionLine)
        except msgspec.ValidationError as error:
            message, _, key = str(error).partition(" - at ")
            shown = f"key {key.strip('`$.')}: {message}" if key else message
            raise malformed(f"{place}: {shown}; see docs/eval-data.md for the keys") from error
        except (msgspec.DecodeError, UnicodeError) as error:
            raise malformed(f"{place} is not valid JSON: {error}; correct or remove it") from error
        for fault in _faults(line):
            raise malformed(f"{place}: {fault}")
        yield place, line


def _faults(line: QuestionLine) -> Iterator[str]:
    if line.answers and line.answerable is False:
        yield "key answerable is false, but there are answers; correct one of them"
    if len(set(line.relevant)) != len(line.relevant):
        yield "key relevant names a document twice; name it once"
    if line.probe and (line.probe.kind == "harm") == bool(line.probe.markers):
        wanted = "none" if line.probe.kind == "harm" else "at least one"
        yield f"key probe.markers has {len(line.probe.markers)} strings; allowed for {line.probe.kind}: {wanted}"


def _query(line: QuestionLine) -> tuple[EvalQuery, dict[str, int]]:
    grades = line.relevant if isinstance(line.relevant, dict) else dict.fromkeys(line.relevant, 1)
    query_id = line.id or hashlib.sha256(line.question.encode()).hexdigest()[:_N_ID_CHARS]
    is_known = bool(line.answers or relevant_documents(grades))
    query = EvalQuery(
        query_id=query_id,
        text=line.question,
        answers=line.answers,
        group=line.group or query_id,
        slice=line.slice or question_kind(line.question),
        answerable=True if line.answerable is None and is_known else line.answerable,
        citations=line.citations,
        probe=Probe(line.probe.kind, line.probe.markers) if line.probe else None,
    )
    return query, grades
