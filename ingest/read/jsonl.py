"""JSONL: one document a record. A bad record is a failure of that line only.

``id`` or ``_id`` is the document id, ``title`` and ``text`` (or ``content``) the text, every other key metadata, as in BEIR's
data sets. Records that `rag export` wrote give back the documents that they were made from. Compressed files are read as a stream,
within limits on what they may grow to.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ingest import exchange
from ingest.read.decode import decode, refuse_binary
from ingest.read.origin import Failure, Origin, clean, document, one_line
from rag.errors import InputError
from rag.text import normalise, paragraphs
from rag.types import Document

_GZIP_MAGIC = b"\x1f\x8b"
# A gzip bomb grows a thousandfold. Ratios mean nothing on small outputs, where repetitive data reaches hundreds honestly.
_MAX_RATIO = 100
_MIN_SUSPICIOUS_BYTES = 64_000_000
_MAX_OUTPUT_BYTES = 2_000_000_000
_PIECE_BYTES = 1 << 20
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
# Ids are shown, stored with every chunk and typed by people.
_MAX_ID_CHARS = 512
_SNIFFED_BYTES = 8192


@dataclass(frozen=True, slots=True)
class _Record:
    """What the keys of a record say; ``name`` is empty where it has no id of its own."""

    name: str
    title: str
    text: str
    metadata: dict[str, str]


def read_jsonl(data: bytes, origin: Origin) -> Iterator[Document | Failure]:
    """Read records, one a line.

    Args:
        data: Content of the file, plain or compressed with gzip.
        origin: Where it comes from; ``doc_id`` begins the ids of records that have none.

    Yields:
        A document or failure for every line that is not blank, in the order of the file. Failures have the code ``bad_record``,
        ``duplicate_id`` or ``empty``, and ``bad_gzip`` for what is lost of a damaged compressed file.

    Raises:
        InputError: With code ``binary`` or ``encoding``, if these are no lines of text at all; ``empty``, if there are none.
    """
    seen: set[str] = set()
    n_lines = 0
    try:
        for line_no, line in enumerate(_lines(data), start=1):
            if not line.strip():
                continue
            n_lines += 1
            try:
                yield _document(line, line_no, origin, seen)
            except InputError as error:
                yield Failure(f"{origin.path}:{line_no}", error.code, str(error))
    except (OSError, EOFError, zlib.error) as error:
        yield Failure(
            str(origin.path),
            "bad_gzip",
            f"cannot be decompressed to the end: {one_line(str(error))}; what comes after is lost, so compress the file again",
        )
        return
    if not n_lines:
        raise InputError("holds no records; nothing to index", code="empty")


def _lines(data: bytes) -> Iterator[bytes]:
    if data.startswith(_GZIP_MAGIC):
        yield from _split(_decompressed(data))
        return
    if data.startswith(_WIDE_MARKS):
        data = decode(data).encode()
    refuse_binary(data[:_SNIFFED_BYTES])
    yield from io.BytesIO(data)


def _split(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Lines of a stream; what follows the last line end is a line only if the stream ends well."""
    rest = b""
    for piece in pieces:
        *lines, last = piece.split(b"\n")
        if lines:
            yield rest + lines[0]
            yield from lines[1:]
            rest = last
        else:
            rest += last
    if rest:
        yield rest


def _decompressed(data: bytes) -> Iterator[bytes]:
    n_bytes = 0
    limit = min(_MAX_OUTPUT_BYTES, max(_MIN_SUSPICIOUS_BYTES, _MAX_RATIO * len(data)))
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        while piece := stream.read(_PIECE_BYTES):
            n_bytes += len(piece)
            if n_bytes > limit:
                raise EOFError(f"grows beyond {limit:,} bytes, allowed are {_MAX_RATIO} times its size and {_MAX_OUTPUT_BYTES:,}")
            yield piece


def _document(line: bytes, line_no: int, origin: Origin, seen: set[str]) -> Document:
    try:
        fields = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 at byte {error.start} of the line; save the file as UTF-8", code="bad_record") from error
    except ValueError as error:
        where = f" at column {error.colno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else f": {error}"
        raise InputError(f"is not valid JSON{where}; correct the line", code="bad_record") from error
    except RecursionError as error:
        raise InputError("nests too deeply to be read; flatten the record", code="bad_record") from error
    if not isinstance(fields, dict):
        raise InputError(f'is {_json_type(fields)}, expected an object like {{"text": "..."}}', code="bad_record")
    return record_document(fields, "jsonl", str(line_no), origin, seen)


def record_document(fields: Mapping[str, object], kind: str, number: str, origin: Origin, seen: set[str]) -> Document:
    """Make the document of a record.

    Args:
        fields: Values that JSON knows, by key.
        kind: Format family.
        number: Of the record in its file, its name where it has no id.
        origin: Where the file comes from.
        seen: Ids of the records before it; its own is added.

    Returns:
        The document.

    Raises:
        InputError: With code ``bad_record``, ``duplicate_id`` or ``empty``.
    """
    if exchange.is_exported(fields):
        found = exchange.document_of(fields)
    else:
        record = _record(fields)
        title, text = one_line(record.title), clean(record.text)
        # A record that has only a title is worth finding by it.
        text = text if text.strip() else title
        # No line numbers: a line break inside a record is not one of the file. The URI names the record.
        sections = tuple(replace(section, line=None) for section in paragraphs(text))
        here = replace(origin, doc_id=record.name or f"{origin.doc_id}:{number}", uri=f"{origin.uri}#{record.name or number}")
        found = document(here, kind, title, text, sections, record.metadata)
    if found.doc_id in seen:
        raise InputError(
            f"id {found.doc_id!r} stands on an earlier line too; ids must differ, the first is kept", code="duplicate_id"
        )
    seen.add(found.doc_id)
    return found


def _record(fields: Mapping[str, object]) -> _Record:
    id_key = "id" if fields.get("id") is not None else "_id"
    text_key = "content" if "content" in fields and "text" not in fields else "text"
    text, title = fields.get(text_key), fields.get("title")
    if not isinstance(text, str):
        raise InputError(f'"{text_key}" is {_json_type(text)}, expected a string under "text" or "content"', code="bad_record")
    if not isinstance(title, str | None):
        raise InputError(f'"title" is {_json_type(title)}, expected a string', code="bad_record")
    others = {key: value for key, value in fields.items() if key not in (id_key, text_key, "title")}
    try:
        metadata = metadata_text(others)
    except (ValueError, RecursionError) as error:
        raise InputError(f"has metadata that cannot be written as text: {error}; correct the record", code="bad_record") from error
    return _Record(record_name(fields.get(id_key), id_key), title or "", text, metadata)


def record_name(value: object, key: str) -> str:
    """The id that a record gives; empty where it gives none, InputError with code ``bad_record`` where it is none."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f'"{key}" is {_json_type(value)}, expected a string or an integer', code="bad_record")
    name = str(value)
    if not name.strip() or len(name) > _MAX_ID_CHARS or normalise(name) != name or "\n" in name:
        raise InputError(
            f'"{key}" is {name[:40]!r}, expected 1 to {_MAX_ID_CHARS} printable characters on one line', code="bad_record"
        )
    return name


def metadata_text(fields: Mapping[str, object]) -> dict[str, str]:
    """Values as text: lists of scalars joined by ``, ``, others as JSON, and what JSON lacks as Python writes it; null says nothing."""
    found = {}
    for key, value in fields.items():
        if isinstance(value, list) and not any(isinstance(entry, list | dict) for entry in value):
            found[key] = ", ".join(_scalar(entry) for entry in value if entry is not None)
        elif value is not None:
            found[key] = _scalar(value)
    return found


def _scalar(value: object) -> str:
    is_json = isinstance(value, bool | int | float | list | dict)
    return json.dumps(value, ensure_ascii=False, default=str) if is_json else str(value)


def _json_type(value: object) -> str:
    match value:
        case None:
            return "missing or null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"
