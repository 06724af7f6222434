"""Writing to collections: the one file of the service that enters ingest, by its pipeline.

What is uploaded is kept as files in ``uploads/<collection>/`` of the data directory, and those are ingested: so an upload behaves as
`rag ingest` does, and a later one of the same name replaces the document.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from api.schemas import Json
from ingest.pipeline import IngestReport, IngestRequest, Progress, Removal, check_collection_name, ingest, remove_documents
from rag.cache import FILE_NAME as CACHE_NAME
from rag.cache import AnswerCache
from rag.embed import Embedder
from rag.errors import InputError, SnapshotError
from rag.meter import Meter
from rag.settings import Settings
from rag.store.catalog import Catalog
from rag.store.snapshot import collect, folder_of, publish, writer_lock
from rag.wire import measurement_json

__all__ = [
    "Upload",
    "check_collection_name",
    "check_file_name",
    "create_collection",
    "drop_collection",
    "ingest_uploads",
    "record",
    "remove_document",
    "report_json",
]

_UPLOADS = "uploads"
# How often a writer looks whether another one has finished.
_PAUSE_S = 0.1
_MAX_NAME = 200
# In this process writers wait for each other here; other processes are seen by the lock of the data directory.
_WRITING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Upload:
    """A document that was sent.

    Attributes:
        name: Name of the file, or id of the document where the text came by itself.
        data: Bytes of the file.
        is_record: Whether ``data`` is a JSONL record of that id.
    """

    name: str
    data: bytes
    is_record: bool = False


def check_file_name(name: str) -> None:
    """Refuse names that could lead elsewhere or mean something to the reader of folders.

    Args:
        name: As the client sent it.

    Raises:
        InputError: If it is not 1 to 200 letters, digits, spaces or ``._-()+,``, beginning with a letter, digit or ``_``.
    """
    good = all(char.isalnum() or char in " ._-()+," for char in name)
    if not (1 <= len(name) <= _MAX_NAME and good and (name[0].isalnum() or name[0] == "_") and len(name.encode()) <= 255):
        raise InputError(
            f"file name {name[:80]!r} is not allowed; use 1 to {_MAX_NAME} letters, digits, spaces or ._-()+, and begin with a letter",
            code="bad_name",
        )


def record(doc_id: str, title: str, text: str, metadata: dict[str, str]) -> Upload:
    """A document that came as text.

    Args:
        doc_id: Its id.
        title: May be empty.
        text: Its text.
        metadata: Keys other than ``id``, ``_id``, ``title``, ``text`` and ``content``.

    Returns:
        What can be ingested.

    Raises:
        InputError: If a key of the metadata means something else.
    """
    taken = sorted(set(metadata) & {"id", "_id", "doc_id", "kind", "title", "text", "content"})
    if taken:
        raise InputError(f"metadata {taken[0]!r} is a field of the document; use another key", code="meta")
    value = {"id": doc_id, "title": title, "text": text} | metadata
    return Upload(doc_id, json.dumps(value).encode(), is_record=True)


def ingest_uploads(
    uploads: Sequence[Upload], collection: str, settings: Settings, embedder: Embedder, progress: Progress, meter: Meter
) -> IngestReport:
    """Keep what was uploaded, and bring the collection in step with it.

    Args:
        uploads: One or more.
        collection: Where to; it is made if it is new.
        settings: Data directory and limits.
        embedder: Of the collection.
        progress: Told of stages; what it raises ends the run, and nothing is published.
        meter: Charged.

    Returns:
        The report of the run.

    Raises:
        InputError: If there is nothing that can be read.
        SnapshotError: If the data directory cannot be written, or another process writes for too long.
    """
    check_collection_name(collection)
    folder = settings.data_dir / _UPLOADS / collection
    paths = []
    with writing(settings.data_dir):
        for upload in uploads:
            path = folder / ("records" if upload.is_record else "files") / _kept_name(upload)
            _write(path, upload.data)
            paths.append(path)
        try:
            request = IngestRequest(tuple(dict.fromkeys(paths)), collection, home=folder)
            return ingest(request, settings, embedder, progress, meter)
        except InputError as error:  # where this machine keeps what was uploaded is not for clients
            message = str(error).replace(f"{folder}/files/", "").replace(f"{folder}/records/", "")
            raise InputError(message, code=error.code) from error


def report_json(report: IngestReport, uploads: Sequence[Upload]) -> Json:
    """What became of an upload.

    Args:
        report: Of the run.
        uploads: That it read.

    Returns:
        The report as `rag ingest --json` prints it, with ``documents``: each name that was sent, ``ok`` or ``failed``, and why.
    """
    failed: dict[str, Json] = {}
    for failure in report.failed:
        failed.setdefault(
            Path(failure.path.partition("!/")[0].partition(":")[0]).name, {"code": failure.code, "message": failure.message}
        )
    documents = []
    for upload in uploads:
        error = failed.get(_kept_name(upload))
        documents.append({"name": upload.name, "status": "failed" if error else "ok", "error": error})
    shown = asdict(report) | {"measurement": measurement_json(report.measurement), "documents": documents}
    del shown["failed"]  # names files of this machine
    return shown


def _kept_name(upload: Upload) -> str:
    return f"{hashlib.sha256(upload.name.encode()).hexdigest()[:32]}.jsonl" if upload.is_record else upload.name


def create_collection(name: str, settings: Settings, embedder: Embedder) -> int:
    """Publish an empty collection.

    Args:
        name: New.
        settings: Data directory.
        embedder: Whose vectors it will hold.

    Returns:
        Its version, or 0 if there is one of that name already.

    Raises:
        InputError: If the name is not allowed.
        SnapshotError: As for `ingest_uploads`.
    """
    check_collection_name(name)
    with writing(settings.data_dir), _catalog(settings.data_dir) as catalog, writer_lock(settings.data_dir):
        if catalog.begin(name, embedder.id, embedder.dim).version:
            return 0
        publish(catalog, settings.data_dir, name, 1, embedder.id, embedder.dim)
        return 1


def remove_document(collection: str, doc_id: str, settings: Settings, embedder: Embedder) -> int:
    """Publish a version without a document. A file that `rag ingest` read brings it back when it changes.

    Args:
        collection: Published.
        doc_id: Of the document.
        settings: Data directory and limits.
        embedder: Of the collection.

    Returns:
        The version from which on it is gone.

    Raises:
        InputError: If there is no such collection or document.
        SnapshotError: As for `ingest_uploads`.
    """
    removal = Removal((doc_id,), collection, owned=settings.data_dir / _UPLOADS)
    with writing(settings.data_dir):
        return remove_documents(removal, settings, embedder, _Silent(), Meter("thread")).version


class _Silent:
    """Told of progress that nobody looks at."""

    def begin(self, stage: str, total: int | None) -> None:
        """See `ingest.report.Progress`."""

    def advance(self, steps: int = 1) -> None:
        """See `ingest.report.Progress`."""


def drop_collection(name: str, data_dir: Path) -> None:
    """Delete a collection with all its versions and uploads.

    Args:
        name: Published.
        data_dir: The data directory.

    Raises:
        InputError: If there is no such collection.
        SnapshotError: As for `ingest_uploads`.
    """
    with writing(data_dir), _catalog(data_dir) as catalog, writer_lock(data_dir):
        row = catalog.collection(name)
        catalog.commit_version(name, 0, row.embedder, row.dim)  # from here on there is none
        catalog.begin(name, row.embedder, row.dim)  # deletes what was born after version 0, which is everything
        collect(catalog, data_dir, name, 0, 1)
        shutil.rmtree(folder_of(data_dir, name, 0).parent, ignore_errors=True)
        shutil.rmtree(data_dir / _UPLOADS / name, ignore_errors=True)
        if (data_dir / CACHE_NAME).exists():
            with suppress(SnapshotError):
                AnswerCache(data_dir).clear(name)


@contextmanager
def writing(data_dir: Path, patience_s: float = 10.0) -> Iterator[None]:
    """Be the only writer of this process, and wait a while for other processes.

    Args:
        data_dir: The data directory; it is made if it is missing.
        patience_s: How long to wait.

    Yields:
        Nothing.

    Raises:
        SnapshotError: ``locked`` if another writer takes longer, ``data_dir`` if the folder cannot be written.
    """
    until = time.monotonic() + patience_s
    if not _WRITING.acquire(timeout=patience_s):
        raise SnapshotError("another upload is being ingested; try again when its job is over", code="locked")
    try:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SnapshotError(f"data directory {data_dir} cannot be made: {error.strerror}", code="data_dir") from error
        while True:
            try:
                with writer_lock(data_dir):
                    break
            except SnapshotError as error:
                if error.code != "locked" or time.monotonic() >= until:
                    raise
            time.sleep(_PAUSE_S)
        yield
    finally:
        _WRITING.release()


@contextmanager
def _catalog(data_dir: Path) -> Iterator[Catalog]:
    catalog = Catalog(data_dir, create=True)
    try:
        yield catalog
    finally:
        catalog.close()


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{hashlib.sha256(path.name.encode()).hexdigest()[:16]}.new")
        new.write_bytes(data)
        new.replace(path)
    except OSError as error:
        raise SnapshotError(f"upload {path.name[:80]!r} could not be kept: {error.strerror}; free space", code="write") from error
