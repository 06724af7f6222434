"""Looking after a data directory: what it holds, and making whole what is damaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rag.errors import RagError, SnapshotError
from rag.store.catalog import Catalog
from rag.store.manifest import read_manifest, verify
from rag.store.rows import DocumentRow
from rag.store.snapshot import collect, folder_of, publish, writer_lock
from rag.store.view import View


@dataclass(frozen=True, slots=True)
class CollectionStatus:
    """A collection as `rag status` tells it; ``n_bytes`` is the size of its current indexes."""

    name: str
    version: int
    embedder: str
    n_documents: int
    n_chunks: int
    n_duplicates: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class RepairOutcome:
    """What became of one collection: ``whole``, ``rebuilt`` or ``failed``, and why."""

    name: str
    version: int
    verdict: Literal["whole", "rebuilt", "failed"]
    reason: str


def data_status(data_dir: Path, only: str | None = None) -> list[CollectionStatus]:
    """What a data directory holds.

    Args:
        data_dir: The data directory.
        only: Name of one collection; None means all.

    Returns:
        Published collections, by name.

    Raises:
        InputError: If there is no collection of that name.
        SnapshotError: If there is no catalog, or it cannot be read.
    """
    catalog = Catalog(data_dir)
    try:
        rows = [catalog.collection(only)] if only else [row for row in catalog.collections() if row.version]
        found = []
        for row in rows:
            folder = folder_of(data_dir, row.name, row.version)
            sizes = _sizes(catalog.view(row.name, row.version), folder)
            n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            found.append(CollectionStatus(row.name, row.version, row.embedder, *sizes, n_bytes))
        return found
    finally:
        catalog.close()


def _sizes(view: View, folder: Path) -> tuple[int, int, int]:
    """Documents, chunks and collapsed duplicates, as the manifest tells them; counted where it is damaged: 4 ms a thousand documents."""
    try:
        manifest = read_manifest(folder)
    except SnapshotError:
        counts = view.counts()
        return counts.n_documents, counts.n_chunks, counts.n_duplicates
    return manifest.n_documents, manifest.n_chunks, manifest.n_chunks - manifest.n_rows


def collection_documents(data_dir: Path, name: str, *, after: str = "", limit: int | None = None) -> list[DocumentRow]:
    """Documents of the current version of a collection; see `rag.store.view.View.documents`."""
    catalog = Catalog(data_dir)
    try:
        return catalog.view(name, catalog.collection(name).version).documents(after=after, limit=limit)
    finally:
        catalog.close()


def repair_data(data_dir: Path, *, keep: int, force: bool) -> list[RepairOutcome]:
    """Check the catalog and every index, rebuild damaged indexes from the catalog, and collect what a crash left.

    Args:
        data_dir: The data directory.
        keep: Versions to keep of each collection.
        force: Rebuild whole indexes too.

    Returns:
        One outcome a collection, by name.

    Raises:
        SnapshotError: If the catalog itself is damaged, or another process is writing.
    """
    Catalog(data_dir).close()  # says what is wrong when there is none, rather than make one
    catalog = Catalog(data_dir, create=True)
    try:
        with writer_lock(data_dir):
            catalog.check()
            outcomes = []
            for row in catalog.collections():
                if row.version:
                    catalog.begin(row.name, row.embedder, row.dim)
                    outcomes.append(_repaired(catalog, data_dir, row.name, force=force))
                    collect(catalog, data_dir, row.name, row.version, keep)
            return outcomes
    finally:
        catalog.close()


def _repaired(catalog: Catalog, data_dir: Path, name: str, *, force: bool) -> RepairOutcome:
    row = catalog.collection(name)
    reason = "forced" if force else ""
    try:
        verify(folder_of(data_dir, name, row.version))
    except SnapshotError as error:
        if error.code == "newer_format":
            return RepairOutcome(name, row.version, "failed", str(error))
        reason = str(error).removesuffix("; run 'rag repair'")
    if not reason:
        return RepairOutcome(name, row.version, "whole", "")
    try:
        publish(catalog, data_dir, name, row.version, row.embedder, row.dim)
    except RagError as error:
        return RepairOutcome(name, row.version, "failed", str(error))
    return RepairOutcome(name, row.version, "rebuilt", reason)
