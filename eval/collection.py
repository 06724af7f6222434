"""Data sets as collections: each is ingested by the pipeline of `rag ingest` and kept, so that the next run finds it as it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from eval.datasets import Dataset
from eval.suite import PipelineSpec
from ingest.pipeline import IngestRequest, Progress, ingest
from rag.embed import open_embedder
from rag.errors import InputError
from rag.meter import Meter
from rag.settings import Settings

# Below the data directory of the user, so that the collections of suites are not among theirs.
FOLDER = "eval"
# Enough of a checksum to tell data sets and recipes apart by eye and by name.
_N_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection that is ready to be asked.

    Attributes:
        settings: With the data directory in which it lies.
        name: Of the collection.
        n_documents: Documents in it.
        cpu_s: CPU seconds of making it now; next to nothing when it was there.
    """

    settings: Settings
    name: str
    n_documents: int
    cpu_s: float


def make_collection(dataset: Dataset, spec: PipelineSpec, settings: Settings, progress: Progress) -> Collection:
    """Ingest the documents of a data set, as the settings of a pipeline want them.

    Pipelines that embed and cut alike share a collection.

    Args:
        dataset: With its documents, or the folder or file of them.
        spec: The pipeline: what it sets below ``embedder`` and ``ingest`` makes another collection.
        settings: Of the pipeline.
        progress: Told of the stages of ingestion.

    Returns:
        The collection.

    Raises:
        InputError: If there is no document, or one cannot be read: a collection that lacks one would change every score.
        SnapshotError: As `ingest.pipeline.ingest`.
        ModelError: Likewise.
    """
    if dataset.documents is None and not dataset.corpus:
        raise InputError(
            f"data set {dataset.name!r} has no document left: hide took all {len(dataset.hidden)}; lower hide, or leave it out"
            if dataset.hidden
            else f"data set {dataset.name!r} has no documents; add some to its corpus",
            code="data",
        )
    recipe = {key: value for key, value in sorted(spec.settings.items()) if key.startswith(("embedder.", "ingest."))}
    below = replace(settings, data_dir=settings.data_dir / FOLDER)
    content = _content(dataset)
    path = dataset.documents
    decisive = [dataset.checksum, recipe, str(path.resolve()) if path else ""]
    digest = hashlib.sha256(json.dumps(decisive).encode() + content).hexdigest()[:_N_DIGITS]
    name = f"{dataset.name[:40]}-{digest}"
    if path is None:
        path = below.data_dir / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    embedder = open_embedder(settings.embedder, settings.data_dir / "models")
    report = ingest(IngestRequest((path,), name), below, embedder, progress, Meter())
    if report.failed:
        first = report.failed[0]
        raise InputError(
            f"data set {dataset.name!r}: {len(report.failed)} documents cannot be ingested, first {first.path}: {first.code}: "
            f"{first.message}; correct the data set",
            code="data",
        )
    n_documents = report.n_added + report.n_updated + report.n_unchanged
    return Collection(below, name, n_documents, report.measurement.cpu_s)


def _content(dataset: Dataset) -> bytes:
    """The documents of a data set as JSONL."""
    records = [{"_id": record.doc_id, "title": record.title, "text": record.text} for record in dataset.corpus]
    return "".join(json.dumps(record) + "\n" for record in records).encode()
