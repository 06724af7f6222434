"""Run a suite: every pipeline on every data set, every question once, quality and cost side by side."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from eval.collection import make_collection
from eval.cost import NO_MARK, PeakMark, cost_record, run_cost
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

# Questions whose cost counts the first use of what is loaded late (a model, a table) would be the dearest of all.
_N_WARM = 2
# A server that is gone takes 1.5 s of pauses a question, or a whole time limit: three in a row are no chance, and cost seconds.
_N_UNREACHABLE = 3


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
    scorer = open_scorer(options.calibration)
    ingest_cpu_s = 0.0
    data: list[DataRecord] = []
    runs: list[RunRecord] = []
    for spec in suite.data:
        record, found, ingest_s = _run_data(suite, spec, options, scorer, progress)
        data.append(record)
        runs += found
        ingest_cpu_s += ingest_s
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


def _run_data(
    suite: Suite, spec: DataSpec, options: RunOptions, scorer: Scorer, progress: Progress
) -> tuple[DataRecord, list[RunRecord], float]:
    """All pipelines on one data set, and the CPU seconds of ingestion; what cannot be opened is told before a question is asked."""
    dataset = load(limited(spec, options.limit), (*options.roots, suite.path.parent), suite.seed)
    pipelines = chosen_pipelines(suite, options.only)
    openings = [_opening(pipeline, dataset, options, progress) for pipeline in pipelines]
    for opening, _ in openings:
        # One at a time: what is open is in the memory that a pipeline is said to take.
        opening().close()
    runs, snapshots = [], []
    for pipeline, (opening, _) in zip(pipelines, openings, strict=True):
        target = opening()
        try:
            progress.begin(f"{spec.name}, {pipeline.name}", len(dataset.queries))
            runs.append(_run(Asking(suite, pipeline, target, scorer, options.has_texts), dataset, progress))
            snapshots.append(target.snapshot)
        finally:
            target.close()
    # The content of what is ingested is in the checksum, and its versions are those of this data directory.
    is_own = not dataset.collection and not options.settings.eval.url
    asked = "" if is_own else " + ".join(sorted({each.name for each in snapshots if each.name}))
    n_documents = snapshots[-1].n_documents
    record = DataRecord(spec.name, dataset.checksum, spec.licence, len(dataset.queries), n_documents, asked)
    return record, told_of_arms(runs), math.fsum(cpu_s for _, cpu_s in openings)


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
    opening, cpu_s = _opening(pipeline, dataset, options, progress)
    target = opening()
    return target, target.snapshot.n_documents, cpu_s


def _opening(
    pipeline: PipelineSpec, dataset: Dataset, options: RunOptions, progress: Progress
) -> tuple[Callable[[], Target], float]:
    """What opens a pipeline on a data set that is ingested by now, and the CPU seconds of that."""
    service = options.settings.eval
    if service.url:
        if dataset.hidden:
            raise InputError(
                f"data set {dataset.name!r} hides documents, and a running service has them; leave hide out of the suite",
                code="suite",
            )
        name = dataset.collection or dataset.name
        return lambda: OverHttp(pipeline, name, service.url, service.api_key), 0.0
    settings = configured(pipeline, options)
    power = open_power(settings.energy, options.settings.data_dir)
    if dataset.collection:
        return lambda: InProcess(pipeline, settings, settings.data_dir, dataset.collection, power), 0.0
    made = make_collection(dataset, pipeline, settings, progress)
    return lambda: InProcess(pipeline, settings, made.settings.data_dir, made.name, power), made.cpu_s


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
        try:
            observed = self.ask(query)
        except (InputError, ModelError) as error:
            spent = self.target.spent if "answer" in self.calls else None
            failed = self.failed(query, f"{error.code}: {error}")
            return msgspec.structs.replace(failed, cost=cost_record(spent)) if spent else failed
        scored = score_question(query, grades, observed, self.suite.metrics.names, self.scorer)
        record = msgspec.structs.replace(self._asked(query), scores=scored.scores, unscored=scored.unscored)
        return record if observed.answer is None else self._with_answer(record, observed.answer, scored.claims)

    def failed(self, query: EvalQuery, error: str) -> QuestionRecord:
        """The record of a question that failed; ``error`` is code and message."""
        unscored = dict.fromkeys(self.suite.metrics.names, "failed")
        return msgspec.structs.replace(self._asked(query), unscored=unscored, error=error)

    def _asked(self, query: EvalQuery) -> QuestionRecord:
        text = _storable(query.text) if self.has_texts else ""
        return QuestionRecord(query.query_id, query.group, query.slice, {}, question=text)

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
    suite, pipeline, is_here = asking.suite, asking.pipeline, asking.target.is_here
    mark = PeakMark()
    questions, n_unasked = _asked(asking, dataset, progress)
    peak = mark.n_bytes() if is_here else None
    cost = run_cost(questions, suite.metrics.correct, suite.seed, peak)
    notes = list(cost.notes)
    if errors := [question.error for question in questions if question.error]:
        notes.append(f"{len(errors)} of {len(questions)} questions failed, the first with {errors[0]}")
    if n_unasked:
        notes.append(f"stopped after {_N_UNREACHABLE} failures of a server in a row: {n_unasked} questions were not asked")
    if is_here and peak is None:
        notes.append(NO_MARK)
    return RunRecord(
        data=dataset.name,
        pipeline=pipeline.name,
        settings={"mode": pipeline.mode, "k": str(pipeline.k)} | settings_table(pipeline.settings),
        quality={name: estimate(questions, name, suite.seed) for name in suite.metrics.names},
        cost=cost.estimates,
        method=cost.method,
        boundary=cost.boundary,
        questions=tuple(questions),
        notes=tuple(notes),
    )


def _asked(asking: Asking, dataset: Dataset, progress: Progress) -> tuple[list[QuestionRecord], int]:
    """All questions, and how many of them were only written down as failed, because nobody was there to be asked."""
    for query in dataset.queries[:_N_WARM]:
        # What fails here fails again below, where it is recorded.
        if _is_unreachable(asking.record(query, {}).error):
            break
    questions: list[QuestionRecord] = []
    n_gone = 0
    for query in dataset.queries:
        if n_gone < _N_UNREACHABLE:
            questions.append(asking.record(query, dataset.qrels.get(query.query_id, {})))
        else:
            questions.append(asking.failed(query, questions[-1].error))
        n_gone = n_gone + 1 if _is_unreachable(questions[-1].error) else 0
        progress.advance()
    return questions, max(n_gone - _N_UNREACHABLE, 0)


def _is_unreachable(error: str) -> bool:
    """Whether an error says that a server does not answer at all: the service, or a model of a pipeline."""
    code = error.partition(":")[0]
    return code == "timeout" or code.endswith("_unavailable")


def told_of_arms(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Note where searching by words and vectors together ranks worse than by one of them alone: fusing must never cost quality.

    Args:
        runs: All pipelines on one data set.

    Returns:
        The runs, those that are worse with a note.
    """
    names = [name for name in runs[0].quality if name.startswith("ndcg@")]
    arms = [run for run in runs if run.settings["mode"] in ("eco", "bm25", "dense")]
    told = []
    for run in runs:
        notes = []
        for name in names if run not in arms else ():
            mine = run.quality[name].value
            others = {value: arm.pipeline for arm in arms if (value := arm.quality[name].value) is not None}
            if mine is not None and others and mine < (best := max(others)):
                notes.append(
                    f"{name} is {mine:.4f}, below the {best:.4f} of {others[best]}: fusion costs quality here, see 'rag eval tune'"
                )
        told.append(msgspec.structs.replace(run, notes=(*run.notes, *notes)))
    return told


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
