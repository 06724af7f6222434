"""Data sets in the BEIR layout: a corpus, queries, and judgements of which document answers which query.

A folder holds ``corpus.jsonl`` or ``corpus.jsonl.gz`` (``_id``, ``title``, ``text``), ``queries.jsonl`` (``_id``,
``text`` and, where the set has gold answers, ``metadata.answers``) and ``qrels/test.tsv`` (query, document, grade; the
first line is a heading).

References:
    Thakur et al., BEIR, NeurIPS 2021 Datasets and Benchmarks, arXiv:2104.08663.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from eval.datasets import Dataset, EvalQuery, Record, relevant_documents
from eval.datasets.kind import question_kind
from eval.datasets.lines import checksum, file_content, malformed, placed_lines

_LAYOUT = "a data set folder holds corpus.jsonl or corpus.jsonl.gz, queries.jsonl and qrels/test.tsv"


@dataclass(frozen=True, slots=True)
class _Row:
    """One JSON object with the place it came from."""

    place: str
    values: Mapping[str, object]


def read_beir(folder: Path) -> Dataset:
    """Read a data set in the BEIR layout.

    Args:
        folder: The folder with the three files.

    Returns:
        The data set under the name of the folder; everything in the order of its files, queries without a judgement left out. A query
        belongs to the group of its first relevant document; one without is a group of its own, and not known to be answerable.

    Raises:
        InputError: If a file is missing or unreadable, a line is malformed, an id is repeated, or a judgement names a
            query or a document that is not there.
    """
    corpus_path = folder / "corpus.jsonl"
    corpus_path = corpus_path if corpus_path.exists() else folder / "corpus.jsonl.gz"
    paths = (corpus_path, folder / "queries.jsonl", folder / "qrels" / "test.tsv")
    contents = [file_content(path, _LAYOUT) for path in paths]
    corpus = {
        doc_id: Record(doc_id, _string(row, "title", default=""), _string(row, "text"))
        for doc_id, row in _by_id(paths[0], contents[0]).items()
    }
    rows = _by_id(paths[1], contents[1])
    qrels = _qrels(paths[2], contents[2], rows.keys(), corpus.keys())
    if not qrels:
        raise malformed(f"{paths[2]} has no judgements; expected lines of query-id, corpus-id, score separated by tabs")
    queries = {query_id: _query(query_id, row, qrels.get(query_id, {})) for query_id, row in rows.items()}
    return Dataset(
        name=folder.resolve().name,
        corpus=tuple(corpus.values()),
        queries=tuple(query for query_id, query in queries.items() if query_id in qrels),
        qrels=qrels,
        checksum=checksum(contents),
    )


def _query(query_id: str, row: _Row, grades: Mapping[str, int]) -> EvalQuery:
    text, relevant = _string(row, "text"), relevant_documents(grades)
    return EvalQuery(
        query_id,
        text,
        _answers(row),
        group=relevant[0] if relevant else query_id,
        slice=question_kind(text),
        answerable=True if relevant else None,
    )


def _by_id(path: Path, content: bytes) -> dict[str, _Row]:
    """The rows of a file, in its order."""
    rows: dict[str, _Row] = {}
    for place, text in placed_lines(path, content):
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise malformed(f"{place} is not valid JSON: {error}; correct or remove it") from error
        if not isinstance(values, dict):
            raise malformed(f"{place} is {type(values).__name__}; expected a JSON object with _id and text")
        row = _Row(place, values)
        if (row_id := _string(row, "_id")) in rows:
            raise malformed(f"{place} has _id {row_id!r} for the second time; every _id must be unique")
        rows[row_id] = row
    return rows


def _string(row: _Row, key: str, default: str | None = None) -> str:
    value = row.values.get(key, default)
    if not isinstance(value, str):
        raise malformed(f"{row.place}: {key!r} is {value!r}; expected a string")
    return value


def _answers(row: _Row) -> tuple[str, ...]:
    metadata = row.values.get("metadata") or {}
    answers = metadata.get("answers", []) if isinstance(metadata, dict) else None
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise malformed(
            f"{row.place}: 'metadata' is {row.values.get('metadata')!r}; expected an object whose answers are a list of strings"
        )
    return tuple(answers)


def _qrels(path: Path, content: bytes, query_ids: Set[str], doc_ids: Set[str]) -> Mapping[str, Mapping[str, int]]:
    """Judgements by query; the first line must be a heading, or its judgement would be lost."""
    found: dict[str, dict[str, int]] = {}
    for n, (place, text) in enumerate(placed_lines(path, content)):
        fields = text.split("\t")
        if n == 0:
            if fields[-1].strip().isdecimal():
                raise malformed(f"{place} is {text!r}; expected the heading query-id, corpus-id, score separated by tabs")
            continue
        if len(fields) != 3 or not fields[2].strip().isdecimal():
            raise malformed(f"{place} is {text!r}; expected query-id, corpus-id and a whole number of 0 or more, separated by tabs")
        query_id, doc_id, grade = fields
        if query_id not in query_ids:
            raise malformed(f"{place} judges query {query_id!r}, which is not in queries.jsonl; remove the line or add the query")
        if doc_id not in doc_ids:
            raise malformed(f"{place} judges document {doc_id!r}, which is not in the corpus; remove the line or add the document")
        if doc_id in found.setdefault(query_id, {}):
            raise malformed(f"{place} judges query {query_id!r} and document {doc_id!r} a second time; keep one line")
        found[query_id][doc_id] = int(grade)
    return MappingProxyType({query_id: MappingProxyType(grades) for query_id, grades in found.items()})
