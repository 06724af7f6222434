from __future__ import annotations

from pathlib import Path

import pytest

from bench.cache import Judged, arms_of, by_part, holding_threshold, judge, keeping_threshold, measure_lookups, questions_of
from bench.pairs import NEAR_MISSES, PARAPHRASES, Pair, handmade_pairs, near_misses, paraphrases
from eval.datasets import load_beir
from rag.cache.meaning import ask_the_same, meaning_of
from tests.fakes import HashEmbedder


def row(kind: str, paragraph: int, cosine: float, same: bool) -> Judged:
    return Judged(Pair(kind, paragraph, "", ""), cosine, same)


def test_threshold_that_holds_lets_at_most_the_share_through() -> None:
    misses = [row("number", 0, i / 10, False) for i in range(10)]
    threshold = holding_threshold(misses, 0.2)
    assert sum(miss.cosine >= threshold for miss in misses) == 2


def test_threshold_that_keeps_looks_only_at_what_the_rules_let_through() -> None:
    assert keeping_threshold([row("plain", 0, 0.1, False), row("plain", 0, 0.905, True)], 0.0) == 0.9


def test_arms_are_chosen_on_one_half_of_the_articles_and_read_on_the_other() -> None:
    same = [row("plain", 0, 0.8, True), row("plain", 5, 0.9, True), row("polite", 9, 0.7, True), row("synonym", 5, 0.9, False)]
    misses = [row("number", 0, 0.95, False), row("number", 5, 0.99, True), row("tense", 5, 0.5, False)]
    cosine, rules, both = arms_of(same, misses, [row("real", 5, 0.6, False)])
    assert [cosine.threshold, cosine.hits, cosine.false_promised] == pytest.approx([0.9501, 0.0, 1.0])
    assert (rules.hits, rules.false_hits, rules.false_real) == (1.0, 0.5, 0.0)
    assert [both.threshold, both.hits, both.mean_of_kinds] == pytest.approx([0.8, 0.5, 1 / 3])


@pytest.mark.parametrize(
    ("kind", "question", "expected"),
    [
        ("articles", "What is the best of a kind?", "What is best of kind?"),
        ("fronted", "Who led the team in 1999?", "In 1999, who led the team?"),
        ("passive", "Who founded Bonn?", "By whom was Bonn founded?"),
        ("digits", "Who won three games?", "Who won 3 games?"),
    ],
)
def test_paraphrases_say_the_same(kind: str, question: str, expected: str) -> None:
    assert expected in [pair.other for pair in paraphrases([(question, 0)], 1) if pair.kind == kind]


def test_near_misses_change_number_name_and_negation() -> None:
    pairs = {pair.kind: pair.other for pair in near_misses([("Did Tesla own 7 labs?", 0), ("Did Edison own 7 labs?", 0)], 1)[:1]}
    assert set(pairs) == {"number"}
    made = near_misses([("Did Tesla own 7 labs?", 0), ("Did Edison own 7 labs?", 0)], 1)
    assert ("negation", "Did Tesla not own 7 labs?") in [(pair.kind, pair.other) for pair in made]
    assert ("entity", "Did Edison own 7 labs?") in [(pair.kind, pair.other) for pair in made]


def test_pairs_are_made_again_as_they_were() -> None:
    questions = [("Who led the team in 1999?", 0), ("When did Tesla move to New York?", 1)]
    assert (paraphrases(questions, 3), near_misses(questions, 3)) == (paraphrases(questions, 3), near_misses(questions, 3))


def test_lookups_of_a_full_cache_are_timed(tmp_path: Path) -> None:
    cost = measure_lookups(tmp_path, 300, 8)
    assert cost.n_entries == 300
    assert min(cost.exact_hit_us, cost.similar_hit_us, cost.put_us) > 0


def test_rules_keep_the_promise_on_xquad_whatever_the_cosine(data_dir: Path) -> None:
    questions = questions_of(load_beir(data_dir / "xquad-en"))
    same = [pair for pair in paraphrases(questions, 7) if pair.kind in PARAPHRASES]
    misses = [pair for pair in near_misses(questions, 7) if pair.kind in {*NEAR_MISSES, "entity"}]
    found, false = ([ask_the_same(meaning_of(p.one), meaning_of(p.other)) for p in pairs] for pairs in (same, misses))
    assert len({pair.kind for pair in same}) >= 6
    assert sum(found) >= 0.8 * len(found)
    assert sum(false) <= 0.005 * len(false)


def test_pairs_are_judged_by_cosine_and_rules() -> None:
    embedder = HashEmbedder(64)
    (judged,) = judge([Pair("plain", 0, "Who won?", "who won")], lambda text: embedder.embed([text])[0])
    assert judged.same
    assert 0.5 < judged.cosine < 1.0


def test_handmade_pairs_are_of_many_kinds_that_stand_in_one_part_only() -> None:
    pairs = handmade_pairs()
    parts = {tuple(pair.kind.split(maxsplit=2)) for pair in pairs}
    assert {part for part, _, _ in parts} == {"dev", "test", "late"}
    different = [kind for part, label, kind in parts if label == "different"]
    assert len(different) == len(set(different)) >= 20
    assert sum(" different " in pair.kind for pair in pairs) >= 200
    assert all(pair.one != pair.other for pair in pairs)


def test_handmade_pairs_are_summed_by_part() -> None:
    assert [row.pair.kind for row in by_part([row("dev same order", 0, 0.9, True)])] == ["dev same"]


def test_rules_take_few_handmade_pairs_for_the_same_that_are_not() -> None:
    pairs = [pair for pair in handmade_pairs() if " different " in pair.kind]
    false = [pair for pair in pairs if ask_the_same(meaning_of(pair.one), meaning_of(pair.other))]
    assert [pair for pair in false if pair.kind.startswith("dev")] == []
    assert len(false) <= 0.02 * len(pairs)
