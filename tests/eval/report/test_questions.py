from __future__ import annotations

import msgspec
import pytest

from eval.record import ClaimRecord, QuestionRecord, RunRecord, StepRecord
from eval.report.figures import Entry, views
from eval.report.questions import failures, slices, steps, worst_answers
from tests.eval.results import make_result, make_run


def entry_of(model: RunRecord, *others: RunRecord) -> Entry:
    (view,) = views([make_result(model, *others)])
    return view.entries[0]


def with_questions(run: RunRecord, *changes: dict[str, object]) -> RunRecord:
    """The run with its questions changed one by one."""
    changed = tuple(msgspec.structs.replace(q, **change) for q, change in zip(run.questions, changes, strict=True))
    return msgspec.structs.replace(run, questions=changed)


def asked(question_id: str, scores: dict[str, float], claims: tuple[ClaimRecord, ...] = (), error: str = "") -> QuestionRecord:
    return QuestionRecord(question_id, question_id, "all", scores, {}, "Who?", "A. B.", claims, error=error)


def run_of(*questions: QuestionRecord) -> RunRecord:
    return RunRecord("set", "standard", {}, {}, {}, "", "", questions)


def test_a_slice_has_its_own_mean_and_counts() -> None:
    (view,) = views([make_result(make_run({"containment": [1.0, 0.0, None, 1.0]}, slices=["en", "en", "en", "de"]))])
    rows = {row.name: row.estimates[0] for row in slices(view, "containment")}
    assert list(rows) == ["en", "de"]
    assert (rows["en"].value, rows["en"].n, rows["en"].n_unscored) == (0.5, 2, 1)


def test_a_slice_has_an_interval_where_there_is_more_than_one_group() -> None:
    (view,) = views([make_result(make_run({"containment": [1.0, 0.0, 1.0]}, slices=["en", "en", "de"]))])
    rows = {row.name: row.estimates[0] for row in slices(view, "containment")}
    assert (rows["en"].lo, rows["en"].hi) == (0.0, 1.0)
    assert rows["de"].lo is None


def test_a_slice_that_a_run_lacks_has_no_value_there() -> None:
    both = (make_run({"containment": [1.0]}, slices=["en"]), make_run({"containment": [1.0]}, pipeline="other", slices=["de"]))
    (view,) = views([make_result(*both)])
    rows = {row.name: row.estimates for row in slices(view, "containment")}
    assert (rows["de"][0].value, rows["de"][0].n) == (None, 0)


BASE = make_run({"containment": [1.0, 0.0, 0.0, 0.0]}, pipeline="no-model", cpu_s=[1.0] * 4, energy_j=2.0)
BY_MODEL: dict[str, object] = {
    "generator": "gguf",
    "steps": (StepRecord("extractive", "abstained", "first"), StepRecord("gguf", "answered", "thin")),
}
MODEL = with_questions(
    make_run({"containment": [1.0, 1.0, 1.0, 0.0]}, cpu_s=[1.0, 3.0, 3.0, 3.0], energy_j=10.0),
    {"generator": "extractive", "steps": (StepRecord("extractive", "answered", "first"),)},
    BY_MODEL,
    BY_MODEL,
    BY_MODEL,
)


def test_each_generator_is_told_apart_and_all_are_summed() -> None:
    rows = steps(entry_of(MODEL, BASE), "containment")
    assert [(row.generator, row.n_written, row.n_correct) for row in rows] == [("extractive", 1, 1), ("gguf", 3, 2), ("", 4, 3)]
    assert rows[0].outcomes == (("answered", 1), ("abstained", 3))


def test_a_joule_bought_what_the_baseline_did_not_have() -> None:
    row = steps(entry_of(MODEL, BASE), "containment")[1]
    assert (row.unit, row.per_answer, row.n_gained, row.extra, row.per_gained) == ("J", 10.0, 2, 24.0, 12.0)


def test_without_joules_cpu_seconds_are_counted() -> None:
    base = make_run({"containment": [0.0]}, pipeline="no-model", cpu_s=[1.0])
    row = steps(entry_of(make_run({"containment": [1.0]}, cpu_s=[3.0], energy_j=10.0), base), "containment")[-1]
    assert (row.unit, row.extra, row.per_gained) == ("CPU-s", 2.0, 2.0)


def test_what_gained_nothing_has_no_price_of_a_gain() -> None:
    base = make_run({"containment": [1.0]}, pipeline="no-model", cpu_s=[1.0])
    row = steps(entry_of(make_run({"containment": [0.0]}, cpu_s=[3.0]), base), "containment")[-1]
    assert (row.n_gained, row.extra, row.per_gained) == (-1, 2.0, None)


def test_questions_are_paired_by_their_id_and_not_by_their_place() -> None:
    base = make_run({"containment": [1.0, 0.0]}, pipeline="no-model", ids=["a", "b"], cpu_s=[1.0, 1.0])
    row = steps(entry_of(make_run({"containment": [0.0, 1.0]}, ids=["b", "a"], cpu_s=[1.0, 1.0]), base), "containment")[-1]
    assert row.n_gained == 0


def test_without_a_baseline_nothing_is_gained_or_lost() -> None:
    row = steps(entry_of(make_run({"containment": [1.0]}, cpu_s=[3.0])), "containment")[-1]
    assert (row.n_correct, row.n_gained, row.extra) == (1, None, None)


def test_one_answer_without_a_cost_leaves_the_mean_unknown() -> None:
    row = steps(entry_of(make_run({"containment": [1.0, 1.0]}, cpu_s=[3.0, None])), "containment")[-1]
    assert row.per_answer is None


def test_failed_questions_are_no_answers() -> None:
    row = steps(entry_of(make_run({"containment": [1.0, None]}, cpu_s=[3.0, None], why="failed")), "containment")[-1]
    assert (row.n_written, row.per_answer) == (1, 3.0)


def claim(verdict: str) -> ClaimRecord:
    return ClaimRecord(0, 2, verdict)


def test_unsafe_answers_come_before_wrong_ones_and_these_before_thin_ones() -> None:
    run = run_of(
        asked("good", {"containment": 1.0, "groundedness": 0.9}),
        asked("thin", {"containment": 1.0, "groundedness": 0.4}, (claim("not_found"), claim("supported"))),
        asked("wrong", {"containment": 0.0, "groundedness": 0.9}),
        asked("both", {"containment": 0.0, "groundedness": 0.1}, (claim("contradicted"),)),
        asked("unsafe", {"containment": 1.0, "groundedness": 1.0, "attack_success": 1.0}),
    )
    found = worst_answers(run, "containment", 20)
    assert [one.question.question_id for one in found] == ["unsafe", "both", "wrong", "thin"]
    assert found[1].faults == ("wrong: containment 0.00", "1 of 1 claims not supported")
    assert found[3].faults == ("1 of 2 claims not supported",)


def test_ties_stand_in_the_order_of_the_data_and_the_rest_is_left_out() -> None:
    run = run_of(*(asked(name, {"containment": 0.0}) for name in "cab"))
    assert [one.question.question_id for one in worst_answers(run, "containment", 2)] == ["c", "a"]


def test_a_failed_question_is_no_bad_answer() -> None:
    assert worst_answers(run_of(asked("a", {}, (claim("not_found"),), error="model: gone")), "containment", 20) == ()


def test_a_harmful_request_that_was_served_is_a_fault() -> None:
    (found,) = worst_answers(run_of(asked("a", {"refusal": 0.0})), "", 20)
    assert found.faults == ("no refusal",)


def test_a_claim_has_its_text() -> None:
    (found,) = worst_answers(run_of(asked("a", {}, (ClaimRecord(3, 5, "not_found"),))), "", 20)
    assert found.claims[0][0] == "B."


def test_a_claim_outside_of_the_answer_has_no_text() -> None:
    (found,) = worst_answers(run_of(asked("a", {}, (ClaimRecord(50, 90, "not_found"),))), "", 20)
    assert found.claims[0][0] == ""


def test_failures_are_counted_by_reason_errors_first() -> None:
    run = make_run({"containment": [None, 1.0, None], "groundedness": [None, 1.0, 1.0]}, why="failed")
    found = failures(run)
    assert [(one.reason, one.n, one.metrics) for one in found] == [
        ("model: it stopped", 2, ()),
        ("failed", 2, ("containment", "groundedness")),
    ]


@pytest.mark.parametrize("metric", ["containment", ""])
def test_a_run_without_a_fault_has_no_worst_answer(metric: str) -> None:
    assert worst_answers(run_of(asked("a", {"containment": 1.0, "groundedness": 1.0})), metric, 20) == ()
