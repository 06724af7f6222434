"""`rag ingest --dry-run`: what an ingest would do to a collection, and about what it would take. Nothing is written.

Known files are hashed, as every ingest does; new ones are only looked at. What it would take is estimated from a sample
(`ingest.estimate`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ingest.allowed import chunk_limit
from ingest.changes import recipe_of
from ingest.check import check_request
from ingest.estimate import Estimate, Estimator, ToRead
from ingest.files import open_file
from ingest.read import Failure, Kind, kind_of
from ingest.report import IngestRequest, Progress
from ingest.sources import gone_paths
from ingest.walk import FoundFile, walk
from rag.cost import Measurement
from rag.embed import Embedder
from rag.errors import InputError
from rag.meter import Meter
from rag.power import Power
from rag.settings import Settings
from rag.store.catalog import Catalog, SourceRow
from rag.store.schema import FILE_NAME

Fate = Literal["new", "changed", "unchanged", "gone"]


@dataclass(frozen=True, slots=True)
class Count:
    """Files and their bytes; of files that are gone nobody knows the bytes."""

    n_files: int = 0
    n_bytes: int | None = 0


@dataclass(frozen=True, slots=True)
class FamilyPlan:
    """What would become of the files of a format family.

    Attributes:
        kind: The family.
        new: To be read for the first time.
        changed: To be read again: their bytes, or what decides what is made of them, or they failed last time.
        unchanged: Not to be read.
        gone: Whose documents would be removed.
    """

    kind: Kind
    new: Count
    changed: Count
    unchanged: Count
    gone: Count


@dataclass(frozen=True, slots=True)
class Plan:
    """What an ingest would do.

    Attributes:
        collection: Where to.
        version: Current now; 0 when there is none.
        families: By name.
        failed: What is known to fail without reading, in the order of the walk.
        estimate: None where nothing is to be read, or nothing could be sampled.
        measurement: What it cost to find out.
    """

    collection: str
    version: int
    families: tuple[FamilyPlan, ...]
    failed: tuple[Failure, ...]
    estimate: Estimate | None
    measurement: Measurement


def plan_ingest(
    request: IngestRequest, settings: Settings, embedder: Embedder, progress: Progress, meter: Meter, power: Power
) -> Plan:
    """Say what `ingest` would do, and estimate what it would take.

    Args:
        request: What is to be ingested, without addresses.
        settings: Data directory and limits.
        embedder: That of the run.
        progress: Told of stages and steps.
        meter: Charged with the stages ``look``, ``read`` and ``embed``.
        power: Prices the estimate.

    Returns:
        The plan. Equal folders give equal counts and the same sample; seconds are measured.

    Raises:
        InputError: As `ingest.check.check_request`; with code ``usage`` for an address.
        SnapshotError: If the data directory could not be used.
        ModelError: If the embedder fails.
    """
    if request.urls:
        raise InputError(
            f"--dry-run: {request.urls[0]} is an address, of which nothing is known without fetching; leave it out", code="usage"
        )
    check_request(request, settings, embedder)
    max_tokens = chunk_limit(settings.ingest, embedder)
    with _catalog(settings.data_dir) as catalog:
        look = _Look(recipe_of(request, settings.ingest, embedder, max_tokens), settings.ingest.max_file_bytes)
        if catalog is not None:
            look.version = next((row.version for row in catalog.collections() if row.name == request.collection), 0)
            look.known = catalog.sources(request.collection, look.version)
            look.n_chunks = catalog.view(request.collection, look.version).counts().n_chunks
        estimator = Estimator(
            settings, embedder, power, max_tokens, catalog.vectors(embedder.id) if catalog else None, look.n_chunks
        )
        start_s = meter.cpu_s
        with meter.stage("look"):
            look.at_all(request, settings.data_dir, progress)
        estimate = estimator.estimate(look.to_read, start_s, progress, meter)
    return Plan(request.collection, look.version, look.families(), tuple(look.failed), estimate, meter.finish())


@contextmanager
def _catalog(data_dir: Path) -> Iterator[Catalog | None]:
    """The catalog, opened for reading, if there is one; an empty file would be filled by the run."""
    path = data_dir / FILE_NAME
    if not path.exists() or not path.stat().st_size:
        yield None
        return
    catalog = Catalog(data_dir)
    try:
        yield catalog
    finally:
        catalog.close()


@dataclass(slots=True)
class _Look:
    """What the files are, and which would be read."""

    recipe: str
    max_file_bytes: int
    version: int = 0
    n_chunks: int = 0
    known: dict[str, SourceRow] = field(default_factory=dict)
    counts: dict[tuple[Kind, Fate], Count] = field(default_factory=dict)
    failed: list[Failure] = field(default_factory=list)
    to_read: list[ToRead] = field(default_factory=list)

    def at_all(self, request: IngestRequest, data_dir: Path, progress: Progress) -> None:
        """Look at what is there, and at what is known and not there."""
        progress.begin("look", None)
        seen: set[str] = set()
        for found in walk(request.paths, request.include, request.exclude, request.prefix):
            if isinstance(found, Failure):
                self.failed.append(found)
            else:
                path = os.path.realpath(found.path)
                seen.add(path)
                self._at(found, path)
            progress.advance()
        for gone in gone_paths(self.known.keys() - seen, request.paths, (), self.failed, data_dir):
            self._count(kind_of(Path(gone)), "gone", None)

    def _at(self, found: FoundFile, path: str) -> None:
        kind = found.kind or kind_of(found.path)
        try:
            file = open_file(found, self.max_file_bytes)
        except InputError as error:
            self.failed.append(Failure(found.uri, error.code, str(error)))
            return
        row = self.known.get(path)
        try:
            is_same = row == SourceRow(path, file.digest(f"{self.recipe}{found.doc_id}\0")) if row else False
        except OSError as error:
            self.failed.append(Failure(found.uri, "unreadable", f"{error.strerror}; see whether the disk is well"))
            return
        finally:
            os.close(file.handle)
        self._count(kind, "unchanged" if is_same else "changed" if row else "new", file.n_bytes)
        if not is_same:
            self.to_read.append(ToRead(found, kind, file.n_bytes))

    def _count(self, kind: Kind, fate: Fate, n_bytes: int | None) -> None:
        before = self.counts.get((kind, fate), Count())
        total = None if n_bytes is None or before.n_bytes is None else before.n_bytes + n_bytes
        self.counts[kind, fate] = Count(before.n_files + 1, total)

    def families(self) -> tuple[FamilyPlan, ...]:
        """Counts by family."""
        fates: tuple[Fate, ...] = ("new", "changed", "unchanged", "gone")
        kinds = sorted({kind for kind, _ in self.counts})
        return tuple(FamilyPlan(kind, *(self.counts.get((kind, fate), Count()) for fate in fates)) for kind in kinds)
