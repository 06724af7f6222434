from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.datasets import Dataset, EvalQuery, Record
from eval.datasets.squad import read_squad
from rag.errors import InputError

CONTEXT = "The Maren bridge is 412 metres long."


def question(question_id: str, **others: object) -> dict[str, Any]:
    return {"id": question_id, "question": "How long is it?", "answers": [{"text": "412 metres", "answer_start": 20}]} | others


def article(title: str, *paragraphs: tuple[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {"title": title, "paragraphs": [{"context": context, "qas": qas} for context, qas in paragraphs]}


def read(folder: Path, *articles: dict[str, Any]) -> Dataset:
    path = folder / "dev-v2.0.json"
    path.write_text(json.dumps({"version": "v2.0", "data": articles}), encoding="utf-8")
    return read_squad(path)


def test_every_paragraph_is_a_document_of_its_article(tmp_path: Path) -> None:
    dataset = read(tmp_path, article("Bridges", (CONTEXT, [question("q1")]), ("Another.", [])))
    assert dataset.corpus == (Record("Bridges/1", "Bridges", CONTEXT), Record("Bridges/2", "Bridges", "Another."))


def test_articles_of_one_title_go_on_counting(tmp_path: Path) -> None:
    dataset = read(tmp_path, article("A", (CONTEXT, [question("q1")])), article("A", ("x", [])), article("", ("y", [])))
    assert [record.doc_id for record in dataset.corpus] == ["A/1", "A/2", "untitled/1"]


def test_paragraph_that_occurs_again_is_the_same_document(tmp_path: Path) -> None:
    dataset = read(tmp_path, article("A", (CONTEXT, [question("q1")]), (CONTEXT, [question("q2")])))
    assert len(dataset.corpus) == 1
    assert [query.group for query in dataset.queries] == ["A/1", "A/1"]


def test_question_is_answered_by_its_paragraph_and_should_cite_it(tmp_path: Path) -> None:
    dataset = read(tmp_path, article("A", (CONTEXT, [question("q1")])))
    assert dataset.queries == (
        EvalQuery("q1", "How long is it?", ("412 metres",), group="A/1", slice="how", answerable=True, citations=("A/1",)),
    )
    assert dataset.qrels == {"q1": {"A/1": 1}}


def test_equal_answers_of_several_annotators_are_one(tmp_path: Path) -> None:
    answers = [{"text": "412 metres", "answer_start": 20}, {"text": "412", "answer_start": 20}, {"text": "412 metres"}]
    dataset = read(tmp_path, article("A", (CONTEXT, [question("q1", answers=answers)])))
    assert dataset.queries[0].answers == ("412 metres", "412")


def test_impossible_question_has_no_answer_and_no_judgement(tmp_path: Path) -> None:
    plausible = question("q1", answers=[], is_impossible=True, plausible_answers=[{"text": "412", "answer_start": 20}])
    dataset = read(tmp_path, article("A", (CONTEXT, [plausible])))
    assert dataset.queries == (EvalQuery("q1", "How long is it?", (), group="A/1", slice="how", answerable=False),)
    assert dataset.qrels == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": [{"text": "412", "answer_start": 3}]}, "question 'q1': answer '412' does not stand at answer_start 3"),
        ({"answers": [{"text": "long.", "answer_start": -5}]}, "does not stand at answer_start -5"),
        ({"answers": [{"text": " "}]}, "question 'q1': an answer is empty"),
        ({"answers": []}, "question 'q1': it has no answers and is_impossible is not true"),
        ({"is_impossible": True}, "question 'q1': is_impossible is true and it has answers"),
        ({"question": ""}, "question 'q1': question is empty"),
        ({"question": 7}, r"dev-v2.0.json, data\[0\].paragraphs\[0\].qas\[0\].question: Expected `str`, got `int`"),
    ],
)
def test_malformed_question_is_refused_with_file_and_key(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, article("A", (CONTEXT, [question("q1") | change])))


def test_repeated_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="question 'q1': the id stands twice"):
        read(tmp_path, article("A", (CONTEXT, [question("q1"), question("q1")])))


def test_file_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no questions"):
        read(tmp_path, article("A", (CONTEXT, [])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"data": [\n{"title": "A",\n}]}', "line 3 is not valid JSON"),
        (b'{"data": [\n{"title": "A"', "line 2 is not valid JSON"),
        (b"", "line 1 is not valid JSON"),
        (b"[]", "top: Expected `object`, got `array`"),
        (b'{"data": [{"title": "\xff", "paragraphs": []}]}', "is not UTF-8|is not valid JSON"),
    ],
)
def test_file_that_is_no_json_is_refused_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_squad(path)


def test_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    plain = read(tmp_path, article("A", (CONTEXT, [question("q1")])))
    path = tmp_path / "dev-v2.0.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_squad(path).queries == plain.queries
