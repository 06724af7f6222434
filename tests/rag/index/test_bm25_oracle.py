"""Our BM25 against `rank_bm25`, which is plain Python, on SciFact: same terms, Lucene's idf, exact field lengths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rank_bm25 import BM25Okapi

from eval.datasets import Dataset, load_beir
from eval.retrieval import evaluate
from rag.index.lexical import LexicalEntry, LexicalIndex, analyse, build_lexical

N_QUERIES = 100


class LuceneBM25(BM25Okapi):  # type: ignore[misc]
    """`rank_bm25` with an idf that is never negative; its scores are then Lucene's times ``k1 + 1``, which orders nothing."""

    def _calc_idf(self, nd: dict[str, int]) -> None:
        self.idf = {term: math.log(1 + (self.corpus_size - n + 0.5) / (n + 0.5)) for term, n in nd.items()}


@dataclass(frozen=True)
class Rankings:
    """First ten rows of each query, by both, and the scores of ours by both."""

    dataset: Dataset
    ours: list[list[int]]
    oracle: list[list[int]]
    our_scores: list[list[float]]
    oracle_scores: list[list[float]]


@pytest.fixture(scope="module")
def rankings(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Rankings:
    dataset = load_beir(data_dir / "scifact")
    texts = [f"{record.title} {record.text}" for record in dataset.corpus]
    folder = tmp_path_factory.mktemp("lexical")
    build_lexical(folder, [LexicalEntry(text, ()) for text in texts])
    index = LexicalIndex(folder)
    oracle = LuceneBM25([analyse(text) for text in texts], k1=1.2, b=0.75)
    found = Rankings(dataset, [], [], [], [])
    for query in dataset.queries[:N_QUERIES]:
        hits = index.search(query.text, 10, {})
        scores = oracle.get_scores(analyse(query.text))
        found.ours.append(hits.rows.tolist())
        found.oracle.append(np.lexsort((np.arange(len(scores)), -scores))[:10].tolist())
        found.our_scores.append(hits.scores.tolist())
        found.oracle_scores.append(scores[hits.rows].tolist())
    return found


def mean_ndcg(rankings: Rankings, found: list[list[int]]) -> float:
    queries = rankings.dataset.queries[:N_QUERIES]
    corpus, qrels = rankings.dataset.corpus, rankings.dataset.qrels
    ranked = {query.query_id: [corpus[row].doc_id for row in rows] for query, rows in zip(queries, found, strict=True)}
    return evaluate(ranked, {query.query_id: qrels[query.query_id] for query in queries}).ndcg


def test_first_ten_are_nearly_those_of_the_oracle(rankings: Rankings) -> None:
    overlaps = [len(set(ours) & set(theirs)) / 10 for ours, theirs in zip(rankings.ours, rankings.oracle, strict=True)]
    assert sum(overlaps) / len(overlaps) >= 0.95


def test_scores_are_those_of_the_oracle_but_for_rounded_lengths(rankings: Rankings) -> None:
    ours = np.concatenate([np.array(scores) for scores in rankings.our_scores])
    theirs = np.concatenate([np.array(scores) for scores in rankings.oracle_scores])
    np.testing.assert_allclose(ours, theirs, rtol=0.06)


def test_ndcg_is_that_of_the_oracle(rankings: Rankings) -> None:
    assert mean_ndcg(rankings, rankings.ours) == pytest.approx(mean_ndcg(rankings, rankings.oracle), abs=0.01)
