"""Who is asked, in which order, and why."""

from __future__ import annotations

import pytest

from rag.errors import ModelError
from rag.generate.cascade import Cascade, QuestionKind, choose, question_kind
from rag.generate.extractive import ExtractiveGenerator
from rag.generate.written import WrittenGenerator
from rag.settings import AnswerSettings
from rag.types import Budget, Candidate, Chunk, Citation, Draft, Source, Task
from tests.fakes import ScriptedModel

TEXT = "The pump starts at 5 bar because a valve opens then. Old pumps leak at 3 bar. New pumps do not leak."
GOOD = "The pump starts at 5 bar because a valve opens then [1]."
WHY = "Why does the pump start at 5 bar?"
FACT = "At what pressure do old pumps leak?"


def evidence() -> list[Candidate]:
    source = Source("pumps.txt", "Pumps", (), None, 1, 0, len(TEXT), None, {})
    return [Candidate(Chunk("pumps#1", "pumps", TEXT, 20, source), 0.9, 5.0, 0.9)]


def written(model: ScriptedModel) -> WrittenGenerator:
    return WrittenGenerator(model, AnswerSettings(), 5.0)


def answered(
    question: str, *models: ScriptedModel, always: bool = False, confidence: float = 0.9, budget: Budget | None = None
) -> Draft:
    first, larger = ([written(model) for model in models] + [None, None])[:2]
    cascade = Cascade(ExtractiveGenerator(AnswerSettings()), first, larger, always=always)
    return cascade.generate(Task(question, evidence(), confidence, budget=budget or Budget()))


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How many pumps are there?", "fact"),
        ("How old is it?", "fact"),
        ("Who built it?", "fact"),
        ("How does it work?", "explain"),
        ("Why?", "explain"),
        ("Explain the rule.", "explain"),
        ("What is the difference between A and B?", "compare"),
        ("How do A and B differ?", "compare"),
        ("Summarise the guide.", "summarise"),
        ("Give me an overview of the rules", "summarise"),
    ],
)
def test_kind_of_a_question_is_known_by_its_words(question: str, kind: QuestionKind) -> None:
    assert question_kind(question) == kind


def test_fact_is_extracted_and_no_model_is_asked() -> None:
    model = ScriptedModel(GOOD)
    draft = answered(FACT, model)
    assert draft.generator == "extractive"
    assert not model.asked
    (step,) = draft.steps
    assert (step.generator, step.outcome) == ("extractive", "answered")
    assert "likely has the fact" in step.reason


def test_why_is_for_the_model_and_both_steps_are_told() -> None:
    draft = answered(WHY, ScriptedModel(GOOD))
    assert draft.generator == "scripted"
    assert [(step.generator, step.outcome) for step in draft.steps] == [("extractive", "answered"), ("scripted", "answered")]
    assert "why or how" in draft.steps[1].reason


@pytest.mark.parametrize("question", [WHY, FACT, "Compare old and new pumps.", "Summarise the pump."])
def test_small_model_is_not_asked_what_its_sources_answer_better(question: str) -> None:
    small = ScriptedModel(GOOD, weights_bytes=98_400_000)
    draft = answered(question, small)
    assert draft.generator == "extractive"
    assert "too small" in draft.steps[0].reason
    assert not small.asked


def test_scrap_is_no_comparison_and_extraction_stands() -> None:
    draft = answered("Compare old and new pumps.", ScriptedModel("3 bar [1]."))
    assert draft.generator == "extractive"
    assert "too short to compare" in draft.steps[1].detail


def test_larger_model_is_asked_when_the_first_cannot_be_verified() -> None:
    draft = answered(WHY, ScriptedModel("It starts at 9 bar [1]."), ScriptedModel(GOOD))
    assert [step.outcome for step in draft.steps] == ["answered", "unverified", "answered"]
    assert "unverified" in draft.steps[2].reason
    assert not draft.abstained


def test_small_first_model_does_not_keep_a_capable_one_from_being_asked() -> None:
    small, large = ScriptedModel(GOOD, weights_bytes=98_400_000), ScriptedModel(GOOD)
    assert answered(WHY, small, large).generator == "scripted"
    assert (len(small.asked), len(large.asked)) == (0, 1)


def test_answer_beside_the_point_does_not_replace_a_good_extraction() -> None:
    beside = "New pumps do not leak, and that is all there is to say of new ones [1]."
    draft = answered("Why does a valve open when the start reaches 5 bar?", ScriptedModel(beside + " New pumps do not leak [1]."))
    assert draft.generator == "extractive"
    assert draft.steps[1].outcome == "unverified"


def test_extraction_stands_when_no_model_can_be_verified() -> None:
    draft = answered(WHY, ScriptedModel("It starts at 9 bar [1]."))
    assert (draft.generator, draft.abstained) == ("extractive", False)
    assert [step.outcome for step in draft.steps] == ["answered", "unverified", "answered"]


def test_model_that_is_down_degrades_to_extraction_and_says_so() -> None:
    draft = answered(WHY, ScriptedModel(ModelError("the server is down", code="language_model_unavailable")))
    assert draft.generator == "extractive"
    assert draft.steps[1].outcome == "failed"
    assert "server is down" in draft.steps[1].detail


def test_budget_that_buys_no_model_skips_it() -> None:
    draft = answered(WHY, ScriptedModel(GOOD), budget=Budget(max_prompt_tokens=16))
    assert draft.generator == "extractive"
    assert draft.steps[1].outcome == "skipped"


def test_without_evidence_nobody_is_asked() -> None:
    model = ScriptedModel(GOOD)
    draft = answered(WHY, model, confidence=0.1)
    assert draft.abstained
    assert not model.asked
    assert [step.outcome for step in draft.steps] == ["abstained"]


def test_without_a_model_it_is_extraction_that_says_why() -> None:
    draft = answered(WHY)
    assert draft.generator == "extractive"
    assert draft.steps[0].reason == "no language model is configured"


def test_model_asked_for_by_name_answers_facts_too() -> None:
    draft = answered(FACT, ScriptedModel("Old pumps leak at 3 bar [1]."), always=True)
    assert draft.generator == "scripted"
    assert [step.reason for step in draft.steps] == ["a language model was asked for"]


def test_failure_of_a_model_asked_for_by_name_is_an_error() -> None:
    with pytest.raises(ModelError, match="is down"):
        answered(FACT, ScriptedModel(ModelError("the server is down")), always=True)


def test_unverified_answer_of_a_model_asked_for_by_name_is_its_abstention() -> None:
    draft = answered(FACT, ScriptedModel("At 9 bar [1]."), always=True)
    assert (draft.abstained, draft.generator) == (True, "scripted")


def extract(quote: str, confidence: float = 0.9) -> Draft:
    source = Source("pumps.txt", "Pumps", (), None, 1, 0, len(quote), None, {})
    cited = Citation(1, 0, len(quote), quote, "pumps", "pumps#1", source)
    return Draft(quote, False, (cited,), confidence, generator="extractive")


def test_fact_is_for_the_model_where_extraction_likely_misses_it() -> None:
    choice = choose("Who designed the turbine of the northern station?", extract("The station has a roof."))
    assert choice.escalate
    assert "likely misses the fact" in choice.reason
    assert "no new name" in choice.reason


def test_fact_that_the_sentences_cover_is_not_for_the_model() -> None:
    choice = choose(
        "Who designed the turbine of the northern station?",
        extract("The turbine of the northern station was designed by Ida Holm."),
    )
    assert not choice.escalate
    assert "1.00 of the question's words" in choice.reason


def test_fact_that_extraction_likely_misses_goes_to_the_model() -> None:
    draft = answered("Who sold leaking compressors, boilers, engines and turbines?", ScriptedModel("Old pumps leak at 3 bar [1]."))
    assert [step.generator for step in draft.steps] == ["extractive", "scripted"]
    assert "likely misses the fact" in draft.steps[1].reason


def test_name_tells_all_models() -> None:
    cascade = Cascade(ExtractiveGenerator(AnswerSettings()), written(ScriptedModel("x")), written(ScriptedModel("y")))
    assert cascade.name == "auto+scripted+scripted"
