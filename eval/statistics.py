"""Whether two runs over the same questions differ by more than chance, and how many questions it would take to see it.

Questions of one group (a document) rise and fall together, so intervals and tests draw groups, never questions. Every draw is
seeded and every sum is made on one thread, so the same figures come out on any machine, to the bit of its arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from rag.errors import InputError

ALPHA = 0.05
"""Chance of calling a difference that is none, one-sided: the usual level."""
N_DRAWS = 2000
"""Draws of a bootstrap: the 2.5th percentile is then the 50th smallest, and moves by a twentieth of the interval between seeds."""
_POWER = 0.80
# The least p is then 1 in 10,000, which Holm still lets through for 499 gates.
_N_FLIPS = 9999
# Up to here (8,192 ways) all signs are tried, which is cheaper than drawing them.
_MAX_EXACT_GROUPS = 13
# Totals equal but for rounding are ties; few values make many.
_TIE = 1e-9
# 16 MB of 8-byte numbers.
_BLOCK_VALUES = 2_000_000

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A ratio of sums with its interval.

    Attributes:
        value: The ratio; a mean where the denominators are 1.
        lo: Lower end of the 95 % interval; None where a single group tells nothing of its spread, as are the next four.
        hi: Upper end.
        least: It is at least this, one-sided 95 %.
        most: It is at most this, one-sided 95 %.
        standard_error: Between groups, linearised.
        n_groups: Groups drawn.
    """

    value: float
    lo: float | None
    hi: float | None
    least: float | None
    most: float | None
    standard_error: float | None
    n_groups: int


@dataclass(frozen=True, slots=True)
class Paired:
    """A mean of paired differences, positive where the candidate is better.

    Attributes:
        gain: The mean with its interval.
        p_worse: Chance of a mean this low where there is no difference.
        p_better: Chance of a mean this high.
        p_beyond: Chance of a mean this low where the loss is the margin; None for no margin.
        n: Pairs.
        n_worse: Pairs at which the candidate is worse.
        n_better: Pairs at which it is better.
        mde: Least loss that is seen with 80 % power at 5 %, one-sided; None for a single group.
        n_needed: Pairs at which the least loss seen is the margin; None for no margin or a single group.
    """

    gain: Interval
    p_worse: float
    p_better: float
    p_beyond: float | None
    n: int
    n_worse: int
    n_better: int
    mde: float | None
    n_needed: int | None


def bootstrap_ratios(
    numerators: Sequence[float], denominators: Sequence[float], groups: Sequence[str], *, seed: int = 0, n_draws: int = N_DRAWS
) -> _Floats:
    """Draw groups with replacement and compute ``sum of numerators / sum of denominators`` of each draw.

    Args:
        numerators: One a question, finite.
        denominators: One a question, more than 0; all 1 for a mean.
        groups: One a question.
        seed: Of the draws.
        n_draws: Draws, 1 or more.

    Returns:
        Shape (n_draws,), in the order of the draws. The order of the questions within a group does not matter.

    Raises:
        InputError: If there is nothing, lengths differ or a number is out of range.

    References:
        Efron, Tibshirani, An Introduction to the Bootstrap, 1993; Field, Welsh, J. R. Statist. Soc. B 69(3), 2007 (clusters).

    Example:
        >>> bootstrap_ratios([1.0, 1.0], [1.0, 1.0], ["a", "b"], n_draws=3)
        array([1., 1., 1.])
    """
    tops, bottoms = _group_sums(numerators, denominators, groups)
    return _drawn(tops, bottoms, seed, n_draws)


def bootstrap_interval(values: Sequence[float], groups: Sequence[str], *, seed: int = 0) -> tuple[float, float] | None:
    """Compute the 95 % percentile interval of a mean: for a figure of one run.

    Args:
        values: One a question, finite, at least one.
        groups: One a question.
        seed: Of the draws.

    Returns:
        Lower and upper end; None where all are of one group.

    Raises:
        InputError: As `bootstrap_ratios`.

    Example:
        >>> bootstrap_interval([0.0, 1.0, 1.0, 0.0], ["a", "b", "c", "d"])
        (0.0, 1.0)
    """
    tops, bottoms = _group_sums(values, [1.0] * len(values), groups)
    if tops.size < 2:
        return None
    lo, hi = np.quantile(_drawn(tops, bottoms, seed, N_DRAWS), (0.025, 0.975))
    return float(lo), float(hi)


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float], groups: Sequence[str], *, seed: int = 0) -> Interval:
    """Compute a ratio of sums, with bounds to decide by.

    Each bound is the outer one of the cluster bootstrap's and of Student's t with ``n_groups - 1`` degrees of freedom: the bootstrap
    follows skewed differences, but is too narrow for a dozen groups and has no width where the few that differ are not drawn.

    Args:
        numerators: One a question, finite.
        denominators: One a question, more than 0.
        groups: One a question.
        seed: Of the draws.

    Returns:
        The ratio and its bounds.

    Raises:
        InputError: As `bootstrap_ratios`.

    References:
        Cochran, Sampling Techniques, 1977, 6.3 (standard error of a ratio of group sums).
    """
    from scipy.special import stdtrit  # 0.2 s of CPU, for comparisons only

    tops, bottoms = _group_sums(numerators, denominators, groups)
    n = int(tops.size)
    value = float(tops.sum() / bottoms.sum())
    residuals = tops - value * bottoms
    if n < 2:
        return Interval(value, None, None, None, None, None, n)
    error = math.sqrt(n / (n - 1) * float(np.square(residuals).sum())) / float(bottoms.sum())
    if error < _TIE * _TIE * max(1.0, abs(value)):
        return Interval(value, value, value, value, value, 0.0, n)
    low = np.quantile(_drawn(tops, bottoms, seed, N_DRAWS), (0.025, 0.05, 0.95, 0.975))
    wide, narrow = (float(stdtrit(n - 1, level)) * error for level in (0.975, 0.95))
    return Interval(
        value=value,
        lo=min(float(low[0]), value - wide),
        hi=max(float(low[3]), value + wide),
        least=min(float(low[1]), value - narrow),
        most=max(float(low[2]), value + narrow),
        standard_error=error,
        n_groups=n,
    )


def paired(differences: Sequence[float], groups: Sequence[str], *, margin: float = 0.0, seed: int = 0) -> Paired:
    """Compare two runs question by question.

    Args:
        differences: One a question, positive where the candidate is better.
        groups: One a question.
        margin: Loss that is borne, in the unit of the differences, 0.0 or more.
        seed: Of the draws.

    Returns:
        The comparison.

    Raises:
        InputError: As `bootstrap_ratios`, or for a negative margin.
    """
    _check_margin(margin)
    gain = ratio_interval(differences, [1.0] * len(differences), groups, seed=seed)
    error = gain.standard_error
    p_worse, p_better = _sign_flips(differences, groups, 0.0, seed)
    return Paired(
        gain=gain,
        p_worse=p_worse,
        p_better=p_better,
        p_beyond=sign_flip_p(differences, groups, margin=margin, seed=seed) if margin else None,
        n=len(differences),
        n_worse=sum(difference < 0 for difference in differences),
        n_better=sum(difference > 0 for difference in differences),
        mde=None if error is None else minimum_detectable(error),
        n_needed=n_needed(error, len(differences), margin) if error is not None and margin else None,
    )


def sign_flip_p(differences: Sequence[float], groups: Sequence[str], *, margin: float = 0.0, seed: int = 0) -> float:
    """Test whether the mean difference is below ``-margin``, by flipping the signs of whole groups.

    Under "the loss is the margin" the sum of ``difference + margin`` of a group is as likely positive as negative. The p is the share
    of sign patterns whose total is as low as the one seen, ties included: of all patterns for up to 13 groups that are not 0, else of
    9,999 drawn ones and the one seen.

    Args:
        differences: One a question, positive where the candidate is better.
        groups: One a question.
        margin: 0.0 tests for any loss.
        seed: Of the draws.

    Returns:
        More than 0.0, up to 1.0.

    Raises:
        InputError: As `bootstrap_ratios`, or for a negative margin.

    References:
        Fisher, The Design of Experiments, 1935, section 21; Phipson, Smyth, 2010, doi:10.2202/1544-6115.1585 (the one seen counts).

    Example:
        >>> sign_flip_p([-0.1, -0.2, -0.3], ["a", "b", "c"])
        0.125
    """
    _check_margin(margin)
    return _sign_flips(differences, groups, margin, seed)[0]


def _sign_flips(differences: Sequence[float], groups: Sequence[str], margin: float, seed: int) -> tuple[float, float]:
    """Shares of sign patterns whose total is as low, and as high, as the one seen."""
    tops, bottoms = _group_sums(differences, [1.0] * len(differences), groups)
    sums = tops + margin * bottoms
    tie = _TIE * float(np.abs(sums).sum())
    sums = sums[np.abs(sums) > tie]
    seen = float(sums.sum())
    if sums.size <= _MAX_EXACT_GROUPS:
        signs = (np.arange(2**sums.size)[:, None] >> np.arange(sums.size)) & 1
        totals = np.where(signs, sums, -sums).sum(axis=1)
        return float(np.mean(totals <= seen + tie)), float(np.mean(totals >= seen - tie))
    rng = np.random.default_rng(seed)
    n_low = n_high = 1
    for n_rows in _blocks(_N_FLIPS, int(sums.size)):
        octets = rng.integers(0, 256, size=(n_rows, -(-sums.size // 8)), dtype=np.uint8)
        drawn = np.unpackbits(octets, axis=1, count=sums.size)
        totals = np.einsum("ij,j->i", drawn.astype(np.float64), 2 * sums) - seen
        n_low += int(np.count_nonzero(totals <= seen + tie))
        n_high += int(np.count_nonzero(totals >= seen - tie))
    return n_low / (_N_FLIPS + 1), n_high / (_N_FLIPS + 1)


def mcnemar_p(base: Sequence[float], candidate: Sequence[float]) -> float:
    """Test whether two binary outcomes of the same questions differ: exact, two-sided (McNemar, 1947, doi:10.1007/BF02295996).

    It takes questions as independent, which those of one document are not: information, not a gate.

    Args:
        base: 0.0 or 1.0, one a question.
        candidate: Likewise, in the same order.

    Returns:
        More than 0.0, up to 1.0; 1.0 where no question differs.

    Raises:
        InputError: If lengths differ or a value is neither 0.0 nor 1.0.

    Example:
        >>> mcnemar_p([1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0])
        0.25
    """
    if len(base) != len(candidate) or not {*base, *candidate} <= {0.0, 1.0}:
        odd = next((value for value in (*base, *candidate) if value not in (0.0, 1.0)), None)
        raise InputError(f"{len(base)} and {len(candidate)} outcomes, odd one {odd}; give 0.0 or 1.0 for the same questions")
    from scipy.special import bdtr

    n_lost = sum(old > new for old, new in zip(base, candidate, strict=True))
    n_won = sum(old < new for old, new in zip(base, candidate, strict=True))
    return min(1.0, 2 * float(bdtr(min(n_lost, n_won), n_lost + n_won, 0.5))) if n_lost + n_won else 1.0


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjust p values of several tests so that the chance of any false alarm stays at the level.

    Args:
        p_values: 0.0 to 1.0, any number of them.

    Returns:
        Adjusted, in the order given, each at least as large as it was; equal ones stay equal.

    References:
        Holm, Scand. J. Statist. 6(2), 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        (0.03, 0.06, 0.06)
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return tuple(adjusted)


def minimum_detectable(standard_error: float) -> float:
    """Compute the least loss that a one-sided test at 5 % sees in 80 of 100 cases: ``(z.95 + z.80) * standard error``.

    Args:
        standard_error: Of the mean difference: ``sd(d) / sqrt(n)`` where every question is its own group.

    Returns:
        In the unit of the differences.

    Example:
        >>> round(minimum_detectable(0.489 / 200**0.5), 3)
        0.086
    """
    normal = NormalDist()
    return (normal.inv_cdf(1 - ALPHA) + normal.inv_cdf(_POWER)) * standard_error


def n_needed(standard_error: float, n: int, margin: float) -> int:
    """Compute how many questions make the least loss seen as small as the margin, if they vary and cluster as these do.

    ``n * (minimum_detectable / margin) ** 2``, rounded up.

    Args:
        standard_error: Of the mean difference over ``n`` questions.
        n: Questions it comes from.
        margin: More than 0.0.

    Returns:
        0 where the questions do not differ at all.

    Raises:
        InputError: If the margin is not more than 0.0: no number of questions is enough for it.

    Example:
        >>> n_needed(0.489 / 200**0.5, 200, 0.05)
        592
    """
    if not margin > 0:
        raise InputError(f"margin is {margin}; allowed: more than 0.0, because no number of questions shows a loss of nothing")
    return math.ceil(n * (minimum_detectable(standard_error) / margin) ** 2)


def _group_sums(numerators: Sequence[float], denominators: Sequence[float], groups: Sequence[str]) -> tuple[_Floats, _Floats]:
    """Sums by group, groups in order of their first question."""
    if not numerators or not len(numerators) == len(denominators) == len(groups):
        raise InputError(
            f"{len(numerators)} values, {len(denominators)} denominators and {len(groups)} groups; give one of each a question"
        )
    if not all(map(math.isfinite, numerators)) or not all(0 < value < math.inf for value in denominators):
        raise InputError("a value is not finite, or a denominator not more than 0; leave such a question out and count it")
    tops: dict[str, list[float]] = {}
    bottoms: dict[str, list[float]] = {}
    for top, bottom, group in zip(numerators, denominators, groups, strict=True):
        tops.setdefault(group, []).append(top)
        bottoms.setdefault(group, []).append(bottom)
    return np.array([math.fsum(each) for each in tops.values()]), np.array([math.fsum(each) for each in bottoms.values()])


def _drawn(tops: _Floats, bottoms: _Floats, seed: int, n_draws: int) -> _Floats:
    rng = np.random.default_rng(seed)
    blocks = []
    for n_rows in _blocks(n_draws, int(tops.size)):
        drawn = rng.integers(0, tops.size, size=(n_rows, tops.size))
        blocks.append(tops[drawn].sum(axis=1) / bottoms[drawn].sum(axis=1))
    return np.concatenate(blocks)


def _blocks(n_rows: int, n_columns: int) -> Iterator[int]:
    """Numbers of rows that add up to ``n_rows``, each small enough for memory."""
    height = max(1, _BLOCK_VALUES // n_columns)
    for start in range(0, n_rows, height):
        yield min(height, n_rows - start)


def _check_margin(margin: float) -> None:
    if not 0 <= margin < math.inf:
        raise InputError(f"margin is {margin}; allowed: 0.0 or more")
