"""What a suite is put to: a pipeline in this process, or a running service. Both give the same few values for a question."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from eval.suite import PipelineMode, PipelineSpec
from rag.cost import Measurement
from rag.embed import Embedder, open_embedder
from rag.embed.around import AroundEmbedder
from rag.engine import Engine
from rag.errors import InputError, ModelError, RagError
from rag.generate import open_generator
from rag.http import JsonServer
from rag.meter import Meter
from rag.power import Power
from rag.settings import GeneratorName, Settings
from rag.store import open_store
from rag.store.catalog import Catalog
from rag.tokens import TokenCounter, open_counter
from rag.types import Query, SearchMode, TextRole, Vectors
from rag.wire import answer_json, measurement_json

Json = dict[str, Any]

_SEARCH_MODES: dict[PipelineMode, SearchMode] = {"eco": "bm25", "bm25": "bm25", "dense": "dense"}
_GENERATORS: dict[PipelineMode, GeneratorName] = {"eco": "extractive", "generative": "model", "auto": "auto"}
# A model on a small machine may take a minute for an answer; a service that takes longer has failed.
_TIMEOUT_S = 300.0
# Of a digest: enough to tell the contents of a collection apart.
_N_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Hits:
    """What a search found, best first.

    Attributes:
        doc_ids: Document of every chunk.
        texts: Of the chunks.
    """

    doc_ids: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed context.

    Attributes:
        text: As a model would read it.
        doc_ids: Document of every packed passage, in the order of the text.
        n_tokens: Tokens of the text.
        n_saved: Tokens of the passages found that were not packed.
    """

    text: str
    doc_ids: tuple[str, ...]
    n_tokens: int
    n_saved: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is asked.

    Attributes:
        name: ``collection@version``, and ``#`` with a digest of the documents where they are at hand. Of a service, the versions of the
            answers so far, joined by `` + ``.
        n_documents: Documents in it; 0 where that is not known.
    """

    name: str
    n_documents: int


class Target(Protocol):
    """A pipeline that questions are put to."""

    @property
    def is_here(self) -> bool:
        """Whether it works in this process, whose memory tells of it."""
        ...

    @property
    def snapshot(self) -> Snapshot:
        """What is asked."""
        ...

    @property
    def spent(self) -> Json | None:
        """The measurement of the last answer, also of one that failed; None where nobody knows."""
        ...

    @property
    def answers(self) -> bool:
        """Whether it answers, or only searches."""
        ...

    def answer(self, question: str) -> Json:
        """Answer as `rag.wire.answer_json` gives it; raises `InputError` or `ModelError` as `rag.engine.Engine.ask`.

        In this process joules and grams keep all digits, so that their means and intervals are not made of rounded figures.
        """
        ...

    def search(self, question: str, k: int) -> Hits:
        """Find ``k`` chunks; raises as `rag.engine.Engine.search`."""
        ...

    def context(self, question: str) -> Packed:
        """Pack a context; raises as `rag.engine.Engine.context`."""
        ...

    def close(self) -> None:
        """Let go what it holds."""
        ...


class InProcess:
    """A pipeline in this process.

    Args:
        spec: The pipeline.
        settings: Its settings, by `pipeline_settings`.
        data_dir: In which the collection lies.
        collection: Its name.
        power: Prices answers.
    """

    def __init__(self, spec: PipelineSpec, settings: Settings, data_dir: Path, collection: str, power: Power) -> None:
        self._spec = spec
        self._settings = settings
        self._data_dir = data_dir
        self._power = power
        self._spent: Json | None = None
        self._mode = _SEARCH_MODES.get(spec.mode, "hybrid")
        embedder = _LastQuestion(open_embedder(settings.embedder, settings.data_dir / "models"))
        generator = open_generator(settings)
        self._store = open_store(data_dir, collection)
        self._engine = Engine(self._store, embedder, generator, settings, power)

    @property
    def is_here(self) -> bool:
        """See `Target.is_here`."""
        return True

    @cached_property
    def snapshot(self) -> Snapshot:
        """See `Target.snapshot`."""
        name, version = self._store.collection, self._store.version
        catalog = Catalog(self._data_dir)
        try:
            view = catalog.view(name, version)
            return Snapshot(f"{name}@{version}#{view.content_sha256()[:_N_DIGITS]}", view.counts().n_documents)
        finally:
            catalog.close()

    @property
    def spent(self) -> Json | None:
        """See `Target.spent`."""
        return self._spent

    @property
    def answers(self) -> bool:
        """See `Target.answers`."""
        return self._spec.mode not in ("bm25", "dense")

    def answer(self, question: str) -> Json:
        """See `Target.answer`."""
        meter = Meter(power=self._power)
        try:
            answer = self._engine.ask(Query(question, self._spec.k, self._mode), meter)
        except RagError:
            self._spent = _exact_json(meter.finish())
            raise
        self._spent = _exact_json(answer.measurement)
        return answer_json(answer) | {"measurement": self._spent}

    def search(self, question: str, k: int) -> Hits:
        """See `Target.search`."""
        hits = self._engine.search(Query(question, k, self._mode)).hits
        return Hits(tuple(hit.chunk.doc_id for hit in hits), tuple(hit.chunk.text for hit in hits))

    def context(self, question: str) -> Packed:
        """See `Target.context`."""
        query = Query(question, self._spec.k, self._mode)
        context = self._engine.context(query, self._spec.max_tokens, self._spec.style, self._counter).context
        doc_ids = tuple(citation.doc_id for citation in context.citations)
        return Packed(context.text, doc_ids, context.n_tokens, context.n_tokens_saved)

    def close(self) -> None:
        """See `Target.close`."""
        self._engine.close()

    @cached_property
    def _counter(self) -> TokenCounter:
        return open_counter(self._settings.context.target_model, self._settings.context.tiktoken_cache_dir)


class OverHttp:
    """A running service.

    Args:
        spec: The pipeline; its settings are those of the service, and a suite that sets others is refused.
        collection: Name of the collection there.
        url: Base URL, such as ``http://127.0.0.1:8000``.
        api_key: Empty for none.

    Raises:
        InputError: If the pipeline sets something.
        ConfigError: If the address cannot be used.
    """

    def __init__(self, spec: PipelineSpec, collection: str, url: str, api_key: str) -> None:
        if spec.settings and spec.mode != "eco":
            raise InputError(
                f"pipeline {spec.name!r} sets {', '.join(spec.settings)}, and a running service has its own settings; leave them out of "
                "the suite, or run without --url",
                code="suite",
            )
        self._spec = spec
        self._collection = collection
        self._versions: set[int] = set()
        self._spent: Json | None = None
        self._server = JsonServer("eval", "eval", f"{url.rstrip('/')}/v1", collection, api_key)

    @property
    def is_here(self) -> bool:
        """See `Target.is_here`."""
        return False

    @property
    def snapshot(self) -> Snapshot:
        """See `Target.snapshot`."""
        return Snapshot(" + ".join(f"{self._collection}@{version}" for version in sorted(self._versions)), 0)

    @property
    def spent(self) -> Json | None:
        """See `Target.spent`."""
        return self._spent

    @property
    def answers(self) -> bool:
        """See `Target.answers`."""
        return self._spec.mode not in ("bm25", "dense")

    def answer(self, question: str) -> Json:
        """See `Target.answer`."""
        self._spent = None
        answer = self._ask("/answer", {"query": question, "k": self._spec.k, "mode": self._spec.mode})
        self._spent = answer["measurement"]
        return answer

    def search(self, question: str, k: int) -> Hits:
        """See `Target.search`."""
        mode = _SEARCH_MODES.get(self._spec.mode, "hybrid")
        hits = self._ask("/search", {"query": question, "k": k, "mode": mode})["hits"]
        return Hits(tuple(hit["doc_id"] for hit in hits), tuple(hit["text"] for hit in hits))

    def context(self, question: str) -> Packed:
        """See `Target.context`."""
        request = {"query": question, "k": self._spec.k, "max_tokens": self._spec.max_tokens, "style": self._spec.style}
        found = self._ask("/context", request)
        saved = found["measurement"]["tokens"]["saved"]
        return Packed(found["text"], tuple(citation["doc_id"] for citation in found["citations"]), found["n_tokens"], saved)

    def close(self) -> None:
        """See `Target.close`."""

    def _ask(self, endpoint: str, request: Json) -> Json:
        reply = self._server.post(endpoint, {"collection": self._collection} | request, _TIMEOUT_S)
        try:
            answer = json.loads(reply.body)
        except ValueError as error:
            raise ModelError(
                f"the service answered {endpoint} with something that is not JSON: {error}", code="bad_answer"
            ) from error
        if not isinstance(answer, dict) or "measurement" not in answer:
            raise ModelError(
                f"the service answered {endpoint} without a measurement; is that a ragwatt service of this version?",
                code="bad_answer",
            )
        if isinstance(version := answer.get("version"), int):
            self._versions.add(version)
        return answer


def pipeline_settings(spec: PipelineSpec, settings: Settings) -> Settings:
    """The settings with the generator that the mode of a pipeline asks for.

    Args:
        spec: The pipeline.
        settings: With what the suite sets for it already in place.

    Returns:
        The settings; the answer cache is off unless the suite sets it, because a cached answer would tell nothing of the pipeline.
    """
    generator = _GENERATORS.get(spec.mode, settings.answer.generator)
    cache = settings.cache if "cache.mode" in spec.settings else replace(settings.cache, mode="off")
    return replace(settings, answer=replace(settings.answer, generator=generator), cache=cache)


def _exact_json(measurement: Measurement) -> Json:
    """A measurement as `rag.wire.measurement_json` gives it, joules and grams with all their digits."""
    found, energy = measurement_json(measurement), measurement.energy
    if energy is None:
        return found
    stages = [stage._asdict() for stage in measurement.stages]
    return found | {"energy_j": energy.total._asdict(), "carbon_g": energy.carbon._asdict(), "stages": stages}


class _LastQuestion(AroundEmbedder):
    """An embedder that knows the vector of the question before: what is looked up behind an answer costs no second pass.

    The answer is asked for first, so that it pays for its own.
    """

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(embedder)
        self._last: tuple[Sequence[str], TextRole] = ((), "query")
        self._vectors = np.zeros((0, embedder.dim), np.float32)

    def embed(self, texts: Sequence[str], role: TextRole = "document") -> Vectors:
        if (texts, role) != self._last:
            self._vectors = self._embedder.embed(texts, role)
            self._last = (texts, role)
        return self._vectors
