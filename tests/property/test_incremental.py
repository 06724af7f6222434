"""However a collection came about, it is the one that an ingest from scratch makes: same content, rows, hits and scores."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.pipeline import IngestRequest, ingest
from rag.engine import Engine
from rag.generate.extractive import ExtractiveGenerator
from rag.meter import Meter
from rag.settings import IngestSettings, Settings
from rag.store import open_store
from rag.store.manifest import MANIFEST
from rag.store.snapshot import folder_of
from rag.types import Query, SearchMode
from tests.fakes import HashEmbedder, SilentProgress

EMBEDDER = HashEmbedder()
CONTRACT = (
    "The supplier delivers the goods within 30 days of the order. The buyer pays the invoice soon after its receipt, "
    "and may return what is damaged. Each party keeps the terms of this contract secret, unless a court orders otherwise."
)
# One document too few with a footer: those of an edit decide whether it is boilerplate, and which document keeps it.
FOOTER = "Imprint and privacy"
N_PAGES = 9
TEXTS = [
    CONTRACT,
    CONTRACT.replace("damaged", "broken"),
    CONTRACT.replace("30", "60"),
    "Apples are red.",
    "# Apples\n\nApples are red.\n\n## Pears\n\nPears are green, and " + "sweet " * 300,
    "中文没有空格的句子。" * 40,
    f"Figs are blue.\n\n{FOOTER}",
    f"Home\n\nPlums are blue.\n\n{FOOTER}",
    "| a | b |\n|---|---|\n| 1 | 2 |",
]
NAMES = ["a.md", "b.txt", "sub/c.txt", "sub/deep/d.md", "z.txt"]
QUERIES = ["when are goods delivered", "red apples", "sweet pears", "句子 court", "record of something"]
MODES: tuple[SearchMode, ...] = ("bm25", "dense", "hybrid")

writes = st.tuples(st.just("write"), st.sampled_from(NAMES), st.sampled_from(TEXTS))
deletes = st.tuples(st.just("delete"), st.sampled_from(NAMES), st.just(""))
renames = st.tuples(st.just("rename"), st.sampled_from(NAMES), st.sampled_from(NAMES))
records = st.tuples(
    st.just("records"),
    st.sampled_from(["m.jsonl", "sub/n.jsonl"]),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(TEXTS)), min_size=1, max_size=5, unique_by=lambda row: row[0]).map(
        lambda rows: json.dumps(rows)
    ),
)
ingests = st.tuples(st.just("ingest"), st.just(""), st.just(""))
edits = st.lists(writes | writes | records | deletes | renames | ingests, min_size=4, max_size=14)


def edit(folder: Path, verb: str, name: str, what: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    match verb:
        case "write":
            path.write_text(what, encoding="utf-8")
        case "delete":
            path.unlink(missing_ok=True)
        case "rename" if path.exists():
            (folder / what).parent.mkdir(parents=True, exist_ok=True)
            path.rename(folder / what)
        case "records":
            lines = [json.dumps({"_id": f"{name}-{key}", "text": text}) for key, text in json.loads(what)]
            path.write_text("\n".join(lines), encoding="utf-8")


def bring_in(folder: Path, data_dir: Path) -> int:
    options = Settings(data_dir=data_dir, ingest=IngestSettings(workers=1, near_duplicate=0.8))
    report = ingest(IngestRequest((folder,), "c"), options, EMBEDDER, SilentProgress(), Meter())
    assert report.failed == ()
    return report.version


def picture(data_dir: Path, version: int) -> tuple[object, ...]:
    """All that a reader can see of a collection but its version."""
    options = Settings(data_dir=data_dir)
    manifest = json.loads((folder_of(data_dir, "c", version) / MANIFEST).read_text(encoding="utf-8"))
    with Engine(open_store(data_dir, "c"), EMBEDDER, ExtractiveGenerator(options.answer), options) as engine:
        rows = [(c.chunk_id, c.text, c.source.also_in) for c in engine._store.chunks(np.arange(manifest["n_rows"]))]
        found = [engine.search(Query(text, mode=mode)).hits for text in QUERIES for mode in MODES]
    hits = [[(h.chunk.chunk_id, h.chunk.source.also_in, h.score, h.bm25, h.cosine) for h in one] for one in found]
    counts = [manifest[key] for key in ("content_sha256", "lexical_input", "dense_input", "n_documents", "n_chunks", "n_rows")]
    return counts, rows, hits


@given(script=edits)
@settings(max_examples=10)
def test_edits_and_ingests_in_any_order_end_in_the_collection_made_from_scratch(script: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        folder = base / "docs"
        folder.mkdir()
        (folder / "keep.md").write_text("# Kept\n\nThis file is always there.\n")
        pages = [
            json.dumps({"_id": f"page{i}", "text": f"Home\n\nPage {i} tells of {i} things.\n\n{FOOTER}"}) for i in range(N_PAGES)
        ]
        (folder / "pages.jsonl").write_text("\n".join(pages))
        bring_in(folder, base / "grown")
        for verb, file_name, what in script:
            if verb == "ingest":
                bring_in(folder, base / "grown")
            else:
                edit(folder, verb, file_name, what)
        grown = bring_in(folder, base / "grown")
        assert bring_in(folder, base / "grown") == grown
        assert picture(base / "grown", grown) == picture(base / "scratch", bring_in(folder, base / "scratch"))
