from __future__ import annotations

import re

import pytest

from rag import errors
from rag.errors import ConfigError, InputError, MissingExtraError, ModelError, OverloadedError, RagError, SnapshotError

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, RagError)]


def test_tree_in_the_docstring_is_that_of_the_classes() -> None:
    drawn = re.findall(r"^ {4}(?:[|`]- )?(\w+Error) ", errors.__doc__ or "", re.MULTILINE)
    assert drawn == [found.__name__ for found in CLASSES]


def test_every_error_hangs_below_the_one_root() -> None:
    assert {found.__bases__ for found in CLASSES} == {(Exception,), (RagError,)}


def test_drawn_meaning_is_the_first_line_of_the_class() -> None:
    drawn = dict(re.findall(r"^ {4}(?:[|`]- )?(\w+Error) +(.+)$", errors.__doc__ or "", re.MULTILINE))
    for found in CLASSES:
        meaning = drawn[found.__name__].partition(";")[0].lower()
        assert (found.__doc__ or "").lower().startswith(meaning)


@pytest.mark.parametrize(
    ("kind", "status"),
    [(ConfigError, 2), (InputError, 2), (SnapshotError, 1), (ModelError, 1), (OverloadedError, 1), (RagError, 1)],
)
def test_exit_status_tells_wrong_usage_from_failure(kind: type[RagError], status: int) -> None:
    assert kind("what").exit_code == status


def test_code_is_for_programs_and_message_for_people() -> None:
    error = InputError("the query is empty", code="query_empty")
    assert (str(error), error.code) == ("the query is empty", "query_empty")
    assert RagError("what").code == "failed"


def test_missing_extra_says_how_to_get_it() -> None:
    error = MissingExtraError("reading PDF", "docs")
    assert (error.extra, error.code) == ("docs", "missing_extra")
    assert "pip install 'ragwatt[docs]'" in str(error)
