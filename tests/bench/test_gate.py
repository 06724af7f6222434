from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from bench.gate import decided
from bench.planted import donors, sampled, swapped, wrapper
from eval.record import CostRecord, EffortRecord, Estimate, Result
from tests.eval.results import make_result, make_run


def result(scores: Sequence[float]) -> Result:
    groups = [f"document {i // 2}" for i in range(len(scores))]
    return make_result(make_run({"containment": list(scores)}, groups=groups))


def scores(of: Result) -> list[float]:
    return [question.scores["containment"] for question in of.runs[0].questions]


def test_times_and_costs_are_no_difference() -> None:
    one = result([0.0, 1.0])
    run = one.runs[0]
    dearer = [msgspec.structs.replace(question, cost=CostRecord(9.0, 9.0, 9)) for question in run.questions]
    runs = (msgspec.structs.replace(run, questions=tuple(dearer), cost={"cpu_s": Estimate(9.0)}),)
    other = msgspec.structs.replace(one, runs=runs, effort=EffortRecord("later", 9.0, 9.0, 9.0, 9.0))
    assert other != one
    assert decided(other) == decided(one)


def test_another_score_is_a_difference() -> None:
    assert decided(result([0.0, 1.0])) != decided(result([1.0, 1.0]))


def test_swapped_results_exchange_whole_documents() -> None:
    base, other = swapped(result([0.0] * 40), result([1.0] * 40), seed=1)
    left, right = scores(base), scores(other)
    assert [a + b for a, b in zip(left, right, strict=True)] == [1.0] * 40
    assert left[::2] == left[1::2]
    assert 0 < sum(left) < 40


def test_two_results_of_the_same_questions_are_sampled_alike() -> None:
    base, other = (sampled(result([factor * i for i in range(40)]), 5, seed=3) for factor in (1.0, 2.0))
    assert len(scores(base)) == 5
    assert [2 * score for score in scores(base)] == scores(other)
    assert [question.question_id for question in base.runs[0].questions] == [
        question.question_id for question in other.runs[0].questions
    ]


def test_wrong_answers_come_from_answered_questions_of_other_documents() -> None:
    questions = [
        msgspec.structs.replace(question, abstained=i % 3 == 0) for i, question in enumerate(result([1.0] * 40).runs[0].questions)
    ]
    by_id = {question.question_id: question for question in questions}
    given = donors(questions, 0.25, seed=4)
    assert len(given) == 10
    assert all(by_id[taker].group != by_id[giver].group and not by_id[giver].abstained for taker, giver in given.items())


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_wrapper_is_the_command_it_stands_for(tmp_path: Path, share: float) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAG_")}
    done = subprocess.run(
        [wrapper(tmp_path / "rag", share), "--help"], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["usage:", "rag"])
