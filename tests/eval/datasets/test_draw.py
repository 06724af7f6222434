from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.datasets import Dataset, EvalQuery, Probe, Record, relevant_documents
from eval.datasets.draw import draw, hide
from rag.errors import InputError

QRELS = st.dictionaries(
    st.sampled_from([f"q{n}" for n in range(12)]),
    st.dictionaries(st.sampled_from([f"d{n}" for n in range(9)]), st.integers(0, 2), max_size=3),
    min_size=1,
)


def dataset(qrels: Mapping[str, Mapping[str, int]], groups: Mapping[str, str] | None = None) -> Dataset:
    """Documents d0 to d8, and one question a key."""
    queries = tuple(
        EvalQuery(query_id, "?", ("yes",), (groups or {}).get(query_id, query_id), "other", True, ("d0",)) for query_id in qrels
    )
    corpus = tuple(Record(f"d{n}", "", f"text {n}") for n in range(9))
    return Dataset("set", corpus, queries, {query_id: grades for query_id, grades in qrels.items() if grades}, "")


def ids(some: Dataset) -> list[str]:
    return [query.query_id for query in some.queries]


@given(QRELS, st.integers(1, 14), st.integers(1, 14), st.integers(0, 9))
def test_larger_draw_holds_the_smaller_one(qrels: dict[str, dict[str, int]], a: int, b: int, seed: int) -> None:
    whole = dataset(qrels)
    small, large = draw(whole, min(a, b), seed), draw(whole, max(a, b), seed)
    assert set(ids(small)) <= set(ids(large))
    assert len(small.queries) == min(a, b, len(qrels))
    assert ids(large) == [query_id for query_id in qrels if query_id in ids(large)]
    assert large.qrels == {query_id: grades for query_id, grades in whole.qrels.items() if query_id in ids(large)}


@given(QRELS, st.integers(1, 9), st.integers(0, 9))
def test_draw_does_not_depend_on_the_order_of_the_file(qrels: dict[str, dict[str, int]], limit: int, seed: int) -> None:
    backwards = dict(reversed(qrels.items()))
    assert ids(draw(dataset(qrels), limit, seed)) == ids(draw(dataset(backwards), limit, seed))[::-1]


def test_another_seed_draws_others() -> None:
    whole = dataset({f"q{n}": {"d1": 1} for n in range(100)})
    assert ids(draw(whole, 10, 0)) != ids(draw(whole, 10, 1))


@given(QRELS, st.dictionaries(st.sampled_from([f"q{n}" for n in range(12)]), st.sampled_from("ab")), st.floats(0.05, 1.0))
def test_hidden_questions_have_lost_all_documents_and_the_others_none(
    qrels: dict[str, dict[str, int]], groups: dict[str, str], share: float
) -> None:
    whole = dataset(qrels, groups)
    try:
        hidden = hide(whole, share, seed=0)
    except InputError:
        return
    gone = {record.doc_id for record in whole.corpus} - {record.doc_id for record in hidden.corpus}
    lost = {query.query_id for query in hidden.queries if query.answerable is False}
    assert gone == set(hidden.hidden)
    assert 0 < len(lost) <= round(share * len(qrels))
    for query in whole.queries:
        wanted = set(relevant_documents(qrels[query.query_id]))
        if query.query_id in lost:
            assert wanted
            assert wanted <= gone
        else:
            assert not wanted & gone
            assert {d: g for d, g in qrels[query.query_id].items() if d not in gone} == hidden.qrels.get(query.query_id, {})
    assert all(
        (query.group in {q.group for q in whole.queries if q.query_id in lost}) == (query.query_id in lost)
        for query in whole.queries
    )


@given(QRELS)
def test_share_is_reached_when_every_question_has_documents_of_its_own(qrels: dict[str, dict[str, int]]) -> None:
    own = {query_id: {f"d{n}": 1} for n, query_id in enumerate(sorted(qrels)[:9])}
    share = 0.4
    if round(share * len(own)):
        hidden = hide(dataset(own), share, seed=3)
        assert sum(query.answerable is False for query in hidden.queries) == round(share * len(own))


def test_hidden_question_keeps_neither_answers_nor_citations_nor_judgements() -> None:
    hidden = hide(dataset({"q1": {"d1": 1}}), 1.0, seed=0)
    assert hidden.queries == (EvalQuery("q1", "?", (), "q1", "other", False, ()),)
    assert hidden.qrels == {}
    assert hidden.hidden == ("d1",)


def test_question_that_shares_a_hidden_document_is_hidden_too() -> None:
    hidden = hide(dataset({"q1": {"d1": 1, "d2": 1}, "q2": {"d2": 1, "d3": 1}, "q3": {"d3": 1}, "q4": {"d4": 1}}), 0.75, seed=0)
    assert {query.query_id for query in hidden.queries if query.answerable is False} in ({"q1", "q2", "q3"}, {"q4"})


def test_family_larger_than_the_share_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"hide is 0\.5, that is 1 of 2 questions, and no set of questions with documents"):
        hide(dataset({"q1": {"d1": 1}, "q2": {"d1": 1}}), 0.5, seed=0)


def test_attacks_are_never_hidden() -> None:
    attack = EvalQuery("q1", "?", (), "q1", "other", True, (), Probe("canary", ("x",)))
    whole = Dataset("set", (Record("d1", "", ""),), (attack,), {"q1": {"d1": 1}}, "")
    with pytest.raises(InputError, match="hide is 1.0"):
        hide(whole, 1.0, seed=0)


def test_question_that_had_no_answer_before_does_not_count() -> None:
    whole = dataset({"q1": {"d1": 1}, "q2": {}}, {"q1": "g", "q2": "g"})
    impossible = EvalQuery("q2", "?", (), "g", "other", False)
    hidden = hide(Dataset("set", whole.corpus, (whole.queries[0], impossible), whole.qrels, ""), 0.5, seed=0)
    assert [query.answerable for query in hidden.queries] == [False, False]
