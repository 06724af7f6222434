"""Whether the gate can be trusted, tried on real runs of XQuAD: it passes what is the same and fails what was broken on purpose.

    python -m bench.gate [--data DIR] [--out DIR] [--work DIR] [--n-cpu N]

The suite `eval/suites/xquad.toml` is run twice by `rag eval run`, each time in a process of its own, so that hashes fall differently:
what the two files say besides costs and times must be the same bytes, and the wall-clock time of either is that of the suite with three
pipelines and a warm collection. Decisions are then made with the gates of `eval/suites/release.toml` that this suite can score, each
with the margin that it has by default and without fixed bounds, so that only the comparison with the base can catch anything.

- rerun: the second run against the first, the bootstrap seeded anew a hundred times. Reruns are equal, so this tests no statistics.
- swapped: `standard` against `standard-k5`, which of the two is the base drawn anew for every document, a hundred times. Scores differ
  really and neither side is better by construction: whatever fails is a false alarm.
- fusion, budget: `standard` run with ``search.dense_weight`` 0.2, and with half of the context budget.
- corrupted: of 5 % of the questions, drawn by ten seeds, the answer is that to another question about another document, scored anew.
- small: 15 questions of the fusion run, drawn by a hundred seeds.
- cpu: `rag ask` in turn with itself, and with itself burning 5 % of the CPU time that it takes, 150 questions in 5 rounds as `make eval`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from bench.bars import Bar, Side
from bench.corpora import Silent
from bench.machine import CHECKOUT, Machine, commit, this_machine
from bench.planted import donors, sampled, swapped, with_questions, wrapper
from bench.result import result_parser, today, write_result
from eval.compare import find_run
from eval.datasets import EvalQuery, load
from eval.gate import Outcome, References, Report, gate
from eval.groundedness import style_margin
from eval.record import QuestionRecord, Result, load_result
from eval.run import Asking, RunOptions, open_target, run_suite
from eval.score import score_question
from eval.side import Side as CommandSide
from eval.side import SideBySide, SuitePair, interleave_suite
from eval.suite import GateSpec, Suite, load_suite
from rag.groundedness import open_scorer
from rag.settings import Settings

_FORMAT = 1
_SUITES = CHECKOUT / "eval" / "suites"
_PIPELINE, _NEAR = "standard", "standard-k5"
_N_DECISIONS = 100
_N_CORRUPTED = 10
_SHARE_CORRUPTED = 0.05
_N_SMALL = 15
_BURN = 0.05
# As `make eval` measures.
_N_CPU_QUESTIONS, _CPU_ROUNDS = 150, 5
_MAX_WALL_S = 180.0
# What decisions of a kind must be, and how many of them.
_WANTED: Mapping[str, tuple[tuple[Outcome, ...], float]] = {
    "rerun": (("pass",), 0.99),
    # It has real differences, so some of a hundred may lie too near a margin to pass; none may be called a loss.
    "swapped": (("pass", "improved", "inconclusive"), 0.99),
    "corrupted": (("fail",), 1.0),
    "small": (("fail", "inconclusive"), 1.0),
    "cpu": (("pass",), 0.99),
    "cpu + 5 %": (("fail",), 1.0),
}


@dataclass(frozen=True, slots=True)
class SuiteRun:
    """The suite, run once in a process of its own.

    Attributes:
        wall_s: From start to end of the process.
        answers_cpu_s: CPU seconds of answers.
        harness_cpu_s: CPU seconds of all else.
        load_before: Mean number of running processes over the last minute.
        load_after: The same behind it; the run itself is one.
    """

    wall_s: float
    answers_cpu_s: float
    harness_cpu_s: float
    load_before: float
    load_after: float


@dataclass(frozen=True, slots=True)
class Tally:
    """Decisions of one kind, counted.

    Attributes:
        name: Of the kind.
        n: Decisions.
        outcomes: How many had which.
        gates: The same of every gate, by metric.
    """

    name: str
    n: int
    outcomes: Mapping[str, int]
    gates: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class CpuRatio:
    """CPU seconds of the candidate over those of the base, measured in turn, with the 95 % interval and the load of the machine."""

    name: str
    value: float
    lo: float | None
    hi: float | None
    outcome: str
    load: float


@dataclass(frozen=True, slots=True)
class GateResult:
    """A whole result, as written.

    Attributes:
        format: Of the file.
        commit: Of the code.
        date: Of the run.
        machine: Where.
        n_questions: Of the suite.
        suite_runs: In the order of the runs.
        is_identical: Whether the two files say the same besides costs and times.
        decisions: By what was planted.
        tallies: Decisions that were repeated.
        ratios: Of CPU seconds.
        bars: What must hold.
    """

    format: int
    commit: str
    date: str
    machine: Machine
    n_questions: int
    suite_runs: tuple[SuiteRun, ...]
    is_identical: bool
    decisions: Mapping[str, Report]
    tallies: tuple[Tally, ...]
    ratios: tuple[CpuRatio, ...]
    bars: tuple[Bar, ...]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the figures and write the result."""
    options = _options(argv)
    suite = load_suite(_SUITES / "xquad.toml")
    commit_name = commit()
    with TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        runs, suite_runs = run_twice(suite, options.data, work)
        judge = _Judge(suite, RunOptions(replace(Settings(), data_dir=work), (options.data,)), runs[0])
        fusion = judge.run(settings={**judge.pipeline.settings, "search.dense_weight": 0.2})
        budget = judge.run(max_tokens=judge.pipeline.max_tokens // 2)
        decisions = {"fusion": judge.decide(fusion), "budget": judge.decide(budget)}
        ratios = tuple(_ratios(judge, Path(temporary), options.n_cpu))
        tallies = (*_tallies(judge, runs, fusion), *_cpu_tallies(ratios))
    is_identical = decided(runs[0]) == decided(runs[1])
    result = GateResult(
        format=_FORMAT,
        commit=commit_name,
        date=today(),
        machine=this_machine(),
        n_questions=len(runs[0].runs[0].questions),
        suite_runs=suite_runs,
        is_identical=is_identical,
        decisions=decisions,
        tallies=tallies,
        ratios=ratios,
        bars=tuple(_bars(suite_runs, decisions, tallies, is_identical=is_identical)),
    )
    for name, report in decisions.items():
        for verdict in report.verdicts:
            print(f"{name} {verdict.place.metric}: {verdict.outcome}: {'; '.join(check.reason for check in verdict.checks)}")
    for row in (*suite_runs, *tallies, *ratios):
        print(row)
    for bar in result.bars:
        print(f"{'ok  ' if bar.met else 'MISS'} {bar.what}: {bar.figure:.4g} {bar.unit}, bar {bar.side} {bar.limit:g}")
    write_result(result, options.out, "gate")


def run_twice(suite: Suite, data: Path, work: Path) -> tuple[tuple[Result, Result], tuple[SuiteRun, SuiteRun]]:
    """Run the suite twice, each time as a person does, on a collection that is there.

    Args:
        suite: The suite.
        data: Folder of data sets.
        work: Data directory; the collection is made where it is missing.

    Returns:
        Both results, and what the runs took.

    Raises:
        CalledProcessError: If a run fails.
    """

    def run(name: str, *more: str) -> tuple[Result, SuiteRun]:
        command = [sys.executable, "-P", "-m", "rag", "--data-dir", f"{work}", "eval", "run", f"{suite.path}"]
        out, before, began = work / f"{name}.json", os.getloadavg()[0], time.monotonic()
        subprocess.run(
            [*command, "--data-sets", f"{data}", "--out", f"{out}", *more],
            env={key: value for key, value in os.environ.items() if not key.startswith(("RAG_", "PYTHON"))},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        wall_s, result = time.monotonic() - began, load_result(out)
        effort = result.effort
        return result, SuiteRun(wall_s, effort.answers_cpu_s, effort.harness_cpu_s, before, os.getloadavg()[0])

    run("warm", "--limit", "5")
    (first, took), (second, took_again) = run("first"), run("second")
    return (first, second), (took, took_again)


def decided(result: Result) -> bytes:
    """What suite, data, settings and seed decide of a result: all but costs and times, as bytes."""
    runs = tuple(
        msgspec.structs.replace(run, cost={}, questions=tuple(msgspec.structs.replace(each, cost=None) for each in run.questions))
        for run in result.runs
    )
    table = msgspec.to_builtins(msgspec.structs.replace(result, runs=runs))
    del table["effort"]
    return msgspec.json.encode(table, order="deterministic")


class _Judge:
    """The suite with the gates of a release, and the base that decisions are made against."""

    def __init__(self, suite: Suite, options: RunOptions, first: Result) -> None:
        release = load_suite(_SUITES / "release.toml")
        wanted = dict.fromkeys(spec.metric for spec in release.gates if spec.metric in suite.metrics.names)
        self.options = options
        (self.pipeline,) = (spec for spec in suite.pipelines if spec.name == _PIPELINE)
        self.suite = replace(suite, pipelines=(self.pipeline,), gates=tuple(GateSpec(name) for name in wanted))
        self.base, _ = _sides(first)

    def run(self, **planted: object) -> Result:
        """Run the pipeline with something else set."""
        return run_suite(
            replace(self.suite, pipelines=(msgspec.structs.replace(self.pipeline, **planted),)), self.options, Silent()
        )

    def decide(self, candidate: Result, base: Result | None = None, *, seed: int | None = None) -> Report:
        """Apply the gates."""
        suite = self.suite if seed is None else replace(self.suite, seed=seed)
        return gate(suite, candidate, References(base or self.base), style_margin=style_margin("groundedness"))

    def decide_cpu(self, measured: SideBySide) -> Report:
        """Apply the gate on CPU seconds alone; two equal sides, which the gate refuses, are taken for two releases."""
        suite = replace(self.suite, gates=(GateSpec("cpu_s"),))
        two = msgspec.structs.replace(measured, is_self=False)
        return gate(suite, self.base, References(interleaved=two), style_margin=0.0)

    def corrupted(self) -> Iterator[Result]:
        """The base with wrong answers, by seed; what is wrong is put to the pipeline and scored like any other answer."""
        suite, pipeline = self.suite, self.pipeline
        dataset = load(suite.data[0], self.options.roots, suite.seed)
        queries = {query.query_id: query for query in dataset.queries}
        target, _, _ = open_target(pipeline, dataset, self.options, Silent())
        asking = Asking(suite, pipeline, target, open_scorer(), has_texts=True)

        def spoilt(record: QuestionRecord, query: EvalQuery, donor: EvalQuery) -> QuestionRecord:
            observed = replace(asking.ask(query), answer=target.answer(donor.text))
            grades = dataset.qrels.get(query.query_id, {})
            scored = score_question(query, grades, observed, suite.metrics.names, asking.scorer)
            return msgspec.structs.replace(record, scores=scored.scores, unscored=scored.unscored, abstained=False)

        try:
            for seed in range(_N_CORRUPTED):
                given = donors(self.base.runs[0].questions, _SHARE_CORRUPTED, seed)
                yield with_questions(
                    self.base,
                    [
                        spoilt(each, queries[each.question_id], queries[given[each.question_id]])
                        if each.question_id in given
                        else each
                        for each in self.base.runs[0].questions
                    ],
                )
        finally:
            target.close()


def _tallies(judge: _Judge, runs: Sequence[Result], fusion: Result) -> Iterator[Tally]:
    seeds = range(_N_DECISIONS)
    swaps = (swapped(*_sides(runs[0]), seed) for seed in seeds)
    yield _tally("rerun", (judge.decide(_sides(runs[1])[0], seed=seed) for seed in seeds))
    yield _tally("swapped", (judge.decide(other, base) for base, other in swaps))
    yield _tally("corrupted", map(judge.decide, judge.corrupted()))
    yield _tally("small", (judge.decide(*(sampled(each, _N_SMALL, seed) for each in (fusion, judge.base))) for seed in seeds))


def _ratios(judge: _Judge, work: Path, n: int) -> Iterator[CpuRatio]:
    """Interleaved measurements, those without a change and those with one in turn."""
    plain, slower = (wrapper(work / name, share) for name, share in (("plain", 0.0), ("slower", _BURN)))
    sides = {"cpu": plain, "cpu + 5 %": slower}
    options = replace(judge.options, limit=_N_CPU_QUESTIONS)
    for i in range(n):
        for name, candidate in sides.items():
            base, other = (CommandSide(each, None, is_other=False) for each in (plain, candidate))
            pair = SuitePair(base, other, is_self=candidate == plain)
            suite = replace(judge.suite, seed=judge.suite.seed + i)
            # The drawing of questions goes with the seed, so every measurement has others.
            measured = interleave_suite(suite, pair, options, _CPU_ROUNDS, work, Silent())
            (verdict,) = judge.decide_cpu(measured).verdicts
            (ratio,) = (check.ratio for check in verdict.checks if check.ratio)
            yield CpuRatio(name, ratio.value, ratio.lo, ratio.hi, verdict.outcome, os.getloadavg()[0])


def _sides(result: Result) -> tuple[Result, Result]:
    """The result of the pipeline alone, and that of the near one under the name of it."""
    name = result.data[0].name
    runs = [find_run(result, name, pipeline) for pipeline in (_PIPELINE, _NEAR)]
    one, other = (msgspec.structs.replace(result, runs=(msgspec.structs.replace(run, pipeline=_PIPELINE),)) for run in runs if run)
    return one, other


def _tally(name: str, reports: Iterable[Report]) -> Tally:
    found = list(reports)
    gates: dict[str, Counter[str]] = {}
    for report in found:
        for verdict in report.verdicts:
            gates.setdefault(verdict.place.metric, Counter()).update([verdict.outcome])
    by_metric = {metric: dict(outcomes) for metric, outcomes in gates.items()}
    return Tally(name, len(found), dict(Counter(report.outcome for report in found)), by_metric)


def _cpu_tallies(ratios: Sequence[CpuRatio]) -> Iterator[Tally]:
    for name in dict.fromkeys(ratio.name for ratio in ratios):
        outcomes = Counter(ratio.outcome for ratio in ratios if ratio.name == name)
        yield Tally(name, outcomes.total(), dict(outcomes), {})


def _bars(
    runs: Sequence[SuiteRun], decisions: Mapping[str, Report], tallies: Sequence[Tally], *, is_identical: bool
) -> Iterator[Bar]:
    yield _bar("run twice, results that differ besides costs", "<=", 0, float(not is_identical))
    yield _bar("wall clock of the suite with three pipelines", "<=", _MAX_WALL_S, min(run.wall_s for run in runs), "s")
    for name, report in decisions.items():
        yield _bar(f"{name}: fail", ">=", 1, float(report.outcome == "fail"))
    in_context = [verdict.outcome for verdict in decisions["budget"].verdicts if verdict.place.metric == "answer_in_context"]
    yield _bar("budget: answer_in_context fails", ">=", 1, in_context.count("fail"))
    for tally in tallies:
        wanted, share = _WANTED[tally.name]
        n = sum(tally.outcomes.get(outcome, 0) for outcome in wanted)
        yield _bar(f"{tally.name}: {' or '.join(wanted)}, of {tally.n}", ">=", share * tally.n, n)


def _bar(what: str, side: Side, limit: float, figure: float, unit: str = "") -> Bar:
    return Bar(what, side, limit, figure, unit, figure >= limit if side == ">=" else figure <= limit)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = result_parser(__doc__)
    parser.add_argument("--work", type=Path, help="keep the collection and the results of the runs here")
    parser.add_argument(
        "--n-cpu", type=int, default=12, metavar="N", help="interleaved measurements of either kind (default: %(default)s)"
    )
    options = parser.parse_args(argv)
    if not (options.data / "xquad-en").is_dir():
        parser.error(f"no folder xquad-en in {options.data}; set --data or RAGWATT_TEST_DATA to a folder that has it")
    return options


if __name__ == "__main__":
    main()
