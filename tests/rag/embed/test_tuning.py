from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.embed.tuning import QUERIES, Trial, burn, choose, measure, sweep, thread_counts
from rag.errors import InputError, ModelError
from rag.models.registry import Model, find_model
from rag.models.session import ModelTokenizer
from rag.tokens import SHIPPED_NAME

PLAIN = Trial(threads=1, batch=1, cpu_ms_per_query=4.0, wall_p50_ms=4.0, wall_p95_ms=5.0, min_cosine=1.0)
BURNING = """
import sys, time
from pathlib import Path
from rag.embed.tuning import burn
from rag.models.registry import find_model
with burn(find_model(sys.argv[1], Path("no-such-folder")), 1) as pids:
    print(*pids, flush=True)
    time.sleep(600)
"""

# Few distinct values, so that ties are common.
TRIALS = st.lists(
    st.builds(
        Trial,
        threads=st.sampled_from([1, 2, 4]),
        batch=st.sampled_from([1, 4, 16]),
        cpu_ms_per_query=st.sampled_from([1.0, 2.0, 3.0]),
        wall_p50_ms=st.just(1.0),
        wall_p95_ms=st.sampled_from([50.0, 100.0, 150.0]),
        min_cosine=st.sampled_from([0.98, 0.999, 1.0]),
    ),
    min_size=1,
    unique_by=lambda trial: (trial.threads, trial.batch),
).filter(lambda trials: any(trial.min_cosine >= 0.999 for trial in trials))


@pytest.fixture(scope="module")
def shipped() -> Model:
    return find_model(SHIPPED_NAME, Path("no-such-folder"))


@pytest.fixture
def damaged(shipped: Model, tmp_path: Path) -> Model:
    shutil.copy(shipped.tokenizer_path, tmp_path)
    (tmp_path / "model.onnx").write_bytes(shipped.graph_path.read_bytes()[:1_000_000])
    return replace(shipped, folder=tmp_path)


def is_running(pid: int) -> bool:
    """Whether a process is there and has not ended; one that nobody has waited for yet has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def comes_true(condition: Callable[[], bool]) -> bool:
    for _ in range(600):
        if condition():
            return True
        time.sleep(0.05)
    return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")


@pytest.mark.parametrize(
    ("n_cores", "expected"), [(1, (1,)), (2, (1, 2)), (3, (1, 2)), (4, (1, 2, 4)), (8, (1, 2, 4, 8)), (96, (1, 2, 4, 8))]
)
def test_thread_counts_double_up_to_the_cores_and_to_eight(n_cores: int, expected: tuple[int, ...]) -> None:
    assert thread_counts(n_cores) == expected


def test_queries_are_distinct_and_of_8_to_20_tokens(shipped: Model) -> None:
    tokenizer = ModelTokenizer(shipped.tokenizer_path)
    assert len(set(QUERIES)) == 64
    assert {8 <= tokenizer.count(query) <= 20 for query in QUERIES} == {True}


@given(TRIALS)
def test_chosen_setting_is_never_dominated(trials: list[Trial]) -> None:
    chosen = choose(trials, max_latency_ms=100.0)
    best = chosen.trial
    agreeing = [trial for trial in trials if trial.min_cosine >= 0.999]
    assert best in agreeing
    assert chosen.within_limit == any(trial.wall_p95_ms <= 100.0 for trial in agreeing)
    if chosen.within_limit:
        assert best.wall_p95_ms <= 100.0
        rivals = [trial for trial in agreeing if trial.wall_p95_ms <= 100.0]
        assert not any(trial.cpu_ms_per_query < best.cpu_ms_per_query for trial in rivals)
        equals = [trial for trial in rivals if trial.cpu_ms_per_query == best.cpu_ms_per_query]
        assert not any(trial.threads < best.threads for trial in equals)
        assert not any(trial.threads == best.threads and trial.batch < best.batch for trial in equals)
    else:
        assert not any(trial.wall_p95_ms < best.wall_p95_ms for trial in agreeing)


@given(TRIALS, st.randoms(use_true_random=False))
def test_choice_does_not_depend_on_the_order_of_the_trials(trials: list[Trial], random: object) -> None:
    shuffled = list(trials)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    assert choose(shuffled) == choose(trials)


def test_cheaper_batch_within_the_limit_is_chosen_when_vectors_agree() -> None:
    batch = replace(PLAIN, batch=16, cpu_ms_per_query=1.0, wall_p95_ms=60.0)
    assert choose([PLAIN, batch]).trial == batch
    assert choose([PLAIN, batch], max_latency_ms=50.0).trial == PLAIN


def test_setting_that_changes_vectors_is_passed_over_and_named() -> None:
    chosen = choose([PLAIN, replace(PLAIN, threads=2, batch=16, cpu_ms_per_query=1.5, min_cosine=0.9893)])
    assert chosen.trial == PLAIN
    assert "threads 2, batch 16 take 1.5 ms, but the vectors differ" in chosen.reason
    assert "0.9893" in chosen.reason


def test_reason_does_not_name_a_setting_that_is_not_cheaper() -> None:
    chosen = choose([PLAIN, replace(PLAIN, batch=16, cpu_ms_per_query=5.0, min_cosine=0.9)])
    assert chosen.reason == "4 ms of CPU a query is the least of what answers within 100 ms"


def test_fastest_is_chosen_and_the_missed_limit_told() -> None:
    fastest = replace(PLAIN, threads=2, cpu_ms_per_query=6.0, wall_p95_ms=3.0)
    chosen = choose([PLAIN, fastest], max_latency_ms=1.0)
    assert chosen.trial == fastest
    assert not chosen.within_limit
    assert chosen.reason == "nothing answers within 1 ms: this is the fastest, with 3 ms"


@pytest.mark.parametrize("cosine", [0.9, float("nan")])
def test_no_setting_that_keeps_the_vectors_is_an_error(cosine: float) -> None:
    with pytest.raises(ModelError, match="measure batch 1 too"):
        choose([replace(PLAIN, batch=4, min_cosine=cosine)])


@pytest.mark.parametrize(("trials", "limit_ms"), [([], 100.0), ([PLAIN], 0.0), ([PLAIN], float("nan"))])
def test_nothing_to_choose_from_is_refused(trials: Sequence[Trial], limit_ms: float) -> None:
    with pytest.raises(InputError, match="cannot choose among"):
        choose(trials, limit_ms)


@pytest.mark.slow
def test_sweep_measures_every_setting_once_and_tells_of_its_progress(shipped: Model) -> None:
    told: list[tuple[int, int]] = []
    alone, together = sweep(shipped, (2, 2), (4, 1), rounds=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    assert [(alone.threads, alone.batch), (together.threads, together.batch)] == [(2, 1), (2, 4)]
    for trial in (alone, together):
        assert trial.cpu_ms_per_query > 0.0
        assert 0.0 < trial.wall_p50_ms <= trial.wall_p95_ms
    # The shipped graph is quantised dynamically: alone a query keeps its vector, in a batch it does not.
    assert alone.min_cosine > 0.99999
    assert 0.9 < together.min_cosine < 0.999


def test_damaged_model_is_a_model_error_not_a_missing_trial(damaged: Model) -> None:
    with pytest.raises(ModelError, match="measuring threads 1, batch 1 failed .*not an ONNX file"):
        measure(damaged, 1, 1, rounds=1)


@pytest.mark.parametrize(("threads", "batch", "rounds"), [(0, 1, 1), (65, 1, 1), (1, 0, 1), (1, 65, 1), (1, 1, 0)])
def test_setting_outside_its_range_is_refused(shipped: Model, threads: int, batch: int, rounds: int) -> None:
    with pytest.raises(InputError, match="cannot measure threads"):
        measure(shipped, threads, batch, rounds)


def test_sweep_without_batches_is_refused(shipped: Model) -> None:
    with pytest.raises(InputError, match=r"batches \[\]"):
        sweep(shipped, (1,), ())


@needs_proc
def test_burning_processes_work_until_the_body_ends(shipped: Model) -> None:
    with burn(shipped, 2) as pids:
        before = [cpu_ticks(pid) for pid in pids]
        assert len(set(pids)) == 2
        assert comes_true(lambda: all(cpu_ticks(pid) > ticks for pid, ticks in zip(pids, before, strict=True)))
    assert not any(is_running(pid) for pid in pids)


@needs_proc
def test_burning_processes_end_with_a_failing_body(shipped: Model) -> None:
    seen: list[int] = []

    def fail_under_load() -> None:
        with burn(shipped, 1) as pids:
            seen.extend(pids)
            raise KeyError

    with pytest.raises(KeyError):
        fail_under_load()
    assert len(seen) == 1
    assert not is_running(seen[0])


@needs_proc
def test_burning_processes_do_not_outlive_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-P", "-c", BURNING, SHIPPED_NAME], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    assert comes_true(lambda: not is_running(pid))


def kill(pid: int) -> None:
    """End a child and wait until it has, without taking its status from whoever waits for it."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_load_that_vanished_is_an_error(shipped: Model) -> None:
    with pytest.raises(ModelError, match="failed before its end"), burn(shipped, 1) as pids:
        kill(pids[0])


def test_model_that_cannot_burn_is_an_error(damaged: Model) -> None:
    with pytest.raises(ModelError, match="keeping the machine busy failed .*not an ONNX file"), burn(damaged, 2):
        pytest.fail("there is no load")


def test_no_processes_are_no_load(shipped: Model) -> None:
    with burn(shipped, 0) as pids:
        assert pids == ()


def test_negative_number_of_processes_is_refused(shipped: Model) -> None:
    with pytest.raises(InputError, match="cannot keep -1 processes busy"), burn(shipped, -1):
        pytest.fail("there is no load")
