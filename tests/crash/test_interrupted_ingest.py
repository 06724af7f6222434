"""`rag ingest` killed at any moment over a folder of many formats, and run again, ends as a run that nobody killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from rag.store.catalog import Catalog
from rag.store.manifest import verify
from rag.store.snapshot import folder_of
from tests.made.families import families, mutant

ROOT = Path(__file__).parents[2]
COLLECTION = "mixed"
PARTLY_FAILED = 3
# A format of each manner of reading, and little to embed.
NAMES = ("guide.md", "table.csv", "records.jsonl", "box.mbox", "plain.pdf", "sheet.xlsx", "book.epub", "files.zip")
N_POINTS = 20


@dataclass(frozen=True)
class Whole:
    """A folder, what one run without interruption makes of it, and how many seconds that took."""

    folder: Path
    content_sha256: str
    documents: list[str]
    seconds: float


def command(folder: Path, data_dir: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "rag", "--data-dir", str(data_dir), "ingest", str(folder), "--collection", COLLECTION]


def start(folder: Path, data_dir: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAG_INGEST_WORKERS": "2"}
    return subprocess.Popen(command(folder, data_dir), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(folder: Path, data_dir: Path) -> None:
    with start(folder, data_dir) as process:
        _, said = process.communicate()
    assert process.returncode == PARTLY_FAILED, said.decode()


def content_of(data_dir: Path) -> tuple[str, list[str]]:
    """The hash in the manifest, checked against the files, and the documents that the catalog names."""
    catalog = Catalog(data_dir)
    version = catalog.collection(COLLECTION).version
    documents = sorted(
        doc_id for path in catalog.sources(COLLECTION, version) for doc_id in catalog.documents_of(COLLECTION, version, path)
    )
    catalog.close()
    return verify(folder_of(data_dir, COLLECTION, version)).content_sha256, documents


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    place = tmp_path_factory.mktemp("interrupted")
    folder = place / "docs"
    folder.mkdir()
    made = families()
    for name in NAMES:
        (folder / name).write_bytes(made[name])
        (folder / f"damaged-{name}").write_bytes(mutant(made[name], 3))
    began = time.monotonic()
    finish(folder, place / "data")
    seconds = time.monotonic() - began
    content, documents = content_of(place / "data")
    assert len(documents) > 50
    return Whole(folder, content, documents, seconds)


def interrupt(whole: Whole, data_dir: Path, share: float) -> None:
    """Kill a run after a share of the seconds that a whole one takes; it may have ended already."""
    with start(whole.folder, data_dir) as process:
        try:
            process.wait(share * whole.seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()


def assert_ends_as_whole(whole: Whole, data_dir: Path) -> None:
    finish(whole.folder, data_dir)
    assert content_of(data_dir) == (whole.content_sha256, whole.documents)
    assert {path.name for path in (data_dir / "snapshots" / COLLECTION).iterdir()} == {"1"}


def test_run_that_was_killed_in_its_middle_ends_as_a_whole_one(whole: Whole, tmp_path: Path) -> None:
    interrupt(whole, tmp_path / "data", 0.6)
    assert_ends_as_whole(whole, tmp_path / "data")


@pytest.mark.slow
@pytest.mark.parametrize("point", range(N_POINTS))
def test_run_that_was_killed_anywhere_ends_as_a_whole_one(whole: Whole, tmp_path: Path, point: int) -> None:
    interrupt(whole, tmp_path / "data", (point + random.Random(point).random()) / N_POINTS)
    assert_ends_as_whole(whole, tmp_path / "data")
