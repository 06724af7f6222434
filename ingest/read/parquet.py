"""Parquet: one document a row, by the columns that `ingest.read.jsonl` knows as keys. Needs the extra [parquet]."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ingest.read.jsonl import record_document
from ingest.read.origin import Failure, Origin, one_line
from rag.errors import InputError, MissingExtraError
from rag.types import Document

if TYPE_CHECKING:
    import pyarrow as pa

# Rows that are unpacked at a time: a row may be a book.
_N_ROWS = 16
# Columns of one value take no room, however many rows they have.
_MAX_ROWS = 200_000


def read_parquet(data: bytes, origin: Origin) -> Iterator[Document | Failure]:
    """Read records, one a row.

    Args:
        data: Content of the file.
        origin: Where it comes from; ``doc_id`` begins the ids of rows that have none.

    Yields:
        A document or failure for every row, in the order of the file. Binary values are no text and are left out. Failures have the
        code ``bad_record``, ``duplicate_id`` or ``empty``, and ``unreadable`` for what is lost of a damaged file.

    Raises:
        InputError: With code ``unreadable`` if this is no Parquet file; ``empty``, if it has no rows; ``too_large`` for more
            rows than its size can honestly hold.
        MissingExtraError: Without the extra ``[parquet]``.
        MemoryError: If a row is too large for the memory that this process may use.
    """
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise MissingExtraError("reading Parquet files", "parquet") from error
    if not data.strip():
        raise InputError("holds no rows; nothing to index", code="empty")
    seen: set[str] = set()
    number = 0
    try:
        file = ParquetFile(pa.BufferReader(data), pre_buffer=False)
        if file.metadata.num_rows > max(_MAX_ROWS, len(data)):
            raise InputError(
                f"has {file.metadata.num_rows:,} rows in {len(data):,} bytes; allowed are {_MAX_ROWS:,}, or one a byte: split it",
                code="too_large",
            )
        for batch in file.iter_batches(_N_ROWS, use_threads=False):
            for at in range(batch.num_rows):
                number += 1
                yield _outcome(batch.slice(at, 1), number, origin, seen)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        message = f"is no readable Parquet file: {one_line(str(error), 200)}; write it again"
        if not number:
            raise InputError(message, code="unreadable") from error
        yield Failure(str(origin.path), "unreadable", message)
    if not number:
        raise InputError("holds no rows; nothing to index", code="empty")


def _outcome(row: pa.RecordBatch, number: int, origin: Origin, seen: set[str]) -> Document | Failure:
    place = f"{origin.path}:{number}"
    try:
        (fields,) = row.to_pylist(maps_as_pydicts="strict")
        record = {str(key): plain for key, value in fields.items() if (plain := _plain(value)) is not None}
        return record_document(record, "parquet", str(number), origin, seen)
    except InputError as error:
        return Failure(place, error.code, str(error))
    except (ValueError, KeyError, OverflowError) as error:  # text that is no UTF-8, a key twice, a year that Python lacks
        return Failure(place, "bad_record", f"cannot be read: {one_line(str(error), 200)}; correct the row")


def _plain(value: object) -> object:
    """The value as JSON would have it; None for what is no text."""
    match value:
        case dict():
            return {str(key): _plain(entry) for key, entry in value.items()}
        case list():
            return [_plain(entry) for entry in value]
        case float() if not math.isfinite(value):
            return None
        case str() | bool() | int() | float() | None:
            return value
        case bytes():
            return None
    return str(value)
