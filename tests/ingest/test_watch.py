from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest.pipeline import IngestReport, IngestRequest, ingest
from ingest.watch import check_watch, folder_state, keep_in_step, stopped_by_signals
from rag.errors import InputError, RagError, SnapshotError
from rag.meter import Meter
from rag.settings import IngestSettings, Settings
from rag.store.snapshot import writer_lock
from tests.fakes import HashEmbedder, SilentProgress

pytest.importorskip("watchfiles", reason="the extra [watch] is not installed")

PATIENCE_S = 60.0


class Watched:
    """A folder that is being watched by a thread, and what the thread did."""

    def __init__(self, base: Path) -> None:
        self.folder = base / "docs"
        self.folder.mkdir()
        self.settings = Settings(data_dir=base / "data", ingest=IngestSettings(workers=1))
        self.request = IngestRequest((self.folder,), "c")
        self.embedder = HashEmbedder()
        self.stop = threading.Event()
        self.events: queue.Queue[IngestReport | RagError | list[str] | str] = queue.Queue()
        self.run: Callable[[], None] = self.note
        self.end: RagError | None = None

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = self.folder.parent / "part"
        part.write_text(text, encoding="utf-8")
        part.replace(path)  # at once, so that no run sees half of it

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self.stop.set()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    def _watch(self) -> None:
        try:
            keep_in_step(self.request, self.settings.data_dir, lambda: self.run(), self.events.put, self.stop, quiet_ms=20)
        except RagError as error:
            self.end = error
        self.events.put("end")

    def note(self) -> None:
        """A run that only says which files it would have found."""
        self.events.put(sorted(path.name for path in self.folder.iterdir()))

    def ingest(self) -> None:
        self.events.put(ingest(self.request, self.settings, self.embedder, SilentProgress(), Meter()))

    def report(self) -> IngestReport:
        found = self.events.get(timeout=PATIENCE_S)
        assert isinstance(found, IngestReport)
        return found

    def names(self) -> list[str]:
        found = self.events.get(timeout=PATIENCE_S)
        assert isinstance(found, list)
        return found

    def trouble(self) -> str:
        found = self.events.get(timeout=PATIENCE_S)
        assert isinstance(found, RagError)
        return found.code


@pytest.fixture
def place(tmp_path: Path) -> Watched:
    found = Watched(tmp_path)
    found.write("a.md", "# Apples\n\nApples are red.\n")
    return found


def counts(report: IngestReport) -> tuple[int, int, int, int]:
    return report.n_added, report.n_updated, report.n_unchanged, report.n_removed


def test_collection_follows_the_folder(place: Watched) -> None:
    place.run = place.ingest
    with place.watching():
        assert counts(place.report()) == (1, 0, 0, 0)
        place.write("sub/b.md", "# Pears\n")
        assert counts(place.report()) == (1, 0, 1, 0)
        place.write("a.md", "# Apples\n\nApples are green.\n")
        assert counts(place.report()) == (0, 1, 1, 0)
        (place.folder / "sub" / "b.md").unlink()
        assert counts(place.report()) == (0, 0, 1, 1)
    assert place.events.get_nowait() == "end"
    assert place.end is None


def test_data_directory_is_free_between_runs_and_a_run_that_meets_a_lock_is_told(place: Watched) -> None:
    place.run = place.ingest
    with place.watching():
        place.report()
        with writer_lock(place.settings.data_dir):
            place.write("b.md", "# Pears\n")
            assert place.trouble() == "locked"
        place.write("c.md", "# Plums\n")
        assert counts(place.report()) == (2, 0, 1, 0)


def test_many_changes_during_a_run_lead_to_one_more_run(place: Watched) -> None:
    begun, may_go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert may_go_on.wait(PATIENCE_S)
        place.run = place.note

    place.run = wait
    with place.watching():
        assert begun.wait(PATIENCE_S)
        for n in range(20):
            place.write(f"{n}.md", f"# Number {n}\n")
        may_go_on.set()
        assert len(place.names()) == 21
        place.write("last.md", "# Last\n")
        assert len(place.names()) == 22
    assert place.events.get_nowait() == "end"


def test_what_is_left_out_starts_no_run(place: Watched) -> None:
    place.request = IngestRequest((place.folder,), "c", exclude=("*.tmp",))
    place.settings = Settings(data_dir=place.folder / "data")
    place.write(".ragignore", "drafts/\n")
    place.write("data/catalog.sqlite", "")
    with place.watching():
        place.names()
        for name in (".hidden/x.md", "x.tmp", "drafts/y.md", "data/z.md"):
            place.write(name, "# Not wanted\n")
        time.sleep(0.2)  # so that these are not taken together with the next one
        place.write("b.md", "# Pears\n")
        assert "b.md" in place.names()
    assert place.events.get_nowait() == "end"


def test_changed_rules_of_what_is_left_out_start_a_run(place: Watched) -> None:
    place.write("b.md", "# Pears\n")
    with place.watching():
        place.names()
        place.write(".ragignore", "b.md\n")
        assert ".ragignore" in place.names()


def test_empty_folder_is_told_and_watched(place: Watched) -> None:
    place.run = place.ingest
    (place.folder / "a.md").unlink()
    with place.watching():
        assert place.trouble() == "nothing_to_ingest"
        place.write("b.md", "# Pears\n")
        assert counts(place.report()) == (1, 0, 0, 0)


def test_folder_that_goes_away_ends_the_watch(place: Watched) -> None:
    with place.watching():
        place.names()
        (place.folder / "a.md").rename(place.folder.parent / "a.md")
        place.folder.rmdir()
        while place.events.get(timeout=PATIENCE_S) != "end":
            """Perhaps a run saw the folder while it was empty."""
    assert isinstance(place.end, InputError)
    assert place.end.code == "not_found"


def test_wrong_request_ends_the_watch(place: Watched) -> None:
    place.run = place.ingest
    place.request = IngestRequest((place.folder,), "../c")
    with place.watching():
        assert place.events.get(timeout=PATIENCE_S) == "end"
    assert place.end is not None
    assert place.end.code == "bad_name"


def test_stop_during_a_run_ends_after_it(place: Watched) -> None:
    def stop() -> None:
        place.stop.set()
        place.note()

    place.run = stop
    with place.watching():
        assert place.names() == ["a.md"]
        assert place.events.get(timeout=PATIENCE_S) == "end"


def test_failed_run_is_tried_again_at_the_next_change(place: Watched) -> None:
    def fail() -> None:
        place.run = place.note
        raise SnapshotError("the disk is full", code="catalog")

    place.run = fail
    with place.watching():
        assert place.trouble() == "catalog"
        place.write("b.md", "# Pears\n")
        assert place.names() == ["a.md", "b.md"]


def test_state_of_a_folder_differs_for_equal_sizes(place: Watched) -> None:
    before = folder_state(place.request)
    assert folder_state(place.request) == before
    (place.folder / "b.md").write_text((place.folder / "a.md").read_text(encoding="utf-8"), encoding="utf-8")
    with_copy = folder_state(place.request)
    (place.folder / "b.md").replace(place.folder / "c.md")
    assert len({before, with_copy, folder_state(place.request)}) == 3


def test_first_signal_asks_and_the_second_interrupts() -> None:
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it runs in the background ignore it
    try:
        with stopped_by_signals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.wait(PATIENCE_S)
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, inherited)


def test_file_and_address_cannot_be_watched(place: Watched) -> None:
    with pytest.raises(InputError, match=r"is a file; give its folder, with --include 'a\.md'"):
        check_watch(IngestRequest((place.folder / "a.md",), "c"))
    with pytest.raises(InputError, match="is an address"):
        check_watch(IngestRequest((), "c", urls=("https://example.com/",)))


def test_command_prints_a_line_a_run_and_ends_with_0_on_sigterm(place: Watched) -> None:
    data_dir = str(place.settings.data_dir)
    command = [sys.executable, "-P", "-m", "rag", "ingest", "--watch", "--json", str(place.folder), "--data-dir", data_dir]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["n_added"] == 1
        place.write("b.md", "# Pears\n")
        assert json.loads(process.stdout.readline())["n_unchanged"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert process.stdout.read() == ""
        assert "Traceback" not in process.stderr.read()
