"""What is asked of an ingest run, what it reports, and who is told of its progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ingest.read import Failure
from rag.cost import Measurement
from rag.types import Metadata


@dataclass(frozen=True, slots=True)
class IngestRequest:
    """What to ingest.

    Attributes:
        paths: Folders and files.
        collection: Where to.
        include: Globs in the manner of .gitignore; when given, only matching files are taken.
        exclude: Globs of files to leave out.
        prefix: Put before every document id, as ``prefix/``.
        metadata: Added to every document, over what its source says.
        urls: Addresses of pages and sitemaps, which globs do not concern.
        home: The URI of a document is the path of its file below this folder, where that says nothing of this machine; None takes paths
            as they were given.
    """

    paths: tuple[Path, ...]
    collection: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    prefix: str = ""
    metadata: Metadata = field(default_factory=dict)
    urls: tuple[str, ...] = ()
    home: Path | None = None


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest run did.

    Attributes:
        collection: Where to.
        version: The version that is current now.
        published: Whether this run made it.
        n_added: New documents.
        n_updated: Documents that differ from the version before.
        n_unchanged: Documents that do not.
        n_removed: Documents whose file or record is gone.
        failed: What could not be read, in the order of the walk.
        n_chunks: Chunks of the version, collapsed duplicates included.
        n_duplicates: Chunks that another one stands for.
        n_boilerplate: Blocks of text left out of chunks, because many documents repeat them.
        n_parsed: Files that were read and cut.
        n_embedded: Texts that were embedded in this run.
        measurement: What it cost.
    """

    collection: str
    version: int
    published: bool
    n_added: int
    n_updated: int
    n_unchanged: int
    n_removed: int
    failed: tuple[Failure, ...]
    n_chunks: int
    n_duplicates: int
    n_boilerplate: int
    n_parsed: int
    n_embedded: int
    measurement: Measurement


class Progress(Protocol):
    """Told what goes on; the command line draws it."""

    def begin(self, stage: str, total: int | None) -> None:
        """A stage begins; total steps if known."""
        ...

    def advance(self, steps: int = 1) -> None:
        """Steps of the stage are done."""
        ...
