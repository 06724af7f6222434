"""Format 1 of exported documents: a document with its chunks as one record, and back.

A record has the keys of any JSONL record (``id``, ``title``, ``text``, ``metadata``), so that other programs can use it, and
``ragwatt`` with what only we need. Chunks come back as sections that the chunker keeps as they are, while they fit the embedder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar, get_args

from ingest.read.hostile import instructions
from rag.errors import InputError
from rag.store.stored import StoredDocument
from rag.text import normalise
from rag.types import Document, Section, SectionKind, TrustFlag

Json: TypeAlias = dict[str, object]
_T = TypeVar("_T")

KEY = "ragwatt"
FORMAT = 1
# Paths are ids: no file system has longer ones.
_MAX_ID_CHARS = 4096
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_FLAGS = frozenset(get_args(TrustFlag))
# Seconds and numbers of pages and lines beyond these are damage, and would not fit into the catalog.
_MAX_NUMBER = 2**53
# What is cut between lines, should it have to be cut again.
_LINED: Mapping[str, SectionKind] = {"csv": "table", "xlsx": "table", "code": "code"}
_ROWS = re.compile(r"rows? \d{1,15}(?:-(\d{1,15}))?")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class _Row:
    """A chunk of a record."""

    section: Section
    place: str


def record_of(stored: StoredDocument) -> Json:
    """Make the record of a document.

    Args:
        stored: As the catalog keeps it.

    Returns:
        A value that JSON knows: strings, numbers, lists and objects.
    """
    document = stored.document
    sections = []
    for span in stored.spans:
        row: Json = {"start": span.start, "end": span.end, "headings": list(span.headings), "page": span.page, "line": span.line}
        sections.append(row | ({"place": span.place} if span.place else {}) | {"flags": list(span.flags)})
    ours = {"format": FORMAT, "uri": document.uri, "kind": document.kind, "mtime": document.mtime, "sections": sections}
    return {
        "id": document.doc_id,
        "title": document.title,
        "text": document.text,
        "metadata": dict(document.metadata),
        KEY: ours,
    }


def is_exported(record: Mapping[str, object]) -> bool:
    """Whether a record says that `record_of` made it."""
    ours = record.get(KEY)
    return isinstance(ours, dict) and "format" in ours


def document_of(record: Mapping[str, object]) -> Document:
    """Make the document of a record that `is_exported`.

    Nothing of it is believed: offsets must lie in the text, and text that speaks to a language model is flagged here again.

    Args:
        record: Of format 1.

    Returns:
        The document.

    Raises:
        InputError: With code ``bad_record``, if it is not what `record_of` makes; ``empty``, if it has no sections.
    """
    ours = record[KEY]
    if not isinstance(ours, dict) or ours.get("format") != FORMAT or ours.get("format") is True:
        shown = ours.get("format") if isinstance(ours, dict) else ours
        raise InputError(
            f'"{KEY}.format" is {str(shown)[:40]!r}, this version reads {FORMAT}; upgrade, or export it with this version',
            code="bad_record",
        )
    kind = _checked(ours.get("kind"), "kind", _is_kind, "a name of small letters, such as markdown")
    text = _checked(record.get("text"), "text", _is_text, "text as it was exported; offsets count in it")
    sections = [section for row in _warned(text, ours.get("sections")) for section in _kept_apart(text, row, kind)]
    if not sections:
        raise InputError("holds no sections; nothing to index", code="empty")
    return Document(
        _checked(record.get("id"), "id", _is_id, f"1 to {_MAX_ID_CHARS} characters"),
        normalise(_checked(ours.get("uri"), "uri", _is_string, "a string")),
        normalise(_checked(record.get("title"), "title", _is_string, "a string")),
        text,
        tuple(sections),
        _metadata(record.get("metadata")),
        kind,
        _mtime(ours.get("mtime")),
    )


def _checked(value: object, key: str, is_good: Callable[[object], _T | None], expected: str) -> _T:
    found = is_good(value)
    if found is None:
        shown = (
            value[:40] if isinstance(value, str) else type(value).__name__ if isinstance(value, list | dict) else str(value)[:40]
        )
        raise InputError(f'"{key}" is {shown!r}, expected {expected}', code="bad_record")
    return found


def _is_string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _is_text(value: object) -> str | None:
    return value if isinstance(value, str) and normalise(value) == value else None


def _is_kind(value: object) -> str | None:
    return value if isinstance(value, str) and _KIND.fullmatch(value) else None


def _is_id(value: object) -> str | None:
    is_good = isinstance(value, str) and value.strip() and len(value) <= _MAX_ID_CHARS and not _UNSTORABLE.search(value)
    return value if isinstance(value, str) and is_good else None


def _is_offset(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_NUMBER else None


def _is_number(value: object) -> int | None:
    return _is_offset(value) or None


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(entry, str) for pair in value.items() for entry in pair):
        raise InputError('"metadata" is no object of strings, as it was exported; correct the record', code="bad_record")
    return {normalise(key): normalise(entry) for key, entry in value.items()}


def _mtime(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_MAX_NUMBER <= value <= _MAX_NUMBER:
        raise InputError(f'"mtime" is {str(value)[:40]!r}, expected seconds since 1970, or null', code="bad_record")
    return float(value)


def _rows(value: object, text: str) -> Iterator[_Row]:
    if not isinstance(value, list):
        raise InputError('"sections" is no list; correct the record', code="bad_record")
    before = 0
    for number, entry in enumerate(value):
        try:
            row = _row(entry, before, text)
        except InputError as error:
            raise InputError(f'"sections", number {number}: {error}', code="bad_record") from error
        before = row.section.end
        yield row


def _row(entry: object, before: int, text: str) -> _Row:
    if not isinstance(entry, dict):
        raise InputError("is no object")
    start, end = (_checked(entry.get(key), key, _is_offset, "a whole number from 0") for key in ("start", "end"))
    if not before <= start < end <= len(text) or not text[start:end].strip():
        raise InputError(f"{start} to {end} is no range with text, in ascending order, of {len(text)} characters")
    headings, flags = (_strings(entry, key) for key in ("headings", "flags"))
    if not _FLAGS.issuperset(flags):
        raise InputError(f'"flags" has {sorted(set(flags) - _FLAGS)[0][:40]!r}, allowed are {", ".join(sorted(_FLAGS))}')
    page, line = (
        None if entry.get(key) is None else _checked(entry[key], key, _is_number, "a whole number from 1, or null")
        for key in ("page", "line")
    )
    place = entry.get("place")
    known: tuple[TrustFlag, ...] = tuple(flag for flag in get_args(TrustFlag) if flag in flags)
    section = Section(start, end, "prose", tuple(map(normalise, headings)), page, line, tuple(sorted(known)))
    return _Row(section, "" if place is None else _checked(place, "place", _is_string, "a string"))


def _strings(entry: Json, key: str) -> list[str]:
    value = entry.get(key)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InputError(f'"{key}" is no list of strings')
    return value


def _kept_apart(text: str, row: _Row, kind: str) -> Iterator[Section]:
    """The sections of a chunk that the chunker makes that chunk of again.

    A heading begins a group of its own unless it stands under the heading path of what is before it; so the first word of every chunk
    is one, under a path that no section has, and the rest, under the path of the chunk, is its text. The number of the last row of a
    table stands with its last line.
    """
    section = replace(row.section, kind=_LINED.get(kind, "prose"))
    first = _WORD.search(text, section.start, section.end)
    cut = first.end() if first and first.end() < section.end else section.start + 1
    if cut >= section.end:  # a single character: with what is before it, it is over the limit, else they would have been one chunk
        yield section
        return
    yield replace(section, end=cut, kind="heading", headings=(*section.headings, ""))
    rows = _ROWS.fullmatch(row.place)
    at = text.rfind("\n", cut, section.end) + 1
    if rows and section.line is not None and text[cut:at].strip() and text[at : section.end].strip():
        yield replace(section, start=cut, end=at)
        yield replace(section, start=at, line=int(rows[1] or section.line))
    elif rows and rows[1]:
        yield replace(section, start=cut, line=int(rows[1]) - text.count("\n", cut, section.end))
    else:
        yield replace(section, start=cut)


def _warned(text: str, value: object) -> Iterator[_Row]:
    """The chunks, with a flag on those that speak to a language model, whatever the record says of them."""
    spans = instructions(text)
    at = reach = 0
    for row in _rows(value, text):
        section = row.section
        while at < len(spans) and spans[at][0] < section.end:
            reach = max(reach, spans[at][1])
            at += 1
        if reach > section.start and "instructions" not in section.flags:
            section = replace(section, flags=tuple(sorted((*section.flags, "instructions"))))
        yield replace(row, section=section)
