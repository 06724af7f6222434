"""Snapshots: one published, immutable version of a collection's indexes.

    <data_dir>/snapshots/<collection>/<version>/
        manifest.json   what this is, and size and SHA-256 of every other file
        rows.npy        int64 of shape (n_rows,): catalog number of the chunk in each row
        lexical/        tantivy
        dense.faiss     faiss

Rows are the chunks of the version that are not collapsed duplicates, in order of (doc_id, place). The indexes are functions of the
rows alone, so an incremental ingest ends in the same rows, scores and ties as one from scratch; an index whose input did not change is
hard-linked from the version before.

To publish is: write into a folder beside, sync its files and itself, rename it, sync the parent, then let the catalog make the
version current in one transaction. A crash at any point leaves the old version current. A reader holds a shared lock on the
manifest for as long as it lives, and only versions that nobody holds are collected.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from rag.errors import SnapshotError
from rag.index.dense import INDEX_ID, build_dense
from rag.index.lexical import ANALYSER_ID, LexicalEntry, build_lexical, label
from rag.store.catalog import Catalog
from rag.store.manifest import FORMAT_VERSION, MANIFEST, Manifest, entry_of, verify, write_manifest
from rag.types import Rows

ROWS = "rows.npy"
DENSE = "dense.faiss"
LEXICAL = "lexical"
_LOCK_NAME = "writer.lock"


@contextmanager
def writer_lock(data_dir: Path) -> Iterator[None]:
    """Be the only writer of a data directory.

    Args:
        data_dir: An existing folder.

    Yields:
        Nothing; the lock ends with the block or the process.

    Raises:
        SnapshotError: If another process is writing.
    """
    try:
        opened = (data_dir / _LOCK_NAME).open("a+")
    except OSError as error:
        raise SnapshotError(
            f"data directory {data_dir} cannot be written: {error.strerror}; make it writable, or use another --data-dir",
            code="data_dir",
        ) from error
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise SnapshotError(
                f"data directory {data_dir} is being written by process {holder}; wait for it to end, or use another --data-dir",
                code="locked",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def folder_of(data_dir: Path, collection: str, version: int) -> Path:
    """Folder of a published version."""
    return data_dir / "snapshots" / collection / str(version)


def publish(catalog: Catalog, data_dir: Path, collection: str, version: int, embedder: str, dim: int) -> Manifest:
    """Build the indexes of a version from the catalog and make it current.

    Args:
        catalog: Open for writing; every vector that the version needs is there.
        data_dir: The data directory, whose writer lock the caller holds.
        collection: The collection.
        version: One more than the current version; or the current one, to build it anew.
        embedder: Id of the embedder of the vectors.
        dim: Their length.

    Returns:
        The manifest as written.

    Raises:
        SnapshotError: If a vector is missing or the disk refuses; the version that was current stays current.
    """
    final = folder_of(data_dir, collection, version)
    building = final.with_name(f"{version}.tmp")
    try:
        shutil.rmtree(building, ignore_errors=True)
        (building / LEXICAL).mkdir(parents=True)
        before = _previous_manifest(data_dir, collection, version)
        manifest = _write_indexes(catalog, building, final.parent, before, (collection, version, embedder, dim))
        _sync_tree(building)
        if final.exists():  # rebuilt in place, its readers keep the files they opened; or left by a crash
            replaced = final.with_name(f"{version}.old.tmp")
            shutil.rmtree(replaced, ignore_errors=True)
            final.rename(replaced)
        building.rename(final)
        _sync_folder(final.parent)
        catalog.commit_version(collection, version, embedder, dim)
    except OSError as error:
        raise SnapshotError(
            f"version {version} of {collection!r} could not be written: {error}; the version before it stays current; "
            "free space or permissions and run the command again",
            code="write",
        ) from error
    return manifest


def _write_indexes(
    catalog: Catalog, folder: Path, siblings: Path, before: Manifest | None, identity: tuple[str, int, str, int]
) -> Manifest:
    collection, version, embedder, dim = identity
    view = catalog.view(collection, version)
    collapsed = {row.chunk_no: row.of_chunk_no for row in view.duplicates()}
    members: dict[int, list[str]] = {}
    for number, original in collapsed.items():
        members.setdefault(original, []).append(view.doc_id_of(number))
    chunk_nos: list[int] = []
    digests: list[bytes] = []
    lexical_input, dense_input = (
        hashlib.sha256(ANALYSER_ID.encode()),
        hashlib.sha256(f"{INDEX_ID} {embedder} {dim}".encode()),
    )

    def entries() -> Iterator[LexicalEntry]:
        for chunk in view.live_chunks():
            if chunk.chunk_no in collapsed:
                continue
            chunk_nos.append(chunk.chunk_no)
            digests.append(chunk.digest)
            documents = sorted({chunk.doc_id, *members.get(chunk.chunk_no, ())})
            tags = (*chunk.tags, *(label("doc_id", doc_id) for doc_id in documents))
            lexical_input.update(chunk.digest + "\0".join(tags).encode() + b"\n")
            dense_input.update(chunk.digest)
            yield LexicalEntry(chunk.indexed_text, tags)

    build_lexical(folder / LEXICAL, entries())
    if before and before.lexical_input == lexical_input.hexdigest():
        shutil.rmtree(folder / LEXICAL)
        _link_tree(siblings / str(before.version) / LEXICAL, folder / LEXICAL)
    if before and before.dense_input == dense_input.hexdigest():
        os.link(siblings / str(before.version) / DENSE, folder / DENSE)
    else:
        vectors = catalog.vectors(embedder).get(digests) if digests else np.empty((0, dim), np.float32)
        build_dense(folder / DENSE, vectors)
    np.save(folder / ROWS, np.array(chunk_nos, np.int64))
    counts = view.counts()
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        collection=collection,
        version=version,
        embedder=embedder,
        dim=dim,
        analyser=ANALYSER_ID,
        n_documents=counts.n_documents,
        n_chunks=counts.n_chunks,
        n_rows=len(chunk_nos),
        content_sha256=view.content_sha256(),
        lexical_input=lexical_input.hexdigest(),
        dense_input=dense_input.hexdigest(),
        files={str(path.relative_to(folder)): entry_of(path) for path in _files(folder)},
    )
    write_manifest(folder, manifest)
    return manifest


def _previous_manifest(data_dir: Path, collection: str, version: int) -> Manifest | None:
    """The manifest of the version before, if its files are whole and can be linked; damage there only costs a rebuild."""
    folder = folder_of(data_dir, collection, version - 1)
    if not folder.exists():
        return None
    try:
        return verify(folder)
    except SnapshotError:
        return None


class Lease:
    """Keeps a version from being collected for as long as it is open.

    Args:
        folder: Folder of the version.

    Raises:
        SnapshotError: If its manifest cannot be opened, or the version is collected while we wait for it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._file: IO[str] = (folder / MANIFEST).open(encoding="utf-8")
        except OSError as error:
            raise SnapshotError(
                f"snapshot {folder} cannot be opened: {error.strerror}; run 'rag repair'", code="damaged"
            ) from error
        fcntl.flock(self._file, fcntl.LOCK_SH)
        if not os.fstat(self._file.fileno()).st_nlink:
            self._file.close()
            raise SnapshotError(f"snapshot {folder} was deleted while it was opened; try again", code="damaged")

    def close(self) -> None:
        """Let the version go."""
        self._file.close()


def collect(catalog: Catalog, data_dir: Path, collection: str, current: int, keep: int) -> None:
    """Delete unfinished folders and the versions that are neither recent nor held by a reader, and what only they needed.

    Args:
        catalog: Open for writing.
        data_dir: The data directory, whose writer lock the caller holds.
        collection: The collection.
        current: Its current version.
        keep: Versions to keep, the current one included; at least 1.
    """
    parent = folder_of(data_dir, collection, current).parent
    oldest = current
    for folder in sorted(parent.iterdir()) if parent.exists() else []:
        if not folder.name.isdecimal() or int(folder.name) > current:
            shutil.rmtree(folder, ignore_errors=True)
        elif int(folder.name) > current - keep or not _removed(folder):
            oldest = min(oldest, int(folder.name))
    catalog.forget_before(collection, oldest)


def _removed(folder: Path) -> bool:
    """Delete a version unless a reader holds it; a reader that comes meanwhile waits, and then sees that it is gone."""
    try:
        with (folder / MANIFEST).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return False
    except OSError:  # without a manifest nobody can have opened it
        shutil.rmtree(folder, ignore_errors=True)
    return True


def load_rows(folder: Path) -> Rows:
    """Catalog numbers by row, memory-mapped; the file is verified already and holds numbers only."""
    return np.load(folder / ROWS, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _link_tree(source: Path, target: Path) -> None:
    target.mkdir()
    for path in _files(source):
        if path.suffix != ".lock":  # made by readers
            os.link(path, target / path.name)


def _sync_tree(folder: Path) -> None:
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    for inner in (folder / LEXICAL, folder):
        _sync_folder(inner)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
