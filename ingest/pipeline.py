"""Files to a published snapshot: walk, read, chunk, collapse duplicates, embed what is new, publish.

The run is incremental by content. A file whose bytes and recipe (readers, chunker, embedder, user metadata) are those of last time
is neither parsed nor embedded; a changed file replaces those of its documents that differ; documents of files that are gone from
the ingested folders are removed; vectors are reused by digest of their text, also after an interrupted run. When nothing differs,
nothing is published. A file that cannot be read is reported, what is known of it stays, and the rest goes on.

Files are read and cut by child processes (`ingest.sandbox`); this process opens and hashes them, and alone writes the catalog, in the
order of the walk, so that the outcome does not depend on how many processes there are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ingest.added import Removal, add_documents, remove_documents
from ingest.allowed import check_collection_name, chunk_limit
from ingest.changes import Changes, recipe_of
from ingest.files import open_file
from ingest.read import Failure, Origin
from ingest.report import IngestReport, IngestRequest, Progress
from ingest.sandbox.frames import Cut
from ingest.sandbox.job import Job, Work
from ingest.sandbox.pool import Pool, Reading
from ingest.sources import fetched, gone_paths, sites_of
from ingest.walk import FoundFile, walk
from rag.embed import Embedder
from rag.errors import InputError
from rag.meter import Meter
from rag.settings import Settings
from rag.store.catalog import Catalog, SourceRow
from rag.store.snapshot import writer_lock

__all__ = [
    "IngestReport",
    "IngestRequest",
    "Progress",
    "Removal",
    "add_documents",
    "check_collection_name",
    "chunk_limit",
    "ingest",
    "remove_documents",
]


@dataclass(frozen=True, slots=True)
class _Item:
    """What the walk came to, and what is known of it.

    Attributes:
        path: Without links, as the catalog names it; empty for a failure of the walk.
        failure: Why it is not to be read, or None.
        known: Fingerprints by id of the documents that came from it, where it is read.
    """

    path: str
    failure: Failure | None = None
    known: dict[str, str] = field(default_factory=dict)


def ingest(request: IngestRequest, settings: Settings, embedder: Embedder, progress: Progress, meter: Meter) -> IngestReport:
    """Bring a collection in step with files.

    Args:
        request: What to ingest.
        settings: Data directory and limits.
        embedder: Whose vectors the collection will hold; another one than last time embeds everything anew.
        progress: Told of stages and steps.
        meter: Charged with the stages ``fetch`` where there are addresses, ``read``, ``dedup``, ``embed`` and ``publish``.

    Returns:
        The report; unreadable files are in it, not raised.

    Raises:
        InputError: If a path does not exist, an address or a name is not allowed, or there is nothing at all to ingest.
        MissingExtraError: If an address is given without the extra ``[web]``.
        SnapshotError: If the data directory is locked, damaged, newer or not writable.
        RagError: With code ``sandbox``, if no process can be started to read files.
        ModelError: If the embedder fails; documents read so far are read again next time, vectors are kept.
    """
    check_collection_name(request.collection)
    max_tokens = chunk_limit(settings.ingest, embedder)
    # Both refuse what is wrong before anything is made.
    found = walk(request.paths, request.include, request.exclude, request.prefix)
    sites = sites_of(request, settings)
    catalog = Catalog(settings.data_dir, create=True)
    try:
        with writer_lock(settings.data_dir):
            before = catalog.begin(request.collection, embedder.id, embedder.dim)
            run = _Run(
                request,
                settings.ingest,
                embedder,
                catalog,
                before,
                max_tokens,
                recipe_of(request, settings.ingest, embedder, max_tokens),
                data_dir=settings.data_dir,
                mirrors=[site.folder for site in sites],
            )
            pages = fetched(sites, progress, meter)
            pool: Pool[_Item] = Pool(settings, embedder, max_tokens)
            with meter.stage("read", child=pool.cpu_ns), pool, catalog.transaction():
                run.read_files([*found, *pages], pool, progress)
            return run.publish(settings.data_dir, progress, meter)
    finally:
        catalog.close()


@dataclass(slots=True)
class _Run(Changes):
    """One run over files; ``mirrors`` are the folders of the pages that were fetched for it."""

    data_dir: Path = Path()
    mirrors: Sequence[Path] = ()

    def read_files(self, found: Sequence[FoundFile | Failure], pool: Pool[_Item], progress: Progress) -> None:
        """Read what is new or changed, and end what is gone."""
        known = self.catalog.sources(self.request.collection, self.before.version)
        if self.request.include and not any(isinstance(item, FoundFile) for item in found):
            raise InputError(
                f"--include {', '.join(self.request.include)} matches no file; write globs as in .gitignore, for example '*.md'",
                code="bad_glob",
            )
        progress.begin("read", len(found))
        seen: set[str] = set()
        for reading in pool.read(self._job(item, known) for item in found):
            self._take(reading)
            seen.add(reading.key.path)
            progress.advance()
        for gone in gone_paths(known.keys() - seen, self.request.paths, self.mirrors, self.tally.failed, self.data_dir):
            self._remove_source(gone)
        if not known and not self.tally.changed:
            self._refuse_nothing(len(found))

    def _refuse_nothing(self, n_found: int) -> None:
        """An empty folder is a mistake, not an empty collection."""
        where = ", ".join([*map(str, self.request.paths), *self.request.urls])
        first = f"; first reason: {self.tally.failed[0].path}: {self.tally.failed[0].message}" if self.tally.failed else ""
        read, way_out = "no page could be read", "put that right, or give another address"
        if self.request.paths:
            read = f"{n_found} files found, none readable"
            way_out = (
                "give a folder with text, Markdown, HTML, PDF, Office documents, tables, JSONL, mail, notebooks, archives or source "
                "code, and check --include, --exclude and .ragignore"
            )
        raise InputError(f"nothing to ingest in {where}: {read}{first}; {way_out}", code="nothing_to_ingest")

    def _job(self, found: FoundFile | Failure, known: Mapping[str, SourceRow]) -> Job[_Item]:
        """Open a file, and see by its bytes whether there is anything to do."""
        if isinstance(found, Failure):
            return Job(_Item("", found))
        path = str(found.path.resolve())
        try:
            file = open_file(found, self.settings.max_file_bytes)
        except InputError as error:
            return Job(_Item(path, Failure(found.uri, error.code, str(error))))
        salt = self.recipe + found.doc_id + "\0"
        try:
            if known.get(path) == SourceRow(path, file.digest(salt)):
                os.close(file.handle)
                return Job(_Item(path))
        except OSError as error:
            os.close(file.handle)
            return Job(_Item(path, Failure(found.uri, "unreadable", f"{error.strerror}; see whether the disk is well")))
        old = self.catalog.documents_of(self.request.collection, self.before.version, path)
        home = self.request.home
        uri = found.path.relative_to(home).as_posix() if home and found.path.is_relative_to(home) else found.uri
        origin = Origin(found.path, found.doc_id, uri, file.mtime)
        # Of many documents most are as they were, and need not be cut again: only this process knows which.
        return Job(_Item(path, None, old), Work(file.handle, file.n_bytes, origin, found.kind, salt, cut=len(old) <= 1))

    def _take(self, reading: Reading[_Item]) -> None:
        """Write down what became of a file, in the order of the walk."""
        item = reading.key
        if item.failure:
            self.tally.failed.append(item.failure)
        if not reading.is_read:
            self._keep(item.path)
            return
        self.tally.n_parsed += 1
        n_failed = len(self.tally.failed)
        changed = self._replace_documents(item, reading)
        # What failed is tried again, and reported again, by every run: an id may have become free, and silence would look like success.
        row = SourceRow(item.path, "" if len(self.tally.failed) > n_failed else reading.digest)
        if changed is not None:
            self.catalog.record_source(self.request.collection, self.next_version, row, changed=changed)

    def _replace_documents(self, item: _Item, reading: Reading[_Item]) -> bool | None:
        """Put what a file holds now in the place of what it held, and say whether a document differs.

        None means that the file gave nothing but failures: then what is known of it stays. So does what was not come to when the
        reading was given up.
        """
        collection, old = self.request.collection, dict(item.known)
        failures: list[Failure] = []
        kept = 0
        before = (self.tally.n_added, self.tally.n_updated, self.tally.n_removed)
        for result in reading:
            if isinstance(result, Failure):
                failures.append(result)
                continue
            document = self._labelled(result.document)
            if (trouble := self._conflict(document.doc_id, item.path)) is not None:
                failures.append(trouble)
                continue
            kept += 1
            self._put(Cut(document, result.spans), item.path, old.pop(document.doc_id, None))
        self.tally.failed += failures
        if not reading.is_whole or (failures and not kept):
            self.tally.n_unchanged += len(old)
            return None if not kept else before != (self.tally.n_added, self.tally.n_updated, self.tally.n_removed)
        for doc_id in old:
            self.catalog.remove_document(collection, self.next_version, doc_id)
            self.tally.n_removed += 1
        return before != (self.tally.n_added, self.tally.n_updated, self.tally.n_removed)

    def _keep(self, path: str) -> None:
        self.tally.n_unchanged += len(self.catalog.documents_of(self.request.collection, self.before.version, path))
