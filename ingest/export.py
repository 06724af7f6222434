"""A collection to one file: every document of its current version as a record of `ingest.exchange`, by id."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, assert_never, cast

from ingest.exchange import KEY, Json, record_of
from ingest.report import Progress
from rag.errors import InputError, MissingExtraError, RagError
from rag.store.catalog import Catalog

ExportFormat = Literal["jsonl", "parquet"]
_Put: TypeAlias = Callable[[Json], None]
# Characters of text of a row group, which is held whole when it is written and when it is read.
_GROUP_CHARS = 4_000_000
_GROUP_ROWS = 1000


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported: sizes of a version of a collection."""

    collection: str
    version: int
    n_documents: int
    n_chunks: int


def export(data_dir: Path, collection: str, sink: BinaryIO, form: ExportFormat, progress: Progress) -> ExportReport:
    """Write every document of the current version of a collection, by id; memory is bounded by one document or row group.

    Args:
        data_dir: The data directory.
        collection: Its name.
        sink: Where to; Parquet is written from front to end as well.
        form: Of the file.
        progress: Told of documents.

    Returns:
        What was written.

    Raises:
        InputError: If there is no such collection.
        SnapshotError: If there is no catalog, or it is damaged.
        MissingExtraError: For Parquet without the extra ``[parquet]``.
        OSError: If the sink cannot be written.
    """
    catalog = Catalog(data_dir)
    try:
        version = catalog.collection(collection).version
        view = catalog.view(collection, version)
        progress.begin("export", view.counts().n_documents)
        n_documents = n_chunks = 0
        with _writer(sink, form) as put:
            for stored in view.stored_documents():
                put(record_of(stored))
                n_documents += 1
                n_chunks += len(stored.spans)
                progress.advance()
        return ExportReport(collection, version, n_documents, n_chunks)
    finally:
        catalog.close()


@contextmanager
def replacing(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Write a file whole or not at all; a name that ends in ``.gz`` compresses it.

    Args:
        path: The file.
        force: Whether it may be there already.

    Yields:
        What to write to.

    Raises:
        InputError: With code ``out``, if the file is there or cannot be made.
        RagError: With code ``write``, if it cannot be written to the end.
    """
    if os.path.lexists(path) and (path.is_dir() or not force):
        what = "is a folder; name a file" if path.is_dir() else "exists; --force replaces it, or name another file"
        raise InputError(f"--out {path} {what}", code="out")
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        file = new.open("xb")
    except OSError as error:
        raise InputError(
            f"--out {path} cannot be made: {error.strerror}; name a file in a folder that exists and can be written", code="out"
        ) from error
    try:
        with file:
            # Without name and time of day: the same documents make the same file.
            packed = gzip.GzipFile("", "wb", fileobj=file, mtime=0) if path.name.lower().endswith(".gz") else None
            yield cast("BinaryIO", packed or file)
            if packed:
                packed.close()
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise RagError(
            f"--out {path} cannot be written to the end: {error.strerror}; free space, or name another disk", code="write"
        ) from error
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def _writer(sink: BinaryIO, form: ExportFormat) -> AbstractContextManager[_Put]:
    match form:
        case "jsonl":
            return _jsonl_writer(sink)
        case "parquet":
            return _parquet_writer(sink)
        case never:
            assert_never(never)


@contextmanager
def _jsonl_writer(sink: BinaryIO) -> Iterator[_Put]:
    def put(record: Json) -> None:
        # Half of a surrogate pair can only be in a metadata value of the command line; its JSON escape is read back as it was.
        sink.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")

    yield put


@contextmanager
def _parquet_writer(sink: BinaryIO) -> Iterator[_Put]:
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise MissingExtraError("export to Parquet", "parquet") from error
    texts = pa.list_(pa.string())
    section = pa.struct(
        {"start": pa.int64(), "end": pa.int64(), "headings": texts, "page": pa.int64(), "line": pa.int64()}
        | {"place": pa.string(), "flags": texts}
    )
    ours = {"format": pa.int32(), "uri": pa.string(), "kind": pa.string(), "mtime": pa.float64(), "sections": pa.list_(section)}
    columns = {"id": pa.string(), "title": pa.string(), "text": pa.string(), "metadata": pa.map_(pa.string(), pa.string())}
    schema = pa.schema(columns | {KEY: pa.struct(ours)})
    rows: list[Json] = []
    n_chars = 0

    with ExitStack() as stack:
        writer = stack.enter_context(ParquetWriter(sink, schema, compression="zstd"))

        def flush() -> None:
            nonlocal n_chars
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))
            rows.clear()
            n_chars = 0

        def put(record: Json) -> None:
            nonlocal n_chars
            rows.append(record)
            n_chars += len(str(record["text"]))
            if n_chars >= _GROUP_CHARS or len(rows) >= _GROUP_ROWS:
                flush()

        yield put
        if rows:
            flush()
