"""Files to a published snapshot: walk, read, chunk, collapse duplicates, embed what is new, publish.

The run is incremental by content. A file whose bytes and recipe (readers, chunker, embedder, user metadata) are those of last time
is neither parsed nor embedded; a changed file replaces those of its documents that differ; documents of files that are gone from
the ingested folders are removed; vectors are reused by digest of their text, also after an interrupted run. When nothing differs,
nothing is published. A file that cannot be read is reported, what is known of it stays, and the rest goes on.

Files are read and cut by child processes (`ingest.sandbox`); this process opens and hashes them, and alone writes the catalog, in the
order of the walk, so that the outcome does not depend on how many processes there are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ingest.allowed import check_collection_name, chunk_limit
from ingest.boilerplate import find_boilerplate
from ingest.chunk import CHUNKER_VERSION, chunk_document
from ingest.dedup import find_duplicates
from ingest.files import open_file
from ingest.read import READER_VERSION, Failure, Origin
from ingest.report import IngestReport, IngestRequest, Progress
from ingest.sandbox.frames import Cut
from ingest.sandbox.job import Job, Work
from ingest.sandbox.pool import Pool, Reading
from ingest.walk import FoundFile, walk
from rag.cache import FILE_NAME, AnswerCache
from rag.embed import Embedder
from rag.errors import InputError, SnapshotError
from rag.meter import Meter
from rag.settings import IngestSettings, Settings
from rag.store.catalog import Catalog, CollectionRow, SourceRow
from rag.store.snapshot import collect, publish, writer_lock
from rag.types import Document

__all__ = ["IngestReport", "IngestRequest", "Progress", "check_collection_name", "chunk_limit", "ingest"]

# Texts a call. After one call of every thread the vectors are committed: a crash costs a second of work, and a server gets more than
# one text a request.
_EMBED_CALL = 16


@dataclass(slots=True)
class _Tally:
    """Counts of a run, while it runs."""

    n_added: int = 0
    n_updated: int = 0
    n_unchanged: int = 0
    n_removed: int = 0
    n_parsed: int = 0
    failed: list[Failure] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.n_added or self.n_updated or self.n_removed)


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
        meter: Charged with the stages ``read``, ``dedup``, ``embed`` and ``publish``.

    Returns:
        The report; unreadable files are in it, not raised.

    Raises:
        InputError: If a path does not exist, a name is not allowed, or there is nothing at all to ingest.
        SnapshotError: If the data directory is locked, damaged, newer or not writable.
        RagError: With code ``sandbox``, if no process can be started to read files.
        ModelError: If the embedder fails; documents read so far are read again next time, vectors are kept.
    """
    check_collection_name(request.collection)
    max_tokens = chunk_limit(settings.ingest, embedder)
    found = walk(request.paths, request.include, request.exclude, request.prefix)  # refuses wrong paths before anything is made
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
                _recipe(request, settings.ingest, embedder, max_tokens),
            )
            pool: Pool[_Item] = Pool(settings, embedder, max_tokens)
            with meter.stage("read", child=pool.cpu_ns), pool, catalog.transaction():
                run.read_files(list(found), pool, progress)
            return run.publish(settings.data_dir, progress, meter)
    finally:
        catalog.close()


def _recipe(request: IngestRequest, settings: IngestSettings, embedder: Embedder, max_tokens: int) -> str:
    """Everything besides the bytes of a file that decides what is made of it."""
    chosen = (max_tokens, settings.near_duplicate, settings.boilerplate_share, settings.ocr_languages)
    return json.dumps([READER_VERSION, CHUNKER_VERSION, embedder.id, *chosen, sorted(request.metadata.items())])


@dataclass(slots=True)
class _Run:
    """One ingest run: collects changes as rows of the next version, then publishes them."""

    request: IngestRequest
    settings: IngestSettings
    embedder: Embedder
    catalog: Catalog
    before: CollectionRow
    max_tokens: int
    recipe: str
    tally: _Tally = field(default_factory=_Tally)

    @property
    def next_version(self) -> int:
        return self.before.version + 1

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
        roots = [path.resolve() for path in self.request.paths]
        # What could not be looked at is not gone: a failure may name a file or a whole folder, or the ignore file of one.
        places = [os.path.dirname(f.path) if f.code == "bad_ignore_file" else f.path for f in self.tally.failed]
        unknown = {Path(shape(place)) for place in places for shape in (os.path.abspath, os.path.realpath)}
        for gone in known.keys() - seen:
            below = Path(gone).is_relative_to
            if any(map(below, roots)) and not any(map(below, unknown)):
                self._remove_source(gone)
        if not known and not self.tally.changed:
            self._refuse_nothing(len(found))

    def _refuse_nothing(self, n_found: int) -> None:
        """An empty folder is a mistake, not an empty collection."""
        where = ", ".join(str(path) for path in self.request.paths)
        first = f"; first reason: {self.tally.failed[0].path}: {self.tally.failed[0].message}" if self.tally.failed else ""
        raise InputError(
            f"nothing to ingest in {where}: {n_found} files found, none readable{first}; "
            "give a folder with text, Markdown, HTML, PDF, Office documents, tables, JSONL, mail, notebooks, archives or source code, "
            "and check --include, --exclude and .ragignore",
            code="nothing_to_ingest",
        )

    def _job(self, found: FoundFile | Failure, known: Mapping[str, SourceRow]) -> Job[_Item]:
        """Open a file, and see by its bytes whether there is anything to do."""
        if isinstance(found, Failure):
            return Job(_Item("", found))
        path = str(found.path.resolve())
        try:
            file = open_file(found, self.settings.max_file_bytes)
        except InputError as error:
            shown = path if error.code == "too_large" else found.uri
            return Job(_Item(path, Failure(shown, error.code, str(error))))
        salt = self.recipe + found.doc_id + "\0"
        try:
            if known.get(path) == SourceRow(path, file.digest(salt)):
                os.close(file.handle)
                return Job(_Item(path))
        except OSError as error:
            os.close(file.handle)
            return Job(_Item(path, Failure(found.uri, "unreadable", f"{error.strerror}; see whether the disk is well")))
        old = self.catalog.documents_of(self.request.collection, self.before.version, path)
        origin = Origin(found.path, found.doc_id, found.uri, file.mtime)
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

    def _labelled(self, document: Document) -> Document:
        """The document with what the request adds: metadata, and the prefix where the id comes from a record, not from a path."""
        prefix = f"{self.request.prefix}/" if self.request.prefix else ""
        doc_id = document.doc_id if document.doc_id.startswith(prefix) else prefix + document.doc_id
        return replace(document, doc_id=doc_id, metadata={**document.metadata, **self.request.metadata})

    def _put(self, cut: Cut, path: str, known_fingerprint: str | None) -> None:
        document = cut.document
        fingerprint = _fingerprint(document, self.recipe)
        if known_fingerprint == fingerprint:
            self.tally.n_unchanged += 1
            return
        if known_fingerprint is None:
            self.tally.n_added += 1
        else:
            self.tally.n_updated += 1
            self.catalog.remove_document(self.request.collection, self.next_version, document.doc_id)
        spans = chunk_document(document, self.embedder, self.max_tokens) if cut.spans is None else cut.spans
        self.catalog.put_document(self.request.collection, self.next_version, path, document, spans, fingerprint)

    def _conflict(self, doc_id: str, path: str) -> Failure | None:
        """Another file that still exists and owns the id; one that is gone gives its id up."""
        owner = self.catalog.owner_of(self.request.collection, self.next_version, doc_id)
        if owner is None or owner == path:
            return None
        if Path(owner).exists():
            return Failure(
                path, "duplicate_id", f"document id {doc_id!r} belongs to {owner}; ingest one of them with --prefix NAME"
            )
        self._remove_source(owner)
        return None

    def _remove_source(self, path: str) -> None:
        collection = self.request.collection
        for doc_id in self.catalog.documents_of(collection, self.next_version, path):
            self.catalog.remove_document(collection, self.next_version, doc_id)
            self.tally.n_removed += 1
        self.catalog.remove_source(collection, self.next_version, path)

    def _keep(self, path: str) -> None:
        self.tally.n_unchanged += len(self.catalog.documents_of(self.request.collection, self.before.version, path))

    def publish(self, data_dir: Path, progress: Progress, meter: Meter) -> IngestReport:
        """Make the changes current, if there are any."""
        collection, tally = self.request.collection, self.tally
        is_current = self.before.version > 0 and self.before.embedder == self.embedder.id
        n_embedded = 0
        if tally.changed or not is_current:
            with meter.stage("dedup"), self.catalog.transaction():
                view = self.catalog.view(collection, self.next_version)
                trims = find_boilerplate(view, self.settings.boilerplate_share, self.embedder.count_tokens)
                self.catalog.put_trims(collection, self.next_version, trims)
                duplicates = find_duplicates(view.live_chunks(), self.settings.near_duplicate)
                self.catalog.put_duplicates(collection, self.next_version, duplicates)
            with meter.stage("embed"):
                n_embedded = self._embed_missing({row.chunk_no for row in duplicates}, progress)
            if n_embedded and self.embedder.is_remote:
                meter.remote(None)
            with meter.stage("publish"):
                progress.begin("publish", None)
                publish(self.catalog, data_dir, collection, self.next_version, self.embedder.id, self.embedder.dim)
                collect(self.catalog, data_dir, collection, self.next_version, self.settings.keep_versions)
                self._forget_answers(data_dir)
            version = self.next_version
        else:
            version = self.before.version
            collect(self.catalog, data_dir, collection, version, self.settings.keep_versions)  # what a crash left
        counts = self.catalog.view(collection, version).counts()
        return IngestReport(
            collection=collection,
            version=version,
            published=version == self.next_version,
            n_added=tally.n_added,
            n_updated=tally.n_updated,
            n_unchanged=tally.n_unchanged,
            n_removed=tally.n_removed,
            failed=tuple(tally.failed),
            n_chunks=counts.n_chunks,
            n_duplicates=counts.n_duplicates,
            n_boilerplate=counts.n_boilerplate,
            n_parsed=tally.n_parsed,
            n_embedded=n_embedded,
            measurement=meter.finish(),
        )

    def _forget_answers(self, data_dir: Path) -> None:
        """Delete cached answers that cite what is gone, so that nothing of a deleted document stays.

        A cache that cannot be written is no reason to fail what is published: its answers are checked again when they are asked for.
        """
        if (data_dir / FILE_NAME).exists():
            with suppress(SnapshotError):
                view = self.catalog.view(self.request.collection, self.next_version)
                AnswerCache(data_dir).prune(view, self.request.collection)

    def _embed_missing(self, collapsed: set[int], progress: Progress) -> int:
        """Embed the indexed texts that have no vector yet, one by one on several threads; vectors are kept batch by batch."""
        table = self.catalog.vectors(self.embedder.id)
        view = self.catalog.view(self.request.collection, self.next_version)
        missing = table.missing(view.digests(without=collapsed))
        n_missing = len(missing)
        progress.begin("embed", n_missing)
        n_workers = self.settings.workers or os.cpu_count() or 1
        with ThreadPoolExecutor(n_workers) as pool:
            batch: dict[bytes, str] = {}
            for chunk in view.live_chunks():
                if chunk.digest not in missing:
                    continue
                missing.discard(chunk.digest)
                batch[chunk.digest] = chunk.indexed_text
                if len(batch) == n_workers * _EMBED_CALL or not missing:
                    texts = list(batch.values())
                    parts = [texts[at : at + _EMBED_CALL] for at in range(0, len(texts), _EMBED_CALL)]
                    vectors = np.concatenate(list(pool.map(self.embedder.embed, parts)))
                    with self.catalog.transaction():
                        table.put(list(batch), vectors)
                    progress.advance(len(batch))
                    batch = {}
        return n_missing


def _fingerprint(document: Document, recipe: str) -> str:
    """Digest of all that the catalog keeps of a document and of how it was made."""
    what = [recipe, document.title, document.kind, sorted(document.metadata.items())]
    sections = [(s.start, s.end, s.kind, s.headings, s.page, s.line, s.flags) for s in document.sections]
    digest = hashlib.sha256(json.dumps([what, sections]).encode())
    digest.update(document.text.encode())
    return digest.hexdigest()
