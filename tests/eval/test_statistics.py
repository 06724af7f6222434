from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test

from eval.statistics import (
    bootstrap_interval,
    bootstrap_ratios,
    holm,
    mcnemar_p,
    minimum_detectable,
    n_needed,
    paired,
    ratio_interval,
    sign_flip_p,
)
from rag.errors import InputError

# The first example loads what the others find loaded.
# Multiples of 1/4 add up without rounding, so that ties are ties for the oracle too.
quarters = st.integers(-8, 8).map(lambda n: n / 4)
grouped = st.lists(st.tuples(quarters, st.sampled_from("abcdefgh")), min_size=1, max_size=20)


def by_group(pairs: Sequence[tuple[float, str]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for value, group in pairs:
        found.setdefault(group, []).append(value)
    return found


def own(n: int) -> list[str]:
    return [f"g{i}" for i in range(n)]


@given(pairs=grouped, seed=st.integers(0, 99))
def test_bootstrap_draws_whole_groups_as_a_naive_loop_does(pairs: list[tuple[float, str]], seed: int) -> None:
    values, groups = zip(*pairs, strict=True)
    members = list(by_group(pairs).values())
    draws = np.random.default_rng(seed).integers(0, len(members), size=(7, len(members)))
    expected = [sum(sum(members[i]) for i in row) / sum(len(members[i]) for i in row) for row in draws]
    assert bootstrap_ratios(values, [1.0] * len(values), groups, seed=seed, n_draws=7).tolist() == pytest.approx(expected)


@given(pairs=grouped, margin=st.sampled_from([0.0, 0.25, 1.0]))
def test_sign_flips_of_few_groups_are_all_tried(pairs: list[tuple[float, str]], margin: float) -> None:
    sums = [sum(value + margin for value in values) for values in by_group(pairs).values()]
    totals = [
        sum(sign * value for sign, value in zip(signs, sums, strict=True)) for signs in itertools.product((1, -1), repeat=len(sums))
    ]
    values, groups = zip(*pairs, strict=True)
    expected = sum(total <= sum(sums) for total in totals) / len(totals)
    assert sign_flip_p(values, groups, margin=margin) == pytest.approx(expected)


@pytest.mark.parametrize("seed", [1, 2])
def test_drawn_sign_flips_come_near_to_all_of_them(seed: int) -> None:
    values = (np.random.default_rng(seed).integers(-9, 7, size=14) / 4 + 0.125).tolist()
    exact = permutation_test(
        (values,),
        lambda x, axis: np.sum(x, axis=axis),
        permutation_type="samples",
        alternative="less",
        n_resamples=2**14,
        vectorized=True,
    ).pvalue
    # Four standard deviations of a share of 9,999 draws.
    assert abs(sign_flip_p(values, own(14)) - exact) <= 4 * math.sqrt(exact * (1 - exact) / 9999)


@given(flags=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_the_binomial_test_of_the_pairs_that_differ(flags: list[tuple[bool, bool]]) -> None:
    lost, won = sum(a > b for a, b in flags), sum(a < b for a, b in flags)
    expected = binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert mcnemar_p([float(a) for a, _ in flags], [float(b) for _, b in flags]) == pytest.approx(expected)


@given(p_values=st.lists(st.floats(0, 1), max_size=12))
def test_holm_rejects_what_stepping_down_rejects(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected = set()
        for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
            if p_values[index] * (len(p_values) - place) > level:
                break
            rejected.add(index)
        assert {i for i, p in enumerate(adjusted) if p <= level} == rejected


@given(values=st.lists(st.floats(-1, 1), min_size=2, max_size=40))
def test_bounds_stand_in_order_around_the_mean(values: list[float]) -> None:
    found = ratio_interval(values, [1.0] * len(values), own(len(values)))
    ends = [found.lo, found.least, found.value, found.most, found.hi]
    assert all(end is not None for end in ends)
    assert ends == sorted(end for end in ends if end is not None)


@given(values=st.lists(st.floats(-1, 1), min_size=2, max_size=40))
def test_standard_error_is_that_of_a_mean_where_every_question_is_its_own_group(values: list[float]) -> None:
    found = ratio_interval(values, [1.0] * len(values), own(len(values)))
    assert found.standard_error == pytest.approx(float(np.std(values, ddof=1)) / math.sqrt(len(values)), abs=1e-12)


def test_questions_that_fall_together_widen_the_interval() -> None:
    values = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0] * 5
    apart = ratio_interval(values, [1.0] * 40, own(40)).standard_error
    together = ratio_interval(values, [1.0] * 40, [f"g{i // 4}" for i in range(40)]).standard_error
    assert apart is not None
    assert together is not None
    assert together > 1.9 * apart


def test_one_difference_in_fifteen_is_no_proof_in_either_direction() -> None:
    for sign in (1.0, -1.0):
        found = ratio_interval([sign, *[0.0] * 14], [1.0] * 15, own(15))
        assert found.least is not None
        assert found.most is not None
        assert found.least < 0 < found.most


def test_bounds_of_a_normal_sample_hold_as_often_as_they_say() -> None:
    # 500 samples of 12: 95 % one-sided is missed 25 times, 2 standard deviations are 10.
    rng = np.random.default_rng(1)
    bounds = [ratio_interval(sample.tolist(), [1.0] * 12, own(12)).least for sample in rng.normal(size=(500, 12))]
    assert sum(bound is not None and bound > 0 for bound in bounds) <= 35


def test_a_ratio_is_that_of_the_sums() -> None:
    found = ratio_interval([2.0, 30.0], [1.0, 10.0], ["a", "b"])
    assert found.value == 32 / 11


def test_a_single_group_has_a_value_and_no_interval() -> None:
    found = ratio_interval([1.0, 2.0], [1.0, 1.0], ["a", "a"])
    assert (found.value, found.lo, found.least, found.standard_error) == (1.5, None, None, None)
    assert bootstrap_interval([1.0, 2.0], ["a", "a"]) is None


def test_interval_of_a_share_stays_between_its_ends() -> None:
    assert bootstrap_interval([1.0] * 9 + [0.0], own(10)) == (0.7, 1.0)


def test_equal_runs_have_no_difference_and_no_doubt() -> None:
    found = paired([0.0] * 20, own(20), margin=0.01)
    assert (found.gain.value, found.gain.lo, found.gain.hi, found.p_worse, found.mde, found.n_worse) == (
        0.0,
        0.0,
        0.0,
        1.0,
        0.0,
        0,
    )


def test_p_beyond_the_margin_is_larger_than_p_of_any_loss() -> None:
    found = paired([-0.1, -0.2, 0.05, -0.15, -0.1, 0.0, -0.1, -0.3] * 4, own(32), margin=0.05)
    assert found.p_beyond is not None
    assert found.p_worse < found.p_beyond < 0.05


def test_least_loss_seen_and_questions_needed_are_those_of_the_formula() -> None:
    # sd 0.489: 8.6 points at 200 questions, 592 questions for 5 points, 1,643 for 3.
    error = 0.489 / math.sqrt(200)
    assert minimum_detectable(error) == pytest.approx(0.086, abs=5e-4)
    assert (n_needed(error, 200, 0.05), n_needed(error, 200, 0.03)) == (592, 1643)


def test_same_seed_gives_the_same_bits_whatever_the_number_of_threads() -> None:
    program = (
        "from eval.statistics import paired; import random; r = random.Random(3);"
        "d = [r.gauss(0, 1) for _ in range(3000)]; print(repr(paired(d, [str(i // 3) for i in range(3000)], margin=0.1)))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {os.getcwd()!r}); {program}"],
            env={**os.environ, "OPENBLAS_NUM_THREADS": n, "OMP_NUM_THREADS": n},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for n in ("1", "4")
    }
    assert len(said) == 1


def test_seed_moves_the_draws() -> None:
    values = [float(n) for n in range(30)]
    assert bootstrap_interval(values, own(30), seed=1) != bootstrap_interval(values, own(30), seed=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_ratios([], [], []), "0 values"),
        (lambda: bootstrap_ratios([1.0], [1.0], ["a", "b"]), "2 groups"),
        (lambda: ratio_interval([math.nan], [1.0], ["a"]), "not finite"),
        (lambda: ratio_interval([1.0], [0.0], ["a"]), "not more than 0"),
        (lambda: sign_flip_p([1.0], ["a"], margin=-0.1), "margin is -0.1; allowed: 0.0 or more"),
        (lambda: paired([1.0], ["a"], margin=math.nan), "margin is nan"),
        (lambda: mcnemar_p([1.0], [0.5]), "odd one 0.5"),
        (lambda: n_needed(0.1, 10, 0.0), "margin is 0.0; allowed: more than 0.0"),
    ],
)
def test_what_cannot_be_computed_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
