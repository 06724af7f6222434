"""Records as documents."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ingest.read import Failure, Origin, read
from rag.types import Document


def outcomes(data: str | bytes, name: str = "in/corpus.jsonl") -> list[Document | Failure]:
    origin = Origin(Path(name), "corpus.jsonl", "in/corpus.jsonl", 7.0)
    return list(read(data.encode() if isinstance(data, str) else data, origin))


def one(data: str) -> Document:
    (outcome,) = outcomes(data)
    assert isinstance(outcome, Document)
    return outcome


def failure(data: str) -> Failure:
    (outcome,) = outcomes(data)
    assert isinstance(outcome, Failure)
    return outcome


@pytest.mark.parametrize("key", ["id", "_id"])
@pytest.mark.parametrize(("value", "doc_id"), [('"x1"', "x1"), ("17", "17")])
def test_id_of_the_record_is_the_document_id(key: str, value: str, doc_id: str) -> None:
    document = one(f'{{"{key}": {value}, "text": "t"}}')

    assert (document.doc_id, document.uri) == (doc_id, f"in/corpus.jsonl#{doc_id}")


def test_record_without_id_is_named_by_its_line() -> None:
    document = one('\n{"text": "t"}')

    assert (document.doc_id, document.uri) == ("corpus.jsonl:2", "in/corpus.jsonl#2")


def test_title_and_text_are_those_of_the_record() -> None:
    document = one('{"title": "T", "text": "one\\n\\ntwo"}')

    assert (document.title, document.text, document.mtime) == ("T", "one\n\ntwo", 7.0)


def test_sections_have_no_line_because_line_breaks_of_a_record_are_not_those_of_the_file() -> None:
    assert [section.line for section in one('\n\n{"text": "one\\n\\ntwo"}').sections] == [None, None]


def test_content_stands_for_text() -> None:
    assert one('{"content": "c"}').text == "c"


def test_title_is_the_text_of_a_record_with_empty_text() -> None:
    assert one('{"title": "T", "text": " "}').text == "T"


def test_other_keys_are_metadata() -> None:
    document = one('{"text": "t", "s": "x", "n": 1.5, "b": true, "l": ["a", 2, null], "o": {"k": ["ü"]}, "z": null}')

    assert dict(document.metadata) == {"s": "x", "n": "1.5", "b": "true", "l": "a, 2", "o": '{"k": ["ü"]}'}


def test_lone_surrogate_is_replaced() -> None:
    assert one('{"text": "a\\ud800b"}').text == "a\ufffdb"


@pytest.mark.parametrize(
    "line",
    [
        "{bad",
        "[]",
        '"text"',
        "{}",
        '{"title": "T"}',
        '{"text": 5}',
        '{"text": null}',
        '{"text": "t", "title": 5}',
        '{"text": "t", "id": true}',
        '{"text": "t", "id": " "}',
        '{"text": "t", "id": "a\\u0000"}',
        '{"text": "t", "n": ' + "1" * 5000 + "}",
        '{"text": ' + "[" * 100_000,
    ],
)
def test_bad_record_is_a_failure(line: str) -> None:
    assert failure(line).code == "bad_record"


def test_failure_names_the_line_and_the_rest_goes_on() -> None:
    first, second = outcomes(b'{"text": "caf\xe9"}\n{"text": "t"}\n')

    assert isinstance(first, Failure)
    assert (first.path, first.code) == ("in/corpus.jsonl:1", "bad_record")
    assert isinstance(second, Document)


def test_record_without_text_and_title_is_empty() -> None:
    assert failure('{"text": "", "title": ""}').code == "empty"


def test_second_record_of_an_id_is_a_failure() -> None:
    first, second = outcomes('{"id": "1", "text": "a"}\n{"id": 1, "text": "b"}')

    assert isinstance(first, Document)
    assert isinstance(second, Failure)
    assert second.code == "duplicate_id"


@pytest.mark.parametrize("name", ["corpus.jsonl.gz", "corpus.jsonl"])
def test_compressed_records_are_read_whatever_the_name(name: str) -> None:
    lines = "\n".join(f'{{"id": {n}, "text": "{"x" * 1000}"}}' for n in range(3000))
    found = outcomes(gzip.compress(lines.encode(), 1), name)

    assert [document.doc_id for document in found if isinstance(document, Document)] == [str(n) for n in range(3000)]


def test_plain_records_under_a_compressed_name_are_read() -> None:
    assert isinstance(outcomes('{"text": "t"}', "corpus.jsonl.gz")[0], Document)


def test_truncated_compressed_file_keeps_what_came_before() -> None:
    lines = b'{"text": "t"}\n' * 5 + b'{"text": "u"}'
    found = outcomes(gzip.compress(lines)[:-6], "corpus.jsonl.gz")

    assert isinstance(found[-1], Failure)
    assert found[-1].code == "bad_gzip"


def test_gzip_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.read.jsonl._MIN_SUSPICIOUS_BYTES", 1_000_000)
    (found,) = outcomes(gzip.compress(b" " * 5_000_000), "corpus.jsonl.gz")

    assert isinstance(found, Failure)
    assert found.code == "bad_gzip"


def test_records_in_utf_16_are_read() -> None:
    assert isinstance(outcomes('{"text": "ü"}\n'.encode("utf-16"))[0], Document)


def test_file_without_records_is_empty() -> None:
    assert failure("\n\n").code == "empty"
