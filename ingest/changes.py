"""What an ingest run changes: documents put and removed as rows of the next version, which is then published.

Where the documents come from, files or a program, is the business of those who inherit.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ingest.boilerplate import find_boilerplate
from ingest.chunk import CHUNKER_VERSION, chunk_document
from ingest.dedup import find_duplicates
from ingest.read import READER_VERSION, Failure
from ingest.report import IngestReport, IngestRequest, Progress
from ingest.sandbox.frames import Cut
from rag.cache import FILE_NAME, AnswerCache
from rag.embed import Embedder
from rag.errors import SnapshotError
from rag.meter import Meter
from rag.settings import IngestSettings
from rag.store.catalog import Catalog, CollectionRow
from rag.store.snapshot import collect, publish
from rag.types import Document

ADDED = "document:"
"""Begins the path of a document that a program added; every path of a file is absolute."""
# Texts a call. After one call of every thread the vectors are committed: a crash costs a second of work, and a server gets more than
# one text a request.
_EMBED_CALL = 16


@dataclass(slots=True)
class Tally:
    """Counts of a run, while it runs."""

    n_added: int = 0
    n_updated: int = 0
    n_unchanged: int = 0
    n_removed: int = 0
    n_parsed: int = 0
    failed: list[Failure] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether the next version differs from this one."""
        return bool(self.n_added or self.n_updated or self.n_removed)


def recipe_of(request: IngestRequest, settings: IngestSettings, embedder: Embedder, max_tokens: int) -> str:
    """Everything besides the bytes of a file that decides what is made of it."""
    chosen = (max_tokens, settings.near_duplicate, settings.boilerplate_share, settings.ocr_languages)
    return json.dumps([READER_VERSION, CHUNKER_VERSION, embedder.id, *chosen, sorted(request.metadata.items())])


@dataclass(slots=True)
class Changes:
    """One ingest run: collects changes as rows of the next version, then publishes them."""

    request: IngestRequest
    settings: IngestSettings
    embedder: Embedder
    catalog: Catalog
    before: CollectionRow
    max_tokens: int
    recipe: str
    tally: Tally = field(default_factory=Tally)

    @property
    def next_version(self) -> int:
        """The version that is being made."""
        return self.before.version + 1

    def _labelled(self, document: Document) -> Document:
        """The document with what the request adds: metadata, and the prefix where the id comes from a record, not from a path."""
        prefix = f"{self.request.prefix}/" if self.request.prefix else ""
        doc_id = document.doc_id if document.doc_id.startswith(prefix) else prefix + document.doc_id
        return replace(document, doc_id=doc_id, metadata={**document.metadata, **self.request.metadata})

    def fingerprint(self, document: Document) -> str:
        """Digest of all that the catalog keeps of a document and of how it was made."""
        what = [self.recipe, document.title, document.kind, sorted(document.metadata.items())]
        sections = [(s.start, s.end, s.kind, s.headings, s.page, s.line, s.flags) for s in document.sections]
        digest = hashlib.sha256(json.dumps([what, sections]).encode())
        digest.update(document.text.encode())
        return digest.hexdigest()

    def _put(self, cut: Cut, path: str, known_fingerprint: str | None) -> None:
        document = cut.document
        fingerprint = self.fingerprint(document)
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
        if owner.startswith(ADDED) or Path(owner).exists():
            # Who uploads to a service is not told where its files lie.
            shown = Path(owner).name if self.request.home and not owner.startswith(ADDED) else owner
            return Failure(
                path, "duplicate_id", f"document id {doc_id!r} belongs to {shown}; ingest one of them with --prefix NAME"
            )
        self._remove_source(owner)
        return None

    def _remove_source(self, path: str) -> None:
        collection = self.request.collection
        for doc_id in self.catalog.documents_of(collection, self.next_version, path):
            self.catalog.remove_document(collection, self.next_version, doc_id)
            self.tally.n_removed += 1
        self.catalog.remove_source(collection, self.next_version, path)

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
