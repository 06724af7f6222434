"""The bars of the design on XQuAD-en: 240 documents, every fifth of 1,190 questions, the shipped model, the real command."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eval.answers import contains_answer
from eval.datasets import Dataset, load_beir
from eval.retrieval import evaluate
from rag.__main__ import main
from rag.clocks import Lane
from rag.context import pack
from rag.embed import Embedder, open_embedder
from rag.engine import Engine
from rag.generate import open_generator
from rag.settings import AnswerSettings, Settings
from rag.store import open_store
from rag.tokens import SHIPPED_NAME, open_counter
from rag.types import Answer, Citation, Query, TextRole, Vectors

COLLECTION = "xquad"


class RememberedVectors:
    """An `Embedder` that embeds a question once, however often it is asked."""

    def __init__(self, inner: Embedder, questions: Sequence[str]) -> None:
        self._inner = inner
        self._known: Mapping[str, Vectors] = {text: inner.embed([text], "query") for text in questions}

    @property
    def id(self) -> str:
        return self._inner.id

    @property
    def dim(self) -> int:
        return self._inner.dim

    @property
    def max_tokens(self) -> int:
        return self._inner.max_tokens

    @property
    def lane(self) -> Lane | None:
        return self._inner.lane

    @property
    def is_remote(self) -> bool:
        return self._inner.is_remote

    def count_tokens(self, text: str) -> int:
        return self._inner.count_tokens(text)

    def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
        return self._inner.token_spans(text)

    def embed(self, texts: Sequence[str], role: TextRole = "document") -> Vectors:
        (text,) = texts
        return self._known[text] if role == "query" and text in self._known else self._inner.embed(texts, role)


@pytest.fixture(
    scope="session", params=[pytest.param(5, id="every fifth question"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
def xquad(request: pytest.FixtureRequest, data_dir: Path) -> Dataset:
    if not (data_dir / "xquad-en").is_dir():
        pytest.skip(f"no xquad-en in {data_dir}")
    whole = load_beir(data_dir / "xquad-en")
    queries = whole.queries[:: request.param]
    return replace(whole, queries=queries, qrels={query.query_id: whole.qrels[query.query_id] for query in queries})


@pytest.fixture(scope="session")
def settings(xquad: Dataset, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A data directory that `rag ingest` filled."""
    folder = tmp_path_factory.mktemp("xquad")
    corpus = data_dir / "xquad-en" / "corpus.jsonl"
    assert main(["ingest", str(corpus), "--collection", COLLECTION, "--data-dir", str(folder)]) == 0
    return Settings(data_dir=folder, answer=AnswerSettings(abstain_below=-1.0))


@pytest.fixture(scope="session")
def embedder(settings: Settings, xquad: Dataset) -> Embedder:
    return RememberedVectors(
        open_embedder(settings.embedder, settings.data_dir / "models"), [query.text.strip() for query in xquad.queries]
    )


@pytest.fixture(scope="session")
def engine(settings: Settings, embedder: Embedder) -> Iterator[Engine]:
    store = open_store(settings.data_dir, COLLECTION)
    with Engine(store, embedder, open_generator(settings), settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def answers(engine: Engine, xquad: Dataset) -> list[Answer]:
    """One a question; none abstains."""
    return [engine.ask(Query(query.text)) for query in xquad.queries]


def wrong_quotes(engine: Engine, citations: Sequence[Citation]) -> list[Citation]:
    texts = {doc_id: engine.document_text(doc_id) for doc_id in {citation.doc_id for citation in citations}}
    return [c for c in citations if texts[c.doc_id][c.source.start_char : c.source.end_char] != c.quote or not c.quote]


def test_every_document_is_in_the_collection(settings: Settings, xquad: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--documents", "--json", "--data-dir", str(settings.data_dir)]) == 0
    (found,) = json.loads(capsys.readouterr().out)["collections"]
    assert {document["doc_id"] for document in found["documents"]} == {record.doc_id for record in xquad.corpus}


def test_every_citation_of_every_answer_quotes_its_document(engine: Engine, answers: list[Answer]) -> None:
    assert wrong_quotes(engine, [citation for answer in answers for citation in answer.citations]) == []
    assert sum(not answer.citations for answer in answers) <= 3  # those whose question shares no word with the documents


def test_answers_are_short_and_hold_the_gold_answer_in_four_of_five(answers: list[Answer], xquad: Dataset) -> None:
    counter = open_counter(SHIPPED_NAME)
    hits = [contains_answer(answer.text, query.answers) for answer, query in zip(answers, xquad.queries, strict=True)]
    assert sum(hits) / len(hits) >= 0.80
    assert sum(counter.count(answer.text) for answer in answers) / len(answers) <= 60


def test_hybrid_ranking_is_good_enough(engine: Engine, xquad: Dataset) -> None:
    rankings = {}
    for query in xquad.queries:
        hits = engine.search(Query(query.text, k=20)).hits
        rankings[query.query_id] = list(dict.fromkeys(hit.chunk.doc_id for hit in hits))
    assert evaluate(rankings, xquad.qrels).ndcg >= 0.975


BARS = {128: 0.94, 256: 0.975}


def test_contexts_are_exact_in_budget_and_hold_the_gold_answer(engine: Engine, xquad: Dataset) -> None:
    counter = open_counter(SHIPPED_NAME)
    n_hits = dict.fromkeys(BARS, 0)
    citations: list[Citation] = []
    for query in xquad.queries:
        hits = engine.search(Query(query.text)).hits
        for budget in BARS:
            context = pack(query.text, hits, budget, "sentences", counter)
            citations += context.citations
            assert all(context.text[c.start : c.end] == c.quote for c in context.citations)
            assert counter.count(context.text) == context.n_tokens <= budget
            n_hits[budget] += contains_answer(context.text, query.answers, whole_words=False)
    assert wrong_quotes(engine, citations) == []
    assert all(n_hits[budget] / len(xquad.queries) >= bar for budget, bar in BARS.items())


def test_batch_answers_every_question_in_one_process(
    settings: Settings, xquad: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text("".join(json.dumps({"_id": query.query_id, "text": query.text}) + "\n" for query in xquad.queries))
    arguments = ["ask", "--batch", str(path), "--collection", COLLECTION, "--mode", "eco", "--data-dir", str(settings.data_dir)]
    assert main(arguments) == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["_id"] for line in lines] == [query.query_id for query in xquad.queries]
    assert all(line["abstained"] is not bool(line["citations"]) for line in lines)
    assert sum(line["abstained"] for line in lines) < len(lines) / 4
