"""What a run leaves behind: one file a run, with every question of every pipeline on every data set.

What is decided by suite, data, settings and seed stands in ``scores``, ``claims`` and the texts: the same run on the same machine gives
them to the byte. What a clock or a counter tells stands in ``cost`` and ``effort``, and nowhere else.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from eval.metrics import is_share
from rag.errors import InputError

FORMAT = 1


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a result file."""


class ClaimRecord(_Value, frozen=True):
    """One claim of an answer.

    Attributes:
        start: First character in the answer.
        end: One past the last.
        verdict: ``supported``, ``not_found``, ``contradicted``, ``abstention`` or ``unscored``.
        support: Calibrated probability that the context carries it, 0.0 to 1.0; None where it is not scored.
        flags: What speaks against it: ``number``, ``name``, ``negation``, ``quote``.
        evidence: The best evidence, as it stands in its document; empty without one.
        doc_id: Document of the evidence.
        reason: Why it is not scored.
        judged: What a judge said of it; empty where none was asked.
    """

    start: int
    end: int
    verdict: str
    support: float | None = None
    flags: tuple[str, ...] = ()
    evidence: str = ""
    doc_id: str = ""
    reason: str = ""
    judged: str = ""


class StepRecord(_Value, frozen=True):
    """One attempt of a cascade.

    Attributes:
        generator: Who made it.
        outcome: As in `rag.types.Step`.
        reason: Why it was made.
        n_prompt: Tokens read.
        n_completion: Tokens written.
    """

    generator: str
    outcome: str
    reason: str
    n_prompt: int = 0
    n_completion: int = 0


class StageRecord(_Value, frozen=True):
    """What one stage of an answer took.

    Attributes:
        name: Stable across releases.
        cpu_s: CPU seconds.
        energy_j: Active joules; None without a power model.
    """

    name: str
    cpu_s: float
    energy_j: float | None = None


class CostRecord(_Value, frozen=True):
    """What an answer cost, as its measurement said.

    Attributes:
        cpu_s: CPU seconds.
        wall_s: Wall-clock seconds.
        peak_rss_bytes: Highest resident memory of the process so far.
        energy_j: Joules; None without a power model, as are the next four.
        energy_lo_j: Lower end.
        energy_hi_j: Upper end.
        carbon_g: Grams of CO2 equivalent.
        method: ``measured``, ``apportioned``, ``modelled`` or ``assumed``.
        boundary: What the joules cover.
        stages: In the order in which they began.
    """

    cpu_s: float
    wall_s: float
    peak_rss_bytes: int
    energy_j: float | None = None
    energy_lo_j: float | None = None
    energy_hi_j: float | None = None
    carbon_g: float | None = None
    method: str = ""
    boundary: str = ""
    stages: tuple[StageRecord, ...] = ()


class QuestionRecord(_Value, frozen=True):
    """One question put to one pipeline.

    Attributes:
        question_id: As in the data set.
        group: What it shares with other questions (a document): intervals draw groups, not questions.
        slice: Of the per-slice table: what the data set says, else the kind of question.
        scores: By metric; a metric that could not be scored is not here.
        unscored: Reason by metric.
        question: As asked; empty in a file of scores alone, as are the next three.
        answer: As given.
        claims: Of the answer.
        steps: Attempts in order.
        abstained: Whether the answer is that there is none.
        generator: Who wrote it.
        cost: What the answer cost, or what was spent until it failed; None where none was asked for, or where that is not known.
        error: Code and message of a question that failed; its metrics are unscored with the reason ``failed``.
    """

    question_id: str
    group: str
    slice: str
    scores: Mapping[str, float]
    unscored: Mapping[str, str] = {}
    question: str = ""
    answer: str = ""
    claims: tuple[ClaimRecord, ...] = ()
    steps: tuple[StepRecord, ...] = ()
    abstained: bool = False
    generator: str = ""
    cost: CostRecord | None = None
    error: str = ""


class Estimate(_Value, frozen=True):
    """A metric of a run.

    Attributes:
        value: Mean over the scored questions; of ``wall_s_p50`` and ``wall_s_p95`` the percentile; None where none was scored.
        lo: Lower end of its 95 % cluster bootstrap interval; None where there is none.
        hi: Upper end.
        n: Questions scored.
        n_unscored: Questions that could not be.
    """

    value: float | None
    lo: float | None = None
    hi: float | None = None
    n: int = 0
    n_unscored: int = 0


class RunRecord(_Value, frozen=True):
    """One pipeline on one data set.

    Attributes:
        data: Name of the data set.
        pipeline: Name of the pipeline.
        settings: What the suite set for it, by dotted key, as text.
        quality: By metric, in the order of the suite; decided by the seed.
        cost: By cost metric: ``cpu_s``, ``wall_s_p50``, ``wall_s_p95``, ``energy_j``, ``energy_lo_j``, ``energy_hi_j``, ``carbon_g``,
            ``peak_rss_bytes``, and per correct answer ``cpu_s_per_correct``, ``energy_j_per_correct``; means an answer unless the name
            says otherwise.
        method: The weakest method of its joules; empty without any.
        boundary: What its joules cover.
        questions: In the order of the data set.
        notes: What a reader must know, for people.
    """

    data: str
    pipeline: str
    settings: Mapping[str, str]
    quality: Mapping[str, Estimate]
    cost: Mapping[str, Estimate]
    method: str
    boundary: str
    questions: tuple[QuestionRecord, ...]
    notes: tuple[str, ...] = ()


class DataRecord(_Value, frozen=True):
    """A data set as it was used.

    Attributes:
        name: As the suite calls it.
        checksum: SHA-256 of its files' content.
        licence: As the suite tells it.
        n_questions: Questions asked.
        n_documents: Documents in the collection; 0 where a service does not tell.
        snapshot: Of a collection that the run did not make: ``name@version``, and ``#`` with a digest of its documents where they are at
            hand; several joined by `` + `` when it changed during the run. Empty for one made of the data set.
    """

    name: str
    checksum: str
    licence: str
    n_questions: int
    n_documents: int
    snapshot: str = ""


class EffortRecord(_Value, frozen=True):
    """What the measuring itself took.

    Attributes:
        started_at: ISO 8601, UTC.
        wall_s: Wall-clock seconds of the whole run.
        ingest_cpu_s: CPU seconds of making the collections.
        answers_cpu_s: CPU seconds of the pipelines.
        harness_cpu_s: CPU seconds of all else: scoring and bookkeeping.
        judge_cpu_s: CPU seconds of the judge in this process.
        judge_tokens: Tokens that the judge read and wrote.
        judge_energy_j: Joules of the judge; None where they are not known.
    """

    started_at: str
    wall_s: float
    ingest_cpu_s: float
    answers_cpu_s: float
    harness_cpu_s: float
    judge_cpu_s: float = 0.0
    judge_tokens: int = 0
    judge_energy_j: float | None = None


class Result(_Value, frozen=True):
    """A run of a suite.

    Attributes:
        format: Of this file: `FORMAT`.
        suite: Name of the suite.
        suite_checksum: SHA-256 of the suite file.
        seed: Of sampling and bootstrap.
        version: Of ragwatt.
        scorer: Version and checksums of the groundedness scorer; results of different scorers are not compared.
        judge: Model and prompt checksum of the judge; empty without one.
        machine: Processor and cores, for people.
        data: Data sets in the order of the suite.
        runs: By data set, then by pipeline, in the order of the suite.
        effort: What the measuring took.
        correct: The metric at which 1.0 makes an answer correct; empty for none.
    """

    format: int
    suite: str
    suite_checksum: str
    seed: int
    version: str
    scorer: str
    judge: str
    machine: str
    data: tuple[DataRecord, ...]
    runs: tuple[RunRecord, ...]
    effort: EffortRecord
    correct: str = ""


def save_result(result: Result, path: Path) -> None:
    """Write a result; a reader sees the old file or the whole new one.

    Args:
        result: The result.
        path: ``.json``, or ``.json.gz`` to compress it. Its folder is made.

    Raises:
        InputError: If it cannot be written.
    """
    content = msgspec.json.format(msgspec.json.encode(result, order="deterministic"), indent=1) + b"\n"
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise InputError(f"result {path} cannot be written: {error.strerror}; give another --out", code="result") from error


def load_result(path: Path) -> Result:
    """Read a result.

    Args:
        path: As `save_result` wrote it.

    Returns:
        The result, every value of its type.

    Raises:
        InputError: If it is missing, empty, cut off, of another format or not a result, with the line or the key.
    """
    rerun = "run 'rag eval run' again, or give another file"
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        if not content.strip():
            raise InputError(f"result {path} is empty; {rerun}", code="result")
        value = json.loads(content, parse_constant=_refuse)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"result {path} cannot be read: {error}; {rerun}", code="result") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"result {path}, line {error.lineno}, column {error.colno} is not JSON: {error.msg}; was the run interrupted? {rerun}",
            code="result",
        ) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not a number, or nested without end
        raise InputError(f"result {path} is not JSON: {error}; {rerun}", code="result") from error
    if isinstance(value, dict) and value.get("format", FORMAT) != FORMAT:
        raise InputError(f"result {path} has format {value['format']!r}; this version reads {FORMAT}; {rerun}", code="result")
    try:
        result = msgspec.convert(value, Result)
    except msgspec.ValidationError as error:
        raise InputError(f"result {path} is not a result of 'rag eval run': {error}; {rerun}", code="result") from error
    for fault in _faults(result):
        raise InputError(f"result {path}: {fault}; {rerun}", code="result")
    return result


def _faults(result: Result) -> Iterator[str]:
    """What no run writes though every type is right, each with its place."""
    for n, run in enumerate(result.runs):
        ids = [question.question_id for question in run.questions]
        if len(set(ids)) < len(ids):
            yield f"question {next(i for i in ids if ids.count(i) > 1)!r} stands twice in $.runs[{n}]"
        for i, question in enumerate(run.questions):
            place = f"$.runs[{n}].questions[{i}]"
            for name, figure in question.scores.items():
                if not 0.0 <= figure < math.inf or (is_share(name) and figure > 1.0):
                    yield f"{figure!r} at {place}.scores[{name!r}] is no score of that metric"
            if question.cost is not None and not all(0.0 <= value < math.inf for value in _figures(question.cost)):
                yield f"a figure at {place}.cost is negative or not finite"
        for name, estimate in (*run.quality.items(), *run.cost.items()):
            if not all(value is None or math.isfinite(value) for value in (estimate.value, estimate.lo, estimate.hi)):
                yield f"{name!r} of $.runs[{n}] is not finite"


def _figures(cost: CostRecord) -> Iterator[float]:
    yield from (cost.cpu_s, cost.wall_s)
    yield from (value for value in (cost.energy_j, cost.energy_lo_j, cost.energy_hi_j, cost.carbon_g) if value is not None)


def _refuse(constant: str) -> float:
    """Python reads NaN and Infinity, which are no JSON."""
    raise ValueError(f"{constant} is not a number that a result may hold")
