"""A writer that dies at any moment leaves the old version or the new one, whole, and the next run ends as if nothing had happened.

One helper process is started. It imports everything, then forks a child for each kill point; the child counts the calls that change
something on disk and ends itself, without any clean-up, at the chosen one. What the source calls is wrapped there; the source has
no hooks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from rag.errors import RagError
from rag.store.admin import repair_data
from rag.store.catalog import Catalog
from rag.store.manifest import verify
from rag.store.schema import FILE_NAME
from rag.store.snapshot import folder_of
from tests.corpus import COLLECTION, DOCUMENTS, Seen, ingest_into, seen_in, write_documents

ROOT = Path(__file__).parents[2]
KILLED = 9

HELPER = """
import json, os, shutil, sys
from pathlib import Path

import rag.store.snapshot as snapshot
from rag.store.schema import _Connection
from tests.corpus import ingest_into, seen_in
from tests.fakes import HashEmbedder

base, jobs = Path(sys.argv[1]), json.loads(sys.argv[2])


def wrap(home, name, label, calls, kill_at, also_after=False):
    inner = getattr(home, name)

    def counted(*args, **kwargs):
        if label == "begin" and args[1:2] != ("BEGIN IMMEDIATE",):
            return inner(*args, **kwargs)
        count(f"before {label}", calls, kill_at)
        found = inner(*args, **kwargs)
        if also_after:
            count(f"after {label}", calls, kill_at)
        return found

    setattr(home, name, counted)


def count(label, calls, kill_at):
    if len(calls) == kill_at:
        os._exit(9)
    calls.append(label)


def child(data, docs, metadata, kill_at):
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    calls = []
    wrap(os, "fsync", "fsync", calls, kill_at)
    wrap(os, "rename", "rename", calls, kill_at, True)
    wrap(os, "link", "link", calls, kill_at, True)
    wrap(os, "unlink", "unlink", calls, kill_at)
    wrap(os, "rmdir", "rmdir", calls, kill_at, True)
    wrap(snapshot, "build_lexical", "lexical", calls, kill_at, True)
    wrap(snapshot, "build_dense", "dense", calls, kill_at, True)
    wrap(_Connection, "execute", "begin", calls, kill_at)
    wrap(_Connection, "__exit__", "commit", calls, kill_at, True)
    wrap(HashEmbedder, "embed", "embed", calls, kill_at)
    try:
        ingest_into(data, docs, keep_versions=1, metadata=metadata)
        data.with_name(data.name + ".calls").write_text(json.dumps(calls))
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)


outcomes = {}
for name, metadata, points in jobs:
    place = base / name
    before = place / "before"
    whole = shutil.copytree(before, place / "whole") if before.exists() else place / "whole"
    assert child(whole, place / "docs", metadata, -1) == 0
    calls = json.loads((place / "whole.calls").read_text())
    for label, which in points:
        numbers = [n for n, call in enumerate(calls) if call == label]
        number = {"first": numbers[0], "middle": numbers[len(numbers) // 2], "last": numbers[-1]}[which]
        crashed = place / f"{label} {which}"
        if before.exists():
            shutil.copytree(before, crashed)
        outcomes[f"{name}/{label} {which}"] = child(crashed, place / "docs", metadata, number)
print(json.dumps(outcomes))
"""

# What a run that changes documents does, in this order; each is cut short before or after.
CHANGED = [
    ("before begin", "first"),
    ("after commit", "first"),
    ("before begin", "middle"),
    ("before embed", "first"),
    ("before embed", "last"),
    ("before lexical", "first"),
    ("after lexical", "first"),
    ("before dense", "first"),
    ("after dense", "first"),
    ("before fsync", "first"),
    ("before fsync", "middle"),
    ("before rename", "last"),
    ("after rename", "last"),
    ("before fsync", "last"),
    ("before commit", "middle"),
    ("after commit", "middle"),
    ("before unlink", "first"),
    ("before unlink", "middle"),
    ("before rmdir", "last"),
    ("after rmdir", "last"),
    ("before commit", "last"),
    ("after commit", "last"),
]
RELABELLED = [("before link", "first"), ("after link", "last"), ("after rename", "last"), ("before unlink", "last")]
FIRST = [
    ("before begin", "first"),
    ("before embed", "last"),
    ("after rename", "last"),
    ("before commit", "last"),
    ("after commit", "last"),
]
POINTS = {"changed": CHANGED, "relabelled": RELABELLED, "first": FIRST}
ALL = [f"{name}/{label} {which}" for name, points in POINTS.items() for label, which in points]


@dataclass(frozen=True)
class Place:
    """What was before a crash and what is after a run without one; ``old`` is None where nothing was."""

    folder: Path
    metadata: dict[str, str]
    old: list[Seen] | None
    new: list[Seen]
    content_sha256: str


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    base = tmp_path_factory.mktemp("crash")
    jobs = []
    old: dict[str, list[Seen] | None] = {}
    for name, points in POINTS.items():
        docs = write_documents(base / name / "docs")
        old[name] = None
        if name != "first":
            ingest_into(base / name / "before", docs)
            old[name] = seen_in(base / name / "before")
        if name == "changed":
            (docs / "bread.md").write_text(DOCUMENTS["bread.md"].replace("230", "210"))
            (docs / "tides.txt").unlink()
            (docs / "new.txt").write_text("Lighthouses warn the ships of rocks and of the tide.\n")
        jobs.append((name, metadata_of(name), points))
    command = [sys.executable, "-c", HELPER, str(base), json.dumps(jobs)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert {point: code for point, code in outcomes.items() if code != KILLED} == {}, done.stderr
    found = {}
    for name in POINTS:
        whole = base / name / "whole"
        digest = verify(current(whole)).content_sha256
        found[name] = Place(base / name, metadata_of(name), old[name], seen_in(whole), digest)
    return found


def metadata_of(name: str) -> dict[str, str]:
    return {"shelf": "7"} if name == "relabelled" else {}


def current(data_dir: Path) -> Path:
    catalog = Catalog(data_dir)
    version = catalog.collection(COLLECTION).version
    catalog.close()
    return folder_of(data_dir, COLLECTION, version)


@pytest.fixture
def crashed(request: pytest.FixtureRequest, places: dict[str, Place], tmp_path: Path) -> tuple[Place, Path]:
    """What the killed writer left; a copy."""
    name, point = request.param.split("/")
    return places[name], Path(shutil.copytree(places[name].folder / point, tmp_path / "data"))


at_every_point = pytest.mark.parametrize("crashed", ALL, indirect=True)


def again(place: Place, data_dir: Path) -> None:
    ingest_into(data_dir, place.folder / "docs", keep_versions=1, metadata=place.metadata)


@at_every_point
def test_reader_sees_the_old_version_or_the_new_one(crashed: tuple[Place, Path]) -> None:
    place, data_dir = crashed
    assert seen_or_nothing(data_dir) in (place.old, place.new)


def seen_or_nothing(data_dir: Path) -> list[Seen] | None:
    """What a reader sees; None where nothing was published yet."""
    try:
        return seen_in(data_dir)
    except RagError as error:
        if error.code in ("no_data", "unknown_collection", "catalog"):
            return None
        raise


@at_every_point
def test_next_run_ends_as_if_nothing_had_happened(crashed: tuple[Place, Path]) -> None:
    place, data_dir = crashed
    again(place, data_dir)
    assert verify(current(data_dir)).content_sha256 == place.content_sha256
    assert seen_in(data_dir) == place.new


@at_every_point
def test_next_run_leaves_no_orphans(crashed: tuple[Place, Path]) -> None:
    place, data_dir = crashed
    again(place, data_dir)
    assert [path.name for path in current(data_dir).parent.iterdir()] == [current(data_dir).name]
    assert rows_of(data_dir) == rows_of(place.folder / "whole")
    assert {path.name for path in data_dir.iterdir()} <= {FILE_NAME, "snapshots", "writer.lock"}


@at_every_point
def test_repair_leaves_no_orphans(crashed: tuple[Place, Path]) -> None:
    place, data_dir = crashed
    if not (data_dir / FILE_NAME).exists() or place.old is None:
        pytest.skip("nothing was there to repair")
    assert [outcome.verdict for outcome in repair_data(data_dir, keep=1, force=False)] == ["whole"]
    assert [path.name for path in current(data_dir).parent.iterdir()] == [current(data_dir).name]
    assert seen_in(data_dir) in (place.old, place.new)


@pytest.mark.parametrize("crashed", ["changed/after rename last", "changed/before rename last"], indirect=True)
def test_files_put_back_after_a_crash_leave_no_orphans(crashed: tuple[Place, Path], tmp_path: Path) -> None:
    """The next run finds nothing to publish, and still what the crash left must go."""
    place, data_dir = crashed
    docs = place.folder / "docs"
    kept = Path(shutil.copytree(docs, tmp_path / "changed"))
    try:
        (docs / "new.txt").unlink()
        write_documents(docs)
        again(place, data_dir)
    finally:
        shutil.rmtree(docs)
        shutil.copytree(kept, docs)
    assert seen_in(data_dir) == place.old
    assert [path.name for path in current(data_dir).parent.iterdir()] == ["1"]


def rows_of(data_dir: Path) -> list[int]:
    """How much the catalog holds."""
    catalog = Catalog(data_dir)
    tables = "source document chunk tag text_block vector duplicate".split()
    found = [catalog._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
    catalog.close()
    return found
