"""The whole way of a question: query -> candidates -> context or answer -> measurement. The only file that knows all stages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from rag import __version__
from rag.context import pack
from rag.cost import TokenCounts
from rag.embed import Embedder, open_embedder
from rag.errors import ConfigError, InputError
from rag.evidence import confidence, copies, shares_a_word
from rag.fuse import Fused, completed, contenders, first, fuse, union
from rag.generate import Generator, open_generator
from rag.meter import Meter
from rag.power import Power, open_power
from rag.settings import Settings
from rag.store import Store, open_store
from rag.text import normalise
from rag.types import Answer, Budget, Candidate, ContextResult, ContextStyle, Filters, Query, Scored, SearchResult, Task, Vector

if TYPE_CHECKING:  # what most questions do not need is imported by those that do: 30 ms of a cold start
    from rag.cache import AnswerCache, Key
    from rag.conversation import Rewritten, Turn
    from rag.groundedness import Scorer
    from rag.tokens import TokenCounter

MAX_K = 1000
NO_LIMIT = Budget()
# How many times as deep to look when some of the first k hits are copies of each other: a flood of k times sixteen copies cannot keep other
# evidence out, and a collection of records that are all alike does not make every question read all of them.
_DEPTHS = (1, 4, 16)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question on its own feet, what it was in a conversation (empty when it is the same), and what is set for its answer."""

    query: Query
    focus: str
    budget: Budget
    scope: str


class Engine:
    """Answers questions from one version of a collection; safe to share between threads.

    Args:
        store: The version.
        embedder: The embedder that made its vectors; it is not used by queries of mode ``bm25``.
        generator: Writes the answers.
        settings: Weights, limits and budgets.
        power: Prices what a query used, where the caller brings no meter; None leaves joules unknown.
        cache: Answers given before; None keeps none.
    """

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        generator: Generator,
        settings: Settings,
        power: Power | None = None,
        cache: AnswerCache | None = None,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._generator = generator
        self._settings = settings
        self._power = power
        self._cache = cache

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let the version, the models and the cache go."""
        self._generator.close()
        if self._cache is not None:
            self._cache.close()
        self._store.close()

    def search(self, query: Query, meter: Meter | None = None) -> SearchResult:
        """Find chunks.

        Args:
            query: What to look for and how.
            meter: Charged with the stages; None means one of its own.

        Returns:
            At most ``query.k`` hits, best first.

        Raises:
            InputError: If the query is empty, too long or filters by an unknown key.
            ConfigError: If the collection was embedded by another embedder.
            ModelError: If the embedder fails.
        """
        meter = meter or Meter(power=self._power)
        hits = self._candidates(query, meter)
        return SearchResult(tuple(hits), self._store.collection, self._store.version, meter.finish())

    def context(
        self, query: Query, max_tokens: int, style: ContextStyle, counter: TokenCounter, meter: Meter | None = None
    ) -> ContextResult:
        """Find chunks and pack them into a token budget.

        Args:
            query: What to look for and how.
            max_tokens: The budget, 16 or more.
            style: Whole passages or single sentences.
            counter: Counts tokens of the model that will read the context.
            meter: Charged with the stages; None means one of its own.

        Returns:
            The context, never over the budget.

        Raises:
            InputError: As for `search`, or if the budget is too small.
        """
        if max_tokens < 16:
            raise InputError(f"max_tokens is {max_tokens}; allowed: 16 or more", code="max_tokens")
        meter = meter or Meter(power=self._power)
        hits = self._evidence(query, meter)
        with meter.stage("assemble"):
            packed = pack(query.text, hits, max_tokens, style, counter)
        measurement = meter.finish(TokenCounts(context=packed.n_tokens, saved=packed.n_tokens_saved))
        return ContextResult(packed, self._store.collection, self._store.version, measurement)

    def ask(
        self,
        query: Query,
        meter: Meter | None = None,
        *,
        history: Sequence[Turn] = (),
        budget: Budget = NO_LIMIT,
        scope: str = "",
        verify: bool = False,
    ) -> Answer:
        """Answer a question, or say that the documents do not.

        Args:
            query: The question and how to look for evidence.
            meter: Charged with the stages; None means one of its own.
            history: Turns of a conversation before the question, oldest first: a follow-up is made to stand alone.
            budget: Limits of this answer, on top of those of the settings.
            scope: Whose cached answers may be shared: a tenant or key.
            verify: Judge every claim of the answer against what it cites.

        Returns:
            The answer; every citation quotes its document exactly. Without history the same question, or with the semantic cache one
            that asks the same, may be answered from the cache: the measurement says so.

        Raises:
            InputError: As for `search`.
            ModelError: If a language model that was asked for by name fails.
        """
        meter = meter or Meter(power=self._power)
        rewritten: Rewritten | None = None
        if history:
            from rag.conversation import stand_alone

            with meter.stage("rewrite"):
                # With a limit the model is for the answer.
                model = self._generator if self._settings.answer.rewrite == "model" and budget == NO_LIMIT else None
                rewritten = stand_alone(history, self._checked(query), self._settings.search.max_query_chars, model, meter)
        asked = _Asked(query, "", budget, scope)
        if rewritten is not None and rewritten.question != query.text:
            asked = _Asked(replace(query, text=rewritten.question), query.text, budget, scope)
        answer = self._remembered(self._cache, asked, meter) if self._cache else self._written(asked, None, meter)
        if rewritten is not None:
            from rag.conversation import as_asked

            answer = as_asked(answer, asked.query.text if asked.focus else "", rewritten.step)
        return self._verified(answer, meter) if verify else answer

    def _remembered(self, cache: AnswerCache, asked: _Asked, meter: Meter) -> Answer:
        """An answer given before, or a new one that is kept."""
        from rag.cache import Asked

        text = self._checked(asked.query)
        known = Asked(cache, self._settings.cache.mode, self._key(asked), self._store, meter)
        if (answer := known.exact(text)) is None:
            vector = None if asked.query.mode == "bm25" else self._embedded(text, meter)
            if (answer := known.similar(text, vector)) is None:
                answer = known.keep(text, vector, self._written(asked, vector, meter))
        return answer

    def _key(self, asked: _Asked) -> Key:
        """Everything that decides an answer besides the question and the documents."""
        from rag.cache import Key

        query = asked.query
        # A model of a server is known by its address too, and its window decides how much evidence it is shown.
        models = tuple((model.url, model.window) for model in (self._settings.language_model, self._settings.larger_model))
        settings = (__version__, query.k, asked.budget, asked.focus, self._settings.search, self._settings.answer, models)
        return Key(
            collection=self._store.collection,
            embedder=self._embedder.id,
            template=self._generator.template,
            generator=self._generator.name,
            mode=query.mode,
            filters=query.filters,
            scope=asked.scope,
            settings=hashlib.sha256(repr(settings).encode()).hexdigest(),
        )

    def _written(self, asked: _Asked, vector: Vector | None, meter: Meter) -> Answer:
        """An answer made anew."""
        question = asked.query.text
        hits = self._evidence(asked.query, meter, vector)
        with meter.stage("generate"):
            focus = asked.focus if shares_a_word(asked.focus, hits) else question  # "Why?" chooses no sentence by itself
            sure = confidence(focus, hits, self._store.document_frequency, self._store.n_rows)
            draft = self._generator.generate(Task(question, hits, sure, focus, asked.budget), meter)
        n_prompt = sum(step.n_prompt for step in draft.steps)
        n_completion = sum(step.n_completion for step in draft.steps) or self._own_tokens.count(draft.text)
        n_saved = max(0, sum(hit.chunk.n_tokens for hit in hits) - n_prompt - n_completion)
        return Answer(
            text=draft.text,
            abstained=draft.abstained,
            citations=draft.citations,
            confidence=draft.confidence,
            reason=draft.reason,
            generator=draft.generator or self._generator.name,
            collection=self._store.collection,
            version=self._store.version,
            measurement=meter.finish(TokenCounts(prompt=n_prompt, completion=n_completion, saved=n_saved)),
            template=draft.template,
            steps=draft.steps,
            unverified=draft.unverified,
        )

    def _verified(self, answer: Answer, meter: Meter) -> Answer:
        """The answer with what became of its claims, which it pays for too."""
        from rag.groundedness import ground

        with meter.stage("verify"):
            grounding = ground(answer, self._scorer)
        known, now = answer.measurement, meter.finish(answer.measurement.tokens)
        measurement = replace(now, cache=known.cache, saved_cpu_s=known.saved_cpu_s, saved_j=known.saved_j)
        return replace(answer, grounding=grounding, measurement=measurement)

    def document_text(self, doc_id: str) -> str:
        """The text to which the offsets of a document's citations refer.

        Args:
            doc_id: Id of the document.

        Returns:
            The whole normalised text.
        """
        return self._store.document_text(doc_id)

    @cached_property
    def _scorer(self) -> Scorer:
        from rag.groundedness import open_scorer

        path = self._settings.answer.calibration
        return open_scorer(Path(path) if path else None)

    @cached_property
    def _own_tokens(self) -> TokenCounter:
        """Counts the tokens of answers that no language model wrote; loaded when the first one is."""
        from rag.tokens import SHIPPED_NAME, open_counter  # 20 ms of a cold start that counts nothing

        return open_counter(SHIPPED_NAME)

    def _evidence(self, query: Query, meter: Meter, vector: Vector | None = None) -> list[Candidate]:
        """Hits of a query that are no copies of each other; where some were, others are looked for deeper down."""
        text = self._checked(query)
        if vector is None and query.mode != "bm25":
            vector = self._embedded(text, meter)
        hits: list[Candidate] = []
        left_out: frozenset[int] = frozenset()
        for depth in _DEPTHS:
            hits = self._candidates(replace(query, k=min(depth * query.k, MAX_K)), meter, vector)
            with meter.stage("assemble"):
                left_out = copies(query.text, hits)
            if not left_out or len(hits) - len(left_out) >= query.k:
                break
        return [hit for place, hit in enumerate(hits) if place not in left_out][: query.k]

    def _candidates(self, query: Query, meter: Meter, vector: Vector | None = None) -> list[Candidate]:
        """Hits of a query; its vector is made unless it is there already."""
        text = self._checked(query)
        if vector is None and query.mode != "bm25":
            vector = self._embedded(text, meter)
        found = self._ranked(text, query, vector, meter)
        with meter.stage("fetch"):
            chunks = self._store.chunks(found.rows, query.filters)
        asked_lexical, asked_dense = query.mode != "dense", query.mode != "bm25"
        return [
            Candidate(
                chunk,
                score=float(found.scores[i]),
                bm25=float(found.bm25[i]) if asked_lexical else None,
                cosine=float(found.cosine[i]) if asked_dense else None,
            )
            for i, chunk in enumerate(chunks)
        ]

    def _ranked(self, text: str, query: Query, vector: Vector | None, meter: Meter) -> Fused:
        """The first k rows by the query's mode, with the scores that it computes; the other score is zero."""
        if vector is None:
            with meter.stage("bm25"):
                hits = self._store.search_lexical(text, query.k, query.filters)
            return Fused(hits.rows, hits.scores, hits.scores, np.zeros_like(hits.scores))
        if query.mode == "dense":
            hits = self._dense(vector, query.k, query.filters, meter)
            return Fused(hits.rows, hits.scores, np.zeros_like(hits.scores), hits.scores)
        return first(self._hybrid(text, query, vector, meter), query.k)

    def _hybrid(self, text: str, query: Query, vector: Vector, meter: Meter) -> Fused:
        depth = max(self._settings.search.depth, query.k)
        weight = self._settings.search.dense_weight
        with meter.stage("bm25"):
            lexical = self._store.search_lexical(text, depth, query.filters)
        dense = self._dense(vector, depth, query.filters, meter)
        with meter.stage("fuse"):
            rows = union(lexical.rows, dense.rows)
            cosine = completed(rows, dense, lambda missing: self._store.score_dense(vector, missing))
            kept = contenders(rows, cosine, lexical, depth, weight, query.k)
            rows, cosine = rows[kept], cosine[kept]
            bm25 = completed(rows, lexical, lambda missing: self._store.score_lexical(text, missing))
            return fuse(rows, bm25, cosine, weight)

    def _embedded(self, text: str, meter: Meter) -> Vector:
        if self._store.embedder != self._embedder.id:
            raise ConfigError(
                f"collection {self._store.collection!r} was embedded by {self._store.embedder}, the settings name {self._embedder.id}; "
                "set embedder.model to the former, ingest again with the latter, or search with --mode bm25",
                code="embedder_mismatch",
            )
        with meter.stage("embed", lane=self._embedder.lane):
            vectors = self._embedder.embed([text], "query")
        if self._embedder.is_remote:
            meter.remote(None)
        return np.asarray(vectors[0], np.float32)

    def _dense(self, vector: Vector, k: int, filters: Filters, meter: Meter) -> Scored:
        with meter.stage("vector"):
            return self._store.search_dense(vector, k, filters)

    def _checked(self, query: Query) -> str:
        """The query's text, fit to be searched for."""
        limit = self._settings.search.max_query_chars
        if len(query.text) > limit:
            raise InputError(
                f"the query has {len(query.text)} characters; allowed: {limit} (search.max_query_chars); ask a shorter question",
                code="query_too_long",
            )
        if not 1 <= query.k <= MAX_K:
            raise InputError(f"k is {query.k}; allowed: 1 to {MAX_K}", code="k")
        text = normalise(query.text).strip()
        if not text:
            raise InputError("the query is empty; ask a question of at least one word", code="query_empty")
        return text


def open_engine(settings: Settings, collection: str, power: Power | None = None) -> Engine:
    """Open the current version of a collection with the embedder and generator of the settings.

    Args:
        settings: Data directory and everything else.
        collection: Name of the collection.
        power: Prices queries; None opens one by the settings.

    Returns:
        An engine, to be closed after use.

    Raises:
        InputError: If there is no such collection.
        SnapshotError: If its data is missing, damaged or of a newer format.
        ModelError: If the embedder cannot be opened.
    """
    with ExitStack() as held:
        store = open_store(settings.data_dir, collection)
        held.callback(store.close)
        embedder = open_embedder(settings.embedder, settings.data_dir / "models")
        power = power or open_power(settings.energy, settings.data_dir)
        cache = None
        if settings.cache.mode != "off":
            from rag.cache import open_cache

            cache = open_cache(settings)
        engine = Engine(store, embedder, open_generator(settings), settings, power, cache)
        held.pop_all()
    return engine
