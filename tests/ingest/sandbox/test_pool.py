"""Hostile readers, which run in the child process of `tests.ingest.sandbox.hostile`, and what the pool makes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.chunk import chunk_document
from ingest.files import open_file
from ingest.read import Failure, Origin, read
from ingest.sandbox.frames import Cut
from ingest.sandbox.job import Job, Work
from ingest.sandbox.pool import Pool
from ingest.walk import FoundFile
from rag.embed import Embedder, open_embedder
from rag.errors import RagError
from rag.settings import EmbedderSettings, IngestSettings, Settings
from tests.fakes import HashEmbedder

ROOT = Path(__file__).parents[3]
HOSTILE = "tests.ingest.sandbox.hostile"
LIMITS = IngestSettings(workers=1, file_timeout_s=30.0, file_memory_bytes=600_000_000)
MAX_TOKENS = 128


@dataclass(frozen=True)
class Outcome:
    """What came of one file."""

    items: tuple[Cut | Failure, ...]
    digest: str
    is_whole: bool

    @property
    def texts(self) -> list[str]:
        return [item.document.text for item in self.items if isinstance(item, Cut)]

    @property
    def failures(self) -> list[Failure]:
        return [item for item in self.items if isinstance(item, Failure)]

    @property
    def codes(self) -> list[str]:
        return [failure.code for failure in self.failures]


def pool_of(limits: IngestSettings = LIMITS, embedder: Embedder | None = None, module: str = HOSTILE) -> Pool[int]:
    """A pool that starts all its processes at once."""
    return Pool(Settings(ingest=limits), embedder or HashEmbedder(), MAX_TOKENS, module=module, patience_s=0.0)


def jobs_of(paths: Sequence[Path]) -> Iterator[Job[int]]:
    for number, path in enumerate(paths):
        file = open_file(FoundFile(path, path.parent, path.name, path.as_posix()), 1 << 40)
        yield Job(number, Work(file.handle, file.n_bytes, Origin(path, path.name, path.as_posix(), 1.5), salt="salt"))


def outcomes_of(pool: Pool[int], paths: Sequence[Path]) -> list[Outcome]:
    with pool:
        return [Outcome(tuple(reading), reading.digest, reading.is_whole) for reading in pool.read(jobs_of(paths))]


def act(folder: Path, *lines: str, limits: IngestSettings = LIMITS) -> Outcome:
    """What comes of a file whose reader does this; after it a good file is read, whatever happened."""
    bad, good = folder / "bad", folder / "good.txt"
    bad.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    good.write_text("all is well", encoding="utf-8")
    first, second = outcomes_of(pool_of(limits), [bad, good])
    assert second.texts == ["all is well"]
    return first


def is_running(pid: int) -> bool:
    """Whether a process still does something; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pid: int) -> bool:
    """Whether a process ends soon: the system takes a moment to clean up."""
    deadline = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)


def test_too_much_memory_is_a_failure_with_the_limit(tmp_path: Path) -> None:
    (failure,) = act(tmp_path, "allocate").failures
    assert failure.code == "out_of_memory"
    assert "600000000" in failure.message
    assert "ingest.file_memory_bytes" in failure.message


def test_library_that_aborts_for_want_of_memory_is_told_from_a_crash(tmp_path: Path) -> None:
    assert act(tmp_path, "map_memory").codes == ["out_of_memory"]


# Alone in its process: the peak of a child is only told where the parent, which the system counts in, is smaller (`worker.py`).
@pytest.mark.slow
def test_library_that_ends_without_a_word_in_full_memory_is_told_from_a_crash(tmp_path: Path) -> None:
    limits = replace(LIMITS, file_memory_bytes=2_000_000_000)
    assert act(tmp_path, "fill 1100000000", limits=limits).codes == ["out_of_memory"]
    assert act(tmp_path, "fill 1000", limits=limits).codes == ["crashed"]


def test_endless_loop_is_ended_by_the_limit_of_cpu_time(tmp_path: Path) -> None:
    assert act(tmp_path, "spin", limits=replace(LIMITS, file_cpu_s=1)).codes == ["cpu_limit"]


def test_endless_wait_is_ended_by_the_clock(tmp_path: Path) -> None:
    assert act(tmp_path, "sleep 600", limits=replace(LIMITS, file_timeout_s=8.0)).codes == ["timeout"]


@pytest.mark.parametrize(
    ("line", "named"), [("die SIGABRT", "SIGABRT"), ("die SIGBUS", "SIGBUS"), ("fault", "SIGSEGV"), ("leave 7", "exit status 7")]
)
def test_crash_is_a_failure_that_names_its_signal(tmp_path: Path, line: str, named: str) -> None:
    (failure,) = act(tmp_path, line).failures
    assert failure.code == "crashed"
    assert named in failure.message


def test_fault_of_a_reader_is_a_failure_that_names_it(tmp_path: Path) -> None:
    (failure,) = act(tmp_path, "fail no such font").failures
    assert (failure.code, "RuntimeError: no such font" in failure.message) == ("crashed", True)


def test_process_that_was_killed_from_outside_counts_as_out_of_memory(tmp_path: Path) -> None:
    assert act(tmp_path, "die SIGKILL").codes == ["out_of_memory"]


@pytest.mark.parametrize("line", ["connect AF_INET", "connect AF_INET6", "connect AF_UNIX", "connect AF_NETLINK"])
def test_socket_is_refused(tmp_path: Path, line: str) -> None:
    assert act(tmp_path, line).texts == ["refused: Permission denied"]


def test_socket_of_a_program_that_the_reader_starts_is_refused(tmp_path: Path) -> None:
    assert act(tmp_path, "connect_below").texts == ["PermissionError: [Errno 13] Permission denied"]


def test_pair_of_sockets_is_allowed(tmp_path: Path) -> None:
    assert act(tmp_path, "pair").texts == ["paired"]


def test_large_file_cannot_be_written(tmp_path: Path) -> None:
    (failure,) = act(tmp_path, "write").failures
    assert (failure.code, "File too large" in failure.message) == ("crashed", True)


def test_environment_of_the_parent_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_EMBEDDER_API_KEY", "secret")
    (names,) = act(tmp_path, "environment").texts
    assert not [name for name in names.split() if "RAG" in name.split("_") or "KEY" in name]
    assert {"PATH", "TMPDIR", "HOME"} <= set(names.split())


def test_folder_for_temporary_files_is_removed(tmp_path: Path) -> None:
    (folder,) = act(tmp_path, "folder").texts
    assert not Path(folder).exists()


def test_process_that_the_reader_left_behind_is_ended_with_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    assert act(tmp_path, f"fork {told}", limits=replace(LIMITS, file_timeout_s=5.0)).codes == ["timeout"]
    assert gone(int(told.read_text(encoding="ascii")))


def test_documents_before_a_crash_are_kept_and_the_file_is_not_whole(tmp_path: Path) -> None:
    outcome = act(tmp_path, "repeat 3", "repeat 2", "fault")
    assert (outcome.texts, outcome.codes, outcome.is_whole, outcome.digest) == (["xxx", "xx"], ["crashed"], False, "")


def test_too_much_output_is_cut_off_between_documents(tmp_path: Path) -> None:
    outcome = act(tmp_path, *["repeat 1000"] * 20, limits=replace(LIMITS, max_output_bytes=10_000))
    assert (set(outcome.texts), outcome.codes, outcome.is_whole) == ({"x" * 1000}, ["too_large"], False)
    assert 5 < len(outcome.texts) < 10


def test_output_much_larger_than_what_the_system_buffers_comes_whole(tmp_path: Path) -> None:
    files = []
    for name in "abc":
        files.append(tmp_path / name)
        files[-1].write_text("repeat 3000000\nrepeat 4000000\nrepeat 2\n", encoding="ascii")
    for outcome in outcomes_of(pool_of(replace(LIMITS, workers=3)), files):
        assert [len(text) for text in outcome.texts] == [3_000_000, 4_000_000, 2]


def test_process_is_used_again(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "abc"]
    for path in files:
        path.write_text("number\n", encoding="ascii")
    assert len({outcome.texts[0] for outcome in outcomes_of(pool_of(), files)}) == 1


def test_process_of_which_half_the_memory_is_in_use_is_replaced(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "abc"]
    for path in files:
        path.write_text("swell 200000000\nnumber\n", encoding="ascii")
    small = replace(LIMITS, file_memory_bytes=400_000_000)
    assert len({outcome.texts[1] for outcome in outcomes_of(pool_of(small), files)}) == 3


def test_nothing_is_started_where_nothing_is_to_be_read() -> None:
    with pool_of(module="no.such.module") as pool:
        assert [reading.key for reading in pool.read([Job(1), Job(2)])] == [1, 2]


def test_process_that_cannot_start_is_an_error_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one", encoding="ascii")
    with pytest.raises(RagError, match="RuntimeError: a library is missing") as caught:
        outcomes_of(pool_of(module="tests.ingest.sandbox.stillborn"), [tmp_path / "a.txt"])
    assert caught.value.code == "sandbox"


def test_interrupt_in_the_parent_ends_all_processes_and_closes_all_files(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}" for i in range(6)]
    for path in files:
        path.write_text("number\nsleep 600\n", encoding="ascii")
    before = set(os.listdir("/proc/self/fd"))
    pool = pool_of(replace(LIMITS, workers=2))
    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(pool, files, seen)
    assert gone(seen[0])
    assert set(os.listdir("/proc/self/fd")) <= before
    assert (pool.n_processes, pool.cpu_ns() > 0) == (0, True)


def interrupted(pool: Pool[int], files: Sequence[Path], seen: list[int]) -> None:
    """Ctrl-C when the first file has told its process."""
    with pool:
        for reading in pool.read(jobs_of(files)):
            for item in reading:
                assert isinstance(item, Cut)
                seen.append(int(item.document.text))
                assert is_running(seen[0])
                raise KeyboardInterrupt


def test_killed_parent_takes_its_processes_with_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("number\nsleep 600\n", encoding="ascii")
    script = (
        "import sys\nfrom pathlib import Path\nfrom tests.ingest.sandbox.test_pool import jobs_of, pool_of\n"
        "with pool_of() as pool:\n"
        "    for reading in pool.read(jobs_of([Path(sys.argv[1])])):\n"
        "        for item in reading:\n            print(item.document.text, flush=True)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a")]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.send_signal(signal.SIGKILL)
    assert gone(pid)


def test_file_that_changes_is_hashed_as_it_was_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before", encoding="ascii")
    file = open_file(FoundFile(path, tmp_path, "a", "a"), 100)
    old = file.digest("salt")
    path.write_text("after!", encoding="ascii")
    with pool_of() as pool:
        (reading,) = [
            (list(reading), reading.digest)
            for reading in pool.read([Job(0, Work(file.handle, file.n_bytes, Origin(path, "a", "a", None), salt="salt"))])
        ]
    now = open_file(FoundFile(path, tmp_path, "a", "a"), 100)
    assert reading[1] == now.digest("salt") != old
    os.close(now.handle)


def test_many_files_are_not_opened_far_ahead(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.txt" for i in range(120)]
    for path in files:
        path.write_text(f"file {path.stem}", encoding="ascii")
    n_opened, most = 0, 0

    def counted() -> Iterator[Job[int]]:
        nonlocal n_opened
        for job in jobs_of(files):
            n_opened += 1
            yield job

    with pool_of(replace(LIMITS, workers=2)) as pool:
        for n_read, reading in enumerate(pool.read(counted())):
            assert [item.document.text for item in reading if isinstance(item, Cut)] == [f"file {n_read}"]
            most = max(most, n_opened - n_read)
    assert most <= 8


NAMES = ("a.md", "b.txt", "c.jsonl", "d.csv", "e.py", "f.html")
WORDS = st.sampled_from(
    ["heat", "pump", "# Title", "| a | b |", "ä" * 40, "\n\n", '{"_id": "1", "text": "one two"}', "```", "<p>x</p>", "\0"]
)
CONTENT = st.lists(WORDS, max_size=60).map(" ".join)


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(st.tuples(st.sampled_from(NAMES), CONTENT), min_size=1, max_size=12))
def test_three_processes_give_what_one_process_gives_in_order(tmp_path: Path, contents: list[tuple[str, str]]) -> None:
    embedder = open_embedder(EmbedderSettings(), tmp_path)
    files = []
    for i, (name, content) in enumerate(contents):
        path = tmp_path / f"{i}-{name}"
        path.write_text(content, encoding="utf-8")
        files.append(path)
    found = outcomes_of(pool_of(replace(LIMITS, workers=3), embedder, "ingest.sandbox.child"), files)
    assert [list(outcome.items) for outcome in found] == [read_here(path, embedder) for path in files]


def read_here(path: Path, embedder: Embedder) -> list[Cut | Failure]:
    """The oracle: in this process."""
    results = read(path.read_bytes(), Origin(path, path.name, path.as_posix(), 1.5))
    return [
        result if isinstance(result, Failure) else Cut(result, chunk_document(result, embedder, MAX_TOKENS)) for result in results
    ]
