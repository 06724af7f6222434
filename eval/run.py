"""Run a suite: every pipeline on every data set, every question once, quality and cost side by side."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from eval.collection import make_collection
from eval.cost import cost_record, run_cost
from eval.datasets import Dataset, EvalQuery, load
from eval.metrics import metric
from eval.record import FORMAT, ClaimRecord, DataRecord, EffortRecord, Estimate, QuestionRecord, Result, RunRecord, StepRecord
from eval.score import Observed, score_question
from eval.statistics import bootstrap_interval
from eval.suite import NO_MODEL, DataSpec, PipelineSpec, Suite, settings_table
from eval.target import InProcess, Json, OverHttp, Target, pipeline_settings
from ingest.pipeline import Progress
from rag import __version__
from rag.errors import InputError, ModelError
from rag.groundedness import Scorer, open_scorer
from rag.power import open_power
from rag.power.cpu import identify
from rag.settings import Settings, changed
from rag.store import open_store

# Questions whose cost counts the first use of what is loaded late (a model, a table) would be the dearest of all.
_N_WARM = 2


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Where a suite finds what it needs.

    Attributes:
        settings: Of the user; a pipeline's own go on top. With ``eval.url`` a running service is asked.
        roots: Folders of data sets.
        calibration: Of the groundedness scorer; None takes the shipped one.
        limit: Questions of each data set at most; 0 leaves it to the suite.
        only: Pipelines to run; empty for all.
        has_texts: Whether questions, answers and claims are kept.
        beside: Folder of the suite, in which a template that it names is looked for.
    """

    settings: Settings
    roots: tuple[Path, ...] = ()
    calibration: Path | None = None
    limit: int = 0
    only: tuple[str, ...] = ()
    has_texts: bool = True
    beside: Path = Path()


def run_suite(suite: Suite, options: RunOptions, progress: Progress) -> Result:
    """Run a suite.

    A question that fails is recorded with its error, and the rest goes on.

    Args:
        suite: What to run.
        options: Where it finds what it needs.
        progress: Told of data sets, pipelines and questions.

    Returns:
        The result; the same suite, data, settings and seed on the same machine give the same but for costs and times.

    Raises:
        InputError: If a data set is missing or malformed, or a pipeline of ``only`` is not in the suite.
        ConfigError: If a pipeline sets something unknown or out of range.
        ModelError: If a pipeline cannot be opened.
    """
    started_at, began, cpu_began = datetime.now(UTC), time.monotonic(), time.process_time()
    options = replace(options, beside=suite.path.parent)
    pipelines = chosen_pipelines(suite, options.only)
    scorer = open_scorer(options.calibration)
    ingest_cpu_s = 0.0
    data, runs = [], []
    for spec in suite.data:
        dataset = load(limited(spec, options.limit), (*options.roots, suite.path.parent), suite.seed)
        n_documents = 0
        for pipeline in pipelines:
            target, n_documents, ingest_s = open_target(pipeline, dataset, options, progress)
            ingest_cpu_s += ingest_s
            try:
                progress.begin(f"{spec.name}, {pipeline.name}", len(dataset.queries))
                runs.append(_run(Asking(suite, pipeline, target, scorer, options.has_texts), dataset, progress))
            finally:
                target.close()
        data.append(DataRecord(spec.name, dataset.checksum, spec.licence, len(dataset.queries), n_documents))
    cpu_s = time.process_time() - cpu_began
    answers_cpu_s = math.fsum(question.cost.cpu_s for run in runs for question in run.questions if question.cost)
    return Result(
        format=FORMAT,
        suite=suite.name,
        suite_checksum=suite.checksum,
        seed=suite.seed,
        version=__version__,
        scorer=scorer.id,
        judge="",
        machine=_machine(),
        data=tuple(data),
        runs=tuple(runs),
        effort=EffortRecord(
            started_at=started_at.isoformat(timespec="seconds"),
            wall_s=time.monotonic() - began,
            ingest_cpu_s=ingest_cpu_s,
            answers_cpu_s=answers_cpu_s,
            harness_cpu_s=max(cpu_s - ingest_cpu_s - answers_cpu_s, 0.0),
        ),
        correct=suite.metrics.correct,
    )


def chosen_pipelines(suite: Suite, only: Sequence[str]) -> tuple[PipelineSpec, ...]:
    """The pipelines of a suite that are run.

    Args:
        suite: The suite.
        only: Names; empty for all.

    Returns:
        Those, and the one without a model, in the order of the suite.

    Raises:
        InputError: If a name is not in the suite.
    """
    names = [pipeline.name for pipeline in suite.pipelines]
    if unknown := [name for name in only if name not in names]:
        raise InputError(f"pipeline {unknown[0]!r} is not in suite {suite.name!r}; allowed: {', '.join(names)}", code="pipeline")
    return tuple(pipeline for pipeline in suite.pipelines if not only or pipeline.name in (*only, NO_MODEL))


def limited(spec: DataSpec, limit: int) -> DataSpec:
    """A data set with at most so many questions; 0 leaves it as it is."""
    return msgspec.structs.replace(spec, limit=min(limit, spec.limit or limit)) if limit else spec


def open_target(pipeline: PipelineSpec, dataset: Dataset, options: RunOptions, progress: Progress) -> tuple[Target, int, float]:
    """Open a pipeline on a data set, which is ingested if it is not there yet.

    Args:
        pipeline: The pipeline.
        dataset: What it is put to.
        options: Where it finds what it needs.
        progress: Told of the stages of ingestion.

    Returns:
        The pipeline, the documents that it is put to (0 where that is not known), and the CPU seconds of ingestion.

    Raises:
        InputError: If documents cannot be ingested.
        ConfigError: If the pipeline sets something unknown or out of range.
        ModelError: If a model cannot be opened.
    """
    service = options.settings.eval
    if service.url:
        if dataset.hidden:
            raise InputError(
                f"data set {dataset.name!r} hides documents, and a running service has them; leave hide out of the suite",
                code="suite",
            )
        return OverHttp(pipeline, dataset.collection or dataset.name, service.url, service.api_key), 0, 0.0
    settings = configured(pipeline, options)
    power = open_power(settings.energy, options.settings.data_dir)
    if dataset.collection:
        return InProcess(pipeline, settings, open_store(settings.data_dir, dataset.collection), power), 0, 0.0
    made = make_collection(dataset, pipeline, settings, progress)
    store = open_store(made.settings.data_dir, made.name)
    return InProcess(pipeline, settings, store, power), made.n_documents, made.cpu_s


def configured(pipeline: PipelineSpec, options: RunOptions) -> Settings:
    """The settings of a pipeline.

    Args:
        pipeline: What the suite says.
        options: The user's settings, and where a template of the suite lies.

    Returns:
        What the suite sets over what the user set.

    Raises:
        ConfigError: If the pipeline sets something unknown or out of range.
    """
    values = dict(pipeline.settings)
    beside = options.beside / str(values.get("answer.template", ""))
    if "answer.template" in values and beside.is_file():
        values["answer.template"] = str(beside)
    return pipeline_settings(pipeline, changed(options.settings, values, f"pipeline {pipeline.name!r}"))


@dataclass(frozen=True, slots=True)
class Asking:
    """A pipeline with what is measured of it.

    Attributes:
        suite: Names the metrics.
        pipeline: The pipeline.
        target: The pipeline, open.
        scorer: Of groundedness.
        has_texts: Whether questions, answers and claims are kept.
    """

    suite: Suite
    pipeline: PipelineSpec
    target: Target
    scorer: Scorer
    has_texts: bool

    @property
    def calls(self) -> frozenset[str]:
        """What the metrics need; the answer is always asked for, because it has the cost."""
        wanted = [metric(name) for name in self.suite.metrics.names]
        calls = {one.call for one in wanted} | ({"search"} if any(one.is_grounding for one in wanted) else set())
        return frozenset(calls | {"answer"}) if self.target.answers else frozenset(calls - {"answer"})

    def ask(self, query: EvalQuery) -> Observed:
        """Put one question; the answer first, so that it pays for its own embedding."""
        calls, target, pipeline = self.calls, self.target, self.pipeline
        answer = target.answer(query.text) if "answer" in calls else None
        depth = max(self.suite.metrics.depth, pipeline.k)
        hits = target.search(query.text, depth) if "search" in calls else None
        packed = target.context(query.text) if "context" in calls else None
        return Observed(answer, hits, packed, pipeline.k)

    def record(self, query: EvalQuery, grades: Mapping[str, int]) -> QuestionRecord:
        """Put one question and score it; a failure is a record too."""
        names = self.suite.metrics.names
        asked = QuestionRecord(
            query.query_id, query.group, query.slice, {}, question=_storable(query.text) if self.has_texts else ""
        )
        try:
            observed = self.ask(query)
        except (InputError, ModelError) as error:
            return msgspec.structs.replace(asked, unscored=dict.fromkeys(names, "failed"), error=f"{error.code}: {error}")
        scored = score_question(query, grades, observed, names, self.scorer)
        record = msgspec.structs.replace(asked, scores=scored.scores, unscored=scored.unscored)
        return record if observed.answer is None else self._with_answer(record, observed.answer, scored.claims)

    def _with_answer(self, record: QuestionRecord, answer: Json, claims: tuple[ClaimRecord, ...]) -> QuestionRecord:
        steps = tuple(
            StepRecord(step["generator"], step["outcome"], step["reason"], step["n_prompt"], step["n_completion"])
            for step in answer["steps"]
        )
        return msgspec.structs.replace(
            record,
            answer=_storable(answer["answer"]) if self.has_texts else "",
            claims=claims if self.has_texts else (),
            steps=steps,
            abstained=answer["abstained"],
            generator=answer["generator"],
            cost=cost_record(answer["measurement"]),
        )


def _run(asking: Asking, dataset: Dataset, progress: Progress) -> RunRecord:
    suite, pipeline = asking.suite, asking.pipeline
    for query in dataset.queries[:_N_WARM]:
        # What fails here fails again below, where it is recorded.
        with suppress(InputError, ModelError):
            asking.ask(query)
    questions = []
    for query in dataset.queries:
        questions.append(asking.record(query, dataset.qrels.get(query.query_id, {})))
        progress.advance()
    cost = run_cost(questions, suite.metrics.correct, suite.seed)
    n_failed = sum(bool(question.error) for question in questions)
    return RunRecord(
        data=dataset.name,
        pipeline=pipeline.name,
        settings={"mode": pipeline.mode, "k": str(pipeline.k)} | settings_table(pipeline.settings),
        quality={name: estimate(questions, name, suite.seed) for name in suite.metrics.names},
        cost=cost.estimates,
        method=cost.method,
        boundary=cost.boundary,
        questions=tuple(questions),
        notes=(f"{n_failed} of {len(questions)} questions failed",) if n_failed else (),
    )


def estimate(questions: Sequence[QuestionRecord], name: str, seed: int) -> Estimate:
    """The mean of a metric with its interval.

    Args:
        questions: Of one run.
        name: The metric.
        seed: Of the bootstrap.

    Returns:
        None for the value where no question has a score.
    """
    scored = [question for question in questions if name in question.scores]
    values = [question.scores[name] for question in scored]
    if not values:
        return Estimate(None, n_unscored=len(questions))
    lo, hi = bootstrap_interval(values, [question.group for question in scored], seed=seed) or (None, None)
    return Estimate(math.fsum(values) / len(values), lo, hi, len(values), len(questions) - len(values))


def _machine() -> str:
    return f"{identify().name}, {len(os.sched_getaffinity(0))} threads"


def _storable(text: str) -> str:
    """A lone surrogate, which JSON of a data set can hold and a file cannot, as a question mark."""
    return text.encode("utf-8", "replace").decode()
