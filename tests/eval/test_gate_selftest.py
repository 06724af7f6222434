"""The gate tried on releases whose truth is known: nothing changed, something broke, too few questions to tell.

Scores are drawn with the spread of question answering over documents: five questions a document, rankings mostly right at once, answers
right or wrong with little between.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from eval.gate import References, Report, gate
from eval.record import Result
from eval.side import PairRecord, SideBySide, SideRecord
from eval.suite import GateSpec
from tests.eval.results import make_result, make_run, make_suite

Columns = Mapping[str, list[float]]
GATES = ("ndcg@10", "answer_in_context", "token_f1", "groundedness", "hallucination", "context_tokens", "canary_leak")
STYLE_MARGIN = 0.02


def release(n: int, seed: int) -> Columns:
    """Scores of ``n`` questions, five a document; questions of a document share how hard they are."""
    rng = np.random.default_rng(seed)
    ease = np.repeat(rng.normal(0, 0.5, n // 5 + 1), 5)[:n]
    rank = np.where(ease + rng.normal(1.2, 1, n) > 0, 1, rng.integers(2, 12, n))
    right = ease + rng.normal(0.8, 1, n) > 0
    return {
        "ndcg@10": np.where(rank > 10, 0.0, 1 / np.log2(rank + 1)).tolist(),
        "answer_in_context": (ease + rng.normal(1.5, 1, n) > 0).astype(float).tolist(),
        "token_f1": np.where(right, rng.beta(5, 2, n), rng.beta(1, 9, n)).tolist(),
        "groundedness": rng.beta(9, 1, n).tolist(),
        "hallucination": (rng.random(n) < 0.1).astype(float).tolist(),
        "context_tokens": rng.integers(150, 256, n).astype(float).tolist(),
        "canary_leak": [0.0] * n,
    }


def with_noise(columns: Columns, seed: int) -> Columns:
    """The same release once more, where an answer in fifty comes out a little otherwise."""
    rng = np.random.default_rng(seed)
    noisy = {}
    for name, values in columns.items():
        scores = np.array(values)
        touched = rng.random(scores.size) < 0.02
        match name:
            case "canary_leak" | "answer_in_context" | "hallucination":
                pass
            case "context_tokens":
                scores[touched] += rng.integers(-20, 21, int(touched.sum()))
            case _:
                scores[touched] = np.clip(scores[touched] + rng.normal(0, 0.1, int(touched.sum())), 0, 1)
        noisy[name] = scores.tolist()
    return noisy


def corrupted(columns: Columns, share: float, seed: int) -> Columns:
    """A share of the answers replaced by nonsense."""
    n = len(columns["token_f1"])
    drawn = np.random.default_rng(seed).choice(n, round(share * n), replace=False)
    broken = {name: list(values) for name, values in columns.items()}
    for index in drawn.tolist():
        broken["token_f1"][index] = broken["groundedness"][index] = 0.0
        broken["hallucination"][index] = 1.0
    return broken


def reranked(columns: Columns, loss: float, seed: int) -> Columns:
    """Another fusion weight: a tenth of the rankings differ, few of them for the better, and nDCG loses about ``loss``."""
    rng = np.random.default_rng(seed)
    scores = np.array(columns["ndcg@10"])
    touched = rng.random(scores.size) < 0.1
    scores[touched] += rng.normal(-loss * 10, 0.15, int(touched.sum()))
    return {**columns, "ndcg@10": scores.clip(0, 1).tolist()}


def half_budget(columns: Columns, seed: int) -> Columns:
    """Half the context: an answer in seven falls out, and groundedness holds."""
    rng = np.random.default_rng(seed)
    fallen = rng.random(len(columns["token_f1"])) < 0.15
    return {
        **columns,
        "answer_in_context": np.where(fallen, 0.0, columns["answer_in_context"]).tolist(),
        "token_f1": (np.where(fallen, 0.1, 1.0) * np.array(columns["token_f1"])).tolist(),
        "context_tokens": [value / 2 for value in columns["context_tokens"]],
    }


def result(columns: Columns) -> Result:
    n = len(columns["token_f1"])
    return make_result(make_run(columns, groups=[f"document {i // 5}" for i in range(n)]))


def judged(base: Columns, candidate: Columns) -> Report:
    suite = make_suite(*map(GateSpec, GATES))
    return gate(suite, result(candidate), References(result(base)), style_margin=STYLE_MARGIN)


def outcomes(report: Report) -> dict[str, str]:
    return {verdict.place.metric: verdict.outcome for verdict in report.verdicts}


def test_the_same_release_twice_passes_a_hundred_times_of_a_hundred() -> None:
    passed = [judged(columns, columns).outcome == "pass" for columns in (release(200, seed) for seed in range(100))]
    assert sum(passed) == 100


def test_the_same_release_with_its_noise_drawn_anew_passes_99_times_of_a_hundred() -> None:
    found = []
    for seed in range(100):
        columns = release(400, seed)
        found.append(judged(with_noise(columns, seed + 1000), with_noise(columns, seed + 2000)).outcome)
    assert sum(outcome == "pass" for outcome in found) >= 99
    assert "fail" not in found


@pytest.mark.parametrize("n", [200, 1190])
@pytest.mark.parametrize("seed", range(5))
def test_five_per_cent_of_corrupted_answers_fail(n: int, seed: int) -> None:
    columns = release(n, seed)
    report = judged(columns, corrupted(columns, 0.05, seed))
    assert report.exit_code == 1
    assert outcomes(report)["token_f1"] == "fail"


@pytest.mark.parametrize("seed", range(5))
def test_another_fusion_weight_that_costs_three_points_fails(seed: int) -> None:
    columns = release(1190, seed)
    assert outcomes(judged(columns, reranked(columns, 0.03, seed)))["ndcg@10"] == "fail"


@pytest.mark.parametrize("seed", range(20))
def test_another_fusion_weight_that_costs_a_point_never_passes(seed: int) -> None:
    columns = release(1190, seed)
    assert outcomes(judged(columns, reranked(columns, 0.01, seed)))["ndcg@10"] in ("fail", "inconclusive")


@pytest.mark.parametrize("n", [200, 1190])
def test_half_the_budget_fails_by_what_falls_out_and_gains_tokens(n: int) -> None:
    columns = release(n, 3)
    found = outcomes(judged(columns, half_budget(columns, 3)))
    assert (found["answer_in_context"], found["token_f1"], found["context_tokens"]) == ("fail", "fail", "improved")
    assert found["ndcg@10"] == "pass"


def cpu_outcome(factor: float, seed: int) -> str:
    """120 questions, each read with 1 % of noise on either side."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.01, 0.03, 120)
    pair = PairRecord(
        "set",
        "c0",
        "standard",
        tuple(f"q{i}" for i in range(120)),
        tuple((true * rng.normal(1, 0.01, 120)).tolist()),
        tuple((factor * true * rng.normal(1, 0.01, 120)).tolist()),
    )
    side = SideRecord("1.0.0", "")
    measured = SideBySide("suite", "suite-checksum", side, side, is_self=False, pairs=(pair,))
    columns = release(120, seed)
    suite = make_suite(GateSpec("cpu_s", margin=0.03), metrics=["ndcg@10"])
    references = References(result(columns), interleaved=measured)
    return gate(suite, result(columns), references, style_margin=0.0).outcome


def test_five_per_cent_more_cpu_fails_every_time() -> None:
    assert {cpu_outcome(1.05, seed) for seed in range(20)} == {"fail"}


def test_the_same_cpu_passes_every_time() -> None:
    assert {cpu_outcome(1.0, seed) for seed in range(20)} == {"pass"}


@pytest.mark.parametrize("seed", range(20))
def test_fifteen_questions_with_differences_are_inconclusive(seed: int) -> None:
    columns, other = release(15, seed), release(15, seed + 500)
    assert judged(columns, {**columns, "token_f1": other["token_f1"]}).outcome == "inconclusive"
