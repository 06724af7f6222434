from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.datasets import Dataset, EvalQuery, Probe
from eval.datasets.jsonl import QuestionLine, read_jsonl, read_lines
from rag.errors import InputError


def read(folder: Path, *lines: str) -> Dataset:
    path = folder / "mine.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return read_jsonl(path)


def test_question_alone_is_enough(tmp_path: Path) -> None:
    (query,) = read(tmp_path, '{"question": "Who drew the lamp?"}').queries
    assert query == EvalQuery(query.query_id, "Who drew the lamp?", (), group=query.query_id, slice="who", answerable=None)


def test_every_key_is_kept(tmp_path: Path) -> None:
    line = {
        "question": "Who?", "answers": ["Ida", "Ida Holm"], "relevant": {"lamp.md": 2, "shop.md": 0}, "answerable": True,
        "citations": ["lamp.md"], "id": "7", "group": "lamps", "slice": "people", "probe": {"kind": "canary", "markers": ["s3cret"]},
    }  # fmt: skip
    dataset = read(tmp_path, json.dumps(line))
    probe = Probe("canary", ("s3cret",))
    assert dataset.queries == (EvalQuery("7", "Who?", ("Ida", "Ida Holm"), "lamps", "people", True, ("lamp.md",), probe),)
    assert dataset.qrels == {"7": {"lamp.md": 2, "shop.md": 0}}


def test_relevant_as_a_list_has_grade_one(tmp_path: Path) -> None:
    assert read(tmp_path, '{"id": "7", "question": "Who?", "relevant": ["b", "a"]}').qrels == {"7": {"b": 1, "a": 1}}


@pytest.mark.parametrize(
    ("others", "answerable"),
    [
        ({"answers": ["Ida"]}, True),
        ({"relevant": ["a"]}, True),
        ({"relevant": {"a": 0}}, None),
        ({"relevant": ["a"], "answerable": False}, False),
    ],
)
def test_answer_or_relevant_document_makes_it_answerable_unless_it_says_otherwise(
    tmp_path: Path, others: dict[str, object], answerable: bool | None
) -> None:
    assert read(tmp_path, json.dumps({"question": "Who?"} | others)).queries[0].answerable is answerable


def test_id_that_is_left_out_does_not_depend_on_the_place(tmp_path: Path) -> None:
    first = read(tmp_path, '{"question": "Who?"}', '{"question": "When?"}')
    second = read(tmp_path, '{"question": "When?"}', '{"question": "Who?"}')
    assert {query.query_id: query.text for query in first.queries} == {query.query_id: query.text for query in second.queries}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"mine\.jsonl, line 3 is not valid JSON"),
        ("[]", "line 3: Expected `object`, got `array`"),
        ("{}", "line 3: Object missing required field `question`"),
        ('{"question": " "}', "line 3: key question: Expected `str` matching regex"),
        ('{"question": "Who?", "answer": "Ida"}', "line 3: Object contains unknown field `answer`"),
        ('{"question": "Who?", "answers": "Ida"}', "line 3: key answers: Expected `array`, got `str`"),
        ('{"question": "Who?", "relevant": {"a": -1}}', r"line 3: key relevant.*: Expected `int` >= 0"),
        ('{"question": "Who?", "relevant": ["a", "a"]}', "line 3: key relevant names a document twice"),
        ('{"question": "Who?", "answers": ["Ida"], "answerable": false}', "line 3: key answerable is false, but there are answers"),
        (
            '{"question": "Who?", "probe": {"kind": "pii"}}',
            r"line 3: key probe\.markers has 0 strings; allowed for pii: at least one",
        ),
        ('{"question": "Who?", "probe": {"kind": "harm", "markers": ["x"]}}', "has 1 strings; allowed for harm: none"),
        ('{"question": "Who?", "probe": {"kind": "spell"}}', r"line 3: key probe\.kind: Invalid enum value 'spell'"),
        ('{"question": "Who?", "id": "1"}', "line 3: id '1' stands twice"),
        ('{"question": "Why?"}', "line 3: this question, without an id, stands twice"),
    ],
)
def test_malformed_line_is_refused_with_file_line_and_key(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, '{"question": "Where?", "id": "1"}', '{"question": "Why?"}', line)


def test_file_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mine\.jsonl has no questions"):
        read(tmp_path, "", " ")


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=4).map(lambda text: f"{text}x")
LINES = st.builds(
    QuestionLine,
    question=TEXT,
    answers=st.lists(TEXT, max_size=3).map(tuple),
    relevant=st.just(()) | st.dictionaries(TEXT, st.integers(0, 3), min_size=1, max_size=3),
    citations=st.lists(TEXT, max_size=3).map(tuple),
    id=st.none() | TEXT,
    group=st.none() | TEXT,
    slice=st.none() | TEXT,
)


@given(st.lists(LINES, max_size=4))
def test_lines_that_were_written_are_read_as_they_were(lines: list[QuestionLine]) -> None:
    content = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    read_again = list(read_lines(Path("mine.jsonl"), content))
    assert read_again == [(f"mine.jsonl, line {n}", line) for n, line in enumerate(lines, start=1)]


@given(st.binary(max_size=40))
def test_whatever_stands_in_a_line_is_a_value_or_an_error_with_its_line(content: bytes) -> None:
    message = "mine.jsonl, line "
    try:
        list(read_lines(Path("mine.jsonl"), content))
    except InputError as error:
        message = str(error)
    assert message.startswith("mine.jsonl, line ")
