"""How well `rag.generate.verify` tells supported claims from others, on labelled pairs of document and claim.

    python -m bench.verify [--data DIR] [--out DIR]

The data folder is that of --data, else RAGWATT_TEST_DATA, else ../shared/data; its folder ``groundedness`` is read. The least coverage
is chosen on the training part, where every set counts the same, and read on the other part. There is no question to these claims.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.machine import Machine, commit, this_machine
from bench.result import result_parser, today, write_result
from eval.answers import roc_auc
from rag.generate.verify import MIN_COVERAGE, Claim, verify
from rag.text import normalise
from rag.types import Candidate, Chunk, Source

Part = Literal["train", "dev"]
_FORMAT = 1
_STEP = 0.02


@dataclass(frozen=True, slots=True)
class Pair:
    """A labelled pair, judged.

    Attributes:
        part: Training, or held out.
        data: Name of the data set.
        is_supported: As labelled.
        score: Coverage of the claim; 0.0 when a number, a name or a negation speaks against all evidence.
        is_accepted: Whether it was found supported.
    """

    part: Part
    data: str
    is_supported: bool
    score: float
    is_accepted: bool


@dataclass(frozen=True, slots=True)
class Separation:
    """Figures of one data set, or the means over those of a part.

    Attributes:
        part: Training, or held out.
        data: Its name; ``mean`` over all of the part.
        n_pairs: Pairs.
        n_supported: Of which supported.
        auc: Area under the curve of the score.
        recall: Share of the supported that are accepted.
        false_accepts: Share of the others that are accepted.
        precision: Share of the accepted that are supported.
        balanced_accuracy: Mean of ``recall`` and ``1 - false_accepts``.
    """

    part: Part
    data: str
    n_pairs: int
    n_supported: int
    auc: float
    recall: float
    false_accepts: float
    precision: float
    balanced_accuracy: float


@dataclass(frozen=True, slots=True)
class Result:
    """A whole result, as written.

    Attributes:
        format: Of the file.
        commit: Of the code.
        date: Of the run.
        machine: Where.
        min_coverage: As shipped.
        best_coverage: The best of the training part.
        separations: One a data set, and the means.
    """

    format: int
    commit: str
    date: str
    machine: Machine
    min_coverage: float
    best_coverage: float
    separations: tuple[Separation, ...]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the figures and write the result."""
    options = _options(argv)
    commit_name, machine = commit(), this_machine()
    pairs = [pair for part in ("train", "dev") for pair in read_pairs(options.data / "groundedness", part)]
    result = Result(
        format=_FORMAT,
        commit=commit_name,
        date=today(),
        machine=machine,
        min_coverage=MIN_COVERAGE,
        best_coverage=best_coverage([pair for pair in pairs if pair.part == "train"]),
        separations=tuple(separations(pairs)),
    )
    print(f"least coverage {MIN_COVERAGE}, best of the training part {result.best_coverage}")
    for row in result.separations:
        print(
            f"{row.part:5} {row.data:18} {row.n_pairs:5} AUC {row.auc:.3f} recall {row.recall:.3f} "
            f"false accepts {row.false_accepts:.3f} precision {row.precision:.3f} balanced {row.balanced_accuracy:.3f}"
        )
    write_result(result, options.out, "verify")


def read_pairs(folder: Path, part: Part) -> Iterator[Pair]:
    """Judge the pairs of one part.

    Args:
        folder: With ``train.jsonl.gz`` and ``dev.jsonl.gz``.
        part: Which of the two.

    Yields:
        The pairs in the order of the file.
    """
    with gzip.open(folder / f"{part}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            score, is_accepted = judge(row["doc"], row["claim"])
            yield Pair(part, row["set"], row["y"] == 1, score, is_accepted)


def judge(document: str, claim: str) -> tuple[float, bool]:
    """Verify one claim by one document.

    Args:
        document: Its only passage.
        claim: One sentence.

    Returns:
        Score and verdict, see `Pair`.
    """
    text = normalise(document)
    source = Source("", "", (), None, None, 0, len(text), None, {})
    candidate = Candidate(Chunk("", "", text, 0, source), 0.0, None, None)
    # Some sets leave the full stop out, which makes a phrase of a sentence.
    (verdict,) = verify([Claim(f"{normalise(claim).rstrip(' .')}.", (1,))], [candidate], "")
    return verdict.coverage, verdict.fault is None


def best_coverage(pairs: Sequence[Pair]) -> float:
    """The least coverage of the highest mean of the balanced accuracies of the sets.

    Args:
        pairs: Of one part; every set has supported pairs and others.

    Returns:
        Between 0.0 and 1.0 in steps of 0.02; of equals the lowest.
    """
    scores = [_scores(pairs, data) for data in sorted({pair.data for pair in pairs})]
    steps = [round(step * _STEP, 2) for step in range(1, round(1 / _STEP) + 1)]
    return max(steps, key=lambda least: statistics.fmean(_share(good, least) - _share(bad, least) for good, bad in scores))


def separations(pairs: Sequence[Pair]) -> Iterator[Separation]:
    """Figures of every set and the means of every part.

    Args:
        pairs: Every set has supported pairs and others, and some are accepted.

    Yields:
        The sets of a part by name, then their mean.
    """
    for part in dict.fromkeys(pair.part for pair in pairs):
        rows = []
        for data in sorted({pair.data for pair in pairs if pair.part == part}):
            rows.append(_separation(part, data, [pair for pair in pairs if (pair.part, pair.data) == (part, data)]))
        yield from rows
        yield Separation(
            part=part,
            data="mean",
            n_pairs=sum(row.n_pairs for row in rows),
            n_supported=sum(row.n_supported for row in rows),
            auc=statistics.fmean(row.auc for row in rows),
            recall=statistics.fmean(row.recall for row in rows),
            false_accepts=statistics.fmean(row.false_accepts for row in rows),
            precision=statistics.fmean(row.precision for row in rows),
            balanced_accuracy=statistics.fmean(row.balanced_accuracy for row in rows),
        )


def _separation(part: Part, data: str, pairs: Sequence[Pair]) -> Separation:
    good, bad = _scores(pairs, data)
    n_right = sum(pair.is_accepted for pair in pairs if pair.is_supported)
    n_wrong = sum(pair.is_accepted for pair in pairs if not pair.is_supported)
    recall, false_accepts = n_right / len(good), n_wrong / len(bad)
    return Separation(
        part=part,
        data=data,
        n_pairs=len(pairs),
        n_supported=len(good),
        auc=roc_auc(good, bad),
        recall=recall,
        false_accepts=false_accepts,
        precision=n_right / (n_right + n_wrong),
        balanced_accuracy=(recall + 1 - false_accepts) / 2,
    )


def _scores(pairs: Sequence[Pair], data: str) -> tuple[list[float], list[float]]:
    """Scores of the supported pairs of a set, and of the others."""
    of_set = [pair for pair in pairs if pair.data == data]
    return [pair.score for pair in of_set if pair.is_supported], [pair.score for pair in of_set if not pair.is_supported]


def _share(scores: Sequence[float], least: float) -> float:
    return sum(score >= least for score in scores) / len(scores)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = result_parser(__doc__)
    options = parser.parse_args(argv)
    if not (options.data / "groundedness").is_dir():
        parser.error(f"no folder groundedness in {options.data}; set --data or RAGWATT_TEST_DATA to a folder that has it")
    return options


if __name__ == "__main__":
    main()
