"""CPU seconds per answer of two releases or settings, measured side by side: the same questions, in turn, in one job on one machine.

Two processes of ``rag ask --batch - --json`` stay open. What the machine does meanwhile then falls on both, and reading the CPU clocks
of the processes from outside trusts neither to measure itself. With 120 questions of 12 ms in three rounds, on two cores with three other
jobs, a release against itself gave ratios of 0.992 to 1.002, and with 5 % of extra work 1.026 to 1.067, half-widths 1 to 3.5 %; without
other jobs half a per cent is resolved (facts: energy, 6.1).
Processes started anew for every round were no steadier.

A process is charged from the moment a question is sent until the next one is, so that work behind an answer is nobody's gift.
"""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

from rag.clocks import process_clock
from rag.errors import InputError, RagError

# The first answers of a process load tables and grow memory. Asked in turn too: a process that waits for the other to start grows cold.
_N_WARM_UP = 5
# Of one answer; a language model on a busy machine takes tens of seconds.
_TIMEOUT_S = 300.0
_READ_BYTES = 1 << 16
_NS = 1e9


@dataclass(frozen=True, slots=True)
class Interleaved:
    """CPU seconds of the same questions, put to two processes.

    Attributes:
        questions: Ids, in the order given.
        base_cpu_s: Least of all rounds, by question.
        candidate_cpu_s: The same of the candidate.
    """

    questions: tuple[str, ...]
    base_cpu_s: tuple[float, ...]
    candidate_cpu_s: tuple[float, ...]


def interleave(
    base: Sequence[str],
    candidate: Sequence[str],
    questions: Sequence[tuple[str, str]],
    *,
    rounds: int = 3,
    seed: int,
    timeout_s: float = _TIMEOUT_S,
) -> Interleaved:
    """Measure two commands on the same questions, in turn.

    Each round asks every question once, in an order drawn anew; which side is asked first alternates. Only the CPU time of the
    processes themselves counts, all their threads, not that of processes that they start.

    Args:
        base: Program and arguments: ``rag ... ask --batch - --json ...`` of one release, with its cache off.
        candidate: The same of the other.
        questions: Pairs of id and text, each id once; an empty text is refused by `rag ask`.
        rounds: 1 or more; the least of the rounds counts, because disturbances only add.
        seed: Of the order.
        timeout_s: Longest wait for an answer.

    Returns:
        CPU seconds in the order of the questions.

    Raises:
        InputError: If there is no question, an id is there twice, or ``rounds`` is less than 1.
        RagError: If a process cannot be started, ends, answers late or with an error, or from its cache; the message has the last line
            of what it said. Its code is ``interleave``.
    """
    ids = [question_id for question_id, _ in questions]
    if not ids or len(set(ids)) < len(ids) or rounds < 1:
        raise InputError(
            f"{len(ids)} questions with {len(set(ids))} ids in {rounds} rounds; give at least one question and round, each id once",
            code="interleave",
        )
    draw = random.Random(seed)
    with ExitStack() as held:
        sides = []
        for name, command in (("base", base), ("candidate", candidate)):
            said = held.enter_context(tempfile.TemporaryFile())
            sides.append(_Side(name, command, timeout_s, said))
            held.callback(sides[-1].close)
        for question_id, text in questions[:_N_WARM_UP]:
            for side in sides:
                side.ask(question_id, text)
        for side in sides:
            side.forget()
        first = draw.randrange(2)
        for _ in range(rounds):
            for question_id, text in draw.sample(questions, len(questions)):
                for side in (sides[first], sides[1 - first]):
                    side.ask(question_id, text)
                first = 1 - first
        least = [side.least_s() for side in sides]
    return Interleaved(tuple(ids), tuple(least[0][i] for i in ids), tuple(least[1][i] for i in ids))


class _Side:
    """One of the two processes, with the account of its CPU time by question."""

    def __init__(self, name: str, command: Sequence[str], timeout_s: float, said: IO[bytes]) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._said = said
        self._spent_ns: dict[str, int] = {}
        self._asked = ""
        self._rest = b""
        # Through env, because what a child buffers never arrives; env becomes the program, so the process id stays.
        unbuffered = ["env", "PYTHONUNBUFFERED=1", *command]
        try:
            self._process = subprocess.Popen(
                unbuffered, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, bufsize=0, start_new_session=True
            )
        except OSError as error:
            raise self._failed(f"cannot be started: {error.strerror}") from error
        try:
            self._clock = process_clock(self._process.pid)
        except ProcessLookupError as error:
            self.close()
            raise self._failed("has no CPU clock that can be read from outside, which needs Linux") from error
        self._mark_ns = self._clock()

    def ask(self, question_id: str, text: str) -> None:
        """Put a question and wait for its answer; what the process worked since the last one is charged to that."""
        self._settle()
        self._asked = question_id
        try:
            _pipe(self._process.stdin).write(json.dumps({"_id": question_id, "text": text}).encode("ascii") + b"\n")
        except BrokenPipeError as error:
            raise self._failed("ended") from error
        line = self._line()
        try:
            answer = json.loads(line)
            answered, fault = answer.get("_id"), answer.get("error")
            is_cached = answer.get("measurement", {}).get("cache") == "hit"
        except (ValueError, AttributeError) as error:
            raise self._failed(f"wrote {line[:80]!r}, which is no answer of 'rag ask --batch - --json'") from error
        if fault or answered != question_id:
            raise self._failed(f"answered {answered!r} with {fault or 'no error'}")
        if is_cached:
            raise self._failed("answered from its cache, which measures nothing; set cache.mode to off")

    def forget(self) -> None:
        """Leave out what was asked so far."""
        self._settle()
        self._spent_ns, self._asked = {}, ""

    def least_s(self) -> dict[str, float]:
        """Least CPU seconds by question id."""
        self._settle()
        return {question_id: ns / _NS for question_id, ns in self._spent_ns.items()}

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            _pipe(pipe).close()

    def _settle(self) -> None:
        now_ns = self._clock()
        if self._asked:
            spent_ns = now_ns - self._mark_ns
            self._spent_ns[self._asked] = min(spent_ns, self._spent_ns.get(self._asked, spent_ns))
        self._mark_ns = now_ns

    def _line(self) -> bytes:
        stdout = _pipe(self._process.stdout)
        deadline = time.monotonic() + self._timeout_s
        while b"\n" not in self._rest:
            if not select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise self._failed(f"did not answer within {self._timeout_s:g} s")
            if not (more := os.read(stdout.fileno(), _READ_BYTES)):
                raise self._failed("ended")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _failed(self, what: str) -> RagError:
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        asked = f" (question {self._asked!r})" if self._asked else ""
        return RagError(
            f"the {self._name} process {what}{asked}; its last words: {said}; run its command by hand to see why", code="interleave"
        )


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "both ends were asked for; this is a bug"
    return pipe
