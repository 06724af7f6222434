"""Whether a heavy and a light request that run together are each charged what they use by themselves.

Truth is what the clock of the whole process says of a request that runs alone, before and after every turn together. Two busy cores
share caches, clock rate and memory, so that the same work takes more CPU seconds on both, whoever is charged. A second truth tells how
much: a request in this process, the other one in a process beside it.

    python -m bench.attribution DATA_DIR THREADS

is the process beside: it reads one query a line, repeats it until the next line comes, rests at an empty one and ends with its input.
"""

from __future__ import annotations

import select
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bench.corpora import COLLECTION
from rag.engine import Engine, open_engine
from rag.meter import Meter
from rag.settings import Settings
from rag.types import Query

# Queries of either kind before anything is counted: the model is loaded, and the allocator has grown.
_N_WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the two requests.

    Attributes:
        text: The query, on one line.
        n_tokens: Its tokens, special tokens included.
        n_calls: In a turn; of the light one together with the heavy one, as many as go beside those.
    """

    text: str
    n_tokens: int
    n_calls: int


@dataclass(frozen=True, slots=True)
class Charged:
    """What one of the two was charged: medians over rounds of the mean CPU milliseconds a call.

    Attributes:
        n_tokens: Tokens of the query, special tokens included.
        alone_ms: Alone on the machine.
        beside_ms: Beside a process that does the other's work.
        together_ms: As metered in one process with the other.
        naive_ms: The clock of the process around the same calls.
        error: ``together_ms`` by ``alone_ms`` of the same round, less 1; median over rounds.
        error_beside: The same by ``beside_ms``.
    """

    n_tokens: int
    alone_ms: float
    beside_ms: float
    together_ms: float
    naive_ms: float
    error: float
    error_beside: float


@dataclass(frozen=True, slots=True)
class Pair:
    """A heavy and a light request.

    Attributes:
        threads: Threads that embed one text; with more than one, both requests use one pool in turns.
        n_rounds: Rounds.
        heavy: The request with the long query.
        light: That with the short one.
    """

    threads: int
    n_rounds: int
    heavy: Charged
    light: Charged


@dataclass(frozen=True, slots=True)
class Turn:
    """Mean CPU milliseconds a call of one request in one round; the truths are means of before and after.

    Attributes:
        alone: Alone on the machine.
        beside: Beside another process.
        together: As metered in one process with the other request.
        naive: The clock of the process around the same calls.
    """

    alone: float
    beside: float
    together: float
    naive: float


@dataclass(frozen=True, slots=True)
class _Truth:
    alone: float
    beside: float


@dataclass(frozen=True, slots=True)
class _Together:
    metered: float
    naive: float


def measure_pair(data_dir: Path, threads: int, heavy: Kind, light: Kind, n_rounds: int) -> Pair:
    """Run both requests alone, beside another process and together, in turns.

    Args:
        data_dir: With the default collection.
        threads: Threads that embed one text.
        heavy: The request that decides how long they run together.
        light: The other.
        n_rounds: Rounds, at least 1.

    Returns:
        What they were charged.

    Raises:
        SystemExit: If the process beside fails.
    """
    rounds = []
    with open_engine(_settings(data_dir, threads), COLLECTION) as engine, _neighbour(data_dir, threads) as neighbour:
        for kind in (heavy, light):
            _alone(engine, replace(kind, n_calls=_N_WARM_UP))
        for _ in range(n_rounds):
            before = _truths(engine, neighbour, heavy, light)
            both = _both(engine, heavy, light)
            after = _truths(engine, neighbour, heavy, light)
            rounds.append([_turn(*parts) for parts in zip(before, both, after, strict=True)])
    return Pair(threads, n_rounds, charged(heavy, [r[0] for r in rounds]), charged(light, [r[1] for r in rounds]))


def charged(kind: Kind, turns: Sequence[Turn]) -> Charged:
    """Sum up the rounds of one request.

    Args:
        kind: The request.
        turns: At least one.

    Returns:
        Medians.
    """
    return Charged(
        n_tokens=kind.n_tokens,
        alone_ms=statistics.median(turn.alone for turn in turns),
        beside_ms=statistics.median(turn.beside for turn in turns),
        together_ms=statistics.median(turn.together for turn in turns),
        naive_ms=statistics.median(turn.naive for turn in turns),
        error=statistics.median(turn.together / turn.alone - 1 for turn in turns),
        error_beside=statistics.median(turn.together / turn.beside - 1 for turn in turns),
    )


def _turn(before: _Truth, both: _Together, after: _Truth) -> Turn:
    return Turn((before.alone + after.alone) / 2, (before.beside + after.beside) / 2, both.metered, both.naive)


def _truths(engine: Engine, neighbour: _Neighbour, heavy: Kind, light: Kind) -> list[_Truth]:
    found = []
    for kind, other in ((heavy, light), (light, heavy)):
        alone = _alone(engine, kind)
        neighbour.work(other.text)
        beside = _alone(engine, kind)
        neighbour.rest()
        found.append(_Truth(alone, beside))
    return found


def _alone(engine: Engine, kind: Kind) -> float:
    """Mean CPU milliseconds of the process a call."""
    began = time.process_time_ns()
    for _ in range(kind.n_calls):
        engine.search(Query(kind.text), Meter("thread"))
    return (time.process_time_ns() - began) / 1e6 / kind.n_calls


def _both(engine: Engine, heavy: Kind, light: Kind) -> list[_Together]:
    """Both at once, a thread each, until the heavy one has made its calls."""
    found: dict[str, _Together] = {}
    barrier, is_over = threading.Barrier(2), threading.Event()

    def repeat(kind: Kind, max_calls: int | None) -> None:
        engine.search(Query(kind.text), Meter("thread"))  # whatever a thread does once
        barrier.wait()
        metered: list[float] = []
        naive: list[float] = []
        while len(metered) < max_calls if max_calls else not is_over.is_set() or not metered:
            began = time.process_time_ns()
            measurement = engine.search(Query(kind.text), Meter("thread")).measurement
            naive.append((time.process_time_ns() - began) / 1e6)
            metered.append(measurement.cpu_s * 1e3)
        is_over.set()
        found[kind.text] = _Together(statistics.fmean(metered), statistics.fmean(naive))

    other = threading.Thread(target=repeat, args=(light, None))
    other.start()
    repeat(heavy, heavy.n_calls)
    other.join()
    return [found[heavy.text], found[light.text]]


def _settings(data_dir: Path, threads: int) -> Settings:
    settings = Settings()
    return replace(settings, data_dir=data_dir, embedder=replace(settings.embedder, threads=threads))


class _Neighbour:
    """The process beside, seen from here."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    def work(self, text: str) -> None:
        """Repeat a query from now on; returns when it has begun."""
        self._tell(text)

    def rest(self) -> None:
        """Do nothing from now on."""
        self._tell("")

    def _tell(self, line: str) -> None:
        assert self._child.stdin is not None, "asked for in _neighbour"
        assert self._child.stdout is not None, "asked for in _neighbour"
        with suppress(BrokenPipeError):  # it has ended already: then it does not answer either
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()
        if not self._child.stdout.readline():
            raise SystemExit("the process beside this one ended early; its last words are above")


@contextmanager
def _neighbour(data_dir: Path, threads: int) -> Iterator[_Neighbour]:
    command = [sys.executable, "-P", "-m", "bench.attribution", str(data_dir), str(threads)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield _Neighbour(child)
    finally:  # it ends when its input does
        with suppress(BrokenPipeError):
            child.communicate()


def _be_neighbour(data_dir: Path, threads: int) -> None:
    """Obey the lines of the standard input, answering each with one when it is obeyed."""
    with open_engine(_settings(data_dir, threads), COLLECTION) as engine:
        line = sys.stdin.readline()
        while line:
            text = line.strip()
            if text:
                engine.search(Query(text))
            print("done", flush=True)
            while text and not select.select([sys.stdin], [], [], 0)[0]:
                engine.search(Query(text))
            line = sys.stdin.readline()


if __name__ == "__main__":
    _be_neighbour(Path(sys.argv[1]), int(sys.argv[2]))
