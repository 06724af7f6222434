from __future__ import annotations

import pytest

from eval.datasets.kind import question_kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("What is it?", "what"),
        ("whose lamp is it", "who"),
        ("In which year was it?", "which"),
        ("The bridge was built when?", "when"),
        ("Does it burn?", "yes-no"),
        ("Rain falls where clouds are.", "other"),
        ("Bridge length", "other"),
        ("412?", "other"),
        ("", "other"),
    ],
)
def test_kind_is_told_by_the_words(text: str, kind: str) -> None:
    assert question_kind(text) == kind
