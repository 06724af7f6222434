from __future__ import annotations

import pytest

from rag.console import show_context, show_search, where
from rag.cost import Measurement, TokenCounts
from rag.types import Candidate, Chunk, Citation, Context, ContextResult, SearchResult, Source, TrustFlag

NOTHING = Measurement(0.0, 0.0, None, TokenCounts(), (), "off", 0)


def source(
    *,
    headings: tuple[str, ...] = (),
    page: int | None = None,
    line: int | None = None,
    place: str = "",
    flags: tuple[TrustFlag, ...] = (),
) -> Source:
    return Source("talk.pptx", "", headings, page, line, 0, 4, None, {}, place=place, flags=flags)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (source(), "talk.pptx"),
        (source(line=7), "talk.pptx:7"),
        (source(page=3, headings=("A", "B")), "talk.pptx, page 3 (A > B)"),
        (source(place="slide 3", page=3), "talk.pptx, slide 3"),
        (source(place="rows 12-40", line=12), "talk.pptx, rows 12-40"),
        (source(place="a\x1b[31m"), "talk.pptx, a\ufffd[31m"),
    ],
)
def test_place_is_said_in_words_of_its_source(given: Source, shown: str) -> None:
    assert where(given) == shown


@pytest.mark.parametrize(
    ("flag", "warning"), [("hidden", "warning: hidden text"), ("instructions", "warning: text that speaks to a language model")]
)
def test_hit_of_less_trust_comes_with_a_warning(flag: TrustFlag, warning: str, capsys: pytest.CaptureFixture[str]) -> None:
    hit = Candidate(Chunk("a#1", "a", "Text", 2, source(flags=(flag,))), 1.0, 1.0, None)
    show_search(SearchResult((hit,), "c", 1, NOTHING))
    assert warning in capsys.readouterr().out


def test_citation_of_less_trust_comes_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    citation = Citation(1, 4, 8, "Text", "a", "a#1", source(place="slide 3", flags=("hidden",)))
    show_context(ContextResult(Context("[1] Text", 4, 16, "t", (citation,), 0), "c", 1, NOTHING))
    out = capsys.readouterr().out
    assert "[1] talk.pptx, slide 3, characters 0-4" in out
    assert "warning: hidden text" in out


def test_hit_that_is_trusted_comes_without_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    hit = Candidate(Chunk("a#1", "a", "Text", 2, source()), 1.0, 1.0, None)
    show_search(SearchResult((hit,), "c", 1, NOTHING))
    assert "warning" not in capsys.readouterr().out
