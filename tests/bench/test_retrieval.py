from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import log2
from pathlib import Path

import numpy as np
import pytest

from bench.abstain import Judged, accepting_threshold, balanced_threshold, summarise
from bench.bars import Measured, bars_of
from bench.context import plain_context
from bench.corpora import COLLECTION, Corpus, ingest_files
from bench.hiding import HidingStore
from bench.quality import ArmScores, Quality, compare_arms, document_ranking, measure_quality, score_arm
from eval.datasets import load_beir
from rag.settings import Settings
from rag.store import open_store
from rag.types import Scored
from tests.fakes import HashEmbedder


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Corpus]:
    """Three documents; the first query is answered by the only one with its word, the second by one that lacks it."""
    folder = tmp_path / "toy"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(
        '{"_id": "a", "text": "zebra zebra"}\n{"_id": "b", "text": "zebra and lion"}\n{"_id": "c", "text": "lion"}\n'
    )
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "zebra"}\n{"_id": "q2", "text": "lion"}\n')
    (folder / "qrels" / "test.tsv").write_text("q\td\ts\nq1\ta\t1\nq2\ta\t1\nq2\tb\t1\n")
    settings = replace(Settings(), data_dir=tmp_path / "data")
    embedder = HashEmbedder()
    ingest_files((folder / "corpus.jsonl",), settings, embedder)
    store = open_store(settings.data_dir, COLLECTION)
    yield Corpus(load_beir(folder), settings, store, embedder)
    store.close()


def test_quality_of_a_toy_collection_is_what_the_hand_computes(toy: Corpus, tmp_path: Path) -> None:
    quality = measure_quality(toy, None, tmp_path)
    assert (quality.data, quality.n_chunks) == ("toy", 3)
    # q1 finds a, b: nDCG 1. q2 finds c, b and never a: (1/log2(3)) / (1 + 1/log2(3)).
    lexical = next(arm for arm in quality.arms if arm.arm == "bm25")
    assert lexical.ndcg10 == pytest.approx((1 + (1 / log2(3)) / (1 + 1 / log2(3))) / 2)
    assert lexical.mrr10 == pytest.approx((1 + 1 / 2) / 2)
    assert lexical.recall100 == pytest.approx((1 + 1 / 2) / 2)


def test_dense_and_hybrid_rank_every_document_of_the_toy(toy: Corpus, tmp_path: Path) -> None:
    arms = {arm.arm: arm for arm in measure_quality(toy, None, tmp_path).arms}
    assert arms["dense"].recall100 == arms["hybrid"].recall100 == 1.0


def test_rows_and_chunks_of_a_corpus_are_in_one_order(toy: Corpus) -> None:
    rows = np.arange(toy.store.n_rows)
    assert [chunk.doc_id for chunk in toy.chunks()] == [chunk.doc_id for chunk in toy.store.chunks(rows)] == ["a", "b", "c"]


def test_a_document_ranks_where_its_best_chunk_does() -> None:
    assert document_ranking(["b", "a", "b", "c", "a"]) == ("b", "a", "c")


def test_scores_of_an_arm_are_means_over_queries() -> None:
    scores = score_arm("x", {"1": ["a"], "2": ["b", "a"]}, {"1": {"a": 1}, "2": {"a": 1}})
    assert scores == ArmScores("x", (1 + 1 / log2(3)) / 2, 0.75, 1.0, 2)


def test_difference_of_an_arm_to_itself_is_nothing_with_a_closed_interval() -> None:
    same = compare_arms("x", {"1": ["a"]}, "y", {"1": ["a"]}, {"1": {"a": 1}})
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)


def test_hidden_rows_are_not_found_and_others_move_up(toy: Corpus) -> None:
    whole = toy.store.search_lexical("zebra", 1, {})
    hiding = HidingStore(toy.store, whole.rows)
    found: Scored = hiding.search_lexical("zebra", 1, {})
    assert found.rows.tolist() == [1]
    assert whole.rows.tolist() == [0]


def test_thresholds_are_chosen_on_one_half_of_the_articles_and_read_on_the_other() -> None:
    choosing = [Judged(0, 0.9, 0.1, 0.9, 0.1, True, 10), Judged(4, 0.8, 0.2, 0.9, 0.1, True, 10)]
    reading = [Judged(5, 0.7, 0.1, 0.9, 0.1, True, 30), Judged(9, 0.4, 0.6, 0.9, 0.1, False, 30)]
    found = summarise("hybrid", [*choosing, *reading])
    # Between 0.2 and 0.8; of the other half one of two answers is kept, and it is right; one of two is falsely accepted.
    assert found.balanced.threshold == 0.5
    assert (found.balanced.kept, found.balanced.false_accepts, found.balanced.contained) == (0.5, 0.5, 1.0)
    assert (found.contained, found.mean_tokens, found.auc_paired) == (0.75, 20.0, 1.0)


def test_balanced_threshold_parts_what_can_be_parted() -> None:
    assert balanced_threshold([0.8, 0.6], [0.4, 0.2]) == 0.5


def test_accepting_threshold_lets_at_most_the_share_through() -> None:
    negatives = [i / 10 for i in range(10)]
    threshold = accepting_threshold(negatives, 0.2)
    assert sum(value >= threshold for value in negatives) == 2


class WordCounter:
    name = "words"
    exact = True

    def count(self, text: str) -> int:
        return len(text.split())


def test_plain_context_stops_at_the_first_passage_that_does_not_fit() -> None:
    assert plain_context(["a b", "c d e", "f"], 4, WordCounter()) == "a b"
    assert plain_context(["a b", "c d", "f"], 4, WordCounter()) == "a b\n\nc d"
    assert plain_context(["a b"], 1, WordCounter()) == ""


def test_bars_are_held_against_the_figures_that_there_are() -> None:
    arms = (
        ArmScores("bm25", 0.69, 0.6, 0.9, 300),
        ArmScores("dense", 0.64, 0.6, 0.9, 300),
        ArmScores("hybrid", 0.74, 0.7, 0.9, 300),
    )
    bars = bars_of(Measured(quality=[Quality("scifact", "", 5000, arms, (), 0.73)]))
    assert [(bar.figure, bar.met) for bar in bars] == [(0.74, True), (0.69, True), (0.64, False)]
