"""A small maker of results and suites for tests: scores in, records out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.record import FORMAT, CostRecord, DataRecord, EffortRecord, Estimate, QuestionRecord, Result, RunRecord
from eval.suite import NO_MODEL, DataSpec, GateSpec, MetricsSpec, PipelineSpec, Suite

Scores = Mapping[str, Sequence[float | None]]


def make_run(
    scores: Scores,
    *,
    data: str = "set",
    pipeline: str = "standard",
    ids: Sequence[str] = (),
    groups: Sequence[str] = (),
    slices: Sequence[str] = (),
    cpu_s: Sequence[float | None] = (),
    energy_j: float | None = None,
    method: str = "",
    why: str = "not applicable",
    settings: Mapping[str, str] | None = None,
) -> RunRecord:
    """One pipeline on one data set.

    Args:
        scores: One number a question, by metric, all of one length; None is unscored for the reason ``why``. The reason ``failed``
            gives the question an error.
        data: Name of the data set.
        pipeline: Name of the pipeline.
        ids: Of the questions; ``q0``, ``q1`` and so on without any.
        groups: Of the questions; each is its own without any.
        slices: Of the questions; all are of ``all`` without any.
        cpu_s: CPU seconds of each question; None is a question without a cost, as are all without any.
        energy_j: Joules of each question that has a cost.
        method: Of the joules.
        why: Reason of the unscored.
        settings: Of the pipeline.
    """
    n = len(next(iter(scores.values())))
    questions = []
    for i in range(n):
        seconds = cpu_s[i] if cpu_s else None
        unscored = {name: why for name, values in scores.items() if values[i] is None}
        questions.append(
            QuestionRecord(
                question_id=ids[i] if ids else f"q{i}",
                group=groups[i] if groups else f"g{i}",
                slice=slices[i] if slices else "all",
                scores={name: value for name, values in scores.items() if (value := values[i]) is not None},
                unscored=unscored,
                cost=None if seconds is None else CostRecord(seconds, 2 * seconds, 1, energy_j=energy_j, method=method),
                error="model: it stopped" if unscored and why == "failed" else "",
            )
        )
    costs = [question.cost for question in questions if question.cost is not None]
    cost = {"cpu_s": _estimate([each.cpu_s for each in costs], n)}
    if energy_j is not None:
        cost["energy_j"] = _estimate([energy_j for _ in costs], n)
    return RunRecord(
        data=data,
        pipeline=pipeline,
        settings=settings or {},
        quality={name: _estimate([value for value in values if value is not None], n) for name, values in scores.items()},
        cost=cost,
        method=method,
        boundary="",
        questions=tuple(questions),
    )


def make_result(
    *runs: RunRecord,
    suite: str = "suite",
    checksum: str = "c0",
    scorer: str = "s1",
    judge: str = "",
    n_documents: int = 100,
    correct: str = "containment",
) -> Result:
    """A result of these runs; all data sets have the same ``checksum``."""
    sizes = {run.data: len(run.questions) for run in runs}
    return Result(
        format=FORMAT,
        suite=suite,
        suite_checksum="suite-checksum",
        seed=0,
        version="1.0.0",
        scorer=scorer,
        judge=judge,
        machine="machine, 2 cores",
        data=tuple(DataRecord(name, checksum, "unknown", n, n_documents) for name, n in sizes.items()),
        runs=runs,
        effort=EffortRecord("2026-01-01T00:00:00Z", 1.0, 0.1, 0.8, 0.1),
        correct=correct,
    )


def _estimate(values: Sequence[float], n: int) -> Estimate:
    if not values:
        return Estimate(None, n_unscored=n)
    return Estimate(math.fsum(values) / len(values), n=len(values), n_unscored=n - len(values))


def make_suite(
    *gates: GateSpec, data: Sequence[str] = ("set",), pipelines: Sequence[str] = ("standard",), metrics: Sequence[str] = ()
) -> Suite:
    """The suite of such results, with the pipeline without a model first, as every suite has it."""
    return Suite(
        name="suite",
        path=Path("suite.toml"),
        checksum="suite-checksum",
        description="",
        seed=0,
        data=tuple(DataSpec(name, name) for name in data),
        pipelines=(PipelineSpec(NO_MODEL), *map(PipelineSpec, pipelines)),
        metrics=MetricsSpec(tuple(metrics or dict.fromkeys(gate.metric for gate in gates))),
        gates=gates,
    )
