from __future__ import annotations

import numpy as np
import pytest

from bench.escalation import Case, fit, learn, read
from rag.generate.escalate import Signs


def case(group: int, covered: float, *, missed: bool, spread_out: bool = False) -> Case:
    return Case(group, Signs(covered, 0.0, 0.0), missed, True, spread_out, 1 - covered)


CASES = [case(2 * n, n % 10 / 10, missed=n % 10 < 3 or n == 9) for n in range(60)]


def test_fit_is_where_the_penalised_likelihood_is_flat() -> None:
    random = np.random.default_rng(0)
    x = random.normal(3.0, 2.0, (80, 2))
    y = (x[:, 0] + random.normal(0.0, 2.0, 80) > 3).astype(np.float64)
    bias, *weights = fit(x, y)
    residual = y - 1 / (1 + np.exp(-(bias + x @ weights)))
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    assert residual.sum() == pytest.approx(0.0, abs=1e-8)
    assert standard.T @ residual == pytest.approx(np.array(weights) * x.std(axis=0), abs=1e-8)


def test_constant_sign_gets_no_weight() -> None:
    fitted = fit(np.column_stack([np.arange(10.0), np.ones(10)]), (np.arange(10) > 4).astype(np.float64))
    assert fitted[2] == 0.0


def test_record_tells_what_was_learnt_from() -> None:
    learnt = learn("made up", CASES)
    assert (learnt.n, learnt.n_missed, learnt.means.asks_number) == (60, 19, 0.0)
    assert learnt.weights.covered < 0
    assert learnt.auc > 0.9


def test_both_rules_are_read_at_the_rate_of_the_reasoned_one() -> None:
    cases = [case(1, 0.0, missed=True), case(1, 1.0, missed=False, spread_out=True), case(3, 0.9, missed=False)]
    reading = read("made up", cases)
    assert (reading.n_escalated, reading.precision, reading.n_reachable) == (1, 1.0, 1)
    assert (reading.n_reasoned, reading.precision_reasoned, reading.precision_equal) == (1, 0.0, 1.0)


def test_nothing_escalated_has_no_precision() -> None:
    reading = read("made up", [case(1, 1.0, missed=False)])
    assert (reading.n_escalated, reading.precision, reading.auc) == (0, None, None)
