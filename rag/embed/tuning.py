"""Which thread count and batch size embed a query for the least CPU time, found by trying them on this machine.

Every run is a fresh child process (``python -m rag.embed.tuning``, its argument a job as JSON): its process clock counts all of its
threads, and no pool disturbs another. Runs of different settings take turns, so that a neighbour who keeps the machine
busy for a while hurts all of them; of the rounds the median counts.

A batch is padded and masked. Where the graph is quantised dynamically, one activation scale covers the whole batch, and the vector of
a query depends on its neighbours: such a setting is measured, shown, and not chosen.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Literal, assert_never

import numpy as np

from rag.errors import InputError, ModelError, RagError
from rag.models.registry import Model
from rag.models.session import Graph, ModelSession, ModelTokenizer, open_graph
from rag.types import Vectors

DEFAULT_BATCHES = (1, 4, 16)
# Beyond eight threads a query of twenty tokens has too little work to share.
_MAX_THREADS = 8
# A run of 320 queries takes a second on a slow core; twenty calls are the fewest of which a 95th percentile says anything.
_N_QUERIES = 320
_MIN_CALLS = 20
# A run takes seconds, and the end of one that burns a forward pass; a child that is silent for so long hangs.
_MAX_RUN_S = 300.0
_MAX_END_S = 10.0
# Sixteen subjects by four kinds of question: 9 to 18 tokens of the shipped model, as people type them.
_QUESTIONS = (
    "What does {} mean for us?",
    "How much does {} cost in a year?",
    "Who is responsible for {} when the manager is away?",
    "Where can I find out what changed in {} since last summer?",
)
_SUBJECTS = (
    "the travel policy", "parental leave", "solar power", "the annual report", "remote work", "a service contract",
    "the safety training", "data retention", "customer support", "the return of goods", "a heat pump", "the login page",
    "overtime pay", "the city library", "public transport", "waste collection",
)  # fmt: skip
QUERIES = tuple(question.format(subject) for subject in _SUBJECTS for question in _QUESTIONS)


@dataclass(frozen=True, slots=True)
class Trial:
    """What one setting costs.

    Attributes:
        threads: Threads that worked on one call, at least 1.
        batch: Queries of one call, at least 1.
        cpu_ms_per_query: CPU milliseconds of the whole process, tokenizer and all threads included.
        wall_p50_ms: Median wall-clock milliseconds of a call, which is what each of its queries waits.
        wall_p95_ms: 95th percentile of the same.
        min_cosine: Least cosine of a vector to that of the same query embedded alone on one thread; below 1 the batch changes vectors.
    """

    threads: int
    batch: int
    cpu_ms_per_query: float
    wall_p50_ms: float
    wall_p95_ms: float
    min_cosine: float


@dataclass(frozen=True, slots=True)
class Chosen:
    """The setting to use.

    Attributes:
        trial: What it costs.
        within_limit: Whether its 95th percentile keeps the limit.
        reason: One line for people.
    """

    trial: Trial
    within_limit: bool
    reason: str


@dataclass(frozen=True, slots=True)
class _Job:
    """What a child is to do; all of it is JSON."""

    kind: Literal["measure", "burn"]
    graph: str
    tokenizer: str
    prompt: str
    dim: int
    max_tokens: int
    threads: int = 1
    batch: int = 1


def thread_counts(n_cores: int | None = None) -> tuple[int, ...]:
    """Thread counts worth trying on so many cores (None: those of this machine): 1, 2, 4, 8 as far as they reach, ascending."""
    most = min(_MAX_THREADS, n_cores or os.cpu_count() or 1)
    return tuple(2**power for power in range(most.bit_length()))


def measure(model: Model, threads: int, batch: int, rounds: int = 3) -> Trial:
    """Measure one setting; arguments and errors are those of `sweep`."""
    (trial,) = sweep(model, (threads,), (batch,), rounds)
    return trial


def sweep(
    model: Model,
    threads: Sequence[int] = (),
    batches: Sequence[int] = DEFAULT_BATCHES,
    rounds: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Trial, ...]:
    """Measure every pair of thread count and batch size, a round of all after another.

    Args:
        model: As found by `rag.models.registry.find_model`.
        threads: Each 1 to 64; none means `thread_counts`.
        batches: Queries a call, each 1 to 64.
        rounds: Fresh processes a setting, at least 1.
        progress: Told the runs done and the runs in all, after each run.

    Returns:
        One trial a setting, by threads, then batch; repeats are measured once.

    Raises:
        InputError: If a number is outside its range or there is no setting.
        ModelError: If a child fails; nothing is told of the others then.
    """
    settings = [(n, size) for n in sorted(set(threads or thread_counts())) for size in sorted(set(batches))]
    if not settings or not all(1 <= n <= 64 and 1 <= size <= len(QUERIES) for n, size in settings) or rounds < 1:
        raise InputError(
            f"cannot measure threads {list(threads)}, batches {list(batches)}, {rounds} rounds; give threads and batches of "
            f"1 to {len(QUERIES)}, and at least one round"
        )
    found: dict[tuple[int, int], list[Trial]] = {setting: [] for setting in settings}
    for n_done in range(rounds * len(settings)):
        setting = settings[n_done % len(settings)]
        found[setting].append(_run(_job(model, "measure", *setting)))
        if progress:
            progress(n_done + 1, rounds * len(settings))
    return tuple(_median(trials) for trials in found.values())


def choose(trials: Sequence[Trial], max_latency_ms: float = 100.0, min_cosine: float = 0.999) -> Chosen:
    """Choose the setting with the least CPU time a query among those that are fast enough and keep the vectors.

    Vectors of an index are made one text at a time. A setting whose vectors differ from those finds something else, so it is never
    chosen, however cheap.

    Args:
        trials: At least one.
        max_latency_ms: Limit of the 95th percentile of a call, above 0.
        min_cosine: Least cosine at which vectors agree.

    Returns:
        Of equal CPU times the one with fewer threads, then the smaller batch. When none is fast enough, the one with the least 95th
        percentile, and a reason that says so.

    Raises:
        InputError: If there is no trial, or the limit is not above 0.
        ModelError: If no trial keeps the vectors.
    """
    if not trials or not max_latency_ms > 0:
        raise InputError(
            f"cannot choose among {len(trials)} settings within {max_latency_ms:g} ms; give at least one and a limit above 0"
        )
    agreeing = [trial for trial in trials if trial.min_cosine >= min_cosine]
    if not agreeing:
        nearest = max(trial.min_cosine for trial in trials)
        raise ModelError(
            f"every setting changes the vectors: best cosine {nearest:.4f}, needed {min_cosine:g}; measure batch 1 too"
        )
    fast = [trial for trial in agreeing if trial.wall_p95_ms <= max_latency_ms]
    if fast:
        best = min(fast, key=lambda trial: (trial.cpu_ms_per_query, trial.threads, trial.batch))
        reason = f"{best.cpu_ms_per_query:.3g} ms of CPU a query is the least of what answers within {max_latency_ms:g} ms"
    else:
        best = min(agreeing, key=lambda trial: (trial.wall_p95_ms, trial.cpu_ms_per_query, trial.threads, trial.batch))
        reason = f"nothing answers within {max_latency_ms:g} ms: this is the fastest, with {best.wall_p95_ms:.3g} ms"
    return Chosen(best, bool(fast), reason + _passed_over(trials, best, min_cosine))


def _passed_over(trials: Sequence[Trial], best: Trial, min_cosine: float) -> str:
    """What would have been cheaper but for its vectors; empty when nothing would."""
    cheaper = [trial for trial in trials if trial.min_cosine < min_cosine and trial.cpu_ms_per_query < best.cpu_ms_per_query]
    if not cheaper:
        return ""
    least = min(cheaper, key=lambda trial: (trial.cpu_ms_per_query, trial.threads, trial.batch))
    return (
        f"; threads {least.threads}, batch {least.batch} take {least.cpu_ms_per_query:.3g} ms, but the vectors differ from those of an "
        f"index made one text at a time (cosine {least.min_cosine:.4f}, needed {min_cosine:g})"
    )


@contextmanager
def burn(model: Model, n_processes: int) -> Iterator[tuple[int, ...]]:
    """Keep hardware threads busy with the model while the body runs, one child process each.

    A child ends when its standard input does, so none outlives this process.

    Args:
        model: As found by `rag.models.registry.find_model`.
        n_processes: At least 0.

    Yields:
        The process ids, once all are at work.

    Raises:
        InputError: If ``n_processes`` is negative.
        ModelError: If a child cannot start, or ended before the body did.
    """
    if n_processes < 0:
        raise InputError(f"cannot keep {n_processes} processes busy; give 0 or more")
    children: list[subprocess.Popen[str]] = []
    try:
        for _ in range(n_processes):
            children.append(_start(_job(model, "burn")))
        for child in children:
            _await_work(child)
        yield tuple(child.pid for child in children)
        for child in children:
            if child.poll() is not None:
                raise _failed("keeping the machine busy failed before its end", _last_words(child))
    finally:
        for child in children:
            _end(child)


def _arguments(job: _Job) -> list[str]:
    # -P: a folder called rag in the working directory is not ours.
    return [sys.executable, "-P", "-m", "rag.embed.tuning", json.dumps(asdict(job))]


def _start(job: _Job) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(_arguments(job), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        raise _failed("starting a process failed", str(error)) from error


def _await_work(child: subprocess.Popen[str]) -> None:
    """Wait until a child says that it is at work."""
    assert child.stdout is not None, "asked for in _start"
    told, _, _ = select.select([child.stdout], [], [], _MAX_RUN_S)
    if not told or not child.stdout.readline():
        said = _last_words(child) if told else f"silent for {_MAX_RUN_S:g} s"
        raise _failed("keeping the machine busy failed", said)


def _last_words(child: subprocess.Popen[str]) -> str:
    """What a child that has ended wrote to its standard error."""
    assert child.stderr is not None, "asked for in _start"
    return child.stderr.read()


def _end(child: subprocess.Popen[str]) -> None:
    """Close the standard input of a child and wait for its end."""
    try:
        child.communicate(timeout=_MAX_END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()


def _job(model: Model, kind: Literal["measure", "burn"], threads: int = 1, batch: int = 1) -> _Job:
    card = model.card
    paths = str(model.graph_path.absolute()), str(model.tokenizer_path.absolute())
    return _Job(kind, *paths, card.query_prompt, card.dim, card.max_tokens, threads, batch)


def _run(job: _Job) -> Trial:
    """One run in a child."""
    what = f"measuring threads {job.threads}, batch {job.batch} failed"
    try:
        done = subprocess.run(
            _arguments(job), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_MAX_RUN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(what, str(error)) from error
    if done.returncode:
        raise _failed(what, done.stderr)
    try:
        return Trial(**json.loads(done.stdout))
    except (ValueError, TypeError) as error:
        raise _failed(what, f"{error}: {done.stdout!r:.100}") from error


def _failed(what: str, said: str) -> ModelError:
    last = said.strip().splitlines()[-1:] or ["the process said nothing"]
    return ModelError(f"{what} (rag models verify checks the model): {last[0]}", code="tuning_failed")


def _median(trials: Sequence[Trial]) -> Trial:
    """Trials of one setting as one."""
    threads, batch, cpu_ms, p50_ms, p95_ms, cosine = zip(*map(astuple, trials), strict=True)
    median = statistics.median
    return Trial(threads[0], batch[0], median(cpu_ms), median(p50_ms), median(p95_ms), min(cosine))


def _child(argument: str) -> None:
    """What a child does."""
    job = _Job(**json.loads(argument))
    match job.kind:
        case "measure":
            sys.stdout.write(json.dumps(asdict(_measured(job))))
        case "burn":
            _burn(job)
        case _:
            assert_never(job.kind)


def _burn(job: _Job) -> None:
    """Embed queries until the standard input ends."""
    session = ModelSession(Path(job.graph), job.dim)
    queries = _ids(ModelTokenizer(Path(job.tokenizer)), job, QUERIES)
    session.run(queries[0])
    sys.stdout.write("at work\n")
    sys.stdout.flush()
    for ids in itertools.cycle(queries):
        if select.select([sys.stdin], [], [], 0)[0]:
            return
        session.run(ids)


def _measured(job: _Job) -> Trial:
    """One run: the vectors first, which warms up, then the clocks."""
    tokenizer = ModelTokenizer(Path(job.tokenizer))
    alone = ModelSession(Path(job.graph), job.dim)
    expected = np.array([alone.run(ids) for ids in _ids(tokenizer, job, QUERIES)])
    graph = open_graph(Path(job.graph), job.threads)
    cosines = [_min_cosine(_embed(graph, tokenizer, job, at), expected, at) for at in range(0, len(QUERIES), job.batch)]
    n_calls = max(_MIN_CALLS, math.ceil(_N_QUERIES / job.batch))
    walls_ms = []
    cpu_began = time.process_time_ns()
    for call in range(n_calls):
        began = time.perf_counter_ns()
        _embed(graph, tokenizer, job, call * job.batch)
        walls_ms.append((time.perf_counter_ns() - began) / 1e6)
    cpu_ms = (time.process_time_ns() - cpu_began) / 1e6
    p50, p95 = np.percentile(walls_ms, (50, 95))
    return Trial(job.threads, job.batch, cpu_ms / (n_calls * job.batch), float(p50), float(p95), min(cosines))


def _embed(graph: Graph, tokenizer: ModelTokenizer, job: _Job, first: int) -> Vectors:
    """Vectors of the batch that begins at a query, float32 of shape (batch, dim); behind the last query comes the first."""
    ids = _ids(tokenizer, job, [QUERIES[(first + n) % len(QUERIES)] for n in range(job.batch)])
    tokens = np.zeros((job.batch, max(map(len, ids))), dtype=np.int64)
    mask = np.zeros_like(tokens)
    for row, some in enumerate(ids):
        tokens[row, : len(some)] = some
        mask[row, : len(some)] = 1
    return graph(tokens, mask)


def _ids(tokenizer: ModelTokenizer, job: _Job, texts: Sequence[str]) -> list[list[int]]:
    return [tokenizer.ids(job.prompt + text, job.max_tokens) for text in texts]


def _min_cosine(vectors: Vectors, expected: Vectors, first: int) -> float:
    """Least cosine of the vectors of a batch to those of its queries, embedded alone."""
    same = expected[(first + np.arange(len(vectors))) % len(QUERIES)]
    if vectors.shape != same.shape or not np.isfinite(vectors).all():
        raise ModelError(
            f"a batch gave an output of shape {vectors.shape}, or not finite; expected {same.shape}; the model reads one text"
        )
    # fp32 lengths are right to 1e-7 only, and a cosine is at most 1.
    return min(1.0, float((vectors.astype(np.float64) * same).sum(axis=1).min()))


if __name__ == "__main__":
    try:
        _child(sys.argv[1])
    except RagError as failure:
        sys.exit(str(failure))
