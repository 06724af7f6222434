"""PLUG-IN 3: what every generator must hold, run on each of them."""

from __future__ import annotations

import pytest

from rag.generate import Generator, open_generator
from rag.generate.cascade import Cascade
from rag.generate.written import WrittenGenerator
from rag.settings import AnswerSettings, Settings
from rag.types import Candidate, Chunk, Source, Task
from tests.fakes import EchoGenerator, ScriptedModel

DOCUMENTS = {
    "towers": "The Eiffel Tower stands in Paris.\nIt was finished in 1889, and  is 330 m tall. Gustave Eiffel's firm built it.",
    "odd": "“Qu'est-ce que c'est?”\t\U0001f468‍\U0001f469‍\U0001f467 naïve café 中文句子。第二句！ The tower's café opened in 1889.",
    "plain": "Nothing in here is about buildings.",
}
QUESTIONS = [
    "When was the Eiffel Tower finished?",
    "Who built the tower?",
    "café",
    "中文句子",
    "x" * 500,
    "?!",
    "\ud800 tower",
    "tower " * 200,
]


def written(*texts: str) -> WrittenGenerator:
    return WrittenGenerator(ScriptedModel(*texts), AnswerSettings(), 5.0)


@pytest.fixture(scope="module", params=["extractive", "echo", "written", "auto"])
def generator(request: pytest.FixtureRequest) -> Generator:
    match request.param:
        case "extractive":
            return open_generator(Settings())
        case "echo":
            return EchoGenerator()
        case "written":
            return written("It was finished in 1889, and is 330 m tall [1]. Nobody knows why [1].")
    return Cascade(open_generator(Settings()), written("Gustave Eiffel's firm built it [1]."), None)


def candidates(*names: str, prefix: int = 0) -> list[Candidate]:
    """Whole documents as chunks; with a prefix, chunks that begin behind so many characters of their document."""
    found = []
    for rank, name in enumerate(names):
        text = DOCUMENTS[name][prefix:]
        source = Source(f"{name}.txt", name, (), None, 1, prefix, prefix + len(text), None, {})
        found.append(Candidate(Chunk(f"{name}#1", name, text, 40, source), 0.9 - 0.1 * rank, 5.0 - rank, 0.9 - 0.1 * rank))
    return found


def test_name_is_a_stable_word(generator: Generator) -> None:
    assert generator.name == generator.name.strip() != ""


def test_without_candidates_it_abstains_and_says_why(generator: Generator) -> None:
    draft = generator.generate(Task("When was the Eiffel Tower finished?", [], 0.0))
    assert (draft.abstained, draft.citations, draft.confidence) == (True, (), 0.0)
    assert draft.text
    assert draft.reason


def test_without_confidence_it_abstains_and_says_why(generator: Generator) -> None:
    draft = generator.generate(Task("When was the Eiffel Tower finished?", candidates("towers"), 0.01))
    assert (draft.abstained, draft.citations, draft.confidence) == (True, (), 0.01)
    assert draft.text
    assert "0.01" in draft.reason


def test_with_evidence_it_answers_with_citations(generator: Generator) -> None:
    draft = generator.generate(Task("When was the Eiffel Tower finished?", candidates("towers", "plain"), 0.9))
    assert (draft.abstained, draft.reason, draft.confidence) == (False, "", 0.9)
    assert "1889" in draft.text
    assert [citation.doc_id for citation in draft.citations][:1] == ["towers"]


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
@pytest.mark.parametrize("prefix", [0, 7])
def test_every_citation_quotes_its_document_exactly(generator: Generator, question: str, prefix: int) -> None:
    for citation in generator.generate(Task(question, candidates("towers", "odd", "plain", prefix=prefix), 1.0)).citations:
        assert DOCUMENTS[citation.doc_id][citation.source.start_char : citation.source.end_char] == citation.quote != ""


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
def test_span_of_the_answer_holds_the_quote_but_for_white_space(generator: Generator, question: str) -> None:
    if generator.name not in ("extractive", "echo"):
        pytest.skip("a language model says it in its own words")
    draft = generator.generate(Task(question, candidates("odd", "towers"), 1.0))
    for citation in draft.citations:
        assert draft.text[citation.start : citation.end].split() == citation.quote.split()


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
def test_citations_are_in_the_order_of_the_text_and_numbered_from_one(generator: Generator, question: str) -> None:
    draft = generator.generate(Task(question, candidates("odd", "towers"), 1.0))
    places = [(citation.start, citation.end) for citation in draft.citations]
    assert places == sorted(places)
    assert sorted({citation.index for citation in draft.citations}) == list(range(1, len({c.index for c in draft.citations}) + 1))
    assert all(f"[{citation.index}]" in draft.text for citation in draft.citations)


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
def test_an_abstention_cites_nothing_and_an_answer_something(generator: Generator, question: str) -> None:
    draft = generator.generate(Task(question, candidates("odd", "towers"), 1.0))
    assert draft.abstained is not bool(draft.citations)
    assert draft.abstained is bool(draft.reason)


def test_same_evidence_gives_the_same_draft(generator: Generator) -> None:
    evidence = candidates("odd", "towers", "plain")
    assert generator.generate(Task("Who built the tower?", evidence, 0.8)) == generator.generate(
        Task("Who built the tower?", evidence, 0.8)
    )


def test_closing_twice_is_fine_and_the_next_question_is_answered(generator: Generator) -> None:
    task = Task("When was the Eiffel Tower finished?", candidates("towers", "plain"), 0.9)
    before = generator.generate(task)
    generator.close()
    generator.close()
    assert generator.generate(task) == before
