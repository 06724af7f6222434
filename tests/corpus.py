"""Twelve short documents about different topics, and the short way from a folder of them to hits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ingest.pipeline import IngestReport, IngestRequest, ingest
from rag.embed import Embedder
from rag.engine import Engine
from rag.generate.extractive import ExtractiveGenerator
from rag.meter import Meter
from rag.settings import IngestSettings, Settings
from rag.store import open_store
from rag.types import Query, SearchMode
from tests.fakes import HashEmbedder, SilentProgress

COLLECTION = "library"
DOCUMENTS = {
    "bread.md": "---\nlang: en\nteam: kitchen\n---\n# Bread\n\nA sourdough starter rises for twelve hours before baking.\n\n"
    "## Oven\n\nBake the loaf at 230 degrees under a lid.\n",
    "bees.md": "---\nlang: en\nteam: garden\n---\n# Bees\n\nA hive swarms in May when the queen leaves with half of the workers.\n",
    "brot.md": "---\nlang: de\nteam: kitchen\n---\n# Brot\n\nDer Teig geht zwölf Stunden im warmen Raum.\n",
    "tides.txt": "The tide is high twice a day because the moon pulls the water of the oceans.\n",
    "engines.txt": "A diesel engine ignites its fuel by compression alone and has no spark plugs.\n",
    "chess.md": "# Chess\n\nThe bishop moves along diagonals; the knight jumps over other pieces.\n",
    "law.md": "# Lease\n\nThe tenant pays the rent of 900 euros on the third working day of each month.\n",
    "heart.txt": "The heart of an adult beats sixty to a hundred times a minute at rest.\n",
    "glass.md": "---\nlang: en\nteam: workshop\n---\n# Glass\n\nMolten glass is blown at 1100 degrees and cools in a kiln.\n",
    "rust.md": "# Rust\n\nIron rusts where water and oxygen meet its bare surface.\n",
    "trains/signals.txt": "A red signal stops the train; yellow tells the driver to expect red at the next one.\n",
    "trains/gauge.txt": "Standard gauge is 1435 millimetres between the inner sides of the rails.\n",
}
QUESTIONS = (
    "how hot is the oven for a loaf",
    "when do bees swarm",
    "what does a red signal tell the train driver",
    "rent of the tenant",
    "why is the tide high twice a day",
    "water and iron",
)
MODES: tuple[SearchMode, ...] = ("bm25", "dense", "hybrid")

Seen = tuple[tuple[str, str, str, float, float | None, float | None], ...]
"""What a user sees of the hits of one question: document, chunk, text and scores."""


def write_documents(folder: Path, names: Iterable[str] = tuple(DOCUMENTS)) -> Path:
    """Write documents below a folder, which is made, and return it."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(DOCUMENTS[name], encoding="utf-8")
    return folder


def settings_for(data_dir: Path, keep_versions: int = 2) -> Settings:
    """Settings for a small collection: one embedding thread."""
    return Settings(data_dir=data_dir, collection=COLLECTION, ingest=IngestSettings(workers=1, keep_versions=keep_versions))


def ingest_into(
    data_dir: Path, *paths: Path, keep_versions: int = 2, metadata: dict[str, str] | None = None, embedder: Embedder | None = None
) -> IngestReport:
    """Bring the collection in step with folders and files."""
    request = IngestRequest(paths, COLLECTION, metadata=metadata or {})
    return ingest(request, settings_for(data_dir, keep_versions), embedder or HashEmbedder(), SilentProgress(), Meter())


def open_library(data_dir: Path) -> Engine:
    """An engine over the current version, to be closed after use."""
    settings = settings_for(data_dir)
    return Engine(open_store(data_dir, COLLECTION), HashEmbedder(), ExtractiveGenerator(settings.answer), settings)


def seen(engine: Engine, questions: Iterable[str] = QUESTIONS, modes: Iterable[SearchMode] = MODES) -> list[Seen]:
    """What a user sees of every question in every mode."""
    found = []
    for mode in modes:
        for question in questions:
            hits = engine.search(Query(question, mode=mode)).hits
            found.append(
                tuple((hit.chunk.doc_id, hit.chunk.chunk_id, hit.chunk.text, hit.score, hit.bm25, hit.cosine) for hit in hits)
            )
    return found


def seen_in(data_dir: Path) -> list[Seen]:
    """What a user sees who opens the current version now."""
    with open_library(data_dir) as engine:
        return seen(engine)
