"""Two releases or settings side by side on a suite: the commands that `eval.interleave` measures, and the file that keeps the figures.

The file tells what was measured, because seconds without it could be those of any release on any questions.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from eval.collection import make_collection
from eval.compare import find_run
from eval.datasets import Dataset, load
from eval.interleave import interleave
from eval.record import Result
from eval.run import RunOptions, chosen_pipelines, configured, limited
from eval.suite import PipelineSpec, Suite
from ingest.pipeline import Progress
from rag.errors import InputError, RagError

_AGAIN = "run 'rag eval interleave' again"
# Of a checksum, enough to tell two apart by eye.
_N_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Side:
    """A release with its settings.

    Attributes:
        rag: Its command.
        config: Its settings file; None for the usual one.
        is_other: Whether it is another installation: then it ingests for itself.
    """

    rag: Path
    config: Path | None
    is_other: bool


@dataclass(frozen=True, slots=True)
class SuitePair:
    """What is measured side by side.

    Attributes:
        base: What was.
        candidate: What shall be.
        is_self: Whether they are meant to be one and the same, to see the noise.
    """

    base: Side
    candidate: Side
    is_self: bool = False


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the file."""


class SideRecord(_Value, frozen=True):
    """Which release was measured.

    Attributes:
        version: As its ``rag --version`` told.
        config: Name of its settings file; empty for the usual one.
    """

    version: str
    config: str


class PairRecord(_Value, frozen=True):
    """CPU seconds of a pipeline on a data set.

    Attributes:
        data: Name of the data set.
        checksum: Of the data set.
        pipeline: Name of the pipeline.
        questions: Ids.
        base_cpu_s: By question, finite and above 0.
        candidate_cpu_s: The same of the candidate.
    """

    data: str
    checksum: str
    pipeline: str
    questions: tuple[str, ...]
    base_cpu_s: tuple[float, ...]
    candidate_cpu_s: tuple[float, ...]


class SideBySide(_Value, frozen=True):
    """What was measured in one job, as the file has it.

    Attributes:
        suite: Name of the suite.
        suite_checksum: SHA-256 of the suite file.
        base: What was.
        candidate: What shall be.
        is_self: Whether both are one and the same: that shows the noise and decides nothing.
        pairs: Each data set and pipeline once, in the order of the suite.
    """

    suite: str
    suite_checksum: str
    base: SideRecord
    candidate: SideRecord
    is_self: bool
    pairs: tuple[PairRecord, ...]


def interleave_suite(suite: Suite, pair: SuitePair, options: RunOptions, rounds: int, work: Path, progress: Progress) -> SideBySide:
    """Measure every pipeline that answers on every data set.

    Args:
        suite: What is asked.
        pair: The two sides.
        options: Where data sets lie; ``only`` names pipelines.
        rounds: Times each question is put to each side.
        work: A folder for what another installation ingests.
        progress: Told of data sets and pipelines.

    Returns:
        CPU seconds of both, with what they are of.

    Raises:
        InputError: If both sides are one and the same and are not meant to be, or the reverse; if a data set is missing, or no
            pipeline answers.
        RagError: If a process fails; see `eval.interleave.interleave`.
    """
    _check_sides(pair)
    base, candidate = _record(pair.base), _record(pair.candidate)
    found = []
    for spec in suite.data:
        dataset = load(limited(spec, options.limit), (*options.roots, suite.path.parent), suite.seed)
        questions = [(query.query_id, query.text) for query in dataset.queries]
        for pipeline in chosen_pipelines(suite, options.only):
            if pipeline.mode in ("bm25", "dense") or (options.only and pipeline.name not in options.only):
                continue
            data_dir, name = _ingested(dataset, pipeline, options, progress)
            commands = []
            for side in (pair.base, pair.candidate):
                of_side = data_dir
                if side.is_other and not dataset.collection:
                    of_side = work / "other"
                    _ingest_by(side, of_side, data_dir, dataset, name)
                commands.append(_command(side, of_side, name, pipeline))
            progress.begin(f"{spec.name}, {pipeline.name}", None)
            one = interleave(commands[0], commands[1], questions, rounds=rounds, seed=suite.seed)
            found.append(PairRecord(spec.name, dataset.checksum, pipeline.name, one.questions, one.base_cpu_s, one.candidate_cpu_s))
    if not found:
        raise InputError(f"no pipeline of suite {suite.name!r} answers; bm25 and dense only search", code="interleave")
    return SideBySide(suite.name, suite.checksum, base, candidate, pair.is_self, tuple(found))


def find_pair(measured: SideBySide | None, data: str, pipeline: str) -> PairRecord | None:
    """The pair of a pipeline on a data set; None where there is none."""
    pairs = () if measured is None else measured.pairs
    return next((pair for pair in pairs if (pair.data, pair.pipeline) == (data, pipeline)), None)


def check_decides(measured: SideBySide, suite: str) -> None:
    """Refuse what no gate can decide by.

    Args:
        measured: What was measured.
        suite: Name of the suite of the gate.

    Raises:
        InputError: If it is of another suite, or of one release against itself.
    """
    if measured.suite != suite:
        raise InputError(
            f"the interleaved CPU seconds are of suite {measured.suite!r}, the gates are of {suite!r}; give another file, or {_AGAIN}",
            code="interleave",
        )
    if measured.is_self:
        raise InputError(
            "the interleaved CPU seconds were made with --self, of one release against itself: they show the noise and decide nothing; "
            "run 'rag eval interleave' with --base, --base-config or --candidate-config",
            code="interleave",
        )


def why_other(measured: SideBySide, pair: PairRecord, candidate: Result, base: Result | None) -> str:
    """Why CPU seconds are not those of a candidate and its base.

    Args:
        measured: What was measured.
        pair: One of it.
        candidate: With a run of the pipeline on the data set.
        base: None for none.

    Returns:
        One line; empty where they are. Fewer questions than the candidate's run has are no reason.
    """
    for name, release, result in (("base", measured.base, base), ("candidate", measured.candidate, candidate)):
        if result is not None and release.version != result.version:
            return f"the CPU seconds of the {name} are of version {release.version}, its result is of {result.version}; {_AGAIN}"
    checksum = next((data.checksum for data in candidate.data if data.name == pair.data), "none")
    for what, mine, others in (
        ("suite file", measured.suite_checksum, candidate.suite_checksum),
        ("data set", pair.checksum, checksum),
    ):
        if mine != others:
            return (
                f"the CPU seconds are of another {what} than the candidate's run: checksum {mine[:_N_DIGITS]} against "
                f"{others[:_N_DIGITS]}; {_AGAIN}"
            )
    run = find_run(candidate, pair.data, pair.pipeline)
    ids = {question.question_id for question in run.questions} if run else set()
    if unknown := sorted({*pair.questions} - ids):
        return f"{len(unknown)} questions of the CPU seconds are not of the candidate's run, first {unknown[0]!r}; {_AGAIN}"
    return ""


def save_interleaved(measured: SideBySide, path: Path) -> None:
    """Write the figures as JSON; raises `InputError` if that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(measured), indent=1) + b"\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; give another --out", code="interleave") from error


def load_interleaved(path: Path) -> SideBySide:
    """Read what `save_interleaved` wrote.

    Args:
        path: The file.

    Returns:
        What was measured.

    Raises:
        InputError: If it is missing, is not such a file, or has seconds that no clock tells.
    """
    try:
        measured = msgspec.json.decode(path.read_bytes(), type=SideBySide)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; {_AGAIN}", code="interleave") from error
    except msgspec.DecodeError as error:
        raise InputError(f"{path} is not written by 'rag eval interleave': {error}; {_AGAIN}", code="interleave") from error
    for fault in _faults(measured):
        raise InputError(f"{path}: {fault}; {_AGAIN}", code="interleave")
    return measured


def _faults(measured: SideBySide) -> Iterator[str]:
    """What no measurement writes though every type is right."""
    places = [(pair.data, pair.pipeline) for pair in measured.pairs]
    for pair in measured.pairs:
        place, n = f"{pair.data}, {pair.pipeline}", len(pair.questions)
        if places.count((pair.data, pair.pipeline)) > 1:
            yield f"{place} stands twice"
        if not n or len(pair.base_cpu_s) != n or len(pair.candidate_cpu_s) != n:
            yield f"{place} has not one figure of each side a question"
        if len(set(pair.questions)) < n:
            yield f"{place} has a question twice"
        for second in (*pair.base_cpu_s, *pair.candidate_cpu_s):
            if not 0.0 < second < math.inf:
                yield f"{place} has {second!r} CPU seconds; allowed: finite and above 0"


def _check_sides(pair: SuitePair) -> None:
    is_same = _identity(pair.base) == _identity(pair.candidate)
    if is_same and not pair.is_self:
        raise InputError(
            f"base and candidate are one and the same: {pair.base.rag} with the same settings; give --base, --base-config or "
            "--candidate-config, or --self to measure the noise, A against A",
            code="interleave",
        )
    if pair.is_self and not is_same:
        raise InputError(
            "--self measures one release against itself, and base and candidate differ; leave out --self, or what makes them differ",
            code="interleave",
        )


def _identity(side: Side) -> tuple[Path, object]:
    config = side.config
    return side.rag.resolve(), config.read_bytes() if config and config.is_file() else config


def _record(side: Side) -> SideRecord:
    try:
        done = subprocess.run([str(side.rag), "--version"], capture_output=True, text=True, check=False)
        said = done.stdout.split() if not done.returncode else []
    except OSError as error:
        raise RagError(f"{side.rag} cannot be started: {error.strerror}; give the 'rag' of a release", code="interleave") from error
    if not said:
        raise RagError(f"{side.rag} --version tells no version; give the 'rag' of a release", code="interleave")
    return SideRecord(said[-1], side.config.name if side.config else "")


def _ingested(dataset: Dataset, pipeline: PipelineSpec, options: RunOptions, progress: Progress) -> tuple[Path, str]:
    """Data directory and name of the collection of a data set."""
    settings = configured(pipeline, options)
    if dataset.collection:
        return settings.data_dir, dataset.collection
    made = make_collection(dataset, pipeline, settings, progress)
    return made.settings.data_dir, made.name


def _ingest_by(side: Side, data_dir: Path, ours: Path, dataset: Dataset, name: str) -> None:
    """Let another installation make the collection, because only it knows its format."""
    documents = dataset.documents or ours / f"{name}.jsonl"
    command = [*_start(side, data_dir), "ingest", str(documents), "--collection", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise RagError(
            f"{side.rag} could not ingest data set {dataset.name!r}: {said}; run its command by hand to see why", code="interleave"
        )


def _command(side: Side, data_dir: Path, collection: str, pipeline: PipelineSpec) -> list[str]:
    ask = ["ask", "--batch", "-", "--json", "--collection", collection, "-k", str(pipeline.k), "--mode", pipeline.mode]
    return ["env", *_variables(pipeline), *_start(side, data_dir), *ask]


def _start(side: Side, data_dir: Path) -> list[str]:
    return [str(side.rag), "--data-dir", str(data_dir), *(("--config", str(side.config)) if side.config else ())]


def _variables(pipeline: PipelineSpec) -> Iterator[str]:
    """What the suite sets, as variables: they are stronger than a settings file. A cached answer would measure nothing."""
    for key, value in ({"cache.mode": "off"} | dict(pipeline.settings)).items():
        yield f"RAG_{key.upper().replace('.', '_')}={value}"
