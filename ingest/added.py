"""Documents that a program hands over, as LangChain makes them or as ours, into a collection, and documents out of it by id.

Each is a source of its own: handed over again it changes nothing, changed it replaces what it was, and the others stay. No ingest of
files removes one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ingest.allowed import check_collection_name, chunk_limit
from ingest.changes import ADDED, Changes, recipe_of
from ingest.read import Failure, Origin
from ingest.read.jsonl import metadata_text, record_name
from ingest.read.origin import clean, document, one_line
from ingest.report import IngestReport, IngestRequest, Progress
from ingest.sandbox.frames import Cut
from rag.embed import Embedder
from rag.errors import InputError
from rag.meter import Meter
from rag.settings import Settings
from rag.store.catalog import Catalog
from rag.store.snapshot import writer_lock
from rag.text import normalise, paragraphs
from rag.types import Document, Section

# 64 bits tell the documents of one source apart.
_DIGEST_CHARS = 16
# What tells two pieces of one source with the same text apart.
_PLACES = ("page", "start_index")


def add_documents(
    documents: Iterable[object], request: IngestRequest, settings: Settings, embedder: Embedder, progress: Progress, meter: Meter
) -> IngestReport:
    """Put documents into a collection.

    The id is ``id``, else ``metadata["id"]``, else made of ``metadata["source"]``, page, start index and text: so a changed document
    replaces its former version only if it has an id. ``metadata["title"]`` is the title; the rest of the metadata becomes text.

    Args:
        documents: Taken one by one: `rag.types.Document`, or any object with ``page_content`` (str), ``metadata`` (mapping) and maybe
            ``id``, such as LangChain's.
        request: Collection, prefix and metadata; nothing else.
        settings: Data directory and limits.
        embedder: That of the collection.
        progress: Told of stages and steps.
        meter: Charged with the stages ``read``, ``dedup``, ``embed`` and ``publish``.

    Returns:
        The report; documents that cannot be taken are in it, not raised. Of two with one id the first is taken.

    Raises:
        InputError: If the request names files, the collection has another embedder, or there is no document for a new collection.
        SnapshotError: If the data directory is locked, damaged, newer or not writable.
        ModelError: If the embedder fails; nothing is published, vectors are kept.
    """
    if request.paths or request.urls or request.include or request.exclude:
        raise InputError("paths, addresses and globs are for ingest; add_documents takes none", code="usage")
    with _opened(request, settings, embedder, create=True) as run:
        with meter.stage("read"), run.catalog.transaction():
            run.take(documents, progress)
        return run.publish(settings.data_dir, progress, meter)


@dataclass(frozen=True, slots=True)
class Removal:
    """What to take out of a collection.

    Attributes:
        doc_ids: Ids of documents; all must be there.
        collection: Published.
        owned: A folder whose files belong to the caller: one of which no document is left is deleted too. None deletes no file.
    """

    doc_ids: Sequence[str]
    collection: str
    owned: Path | None = None


def remove_documents(removal: Removal, settings: Settings, embedder: Embedder, progress: Progress, meter: Meter) -> IngestReport:
    """Publish a version without some documents, wherever they came from.

    A file that `rag ingest` read is left as it is, and brings its document back only when it changes.

    Args:
        removal: What goes.
        settings: Data directory and limits.
        embedder: That of the collection: a text that was only known as a copy of what goes may have to be embedded.
        progress: Told of stages and steps.
        meter: Charged with the stages ``dedup``, ``embed`` and ``publish``.

    Returns:
        The report.

    Raises:
        InputError: If there is no such collection or document, or the collection has another embedder; then nothing is removed.
        SnapshotError: If the data directory is locked, damaged, newer or not writable.
        ModelError: If the embedder fails; nothing is removed.
    """
    with _opened(IngestRequest((), removal.collection), settings, embedder, create=False) as run:
        with run.catalog.transaction():
            orphans = run.drop(removal)
        report = run.publish(settings.data_dir, progress, meter)
    for path in orphans:
        path.unlink(missing_ok=True)
    return report


@contextmanager
def _opened(request: IngestRequest, settings: Settings, embedder: Embedder, *, create: bool) -> Iterator[_Run]:
    check_collection_name(request.collection)
    max_tokens = chunk_limit(settings.ingest, embedder)
    if not create:
        Catalog(settings.data_dir).close()  # refuses a folder without data before anything is made
    catalog = Catalog(settings.data_dir, create=True)
    try:
        with writer_lock(settings.data_dir):
            if not create:
                catalog.collection(request.collection)
            before = catalog.begin(request.collection, embedder.id, embedder.dim)
            if before.version and before.embedder != embedder.id:
                raise InputError(
                    f"collection {request.collection!r} was embedded by {before.embedder}, and now it is {embedder.id}; set the embedder of "
                    "the collection, or ingest its files again first",
                    code="embedder_mismatch",
                )
            recipe = recipe_of(request, settings.ingest, embedder, max_tokens)
            yield _Run(request, settings.ingest, embedder, catalog, before, max_tokens, recipe)
    finally:
        catalog.close()


@dataclass(slots=True)
class _Run(Changes):
    """One run over documents."""

    seen: dict[str, str] = field(default_factory=dict)

    def take(self, documents: Iterable[object], progress: Progress) -> None:
        """Put what is new or changed."""
        progress.begin("read", None)
        number = 0
        for number, given in enumerate(documents, start=1):
            try:
                self._add(self._labelled(_converted(given)))
            except InputError as error:
                self.tally.failed.append(Failure(f"document {number}", error.code, str(error)))
            progress.advance()
        if not self.before.version and not self.tally.changed:
            first = f"; first reason: {self.tally.failed[0].message}" if self.tally.failed else ""
            raise InputError(
                f"nothing to add: {number} documents were given, none usable{first}; give documents with text",
                code="nothing_to_ingest",
            )

    def _add(self, added: Document) -> None:
        path = ADDED + added.doc_id
        digest = self.fingerprint(added)
        if added.doc_id in self.seen:
            if self.seen[added.doc_id] == digest:
                return
            raise InputError(
                f"id {added.doc_id!r} was given before with other content; ids must differ, the first is kept", code="duplicate_id"
            )
        if (trouble := self._conflict(added.doc_id, path)) is not None:
            raise InputError(trouble.message, code=trouble.code)
        self.seen[added.doc_id] = digest
        known = self.catalog.documents_of(self.request.collection, self.before.version, path).get(added.doc_id)
        self.tally.n_parsed += known != digest
        self._put(Cut(added, None), path, known)

    def drop(self, removal: Removal) -> list[Path]:
        """Let documents end with the version before; files that are then nobody's."""
        collection, version = self.request.collection, self.next_version
        owned = removal.owned and removal.owned.resolve()
        orphans = []
        for doc_id in dict.fromkeys(removal.doc_ids):
            path = self.catalog.owner_of(collection, version, doc_id)
            if path is None:
                raise InputError(
                    f"no document {doc_id[:80]!r} in collection {collection!r}; nothing is removed", code="unknown_document"
                )
            self.catalog.remove_document(collection, version, doc_id)
            self.tally.n_removed += 1
            if owned and Path(path).is_relative_to(owned) and not self.catalog.documents_of(collection, version, path):
                self.catalog.remove_source(collection, version, path)
                orphans.append(Path(path))
        n_documents = self.catalog.view(collection, version).counts().n_documents
        self.tally.n_unchanged = n_documents
        return orphans


def _converted(given: object) -> Document:
    if isinstance(given, Document):
        return _ours(given)
    text, metadata = getattr(given, "page_content", None), getattr(given, "metadata", None)
    if not isinstance(text, str) or not isinstance(metadata, Mapping):
        raise InputError(
            f"is a {type(given).__name__}; expected a Document of rag.types or of LangChain, with text and metadata",
            code="bad_record",
        )
    source, title = metadata.get("source"), metadata.get("title")
    others = {str(key): value for key, value in metadata.items() if key not in ("id", "title")}
    try:
        labels = metadata_text(others)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"has metadata that cannot be written as text: {error}; correct it", code="bad_record") from error
    given_id = getattr(given, "id", None)
    name = record_name(metadata.get("id") if given_id is None else given_id, "id")
    source = one_line(str(source)) if source is not None else ""
    name = name or _made_name(source, [labels.get(key, "") for key in _PLACES], text)
    shown = clean(text)
    return document(Origin(Path(name), name, source or name, None), "text", _title(title), shown, _unlined(shown), labels)


def _title(value: object) -> str:
    return "" if value is None else one_line(str(value))


def _unlined(text: str) -> list[Section]:
    """Paragraphs without lines: those of a document in memory are not those of its source."""
    return [replace(section, line=None) for section in paragraphs(text)]


def _made_name(source: str, places: Sequence[str], text: str) -> str:
    digest = hashlib.sha256(json.dumps([source, *places, text]).encode()).hexdigest()[:_DIGEST_CHARS]
    return f"{source[:200]}#{digest}" if source else digest


def _ours(given: Document) -> Document:
    """A document of ours as a reader would have made it."""
    record_name(given.doc_id, "doc_id")
    origin = Origin(Path(given.doc_id), given.doc_id, given.uri, given.mtime)
    if not given.sections:
        shown = clean(given.text)
        return document(origin, given.kind, given.title, shown, paragraphs(shown), given.metadata)
    before = 0
    for section in given.sections:
        if not before <= section.start < section.end <= len(given.text):
            raise InputError(f"section {section.start} to {section.end} is out of order or of the text", code="bad_record")
        before = section.end
    if normalise(given.text) != given.text:
        raise InputError(
            "has text that is not normalised, to which offsets cannot refer; use rag.text.normalise", code="bad_record"
        )
    sections = [section for section in given.sections if given.text[section.start : section.end].strip()]
    return document(origin, given.kind, given.title, given.text, sections, given.metadata)
