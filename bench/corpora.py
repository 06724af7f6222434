"""Data sets as collections: each is ingested by the shipped pipeline into a data directory of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from eval.datasets import Dataset, load_beir
from ingest.pipeline import IngestReport, IngestRequest, ingest
from rag.embed import Embedder, open_embedder
from rag.engine import Engine
from rag.generate import open_generator
from rag.meter import Meter
from rag.settings import Settings
from rag.store import Store, open_store
from rag.store.catalog import Catalog
from rag.store.rows import LiveChunk

COLLECTION = "default"


@dataclass(frozen=True, slots=True)
class Corpus:
    """A data set and its collection; whoever opens it closes the store.

    Attributes:
        dataset: Documents, queries, judgements.
        settings: Shipped defaults with the data directory of this collection.
        store: The collection, open.
        embedder: The one that made its vectors.
    """

    dataset: Dataset
    settings: Settings
    store: Store
    embedder: Embedder

    def engine(self, settings: Settings | None = None, store: Store | None = None) -> Engine:
        """An engine on this collection.

        Args:
            settings: In place of the defaults.
            store: In place of the whole collection.

        Returns:
            An engine that needs no closing: the store is that of the corpus.
        """
        chosen = settings or self.settings
        return Engine(store or self.store, self.embedder, open_generator(chosen), chosen)

    def chunks(self) -> list[LiveChunk]:
        """The chunk of every row, in row order."""
        catalog = Catalog(self.settings.data_dir)
        try:
            view = catalog.view(self.store.collection, self.store.version)
            collapsed = {row.chunk_no for row in view.duplicates()}
            return [chunk for chunk in view.live_chunks() if chunk.chunk_no not in collapsed]
        finally:
            catalog.close()


@dataclass(frozen=True, slots=True)
class Silent:
    """Progress that nobody watches."""

    def begin(self, stage: str, total: int | None) -> None:
        """Say nothing."""

    def advance(self, steps: int = 1) -> None:
        """Say nothing."""


def open_corpus(folder: Path, work: Path) -> Corpus:
    """Ingest a data set, if the working folder does not hold it yet as it is, and open it.

    Args:
        folder: A data set in the BEIR layout.
        work: Where its data directory lies or will lie.

    Returns:
        The corpus, ready to be searched.
    """
    dataset = load_beir(folder)
    settings = replace(Settings(), data_dir=work / dataset.name)
    embedder = open_embedder(settings.embedder, settings.data_dir / "models")
    ingest_files((_corpus_file(folder),), settings, embedder)
    return Corpus(dataset, settings, open_store(settings.data_dir, COLLECTION), embedder)


def ingest_files(paths: tuple[Path, ...], settings: Settings, embedder: Embedder) -> IngestReport:
    """Run the shipped pipeline; a file that cannot be read ends the benchmark.

    Args:
        paths: Files and folders.
        settings: Data directory and limits.
        embedder: Makes the vectors.

    Returns:
        What was done and what it cost.

    Raises:
        SystemExit: If something could not be read.
    """
    report = ingest(IngestRequest(paths, COLLECTION), settings, embedder, Silent(), Meter())
    if report.failed:
        raise SystemExit(f"ingest failed for {len(report.failed)}, first: {report.failed[0].code}: {report.failed[0].message}")
    return report


def _corpus_file(folder: Path) -> Path:
    plain = folder / "corpus.jsonl"
    return plain if plain.exists() else folder / "corpus.jsonl.gz"
