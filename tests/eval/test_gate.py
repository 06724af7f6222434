from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from eval.gate import Check, Outcome, References, Report, Verdict, gate, whole
from eval.record import Result
from eval.side import PairRecord, SideBySide, SideRecord
from eval.suite import NO_MODEL, GateSpec
from eval.tables import as_json, report_markdown, report_text
from rag.errors import InputError
from tests.eval.results import Scores, make_result, make_run, make_suite

N = 200


def spread(seed: int, mean: float = 0.0, deviation: float = 0.05) -> list[float]:
    rng = random.Random(seed)
    return [0.5 + rng.gauss(mean, deviation) for _ in range(N)]


def judged(spec: GateSpec, base: Scores | None, candidate: Scores, *, style_margin: float = 0.0, why: str = "empty") -> Verdict:
    references = References(None if base is None else make_result(make_run(base, why=why)))
    return gate(make_suite(spec), make_result(make_run(candidate, why=why)), references, style_margin=style_margin).verdicts[0]


NDCG = GateSpec("ndcg@10", margin=0.02)
FLAT = [0.5] * N


@pytest.mark.parametrize(
    ("candidate", "outcome"),
    [
        (FLAT, "pass"),
        (spread(1), "pass"),
        (spread(1, mean=0.1), "improved"),
        (spread(1, mean=-0.1), "fail"),
        (spread(1, deviation=0.4), "inconclusive"),
        # Worse for certain, but by less than is borne.
        ([0.49] * N, "pass"),
    ],
)
def test_verdict_is_decided_by_where_the_bounds_of_the_gain_stand(candidate: list[float], outcome: str) -> None:
    assert judged(NDCG, {"ndcg@10": FLAT}, {"ndcg@10": candidate}).outcome == outcome


def test_inconclusive_says_what_the_suite_can_see_and_how_many_questions_it_takes() -> None:
    check = judged(NDCG, {"ndcg@10": FLAT}, {"ndcg@10": spread(1, deviation=0.4)}).checks[0]
    assert check.row is not None
    assert check.row.paired is not None
    assert (
        f"200 questions show a loss of {check.row.paired.mde:.4g}; {check.row.paired.n_needed} are needed for 0.02" in check.reason
    )


def test_margin_is_the_metrics_own_where_the_gate_gives_none() -> None:
    row = judged(GateSpec("ndcg@10"), {"ndcg@10": FLAT}, {"ndcg@10": FLAT}).checks[0].row
    assert row is not None
    assert row.margin == 0.005


def test_fifteen_questions_that_differ_are_too_few() -> None:
    rng = random.Random(4)
    base = [rng.random() for _ in range(15)]
    other = [min(1.0, max(0.0, score + rng.gauss(0.0, 0.2))) for score in base]
    assert judged(GateSpec("ndcg@10"), {"ndcg@10": base}, {"ndcg@10": other}).outcome == "inconclusive"


def test_questions_of_one_document_alone_decide_nothing_unless_they_are_equal() -> None:
    groups = ["g"] * 60
    base = make_result(make_run({"ndcg@10": [0.5] * 60}, groups=groups))
    other = make_result(make_run({"ndcg@10": [0.5] * 58 + [0.4, 0.6]}, groups=groups))
    found = [gate(make_suite(NDCG), each, References(base), style_margin=0.0).outcome for each in (base, other)]
    assert found == ["pass", "inconclusive"]


@pytest.mark.parametrize(("n", "outcome"), [(15, "inconclusive"), (58, "inconclusive"), (59, "pass")])
def test_few_questions_without_a_difference_decide_nothing(n: int, outcome: str) -> None:
    base = make_result(make_run({"ndcg@10": [0.5] * n}))
    assert gate(make_suite(NDCG), base, References(base), style_margin=0.0).outcome == outcome


@pytest.mark.parametrize(
    ("n_leaks", "outcome"), [(0, "improved"), (4, "improved"), (9, "pass"), (10, "pass"), (11, "fail"), (60, "fail")]
)
def test_margin_of_zero_bears_not_one_more(n_leaks: int, outcome: str) -> None:
    def leaks(n: int) -> Scores:
        return {"canary_leak": [float(i < n) for i in range(N)]}

    assert judged(GateSpec("canary_leak"), leaks(10), leaks(n_leaks)).outcome == outcome


def test_tokens_that_a_base_did_not_use_are_a_loss() -> None:
    assert judged(GateSpec("prompt_tokens"), {"prompt_tokens": [0.0] * N}, {"prompt_tokens": [9.0] * N}).outcome == "fail"


def test_loss_of_a_grounding_metric_within_the_style_margin_does_not_fail() -> None:
    base, candidate = {"groundedness": FLAT}, {"groundedness": spread(1, mean=-0.04)}
    found = [judged(GateSpec("groundedness"), base, candidate, style_margin=style).outcome for style in (0.0, 0.06)]
    assert found == ["fail", "inconclusive"]


def test_style_margin_is_of_grounding_metrics_alone() -> None:
    assert judged(NDCG, {"ndcg@10": FLAT}, {"ndcg@10": spread(1, mean=-0.1)}, style_margin=1.0).outcome == "fail"


def test_p_is_adjusted_over_all_gates() -> None:
    # Five of five that differ are worse: p 1/32, which one gate of 0.05 takes for harm and two of them do not.
    scores = [1.0] * 195 + [0.0] * 5
    one = {"ndcg@10": scores}
    both = one | {"mrr@10": scores}
    base: Scores = {"ndcg@10": [1.0] * N, "mrr@10": [1.0] * N}
    strict = [GateSpec("ndcg@10", margin=0.001), GateSpec("mrr@10", margin=0.001)]
    first = gate(make_suite(strict[0]), make_result(make_run(one)), References(make_result(make_run(base))), style_margin=0.0)
    second = gate(make_suite(*strict), make_result(make_run(both)), References(make_result(make_run(base))), style_margin=0.0)
    assert (first.outcome, second.outcome) == ("fail", "inconclusive")
    assert [verdict.checks[0].p_holm for verdict in second.verdicts] == [1 / 16, 1 / 16]


def test_a_candidate_does_not_pass_by_scoring_fewer_questions() -> None:
    base = [1.0] * 100 + [0.2] * 100
    check = judged(NDCG, {"ndcg@10": base}, {"ndcg@10": [*base[:100], *[None] * 100]}).checks[0]
    assert check.outcome == "inconclusive"
    assert "100 questions are scored in the base only: empty (100)" in check.reason


def test_a_candidate_whose_questions_fail_fails() -> None:
    assert judged(NDCG, {"ndcg@10": FLAT}, {"ndcg@10": [*FLAT[:180], *[None] * 20]}, why="failed").outcome == "fail"


def test_a_lost_question_that_could_not_matter_passes_and_is_told() -> None:
    check = judged(NDCG, {"ndcg@10": FLAT}, {"ndcg@10": [*FLAT[:-1], None]}).checks[0]
    assert check.outcome == "pass"
    assert "1 questions are scored in the base only" in check.reason


@pytest.mark.parametrize("base", [None, {"ndcg@10": FLAT}, {"ndcg@10": [None] * N}])
def test_a_metric_that_is_unscored_everywhere_is_inconclusive_with_the_reason(base: Scores | None) -> None:
    verdict = judged(GateSpec("ndcg@10", min=0.1), base, {"ndcg@10": [None] * N}, why="no labels")
    assert verdict.outcome == "inconclusive"
    assert "no labels (200)" in verdict.checks[0].reason


@pytest.mark.parametrize(
    ("spec", "outcome"),
    [
        (GateSpec("ndcg@10", min=0.5), "pass"),
        (GateSpec("ndcg@10", min=0.51), "fail"),
        (GateSpec("ndcg@10", max=0.5), "pass"),
        (GateSpec("ndcg@10", max=0.49), "fail"),
    ],
)
def test_bounds_hold_with_and_without_a_base(spec: GateSpec, outcome: str) -> None:
    assert judged(spec, None, {"ndcg@10": FLAT}).outcome == outcome
    assert judged(spec, {"ndcg@10": FLAT}, {"ndcg@10": FLAT}).outcome == outcome


def test_a_bound_that_holds_only_because_questions_failed_is_inconclusive() -> None:
    candidate: Scores = {"ndcg@10": [*FLAT[:150], *[None] * 50]}
    found = [judged(GateSpec("ndcg@10", min=0.45), None, candidate, why=why).outcome for why in ("empty", "failed")]
    assert found == ["pass", "inconclusive"]


def test_first_release_is_held_against_fixed_bounds_alone_and_says_so() -> None:
    suite = make_suite(GateSpec("ndcg@10", min=0.4), GateSpec("mrr@10"))
    report = gate(suite, make_result(make_run({"ndcg@10": FLAT, "mrr@10": FLAT})), References(), style_margin=0.0)
    assert [verdict.outcome for verdict in report.verdicts] == ["pass", "unchecked"]
    assert (report.outcome, report.exit_code) == ("pass", 0)
    assert "there is no base: only fixed bounds were checked" in report.notes


def test_gates_of_which_none_was_checked_are_not_a_pass() -> None:
    report = gate(make_suite(NDCG), make_result(make_run({"ndcg@10": FLAT})), References(), style_margin=0.0)
    assert (report.outcome, report.exit_code) == ("inconclusive", 4)


def test_slow_drift_that_the_base_does_not_show_fails_against_the_anchor() -> None:
    anchor, base, candidate = (make_result(make_run({"ndcg@10": spread(1, mean=mean)})) for mean in (0.0, -0.05, -0.06))
    report = gate(make_suite(NDCG), candidate, References(base, anchor), style_margin=0.0)
    assert [(check.against, check.outcome) for check in report.verdicts[0].checks] == [("base", "pass"), ("anchor", "fail")]
    assert report.exit_code == 1


def test_gate_holds_on_every_pipeline_that_has_the_metric_but_the_one_without_a_model() -> None:
    runs = (
        make_run({"ndcg@10": FLAT}, pipeline=NO_MODEL),
        make_run({"ndcg@10": FLAT}),
        make_run({"ndcg@10": [None] * N}, pipeline="bm25", why="the pipeline only searches"),
    )
    suite = make_suite(GateSpec("ndcg@10", min=0.1), pipelines=["standard", "bm25"])
    report = gate(suite, make_result(*runs), References(), style_margin=0.0)
    assert [verdict.place.pipeline for verdict in report.verdicts] == ["standard"]


def test_gate_may_name_the_pipeline_without_a_model() -> None:
    suite = make_suite(GateSpec("ndcg@10", min=0.6, pipeline=NO_MODEL))
    report = gate(suite, make_result(make_run({"ndcg@10": FLAT}, pipeline=NO_MODEL)), References(), style_margin=0.0)
    assert [(verdict.place.pipeline, verdict.outcome) for verdict in report.verdicts] == [(NO_MODEL, "fail")]


def test_a_run_that_the_candidate_lacks_is_inconclusive() -> None:
    base = make_result(make_run({"ndcg@10": FLAT}), make_run({"ndcg@10": FLAT}, data="other"))
    report = gate(make_suite(NDCG, data=["set", "other"]), make_result(base.runs[0]), References(base), style_margin=0.0)
    assert [verdict.outcome for verdict in report.verdicts] == ["pass", "inconclusive"]


def test_a_run_of_which_every_question_failed_is_not_passed_over() -> None:
    failed = make_run({"ndcg@10": [None] * 3}, data="other", why="failed")
    suite = make_suite(GateSpec("ndcg@10", min=0.1), data=["set", "other"])
    report = gate(suite, make_result(make_run({"ndcg@10": FLAT}), failed), References(), style_margin=0.0)
    assert [verdict.outcome for verdict in report.verdicts] == ["pass", "inconclusive"]


def test_what_is_not_comparable_is_inconclusive_with_the_reason() -> None:
    run = make_run({"ndcg@10": FLAT})
    report = gate(make_suite(NDCG), make_result(run, checksum="c1"), References(make_result(run)), style_margin=0.0)
    assert report.outcome == "inconclusive"
    assert "data set set is not the same" in report.verdicts[0].checks[0].reason


def cost_report(spec: GateSpec, *, method: str = "") -> Report:
    run = make_run({"ndcg@10": FLAT}, cpu_s=[0.02] * N, energy_j=3.0, method=method)
    return gate(make_suite(spec, metrics=["ndcg@10"]), make_result(run), References(make_result(run)), style_margin=0.0)


@pytest.mark.parametrize(("limit", "outcome"), [(0.03, "pass"), (0.01, "fail")])
def test_cost_has_a_fixed_bound(limit: float, outcome: str) -> None:
    assert cost_report(GateSpec("cpu_s", max=limit)).outcome == outcome


@pytest.mark.parametrize(
    ("method", "limit", "outcome"), [("measured", 5.0, "pass"), ("measured", 2.0, "fail"), ("modelled", 5.0, "inconclusive")]
)
def test_joules_are_gated_only_where_they_are_measured(method: str, limit: float, outcome: str) -> None:
    assert cost_report(GateSpec("energy_j", max=limit), method=method).outcome == outcome


def test_a_cost_that_a_run_does_not_tell_is_inconclusive() -> None:
    assert cost_report(GateSpec("carbon_g", max=1.0)).outcome == "inconclusive"


def test_cpu_margin_without_a_measurement_in_one_job_is_inconclusive() -> None:
    assert cost_report(GateSpec("cpu_s", margin=0.03)).outcome == "inconclusive"


def interleaved(factor: float, deviation: float, n: int = N) -> SideBySide:
    rng = random.Random(7)
    base = [rng.uniform(0.01, 0.03) for _ in range(n)]
    candidate = [cpu_s * factor * (1 + rng.gauss(0, deviation)) for cpu_s in base]
    pair = PairRecord("set", "c0", "standard", tuple(f"q{i}" for i in range(n)), tuple(base), tuple(candidate))
    release = SideRecord("1.0.0", "")
    return SideBySide("suite", "suite-checksum", release, release, is_self=False, pairs=(pair,))


def cpu_check(measured: SideBySide, margin: float | None = None) -> Check:
    run = make_run({"ndcg@10": FLAT}, cpu_s=[0.02] * N)
    suite = make_suite(GateSpec("cpu_s", margin=margin), metrics=["ndcg@10"])
    references = References(make_result(run), interleaved=measured)
    return gate(suite, make_result(run), references, style_margin=0.0).verdicts[0].checks[0]


@pytest.mark.parametrize(
    ("factor", "deviation", "margin", "outcome"),
    [
        (1.0, 0.01, None, "pass"),
        (1.05, 0.01, None, "fail"),
        (1.05, 0.01, 0.1, "pass"),
        (0.9, 0.01, None, "improved"),
        (1.0, 0.6, None, "inconclusive"),
    ],
)
def test_cpu_seconds_are_judged_by_their_ratio(factor: float, deviation: float, margin: float | None, outcome: str) -> None:
    assert cpu_check(interleaved(factor, deviation), margin).outcome == outcome


def test_cpu_seconds_that_pass_but_rise_are_warned_of() -> None:
    assert "warning" in cpu_check(interleaved(1.027, 0.01)).reason


def test_a_single_measured_question_decides_nothing() -> None:
    assert cpu_check(interleaved(1.5, 0.01, n=1)).outcome == "inconclusive"


def with_ids(measured: SideBySide, ids: Sequence[str]) -> SideBySide:
    return replace(measured, pairs=(replace(measured.pairs[0], questions=tuple(ids)),))


SAME = interleaved(1.0, 0.01)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (with_ids(SAME, [f"invented-{i}" for i in range(N)]), "200 questions of the CPU seconds are not of the candidate's run"),
        (
            replace(SAME, pairs=(replace(SAME.pairs[0], checksum="c1"),)),
            "another data set than the candidate's run: checksum c1 against",
        ),
        (replace(SAME, suite_checksum="f" * 64), f"another suite file than the candidate's run: checksum {'f' * 12} against"),
        (replace(SAME, candidate=SideRecord("0.9.0", "")), "of the candidate are of version 0.9.0, its result is of 1.0.0"),
        (replace(SAME, base=SideRecord("0.9.0", "")), "of the base are of version 0.9.0, its result is of 1.0.0"),
    ],
)
def test_cpu_seconds_of_something_else_decide_nothing(other: SideBySide, reason: str) -> None:
    check = cpu_check(other)
    assert check.outcome == "inconclusive"
    assert reason in check.reason


def test_cpu_seconds_of_some_of_the_questions_decide_and_say_so() -> None:
    check = cpu_check(interleaved(1.0, 0.01, n=150))
    assert check.outcome == "pass"
    assert "over 150 of 200 questions" in check.reason


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(SAME, is_self=True), "made with --self"),
        (replace(SAME, suite="other"), "of suite 'other', the gates are of 'suite'"),
    ],
)
def test_cpu_seconds_that_cannot_decide_are_refused(other: SideBySide, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cpu_check(other)


def half_failed(spec: GateSpec, *, with_base: bool) -> Report:
    """Of twelve questions six failed, in the base too."""
    half = [0.5] * 6 + [None] * 6
    result = make_result(make_run({"ndcg@10": half}, cpu_s=[0.02] * 12, why="failed"))
    suite = make_suite(spec, metrics=["ndcg@10"])
    return gate(suite, result, References(result if with_base else None), style_margin=0.0)


@pytest.mark.parametrize(
    ("spec", "with_base"),
    [
        (GateSpec("ndcg@10", margin=0.02), True),
        (GateSpec("ndcg@10", max=0.9), False),
        (GateSpec("ndcg@10", min=0.1), False),
        (GateSpec("cpu_s", max=0.05), False),
        (GateSpec("cpu_s", max=0.05), True),
    ],
)
def test_a_run_with_failed_questions_passes_no_gate(spec: GateSpec, with_base: bool) -> None:
    report = half_failed(spec, with_base=with_base)
    (verdict,) = report.verdicts
    assert (verdict.outcome, report.exit_code) == ("inconclusive", 4)
    assert "failures: inconclusive: 6 of 12 questions failed" in report_text(report)
    assert "standard on set: 6 of 12 questions failed" in report.notes


def test_a_gate_that_fails_still_fails_where_questions_failed() -> None:
    assert half_failed(GateSpec("cpu_s", max=0.01), with_base=False).outcome == "fail"


def test_a_metric_that_only_failed_questions_have_is_not_passed_over() -> None:
    scored = make_run({"ndcg@10": [0.5] * 2})
    failed = make_run({"mrr@10": [0.5, None]}, data="other", why="failed")
    suite = make_suite(GateSpec("ndcg@10", min=0.1), data=["set", "other"])
    report = gate(suite, make_result(scored, failed), References(), style_margin=0.0)
    assert [verdict.outcome for verdict in report.verdicts] == ["pass", "inconclusive"]


def test_a_cost_that_some_questions_do_not_tell_is_no_pass() -> None:
    run = make_run({"ndcg@10": FLAT}, cpu_s=[0.02] * 150 + [None] * 50)
    found = [
        gate(make_suite(GateSpec("cpu_s", max=limit), metrics=["ndcg@10"]), make_result(run), References(), style_margin=0.0)
        for limit in (0.03, 0.01)
    ]
    assert [report.outcome for report in found] == ["inconclusive", "fail"]
    assert "50 of 200 questions have no such cost" in found[0].verdicts[0].checks[0].reason


def test_other_documents_are_explained_once() -> None:
    run = make_run({"ndcg@10": FLAT, "mrr@10": FLAT})
    suite = make_suite(GateSpec("ndcg@10"), GateSpec("mrr@10"))
    report = gate(suite, make_result(run, n_documents=237), References(make_result(run, n_documents=236)), style_margin=0.0)
    assert report.outcome == "inconclusive"
    assert report_text(report).count("other documents (236 against 237; limit or hide differ)") == 1


def test_cpu_seconds_that_no_gate_asks_for_are_noted() -> None:
    run = make_result(make_run({"ndcg@10": FLAT}))
    report = gate(make_suite(NDCG), run, References(run, interleaved=interleaved(1, 0.01)), style_margin=0.0)
    assert report.notes == ("CPU seconds of standard on set were measured but no gate asks for them",)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["pass", "inconclusive", "fail"], "fail"),
        (["improved", "inconclusive"], "inconclusive"),
        (["pass", "improved"], "improved"),
        (["waived", "unchecked"], "pass"),
        (["unchecked"], "inconclusive"),
        ([], "inconclusive"),
    ],
)
def test_the_whole_is_as_good_as_its_worst_gate(outcomes: Sequence[Outcome], expected: str) -> None:
    assert whole(outcomes) == expected


RESULT = make_result(make_run({"ndcg@10": FLAT}))


@pytest.mark.parametrize(
    ("specs", "candidate", "base", "style_margin", "message"),
    [
        ([], RESULT, RESULT, 0.0, "has no gate"),
        ([NDCG], RESULT, RESULT, 1.5, "style margin is 1.5; allowed: 0.0 to 1.0"),
        ([NDCG], make_result(suite="other"), None, 0.0, "a result of suite 'other'"),
        ([NDCG], RESULT, make_result(suite="other"), 0.0, "only results of one suite"),
    ],
)
def test_what_cannot_be_gated_is_refused(
    specs: list[GateSpec], candidate: Result, base: Result | None, style_margin: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        gate(make_suite(*specs), candidate, References(base), style_margin=style_margin)


def test_views_show_verdict_reason_and_exit_status() -> None:
    candidate = make_result(make_run({"ndcg@10": spread(1, mean=-0.1)}))
    report = gate(make_suite(NDCG), candidate, References(RESULT, RESULT), style_margin=0.0)
    text, markdown, values = report_text(report), report_markdown(report), json.loads(as_json(report))
    assert text.splitlines()[0] == "FAIL          ndcg@10 of standard on set"
    assert text.splitlines()[-1] == "fail: 1.0.0 of suite suite (1 fail; exit status 1)"
    assert markdown.startswith("## fail: 1.0.0 of suite suite")
    assert "| data | pipeline | metric | verdict | base | anchor |" in markdown
    assert (values["exit_code"], values["verdicts"][0]["checks"][0]["outcome"]) == (1, "fail")
