"""Rows of Parquet files as documents."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.read import Failure, Origin, kind_of, read
from rag.types import Document

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def parquet(columns: Mapping[str, Sequence[object]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({key: pa.array(values) for key, values in columns.items()}), sink)
    return sink.getvalue()


def outcomes(data: bytes) -> list[Document | Failure]:
    return list(read(data, Origin(Path("in/c.parquet"), "c.parquet", "in/c.parquet", 7.0)))


def only(columns: Mapping[str, Sequence[object]]) -> Document:
    (found,) = outcomes(parquet(columns))
    assert isinstance(found, Document)
    return found


def test_name_decides_the_family() -> None:
    assert kind_of(Path("Data.PARQUET")) == "parquet"


def test_columns_are_those_of_records() -> None:
    found = only({"_id": ["x"], "title": ["T"], "text": ["one\n\ntwo"], "year": [2019]})

    assert (found.doc_id, found.uri, found.title, found.text) == ("x", "in/c.parquet#x", "T", "one\n\ntwo")
    assert (found.kind, found.mtime, dict(found.metadata)) == ("parquet", 7.0, {"year": "2019"})


def test_row_without_id_is_named_by_its_number() -> None:
    found = outcomes(parquet({"content": [f"t{n}" for n in range(40)]}))

    assert [each.doc_id for each in found if isinstance(each, Document)] == [f"c.parquet:{n}" for n in range(1, 41)]


def test_values_become_text_and_bytes_are_left_out() -> None:
    found = only({"text": ["t"], "d": [date(2024, 1, 2)], "l": [["a", "b"]], "o": [{"k": 1}], "n": [float("nan")], "b": [b"\xff"]})

    assert dict(found.metadata) == {"d": "2024-01-02", "l": "a, b", "o": '{"k": 1}'}


def test_bad_row_is_a_failure_and_the_rest_goes_on() -> None:
    first, second, third = outcomes(parquet({"id": ["a", "a", "b"], "text": ["t", "u", None]}))

    assert isinstance(first, Document)
    assert isinstance(second, Failure)
    assert isinstance(third, Failure)
    assert [(each.path, each.code) for each in (second, third)] == [
        ("in/c.parquet:2", "duplicate_id"),
        ("in/c.parquet:3", "bad_record"),
    ]


def test_text_that_is_not_utf_8_is_a_failure_of_its_row() -> None:
    array = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": array}), sink)
    (found,) = outcomes(sink.getvalue())

    assert isinstance(found, Failure)
    assert found.code == "bad_record"


def test_file_without_rows_is_empty() -> None:
    (found,) = outcomes(parquet({"text": pa.array([], pa.string())}))

    assert isinstance(found, Failure)
    assert found.code == "empty"


def test_more_rows_than_a_small_file_can_hold_are_refused() -> None:
    (found,) = outcomes(parquet({"text": ["x"] * 300_000}))

    assert isinstance(found, Failure)
    assert found.code == "too_large"


@pytest.mark.parametrize("data", [b"PAR1", b"%PDF-1.7", b"PAR1" + b"\0" * 50 + b"PAR1"])
def test_what_is_no_parquet_file_is_unreadable(data: bytes) -> None:
    (found,) = outcomes(data)

    assert isinstance(found, Failure)
    assert found.code == "unreadable"


@settings(max_examples=60)
@given(at=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_file_gives_documents_or_failures(at: int, value: int, cut: bool) -> None:
    whole = bytearray(parquet({"id": ["a", "b"], "text": ["one", "two"]}))
    at %= len(whole)
    whole[at] = value
    with suppress(MemoryError):  # a length that is damaged; the process that reads files reports it
        for found in outcomes(bytes(whole[:at] if cut else whole)):
            assert isinstance(found, Document) or found.code in {"unreadable", "bad_record", "duplicate_id", "empty"}
