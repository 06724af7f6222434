"""Suites: which pipelines are put to which data, what is measured, and what must hold. One TOML file each.

A suite names data sets, pipelines and metrics; every pipeline is run on every data set. The pipeline without any model
(`NO_MODEL`) is always among them, so that a result shows what each joule bought.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from eval.metrics import COST_METRICS, metric
from rag.errors import InputError

DataFormat = Literal["beir", "squad", "jsonl"]
PipelineMode = Literal["eco", "standard", "generative", "auto", "bm25", "dense"]
NO_MODEL = "no-model"
# Names of suites, data sets and pipelines become names of files and collections.
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,63}")
_NAME_RULE = "1 to 64 letters, digits, '.', '_' and '-', not beginning with '.' or '-'"


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a suite."""


class DataSpec(_Part, frozen=True):
    """A data set of a suite.

    Attributes:
        name: Unique in the suite.
        path: Relative to the folder of data sets, else to the suite's file.
        format: How it is laid out: see `eval.datasets`.
        licence: Recorded with the result.
        checksum: What its checksum must be; empty takes any.
        limit: Questions, drawn by the seed; 0 takes all.
        hide: Share of the questions, 0.0 to 0.5, that are made unanswerable by leaving their relevant documents out of the collection.
        documents: Of a set of questions alone: folder or file to ingest for it, found as ``path`` is.
        collection: Ask this collection of the data directory, or of the service, instead of making one.
    """

    name: str
    path: str
    format: DataFormat = "beir"
    licence: str = "unknown"
    checksum: str = ""
    limit: int = 0
    hide: float = 0.0
    documents: str = ""
    collection: str = ""


class PipelineSpec(_Part, frozen=True):
    """A pipeline of a suite.

    Attributes:
        name: Unique in the suite.
        mode: As of `rag ask`; ``bm25`` and ``dense`` search only, for what a hybrid gains over its arms.
        k: Passages considered.
        max_tokens: Budget of the packed context.
        style: Of the packed context.
        settings: By dotted key, as in ``ragwatt.toml``.
    """

    name: str
    mode: PipelineMode = "standard"
    k: int = 10
    max_tokens: int = 256
    style: Literal["sentences", "passages"] = "sentences"
    settings: Mapping[str, str | int | float | bool] = {}


class GateSpec(_Part, frozen=True):
    """What must hold of a metric before a release.

    Attributes:
        metric: Its name; a cost metric may only have ``max``, and ``cpu_s`` a margin too.
        margin: Loss against the base that is borne; None takes the metric's own.
        min: Least value of the candidate; None for no such bound.
        max: Greatest value.
        data: Only of this data set; empty means of all that have it.
        pipeline: Only of this pipeline; empty means of all but the one without a model.
    """

    metric: str
    margin: float | None = None
    min: float | None = None
    max: float | None = None
    data: str = ""
    pipeline: str = ""


class MetricsSpec(_Part, frozen=True):
    """What is measured.

    Attributes:
        names: Quality metrics; costs are always there.
        correct: The metric at which 1.0 makes an answer correct, for the costs per correct answer; empty for none.
        depth: Chunks searched for rankings: a document counts by its best chunk.
    """

    names: tuple[str, ...]
    correct: str = ""
    depth: int = 100


class _SuiteFile(_Part, frozen=True):
    name: str
    data: tuple[DataSpec, ...]
    pipeline: tuple[PipelineSpec, ...]
    metrics: MetricsSpec
    gate: tuple[GateSpec, ...] = ()
    seed: int = 0
    description: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """A checked suite.

    Attributes:
        name: Of the suite.
        path: Of its file.
        checksum: SHA-256 of its file.
        description: For people.
        seed: Of sampling and bootstrap.
        data: At least one.
        pipelines: The one without a model first, then as written.
        metrics: What is measured.
        gates: What must hold.
    """

    name: str
    path: Path
    checksum: str
    description: str
    seed: int
    data: tuple[DataSpec, ...]
    pipelines: tuple[PipelineSpec, ...]
    metrics: MetricsSpec
    gates: tuple[GateSpec, ...]


def load_suite(path: Path) -> Suite:
    """Read and check a suite.

    Args:
        path: A TOML file.

    Returns:
        The suite.

    Raises:
        InputError: If it cannot be read, is not TOML, has an unknown or missing key, a value out of its range, or names a metric, data
            set or pipeline that is not there; with file, line and key.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"suite {path} cannot be read: {error.strerror}; give the path of a TOML file", code="suite") from error
    except ValueError as error:  # not UTF-8, or not TOML: that message has line and column
        raise InputError(f"suite {path} is not TOML: {error}; correct it there", code="suite") from error
    try:
        spec = msgspec.convert(table, _SuiteFile)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        keys = (*_keys(place.strip(" `")), *(_quoted(message) if "field" in message else ()))
        raise InputError(f"suite {_place(path, text, keys)}: {message}; see docs/eval.md for its keys", code="suite") from error
    for keys, fault in _faults(spec):
        raise InputError(f"suite {_place(path, text, keys)}: {fault}", code="suite")
    no_model = PipelineSpec(NO_MODEL, mode="eco", settings={"answer.generator": "extractive"})
    return Suite(
        name=spec.name,
        path=path,
        checksum=hashlib.sha256(content).hexdigest(),
        description=spec.description,
        seed=spec.seed,
        data=spec.data,
        pipelines=(no_model, *spec.pipeline),
        metrics=spec.metrics,
        gates=spec.gate,
    )


_Keys = tuple[str | int, ...]


def _faults(spec: _SuiteFile) -> Iterator[tuple[_Keys, str]]:
    """What is wrong though every type is right, each with the key at which it stands."""
    if not _NAME.fullmatch(spec.name):
        yield ("name",), f"name {spec.name!r}; allowed: {_NAME_RULE}"
    yield from _name_faults("data", [data.name for data in spec.data], ())
    yield from _name_faults("pipeline", [pipeline.name for pipeline in spec.pipeline], (NO_MODEL,))
    yield from _out_of_range(spec)
    for n, name in enumerate(spec.metrics.names):
        if (fault := _unknown(name)) or name in spec.metrics.names[:n]:
            yield ("metrics", "names"), fault or f"metric {name!r} stands twice; name it once"
    if (correct := spec.metrics.correct) and (correct not in spec.metrics.names or not _makes_correct(correct)):
        fault = f"correct is {correct!r}; allowed: one of names that is a share of which more is better, or empty"
        yield ("metrics", "correct"), fault
    for n, gate in enumerate(spec.gate):
        yield from (((*("gate", n), key), fault) for key, fault in _gate_faults(gate, spec))


def _name_faults(table: str, names: Sequence[str], taken: Sequence[str]) -> Iterator[tuple[_Keys, str]]:
    if not names:
        yield (), f"there is no [[{table}]]; give at least one"
    for n, name in enumerate(names):
        if not _NAME.fullmatch(name) or name in (*names[:n], *taken):
            but = f", not {taken[0]!r}" if taken else ""
            yield (table, n, "name"), f"name {name!r}; allowed: {_NAME_RULE}, each name once{but}"


def _out_of_range(spec: _SuiteFile) -> Iterator[tuple[_Keys, str]]:
    if not 0 <= spec.seed < 2**63:
        yield ("seed",), f"seed is {spec.seed}; allowed: 0 or more"
    for n, data in enumerate(spec.data):
        if data.limit < 0:
            yield ("data", n, "limit"), f"limit is {data.limit}; allowed: 0 (all) or more"
        if not 0.0 <= data.hide <= 0.5:
            yield ("data", n, "hide"), f"hide is {data.hide}; allowed: 0.0 to 0.5"
    for n, pipeline in enumerate(spec.pipeline):
        if not 1 <= pipeline.k <= 1000:
            yield ("pipeline", n, "k"), f"k is {pipeline.k}; allowed: 1 to 1000"
        if pipeline.max_tokens < 16:
            yield ("pipeline", n, "max_tokens"), f"max_tokens is {pipeline.max_tokens}; allowed: 16 or more"
    if not 1 <= spec.metrics.depth <= 1000:
        yield ("metrics", "depth"), f"depth is {spec.metrics.depth}; allowed: 1 to 1000"


def _gate_faults(gate: GateSpec, spec: _SuiteFile) -> Iterator[tuple[str, str]]:
    is_cost = gate.metric in COST_METRICS
    if not is_cost and gate.metric not in spec.metrics.names:
        yield "metric", f"metric {gate.metric!r} is not measured; add it to names of [metrics], or gate one of those"
    for key, value in (("margin", gate.margin), ("min", gate.min), ("max", gate.max)):
        if value is not None and not (math.isfinite(value) and (key != "margin" or value >= 0.0)):
            yield key, f"{key} is {value}; allowed: a finite number{', 0.0 or more' if key == 'margin' else ''}"
    if is_cost and (gate.min is not None or (gate.margin is not None and gate.metric != "cpu_s")):
        yield "metric", f"{gate.metric} is a cost; allowed: max (and margin for cpu_s, which is compared by 'rag eval interleave')"
    for key, wanted, parts in (("data", gate.data, spec.data), ("pipeline", gate.pipeline, spec.pipeline)):
        if wanted and wanted not in (names := [part.name for part in parts]):
            yield key, f"{key} {wanted!r} is not in this suite; allowed: {', '.join(names)}"


def _makes_correct(name: str) -> bool:
    found = metric(name)
    return found.unit == "share" and found.is_better_high


def _unknown(name: str) -> str:
    try:
        metric(name)
    except InputError as error:
        return str(error)
    return ""


def _keys(path: str) -> _Keys:
    """``$.data[0].limit`` as its keys."""
    return tuple(int(index) if index else key for key, index in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", path))


def _quoted(message: str) -> _Keys:
    return tuple(re.findall(r"`([^`]+)`", message)[:1])


def _place(path: Path, text: str, keys: Sequence[str | int]) -> str:
    """``file, line n, key``: the line of the key, else of its table, else the first."""
    dotted = ".".join(f"{key}" for key in keys if isinstance(key, str))
    return f"{path}, line {_line(text, keys)}{f', key {dotted}' if dotted else ''}"


def _line(text: str, keys: Sequence[str | int]) -> int:
    """The line on which a key stands; TOML readers forget it, so it is looked for by headers and by name."""
    table = next((key for key in keys if isinstance(key, str)), "")
    wanted = next((key for key in keys if isinstance(key, int)), 0)
    name = next((key for key in reversed(keys) if isinstance(key, str)), "")
    found, n_seen, inside = 1, -1, len(keys) == 1
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\[?\s*([\w-]+)", line):
            n_seen += header[1] == table and line.lstrip().startswith("[[")
            inside = header[1] == table and max(n_seen, 0) == wanted
            found = number if inside and found == 1 else found
        elif inside and re.match(rf"\s*['\"]?{re.escape(name)}['\"]?\s*[.=]", line):
            return number
    return found


def settings_table(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings of a pipeline as text, in order of their keys."""
    return {key: str(settings[key]) for key in sorted(settings)}
