"""What becomes of the words of a language model, and what it is asked at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from rag.cost import Figure
from rag.errors import ModelError
from rag.generate import ABSTENTION
from rag.generate.written import WrittenGenerator
from rag.meter import Meter
from rag.power import Power, Price
from rag.power.figure import Band
from rag.power.grid import world
from rag.settings import AnswerSettings, EnergySettings
from rag.types import Budget, Candidate, Chunk, Draft, Source, Task
from tests.fakes import ScriptedModel

PUMPS = "The pump starts at 5 bar. Old pumps leak at 3 bar. The valve must be closed first."
GARAGE = "The garage is in the yard. Its rent is 80 euros a month. The key hangs at the door."
DOCUMENTS = {"pumps": PUMPS, "garage": GARAGE}
QUESTION = "At what pressure does the pump start?"
PRICE = Price(Band(3.0, 2.0, 6.0), Band(0.5, 0.3, 1.0), "modelled", "a table", "server_wall")


def evidence(*names: str) -> list[Candidate]:
    found = []
    for rank, name in enumerate(names or ("pumps", "garage")):
        text = DOCUMENTS[name]
        source = Source(f"{name}.txt", name.title(), (), None, 1, 0, len(text), None, {})
        found.append(Candidate(Chunk(f"{name}#1", name, text, 20, source), 0.9 - 0.1 * rank, 5.0 - rank, 0.9 - 0.1 * rank))
    return found


def asked(
    model: ScriptedModel,
    question: str = QUESTION,
    confidence: float = 0.9,
    settings: AnswerSettings | None = None,
    budget: Budget | None = None,
    meter: Meter | None = None,
    template: str = "chat",
) -> Draft:
    generator = WrittenGenerator(model, replace(settings or AnswerSettings(), template=template), 5.0)
    return generator.generate(Task(question, evidence(), confidence, budget=budget or Budget()), meter)


def shown(model: ScriptedModel) -> str:
    prompt, _ = model.asked[-1]
    return prompt.text + "".join(message.content for message in prompt.messages)


def metered() -> Meter:
    return Meter(power=Power(PRICE, world(), EnergySettings()))


# What is kept


def test_carried_sentence_is_kept_with_the_span_that_carries_it() -> None:
    draft = asked(ScriptedModel("The pump starts at 5 bar [1]."))
    assert (draft.text, draft.abstained, draft.generator) == ("The pump starts at 5 bar. [1]", False, "scripted")
    (citation,) = draft.citations
    assert (citation.doc_id, citation.quote) == ("pumps", "The pump starts at 5 bar.")
    assert PUMPS[citation.source.start_char : citation.source.end_char] == citation.quote
    assert draft.text[citation.start : citation.end] == "The pump starts at 5 bar."


def test_sentence_with_a_number_that_no_passage_has_is_dropped() -> None:
    draft = asked(ScriptedModel("The pump starts at 5 bar [1]. Old pumps leak at 7 bar [1]."))
    assert draft.text == "The pump starts at 5 bar. [1]"
    assert "number: Old pumps leak at 7 bar" in draft.steps[0].detail


def test_policy_can_keep_what_is_not_carried_and_flag_it() -> None:
    settings = AnswerSettings(unverified="flag")
    draft = asked(ScriptedModel("The pump starts at 5 bar [1]. Old pumps leak at 7 bar [1]."), settings=settings)
    assert draft.text == "The pump starts at 5 bar. [1] Old pumps leak at 7 bar."
    assert draft.unverified == ("Old pumps leak at 7 bar.",)
    assert len(draft.citations) == 1


@pytest.mark.parametrize("policy", ["drop", "flag"])
def test_answer_of_which_nothing_is_carried_is_an_abstention(policy: str) -> None:
    draft = asked(ScriptedModel("The pump starts at 9 bar [1]."), settings=AnswerSettings(unverified=policy))  # type: ignore[arg-type]
    assert (draft.text, draft.abstained, draft.citations) == (ABSTENTION, True, ())
    assert "could be verified" in draft.reason
    assert draft.steps[0].outcome == "unverified"


@pytest.mark.parametrize("text", ["", "  \n", "NO ANSWER", "NO ANSWER."])
def test_model_that_finds_nothing_abstains(text: str) -> None:
    draft = asked(ScriptedModel(text))
    assert draft.abstained
    assert "language model" in draft.reason


def test_sentence_that_the_cap_cut_is_left_out() -> None:
    model = ScriptedModel("The pump starts at 5 bar [1]. Old pumps leak at 3")
    model.ending = "length"
    assert asked(model).text == "The pump starts at 5 bar. [1]"


def test_sources_are_numbered_as_the_answer_cites_them() -> None:
    model = ScriptedModel("Its rent is 80 euros a month [2]. The pump starts at 5 bar [1].")
    draft = asked(model, question="What is the rent of the garage, and at what pressure does the pump start?")
    assert draft.text == "Its rent is 80 euros a month. [1] The pump starts at 5 bar. [2]"
    assert [citation.doc_id for citation in draft.citations] == ["garage", "pumps"]


def test_template_is_in_the_draft() -> None:
    assert asked(ScriptedModel("The pump starts at 5 bar [1].")).template.startswith("chat@1#")


# What it is asked


def test_weak_evidence_is_not_shown_to_the_model_at_all() -> None:
    model = ScriptedModel("The pump starts at 5 bar [1].")
    draft = asked(model, confidence=0.1)
    assert draft.abstained
    assert "0.10" in draft.reason
    assert not model.asked


def test_sentences_are_shown_and_not_whole_passages() -> None:
    model = ScriptedModel("5 bar")
    asked(model, template="few-shot")
    assert "The pump starts at 5 bar." in shown(model)
    assert "The key hangs at the door." not in shown(model)


def test_passages_are_shown_when_the_settings_say_so() -> None:
    model = ScriptedModel("The pump starts at 5 bar [1].")
    asked(model, settings=AnswerSettings(evidence="passages"))
    assert PUMPS in shown(model)
    assert GARAGE in shown(model)


def test_few_shot_answer_must_be_copied_from_what_is_shown() -> None:
    model = ScriptedModel("5 bar")
    asked(model, template="few-shot")
    _, limits = model.asked[0]
    assert "The pump starts at 5 bar." in limits.copy_from
    assert limits.timeout_s == 5.0


def test_evidence_is_cut_until_the_prompt_fits_the_window() -> None:
    roomy, narrow = ScriptedModel("The pump starts at 5 bar [1]."), ScriptedModel("The pump starts at 5 bar [1].")
    asked(roomy)
    n_full = roomy.count(roomy.asked[0][0])
    narrow._window = n_full + 8 - 1
    asked(narrow)
    prompt, limits = narrow.asked[0]
    assert narrow.count(prompt) + limits.max_tokens <= narrow.window
    assert narrow.count(prompt) < n_full


def test_budget_of_prompt_tokens_is_kept() -> None:
    roomy = ScriptedModel("The pump starts at 5 bar [1].")
    asked(roomy)
    limit = roomy.count(roomy.asked[0][0]) - 1
    for settings, budget in (
        (AnswerSettings(max_prompt_tokens=limit), Budget()),
        (AnswerSettings(), Budget(max_prompt_tokens=limit)),
    ):
        model = ScriptedModel("The pump starts at 5 bar [1].")
        asked(model, settings=settings, budget=budget)
        assert model.count(model.asked[0][0]) <= limit


def test_prompt_that_fits_with_no_sentence_is_refused() -> None:
    with pytest.raises(ModelError, match="max_prompt_tokens") as caught:
        asked(ScriptedModel("x"), budget=Budget(max_prompt_tokens=16))
    assert caught.value.code == "over_budget"


def test_output_cap_is_the_least_of_settings_budget_and_window() -> None:
    model = ScriptedModel("The pump starts at 5 bar [1].")
    asked(model, settings=AnswerSettings(max_completion_tokens=40))
    asked(model, settings=AnswerSettings(max_completion_tokens=40), budget=Budget(max_completion_tokens=20))
    assert [limits.max_tokens for _, limits in model.asked] == [40, 20]


def test_small_model_copies_and_one_that_may_be_large_chats() -> None:
    names = [
        WrittenGenerator(ScriptedModel("x", weights_bytes=size), AnswerSettings(), 5.0).template.partition("@")[0]
        for size in (98_400_000, 2_000_000_000, 0)
    ]
    assert names == ["few-shot", "chat", "chat"]


# What it may cost


def test_joules_shorten_the_answer() -> None:
    model = ScriptedModel("The pump starts at 5 bar [1].", weights_bytes=98_400_000)
    n_prompt = []
    for joules in (1000.0, 4.5):
        asked(model, budget=Budget(max_energy_j=joules), meter=metered())
        n_prompt.append(model.count(model.asked[-1][0]))
    wide, narrow = (limits.max_tokens for _, limits in model.asked)
    assert wide == 96
    assert 8 <= narrow < 96
    # 3 W a CPU-second, 1/236 s a token read and 1/90 s a token written at first; the first call taught that it is far cheaper or not.
    assert n_prompt[0] == n_prompt[1]


def test_joules_that_do_not_buy_an_answer_are_refused_before_the_model_is_asked() -> None:
    model = ScriptedModel("x", weights_bytes=98_400_000)
    with pytest.raises(ModelError, match="max_energy_j") as caught:
        asked(model, budget=Budget(max_energy_j=0.001), meter=metered())
    assert caught.value.code == "over_budget"
    assert not model.asked


@pytest.mark.parametrize("meter", [None, metered()], ids=["no price", "price"])
def test_limit_of_joules_with_a_model_whose_cost_is_unknown_is_refused(meter: Meter | None) -> None:
    with pytest.raises(ModelError, match="not known"):
        asked(ScriptedModel("x", is_remote=True), budget=Budget(max_energy_j=100.0), meter=meter)


def test_remote_joules_are_in_the_measurement() -> None:
    model, meter = ScriptedModel("The pump starts at 5 bar [1].", is_remote=True), metered()
    model.joules = Figure(50.0, 20.0, 90.0, "J", "modelled", "formula", "remote_server")
    asked(model, meter=meter)
    energy = meter.finish().energy
    assert energy is not None
    assert energy.remote == model.joules


def test_remote_joules_that_nobody_knows_are_named() -> None:
    model, meter = ScriptedModel("The pump starts at 5 bar [1].", is_remote=True), metered()
    asked(model, meter=meter)
    energy = meter.finish().energy
    assert energy is not None
    assert "remote_energy" in energy.not_modelled


def test_failure_of_the_model_is_an_error_and_never_an_answer() -> None:
    with pytest.raises(ModelError, match="is down"):
        asked(ScriptedModel(ModelError("the server is down", code="model_down")))


def test_closing_lets_the_model_go() -> None:
    model = ScriptedModel("x")
    WrittenGenerator(model, AnswerSettings(), 5.0).close()
    assert model.is_closed


def test_same_evidence_in_another_order_of_documents_keeps_quotes_exact() -> None:
    texts: Sequence[str] = ("The pump starts at 5 bar [2].", "Its rent is 80 euros a month [1].")
    model = ScriptedModel(" ".join(texts))
    generator = WrittenGenerator(model, AnswerSettings(evidence="passages"), 5.0)
    draft = generator.generate(Task("rent of the garage and pressure of the pump", evidence("garage", "pumps"), 0.9))
    for citation in draft.citations:
        assert DOCUMENTS[citation.doc_id][citation.source.start_char : citation.source.end_char] == citation.quote
