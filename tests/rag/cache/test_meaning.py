from __future__ import annotations

import pytest

from rag.cache.meaning import ask_the_same, meaning_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "what's the capital of France"),
        ("What is the capital of France?", "Could you please tell me the capital of France?"),
        ("What is the name of the river in Bonn?", "Which river is in Bonn"),
        ("When was Tesla born?", "In what year was Tesla born?"),
        ("Why did Rome fall?", "For what reason did Rome fall?"),
        ("How many of the 1,000 men died?", "What number of the 1000 men died?"),
        ("Who won three games?", "which person won 3 games"),
        ("What storm hit Bonn in 1999?", "In 1999, what storm hit Bonn?"),
        ("Who founded the Red Cross?", "By whom was the Red Cross founded?"),
        ("What theory did Albert Einstein propose?", "What theory was proposed by Albert Einstein?"),
        ("When did Prussia defeat France?", "When was France defeated by Prussia?"),
        ("Didn't Rome fall?", "Did not Rome fall?"),
    ],
)
def test_questions_that_ask_the_same(one: str, other: str) -> None:
    assert ask_the_same(meaning_of(one), meaning_of(other))
    assert ask_the_same(meaning_of(other), meaning_of(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who won in 1915?", "Who won in 1916?"),
        ("What is 3.5 squared?", "What is 5.3 squared?"),
        ("What is -5 squared?", "What is 5 squared?"),
        ("Who won three games?", "Who won four games?"),
        ("Who was the first king?", "Who was the second king?"),
        ("Which king ruled Bavaria?", "Which king ruled Saxony?"),
        ("Is the water safe?", "Is the water not safe?"),
        ("What can the court decide?", "What can't the court decide?"),
        ("When was it founded?", "Where was it founded?"),
        ("How many men died?", "How men died?"),
        ("Who is the king?", "Who was the king?"),
        ("Who plays Hamlet?", "Who played Hamlet?"),
        ("Who hired Tesla?", "Who did Tesla hire?"),
        ("Who was hired by Tesla?", "By whom was Tesla hired?"),
        ("When did Prussia defeat France?", "When did France defeat Prussia?"),
        ("When did Prussia defeat France?", "When was Prussia defeated by France?"),
        ("Did Tesla sell Bell to Ford?", "Was Ford sold to Bell by Tesla?"),
        ("Is Bonn in Cologne?", "Is Cologne in Bonn?"),
        ("What is C++?", "What is C#?"),
        ("What does Islam teach?", "What does Islamism teach?"),
        ("Where do trains go to?", "Where do trains go from?"),
        ("Wann wurde Bonn gegründet?", "Wann wurde Bonn nicht gegründet?"),
    ],
)
def test_questions_that_do_not(one: str, other: str) -> None:
    assert not ask_the_same(meaning_of(one), meaning_of(other))
    assert not ask_the_same(meaning_of(other), meaning_of(one))
