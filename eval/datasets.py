"""Data sets in the BEIR layout: a corpus, queries, and judgements of which document answers which query.

A folder holds ``corpus.jsonl`` or ``corpus.jsonl.gz`` (``_id``, ``title``, ``text``), ``queries.jsonl`` (``_id``,
``text`` and, where the set has gold answers, ``metadata.answers``) and ``qrels/test.tsv`` (query, document, grade; the
first line is a heading). What is malformed is refused with its file and line: a judgement that silently disappears
would move every score.

References:
    Thakur et al., BEIR, NeurIPS 2021 Datasets and Benchmarks, arXiv:2104.08663.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rag.errors import InputError


@dataclass(frozen=True, slots=True)
class Record:
    """One document of a corpus.

    Attributes:
        doc_id: Unique in the corpus.
        title: May be empty.
        text: As published, not normalised.
    """

    doc_id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class EvalQuery:
    """One judged query.

    Attributes:
        query_id: Unique in the data set.
        text: As published.
        answers: Gold answers, any of which is right; empty where the set has none.
    """

    query_id: str
    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A corpus with judged queries.

    Attributes:
        name: Name of its folder.
        corpus: In the order of the file.
        queries: In the order of the file; only those with at least one judgement.
        qrels: Grade by document id by query id; 0 is judged and not relevant. Read-only.
        checksum: SHA-256 (hexadecimal) over the decompressed bytes of corpus, queries and judgements, in this order.
    """

    name: str
    corpus: tuple[Record, ...]
    queries: tuple[EvalQuery, ...]
    qrels: Mapping[str, Mapping[str, int]]
    checksum: str


@dataclass(frozen=True, slots=True)
class _Row:
    """One JSON object with the place it came from."""

    place: str
    values: Mapping[str, object]


def load_beir(folder: Path) -> Dataset:
    """Read a data set in the BEIR layout.

    Args:
        folder: The folder with the three files.

    Returns:
        The data set; everything in the order of its files.

    Raises:
        InputError: If a file is missing or unreadable, a line is malformed, an id is repeated, or a judgement names a
            query or a document that is not there.
    """
    corpus_path = folder / "corpus.jsonl"
    corpus_path = corpus_path if corpus_path.exists() else folder / "corpus.jsonl.gz"
    paths = (corpus_path, folder / "queries.jsonl", folder / "qrels" / "test.tsv")
    contents = [_content(path) for path in paths]
    corpus = tuple(
        Record(_string(row, "_id"), _string(row, "title", default=""), _string(row, "text")) for row in _rows(paths[0], contents[0])
    )
    queries = tuple(EvalQuery(_string(row, "_id"), _string(row, "text"), _answers(row)) for row in _rows(paths[1], contents[1]))
    doc_ids = _unique([record.doc_id for record in corpus], paths[0])
    qrels = _qrels(paths[2], contents[2], _unique([query.query_id for query in queries], paths[1]), doc_ids)
    if not qrels:
        raise InputError(f"{paths[2]} has no judgements; expected lines of query-id, corpus-id, score separated by tabs")
    return Dataset(
        name=folder.resolve().name,
        corpus=corpus,
        queries=tuple(query for query in queries if query.query_id in qrels),
        qrels=qrels,
        checksum=hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest(),
    )


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError as error:
        raise InputError(
            f"{path} is missing; a data set folder holds corpus.jsonl or corpus.jsonl.gz, queries.jsonl and qrels/test.tsv"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}; copy or unpack it again") from error


def _lines(path: Path, content: bytes) -> Iterator[tuple[str, str]]:
    """Place ("file, line n") and text of every line that is not blank."""
    for n, line in enumerate(content.split(b"\n"), start=1):
        place = f"{path}, line {n}"
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{place} is not UTF-8: {error.reason} at byte {error.start}; convert the file") from error
        if text.strip():
            yield place, text.rstrip("\r")


def _rows(path: Path, content: bytes) -> Iterator[_Row]:
    for place, text in _lines(path, content):
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"{place} is not valid JSON: {error.msg} at column {error.colno}; correct or remove it") from error
        if not isinstance(values, dict):
            raise InputError(f"{place} is {type(values).__name__}; expected a JSON object with _id and text")
        yield _Row(place, values)


def _string(row: _Row, key: str, default: str | None = None) -> str:
    value = row.values.get(key, default)
    if not isinstance(value, str):
        raise InputError(f"{row.place}: {key!r} is {value!r}; expected a string")
    return value


def _answers(row: _Row) -> tuple[str, ...]:
    metadata = row.values.get("metadata") or {}
    answers = metadata.get("answers", []) if isinstance(metadata, dict) else None
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise InputError(
            f"{row.place}: 'metadata' is {row.values.get('metadata')!r}; expected an object whose answers are a list of strings"
        )
    return tuple(answers)


def _unique(ids: list[str], path: Path) -> frozenset[str]:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise InputError(f"{path} has _id {one!r} twice; every _id must be unique")
        seen.add(one)
    return frozenset(seen)


def _qrels(path: Path, content: bytes, query_ids: frozenset[str], doc_ids: frozenset[str]) -> Mapping[str, Mapping[str, int]]:
    """Judgements by query; the first line must be a heading, or its judgement would be lost."""
    found: dict[str, dict[str, int]] = {}
    for n, (place, text) in enumerate(_lines(path, content)):
        fields = text.split("\t")
        if n == 0:
            if fields[-1].strip().isdecimal():
                raise InputError(f"{place} is {text!r}; expected the heading query-id, corpus-id, score separated by tabs")
            continue
        if len(fields) != 3 or not fields[2].strip().isdecimal():
            raise InputError(
                f"{place} is {text!r}; expected query-id, corpus-id and a whole number of 0 or more, separated by tabs"
            )
        query_id, doc_id, grade = fields
        if query_id not in query_ids:
            raise InputError(f"{place} judges query {query_id!r}, which is not in queries.jsonl; remove the line or add the query")
        if doc_id not in doc_ids:
            raise InputError(f"{place} judges document {doc_id!r}, which is not in the corpus; remove the line or add the document")
        if doc_id in found.setdefault(query_id, {}):
            raise InputError(f"{place} judges query {query_id!r} and document {doc_id!r} a second time; keep one line")
        found[query_id][doc_id] = int(grade)
    return MappingProxyType({query_id: MappingProxyType(grades) for query_id, grades in found.items()})
