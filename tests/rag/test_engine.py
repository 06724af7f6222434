"""Whole questions through the engine: what is remembered, what a conversation changes, which models are asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rag.cache import FILE_NAME, AnswerCache
from rag.conversation import Turn
from rag.engine import Engine
from rag.errors import ModelError
from rag.generate.cascade import Cascade
from rag.generate.extractive import ExtractiveGenerator
from rag.generate.written import WrittenGenerator
from rag.meter import Meter
from rag.power import open_power
from rag.settings import AnswerSettings, CacheSettings, EnergySettings
from rag.store import open_store
from rag.types import Answer, Budget, Query
from tests.corpus import COLLECTION, DOCUMENTS, ingest_into, settings_for, write_documents
from tests.fakes import CountingEmbedder, ScriptedModel

RENT = "How much rent does the tenant pay?"


class Library:
    """A folder of documents, its collection, and engines over it."""

    def __init__(self, base: Path) -> None:
        self.folder = write_documents(base / "docs")
        self.data_dir = base / "data"
        self.embedder = CountingEmbedder()
        self.opened: list[Engine] = []
        self.ingest()

    def ingest(self) -> None:
        ingest_into(self.data_dir, self.folder)

    def edit(self, name: str, before: str, after: str) -> None:
        text = DOCUMENTS[name].replace(before, after)
        assert text != DOCUMENTS[name]
        (self.folder / name).write_text(text)
        self.ingest()

    def engine(self, *models: ScriptedModel, mode: str = "off", answer: AnswerSettings | None = None) -> Engine:
        chosen = answer or AnswerSettings(abstain_below=0.2)
        settings = replace(settings_for(self.data_dir), answer=chosen, cache=CacheSettings(mode=mode))  # type: ignore[arg-type]
        extractive = ExtractiveGenerator(chosen)
        written = [WrittenGenerator(model, chosen, 5.0) for model in models]
        generator = Cascade(extractive, written[0], None, always=True) if written else extractive
        power = open_power(EnergySettings(powercap_root=self.data_dir / "none"), self.data_dir)
        cache = AnswerCache(self.data_dir) if mode != "off" else None
        engine = Engine(open_store(self.data_dir, COLLECTION), self.embedder, generator, settings, power, cache)
        self.opened.append(engine)
        return engine


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    made = Library(tmp_path)
    yield made
    for engine in made.opened:
        engine.close()


def told(answer: Answer) -> tuple[str, str]:
    return answer.measurement.cache, answer.text


# Cache


def test_same_question_is_answered_from_the_cache_without_a_vector(library: Library) -> None:
    engine = library.engine(mode="exact")
    first = engine.ask(Query(RENT))
    n_embedded = len(library.embedder.texts)
    second = engine.ask(Query(f"  {RENT.upper()} "))
    assert (first.measurement.cache, second.measurement.cache) == ("miss", "hit")
    assert (second.text, second.citations) == (first.text, first.citations)
    assert "900 euros" in second.text
    assert len(library.embedder.texts) == n_embedded


def test_hit_says_what_it_saved_and_from_where(library: Library) -> None:
    model = ScriptedModel("The tenant pays the rent of 900 euros on the third working day of each month [1].")
    engine = library.engine(model, mode="exact")
    engine.ask(Query(RENT))
    hit = engine.ask(Query(RENT))
    assert len(model.asked) == 1
    assert hit.steps[0].generator == "cache"
    assert hit.measurement.saved_j is not None
    assert hit.measurement.saved_j.value >= 0
    assert hit.measurement.saved_cpu_s >= 0


def test_cache_outlives_the_process_that_filled_it(library: Library) -> None:
    first = library.engine(mode="exact").ask(Query(RENT))
    assert told(library.engine(mode="exact").ask(Query(RENT))) == ("hit", first.text)


def test_edit_to_a_cited_document_is_never_served_stale(library: Library) -> None:
    library.engine(mode="exact").ask(Query(RENT))
    library.edit("law.md", "900", "950")
    answer = library.engine(mode="exact").ask(Query(RENT))
    assert answer.measurement.cache == "miss"
    assert "950 euros" in answer.text


def test_edit_to_an_unrelated_document_keeps_the_answer(library: Library) -> None:
    first = library.engine(mode="exact").ask(Query(RENT))
    library.edit("tides.txt", "twice", "two times")
    again = library.engine(mode="exact").ask(Query(RENT))
    assert told(again) == ("hit", first.text)
    assert again.version == first.version + 1


def test_text_of_a_changed_document_leaves_the_cache_with_the_next_version(library: Library) -> None:
    library.engine(mode="exact").ask(Query(RENT))
    for engine in library.opened:
        engine.close()
    library.opened.clear()
    library.edit("law.md", "900", "950")
    assert AnswerCache(library.data_dir).stats().n_entries == 0


def test_filters_scope_budget_and_generator_do_not_share_answers(library: Library) -> None:
    engine = library.engine(mode="exact")
    engine.ask(Query(RENT))
    assert engine.ask(Query(RENT, k=3)).measurement.cache == "miss"
    assert engine.ask(Query(RENT), scope="tenant").measurement.cache == "miss"
    assert engine.ask(Query(RENT), budget=Budget(max_prompt_tokens=500)).measurement.cache == "miss"
    assert engine.ask(Query(RENT, mode="bm25")).measurement.cache == "miss"
    model = ScriptedModel("The tenant pays the rent of 900 euros [1].")
    assert library.engine(model, mode="exact").ask(Query(RENT)).measurement.cache == "miss"


def test_damaged_cache_fails_no_question_and_is_said(library: Library) -> None:
    (library.data_dir / FILE_NAME).write_bytes(b"not a database" * 100)
    answer = library.engine(mode="exact").ask(Query(RENT))
    assert "900 euros" in answer.text
    assert answer.steps[0].outcome == "failed"
    assert FILE_NAME in answer.steps[0].detail


def test_without_a_cache_nothing_is_written(library: Library) -> None:
    assert library.engine().ask(Query(RENT)).measurement.cache == "off"
    assert not (library.data_dir / FILE_NAME).exists()


# Language models


def test_tokens_and_stage_of_a_model_are_in_the_measurement(library: Library) -> None:
    model = ScriptedModel("The tenant pays the rent of 900 euros on the third working day of each month [1].")
    answer = library.engine(model).ask(Query(RENT))
    assert answer.generator == "scripted"
    assert answer.template.startswith("chat@1#")
    assert answer.measurement.tokens.prompt == answer.steps[-1].n_prompt > 0
    assert answer.measurement.tokens.completion == answer.steps[-1].n_completion > 0
    assert "model" in [stage.name for stage in answer.measurement.stages]


def test_model_of_the_engine_is_let_go_with_it(library: Library) -> None:
    model = ScriptedModel("x")
    library.engine(model).close()
    assert model.is_closed


def test_failure_of_the_model_is_an_error(library: Library) -> None:
    with pytest.raises(ModelError, match="down"):
        library.engine(ScriptedModel(ModelError("it is down"))).ask(Query(RENT))


def test_joules_that_cannot_be_priced_are_kept_by_not_asking_the_model(library: Library) -> None:
    model = ScriptedModel("x")
    answer = library.engine(model).ask(Query(RENT), Meter(), budget=Budget(max_energy_j=5.0))
    assert answer.generator == "extractive"
    assert [step.outcome for step in answer.steps] == ["skipped", "answered"]
    assert "not known" in answer.steps[0].detail
    assert not model.asked


# Conversation


def test_follow_up_is_searched_for_on_its_own_feet(library: Library) -> None:
    history = (Turn("user", "When does the tenant pay the rent?"), Turn("assistant", "On the third working day."))
    answer = library.engine().ask(Query("And how much?"), history=history)
    assert "rent" in answer.question
    assert "900 euros" in answer.text


def test_follow_up_is_answered_by_what_it_asks_and_not_by_its_topic(library: Library) -> None:
    history = (Turn("user", "How much rent does the tenant pay?"), Turn("assistant", "The rent is 900 euros."))
    answer = library.engine().ask(Query("At how many degrees is it baked?"), history=history)
    assert "230 degrees" in answer.text or answer.abstained


def test_question_that_stands_alone_is_left_alone(library: Library) -> None:
    history = (Turn("user", "How hot is the oven for a loaf?"),)
    answer = library.engine().ask(Query(RENT), history=history)
    assert answer.question == ""
    assert "900 euros" in answer.text


def test_model_rewrites_where_the_settings_say_so(library: Library) -> None:
    model = ScriptedModel(RENT, "The tenant pays the rent of 900 euros on the third working day of each month [1].")
    engine = library.engine(model, answer=AnswerSettings(abstain_below=0.2, rewrite="model"))
    answer = engine.ask(Query("And how much?"), history=(Turn("user", "When does the tenant pay the rent?"),))
    assert answer.question == RENT
    assert len(model.asked) == 2
    assert answer.steps[0].reason == "the question leans on the conversation"
    assert answer.measurement.tokens.prompt == sum(step.n_prompt for step in answer.steps)


@pytest.mark.parametrize("said", ["", "two\nlines", "x" * 5000, ModelError("it is down")])
def test_rule_stands_in_for_a_model_that_rewrites_badly(library: Library, said: str | Exception) -> None:
    model = ScriptedModel(said, "The tenant pays the rent of 900 euros on the third working day of each month [1].")
    engine = library.engine(model, answer=AnswerSettings(abstain_below=0.2, rewrite="model"))
    answer = engine.ask(Query("And how much?"), history=(Turn("user", "When does the tenant pay the rent?"),))
    assert answer.question.startswith("And how much?")
    assert "rent" in answer.question
