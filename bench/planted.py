"""Releases whose truth is known, made of real runs: the same, mixed, too small to tell, or broken on purpose."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec

from eval.record import QuestionRecord, Result

# A `rag` that burns a share of the CPU time of its process after every answer, whatever the answer and its printing took.
_WRAPPER = """\
import sys, time
from rag.__main__ import main
from rag.engine import Engine
ask, last_ns = Engine.ask, time.process_time_ns()
def slower(self, *arguments, **options):
    global last_ns
    answer = ask(self, *arguments, **options)
    now_ns = time.process_time_ns()
    until_ns = now_ns + {share} * (now_ns - last_ns)
    while time.process_time_ns() < until_ns:
        pass
    last_ns = time.process_time_ns()
    return answer
Engine.ask = slower
sys.exit(main())
"""


def swapped(base: Result, other: Result, seed: int) -> tuple[Result, Result]:
    """Exchange two results of one run each for some of the documents, drawn by lot: then neither side is better.

    Args:
        base: A result with one run.
        other: The same questions in the same order.
        seed: Of the lot.

    Returns:
        Both, mixed.
    """
    groups = sorted({question.group for question in base.runs[0].questions})
    draw = Random(seed)
    chosen = {group for group in groups if draw.random() < 0.5}
    pairs = [
        (new, old) if old.group in chosen else (old, new)
        for old, new in zip(base.runs[0].questions, other.runs[0].questions, strict=True)
    ]
    return with_questions(base, [old for old, _ in pairs]), with_questions(other, [new for _, new in pairs])


def sampled(result: Result, n: int, seed: int) -> Result:
    """The result of one run as if so many questions had been asked.

    Args:
        result: With one run.
        n: At most as many as there are.
        seed: Of the drawing.

    Returns:
        The same questions of two results that have the same, in their order.
    """
    questions = result.runs[0].questions
    return with_questions(result, [questions[i] for i in sorted(Random(seed).sample(range(len(questions)), n))])


def donors(questions: Sequence[QuestionRecord], share: float, seed: int) -> dict[str, str]:
    """Whose answer is given to whom, so that it is wrong.

    Args:
        questions: Of a run.
        share: Of the questions, 0.0 to 1.0, that get the answer of another one.
        seed: Of the drawing.

    Returns:
        By id of the question, the id of one of another group that was answered.

    Raises:
        IndexError: If no question of another group was answered.
    """
    draw = Random(seed)
    given = [question for question in questions if not question.abstained]
    return {
        question.question_id: draw.choice([other for other in given if other.group != question.group]).question_id
        for question in draw.sample(list(questions), round(share * len(questions)))
    }


def with_questions(result: Result, questions: Sequence[QuestionRecord]) -> Result:
    """A result of one run, with other questions in it."""
    return msgspec.structs.replace(result, runs=(msgspec.structs.replace(result.runs[0], questions=tuple(questions)),))


def wrapper(path: Path, share: float) -> Path:
    """Write a `rag` of this checkout that burns a share of its CPU time.

    Args:
        path: To write to; a file beside it has the same name with ``.py``.
        share: 0.05 for 5 % more.

    Returns:
        The path.
    """
    path.with_suffix(".py").write_text(_WRAPPER.format(share=share), encoding="utf-8")
    start = shlex.join(["exec", sys.executable, "-P", f"{path.with_suffix('.py')}"])
    path.write_text(f'#!/bin/sh\n{start} "$@"\n', encoding="utf-8")
    path.chmod(0o700)
    return path
