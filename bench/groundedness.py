"""Fits the groundedness scorer, and reads how well it judges labelled claims.

    python -m bench.groundedness [--data DIR] [--out DIR] [--write]

The folder ``groundedness`` of the data folder is read. Coefficients are fitted on its training part alone. Sets of one kind are a family;
the ridge is chosen by how well a family is separated by what was learnt on the others, and the calibration that ships is made of such
held-out figures. With --write the files of the scorer are replaced. The other part is then read once, with the scorer as it stands.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import get_args

import numpy as np
import numpy.typing as npt

from bench.grounding_fit import (
    FAMILY_WEIGHTS,
    Pairs,
    auc,
    aucs,
    choose_ridge,
    figures_of,
    fit,
    part_of,
    read_pairs,
    style_figures,
    write_scorer,
)
from bench.machine import Machine, commit, this_machine
from bench.result import result_parser, today, write_result
from eval.answers import roc_auc
from eval.calibrate import calibration_error, error_of_chance, fit_curve
from eval.selftest import ErrorKind, plant
from rag.groundedness import Finding, Scorer, answer_support, open_scorer
from rag.groundedness.context import Context

_FORMAT = 1
_N_LABELLED_GROUPS = 50
_ALL = "all"
_N_DRAWS = 100
_N_ANSWERS = 2000
_SEED = 0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SetResult:
    """Figures of one set that was not learnt from.

    Attributes:
        name: Of the set; ``all`` of them together.
        n: Claims.
        auc: Area under the curve, supported against the others.
        auc_contradicted: Supported against contradicted; None where the set has none.
        error_shipped: Calibration error of the calibration that ships.
        error_after_50: After 50 labelled groups, on the others: mean of 100 draws.
        error_of_chance: What a perfect calibration would show there.
        cpu_ms: Median CPU milliseconds a claim, its document read for it alone.
    """

    name: str
    n: int
    auc: float
    auc_contradicted: float | None
    error_shipped: float
    error_after_50: float
    error_of_chance: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class PlantedResult:
    """Errors of one kind, planted into the supported claims of SciFact validation.

    Attributes:
        kind: Of error.
        n: Claims that have a place for it.
        auc: Area under the curve, the claims as they were against these.
        not_supported: Share of them that is not called supported.
        flagged: Share with any flag.
    """

    kind: ErrorKind
    n: int
    auc: float
    not_supported: float
    flagged: float


@dataclass(frozen=True, slots=True)
class Result:
    """A whole result, as written.

    Attributes:
        format: Of the file.
        commit: Of the code.
        date: Of the run.
        machine: Where.
        scorer: Id.
        held_out_auc: By family, learnt on the others.
        answers_auc: By family: answers put together from its claims, all supported against any not, by way to join supports.
        style: By metric: see `style_figures`.
        sets: Of the part that was not learnt from.
        planted: By kind of error.
        n_nan: Supports that are no number.
    """

    format: int
    commit: str
    date: str
    machine: Machine
    scorer: str
    held_out_auc: Mapping[str, float]
    answers_auc: Mapping[str, Mapping[str, float]]
    style: Mapping[str, float]
    sets: tuple[SetResult, ...]
    planted: tuple[PlantedResult, ...]
    n_nan: int


def main(argv: Sequence[str] | None = None) -> None:
    """Fit, measure, print the figures and write the result."""
    options = _options(argv)
    folder = options.data / "groundedness"
    commit_name, machine = commit(), this_machine()
    train = read_pairs(folder / "train.jsonl.gz")
    figures = figures_of(train)
    ridge, held_out = choose_ridge(figures, train)
    if options.write:
        write_scorer(fit(figures, train, ridge), ridge, held_out, train)
    scorer = open_scorer()
    dev = read_pairs(folder / "dev.jsonl.gz")
    sets = tuple(_set_result(dev, name, scorer) for name in (*dict.fromkeys(dev.sets.tolist()), _ALL))
    supports = np.array([scorer.calibration.claim(z) for z in held_out])
    result = Result(
        format=_FORMAT,
        commit=commit_name,
        date=today(),
        machine=machine,
        scorer=scorer.id,
        held_out_auc=aucs(held_out, train),
        answers_auc={family: dict(_answers_auc(supports[train.families == family], train.labels[train.families == family]))
                     for family in FAMILY_WEIGHTS},
        style=style_figures(supports, supports >= scorer.threshold, train),
        sets=sets,
        planted=tuple(_planted(dev, scorer)),
        n_nan=sum(math.isnan(p) for p in supports),
    )  # fmt: skip
    for row in (*result.sets, *result.planted):
        print(row)
    print(
        json.dumps(
            {"ridge": ridge, "held out": result.held_out_auc, "answers": result.answers_auc, "style": result.style}, indent=1
        )
    )
    write_result(result, options.out, "groundedness")


def _answers_auc(supports: Floats, labels: Floats) -> Iterator[tuple[str, float]]:
    """Answers of 3 to 8 claims of one family, nine of ten of them supported: does one number tell those where all are?"""
    random = np.random.default_rng(_SEED)
    good, bad = supports[labels > 0.5], supports[labels <= 0.5]
    answers, whole = [], []
    for _ in range(_N_ANSWERS):
        holds = random.random(random.integers(3, 9)) < 0.9
        answers.append(np.where(holds, random.choice(good, len(holds)), random.choice(bad, len(holds))))
        whole.append(float(holds.all()))
    ways = {
        "least": [float(answer.min()) for answer in answers],
        "mean": [float(answer.mean()) for answer in answers],
        "answer_support": [answer_support([Finding(0, 0, "supported", float(p)) for p in answer]) or 0.0 for answer in answers],
    }
    for name, values in ways.items():
        yield name, round(auc(np.array(values), np.array(whole)), 4)


def _set_result(pairs: Pairs, name: str, scorer: Scorer) -> SetResult:
    mine = pairs if name == _ALL else part_of(pairs, pairs.sets == name)
    log_odds, seconds = [], []
    for document, claim in mine.texts:
        began = time.process_time()
        value = scorer.log_odds(claim, Context([document]))
        seconds.append(time.process_time() - began)
        log_odds.append(-10.0 if value is None else value)
    z = np.array(log_odds)
    against = np.isin(mine.kinds, ["CONTRADICT", "REFUTES"]) | (mine.labels > 0.5)
    shipped = np.array([scorer.calibration.claim(value) for value in log_odds])
    after, chance = _calibrated_errors(z, mine)
    return SetResult(
        name=name,
        n=len(z),
        auc=auc(z, mine.labels),
        auc_contradicted=None if (mine.labels[against] > 0.5).all() else auc(z[against], mine.labels[against]),
        error_shipped=calibration_error(shipped, mine.labels),
        error_after_50=after,
        error_of_chance=chance,
        cpu_ms=statistics.median(seconds) * 1e3,
    )


def _calibrated_errors(z: Floats, pairs: Pairs) -> tuple[float, float]:
    """Calibration error after 50 labelled groups, on the others, and what chance alone makes of it: means over draws."""
    random = Random(_SEED)
    groups = sorted(set(pairs.groups.tolist()))
    errors, chances = [], []
    for _ in range(_N_DRAWS):
        labelled = np.isin(pairs.groups, random.sample(groups, _N_LABELLED_GROUPS))
        curve = fit_curve(z[labelled], pairs.labels[labelled])
        p = np.array([curve(value) for value in z[~labelled]])
        errors.append(calibration_error(p, pairs.labels[~labelled]))
        chances.append(error_of_chance(p, n_draws=5))
    return statistics.fmean(errors), statistics.fmean(chances)


def _planted(dev: Pairs, scorer: Scorer) -> Iterator[PlantedResult]:
    mine = part_of(dev, (dev.sets == "scifact_validation") & (dev.labels > 0.5))
    contexts = [Context([document]) for document, _ in mine.texts]
    random = Random(_SEED)
    sound = [scorer.judge_claim(claim, context).support or 0.0 for (_, claim), context in zip(mine.texts, contexts, strict=True)]
    for kind in get_args(ErrorKind):
        found = []
        for n, ((_, claim), context) in enumerate(zip(mine.texts, contexts, strict=True)):
            foreign = random.choice(contexts[(n + 1) % len(contexts)].sentences).text
            if (altered := plant(kind, claim, context, foreign, random)) is not None:
                found.append(scorer.judge_claim(altered, context))
        yield PlantedResult(
            kind=kind,
            n=len(found),
            auc=roc_auc(sound, [finding.support or 0.0 for finding in found]),
            not_supported=statistics.fmean(finding.verdict != "supported" for finding in found),
            flagged=statistics.fmean(bool(finding.flags) for finding in found),
        )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = result_parser(__doc__)
    parser.add_argument("--write", action="store_true", help="replace the coefficients and the calibration of the package")
    options = parser.parse_args(argv)
    if not (options.data / "groundedness").is_dir():
        parser.error(f"no folder groundedness in {options.data}; set --data or RAGWATT_TEST_DATA to a folder that has it")
    return options


if __name__ == "__main__":
    main()
