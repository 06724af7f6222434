"""Two releases or settings side by side on a suite: the commands that `eval.interleave` measures, and the file that keeps the figures."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from eval.collection import make_collection
from eval.datasets import Dataset, load
from eval.interleave import Interleaved, interleave
from eval.run import RunOptions, chosen_pipelines, configured, limited
from eval.suite import PipelineSpec, Suite
from ingest.pipeline import Progress
from rag.errors import InputError, RagError

Pairs = Mapping[tuple[str, str], Interleaved]
"""By data set and pipeline."""


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
    """What is measured side by side."""

    base: Side
    candidate: Side


class _Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    data: str
    pipeline: str
    questions: tuple[str, ...]
    base_cpu_s: tuple[float, ...]
    candidate_cpu_s: tuple[float, ...]


class _PairFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pairs: tuple[_Pair, ...]


def interleave_suite(
    suite: Suite, pair: SuitePair, options: RunOptions, rounds: int, work: Path, progress: Progress
) -> dict[tuple[str, str], Interleaved]:
    """Measure every pipeline that answers on every data set.

    Args:
        suite: What is asked.
        pair: The two sides.
        options: Where data sets lie; ``only`` names pipelines.
        rounds: Times each question is put to each side.
        work: A folder for what another installation ingests.
        progress: Told of data sets and pipelines.

    Returns:
        CPU seconds of both by data set and pipeline.

    Raises:
        InputError: If a data set is missing, or no pipeline answers.
        RagError: If a process fails; see `eval.interleave.interleave`.
    """
    found = {}
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
            found[(spec.name, pipeline.name)] = interleave(commands[0], commands[1], questions, rounds=rounds, seed=suite.seed)
    if not found:
        raise InputError(f"no pipeline of suite {suite.name!r} answers; bm25 and dense only search", code="interleave")
    return found


def save_interleaved(pairs: Pairs, path: Path) -> None:
    """Write the figures as JSON; raises `InputError` if that cannot be done."""
    rows = tuple(_Pair(*place, one.questions, one.base_cpu_s, one.candidate_cpu_s) for place, one in pairs.items())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(_PairFile(rows)), indent=1) + b"\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; give another --out", code="interleave") from error


def load_interleaved(path: Path) -> dict[tuple[str, str], Interleaved]:
    """Read what `save_interleaved` wrote.

    Args:
        path: The file.

    Returns:
        CPU seconds of both by data set and pipeline.

    Raises:
        InputError: If it is missing, or is not such a file.
    """
    again = "run 'rag eval interleave' again"
    try:
        rows = msgspec.json.decode(path.read_bytes(), type=_PairFile).pairs
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; {again}", code="interleave") from error
    except msgspec.DecodeError as error:
        raise InputError(f"{path} is not written by 'rag eval interleave': {error}; {again}", code="interleave") from error
    for row in rows:
        if not row.questions or not len(row.questions) == len(row.base_cpu_s) == len(row.candidate_cpu_s):
            raise InputError(
                f"{path}: {row.data}, {row.pipeline} has not one figure of each side a question; {again}", code="interleave"
            )
    return {(row.data, row.pipeline): Interleaved(row.questions, row.base_cpu_s, row.candidate_cpu_s) for row in rows}


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
