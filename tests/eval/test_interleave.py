from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from eval.interleave import interleave
from rag.__main__ import main
from rag.errors import InputError, RagError

QUESTIONS = [("pump", "At what pressure does the pump start?"), ("rent", "What is the rent of the garage?")]
ANSWERS = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    {body}
"""
OBEDIENT = 'print(json.dumps({"_id": asked["_id"]}))'


def program(body: str = OBEDIENT) -> list[str]:
    """A child that answers every question by this line of code."""
    return [sys.executable, "-S", "-P", "-c", ANSWERS.format(body=body)]


@pytest.fixture
def rag(tmp_path: Path) -> list[str]:
    (tmp_path / "pumps.md").write_text("# Pumps\n\nThe pump starts at 5 bar because a valve opens then.")
    (tmp_path / "garage.md").write_text("# Garage\n\nThe rent of the garage is 80 euros a month.")
    data = str(tmp_path / "data")
    assert main(["ingest", str(tmp_path / "pumps.md"), str(tmp_path / "garage.md"), "--data-dir", data]) == 0
    return [sys.executable, "-P", "-m", "rag", "ask", "--batch", "-", "--json", "--mode", "eco", "--data-dir", data]


def test_every_question_has_the_cpu_time_of_both_sides(rag: list[str]) -> None:
    found = interleave(rag, rag, QUESTIONS, seed=1)
    assert found.questions == ("pump", "rent")
    assert len(found.base_cpu_s) == len(found.candidate_cpu_s) == 2
    assert min(found.base_cpu_s + found.candidate_cpu_s) > 0


def test_side_that_works_more_costs_more() -> None:
    slow = program("import time; end = time.process_time() + 0.05\n    while time.process_time() < end: pass\n    " + OBEDIENT)
    found = interleave(program(), slow, QUESTIONS, seed=1, rounds=1)
    assert min(found.candidate_cpu_s) >= 0.05
    assert sum(found.base_cpu_s) < sum(found.candidate_cpu_s)


def test_work_behind_an_answer_is_charged_to_it(tmp_path: Path) -> None:
    sign = str(tmp_path / "at work")
    burning = "import os, time; end = time.process_time() + 0.2\n    while time.process_time() < end: pass"
    late = program(f"open({sign!r}, 'x').close(); {OBEDIENT}; {burning}\n    os.remove({sign!r})")
    # Answers when the other is done, so that the work is over before anything more is asked; with this seed it is asked second.
    patient = program(f"import os, time\n    while os.path.exists({sign!r}): time.sleep(0.01)\n    {OBEDIENT}")
    found = interleave(late, patient, QUESTIONS[:1], seed=1, rounds=1)
    assert found.base_cpu_s[0] >= 0.1


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    return tmp_path / "asked.txt"


def notes(asked: Path, name: str) -> list[str]:
    return program(f"open({str(asked)!r}, 'a').write({name!r} + asked['_id'] + ' '); {OBEDIENT}")


def test_questions_are_asked_in_turn_and_the_first_side_alternates(asked: Path) -> None:
    interleave(notes(asked, "b:"), notes(asked, "c:"), QUESTIONS, seed=1, rounds=2)
    order = asked.read_text().split()[4:]  # behind the warm-up
    pairs = [order[i : i + 2] for i in range(0, 8, 2)]
    assert all(one[2:] == two[2:] for one, two in pairs)
    assert [one[:2] for one, _ in pairs] in (["b:", "c:", "b:", "c:"], ["c:", "b:", "c:", "b:"])
    assert sorted(one[2:] for one, _ in pairs) == ["pump", "pump", "rent", "rent"]


def test_same_seed_asks_in_the_same_order(tmp_path: Path) -> None:
    many = [(f"q{n}", "What?") for n in range(8)]
    orders = []
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        interleave(notes(tmp_path / name, "b:"), notes(tmp_path / name, "c:"), many, seed=seed)
        orders.append((tmp_path / name).read_text())
    assert orders[0] == orders[1] != orders[2]


def failure(candidate: list[str], **limits: float) -> str:
    with pytest.raises(RagError) as caught:
        interleave(program(), candidate, QUESTIONS, seed=1, **limits)  # type: ignore[arg-type] # timeout_s alone
    assert caught.value.code == "interleave"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_child_that_dies_is_named_with_its_last_words() -> None:
    said = failure(program("sys.exit('out of\\nmemory')"))
    assert said.startswith("the candidate process ended (question 'pump'); its last words: memory;")


def test_program_that_is_not_there_is_an_error() -> None:
    assert "no-such-program" in failure(["no-such-program"])


def test_child_that_hangs_is_given_up() -> None:
    assert "did not answer within 0.3 s" in failure(program("import time; time.sleep(60)"), timeout_s=0.3)


def test_half_a_line_is_not_waited_for_for_ever() -> None:
    assert "did not answer within 0.3 s" in failure(program("sys.stdout.write('{'); import time; time.sleep(60)"), timeout_s=0.3)


@pytest.mark.parametrize("body", ["print('ready')", "print('[1]')", "print(json.dumps({'_id': 'other'}))"])
def test_line_that_is_no_answer_is_an_error(body: str) -> None:
    assert re.search("is no answer of|answered 'other'", failure(program(body)))


def test_answer_that_is_an_error_is_shown(rag: list[str]) -> None:
    said = failure([*rag, "-k", "0"])
    assert "k is 0; allowed: 1 to 1000" in said


def test_answer_from_a_cache_is_refused() -> None:
    assert "cache.mode" in failure(program('print(json.dumps({"_id": asked["_id"], "measurement": {"cache": "hit"}}))'))


def test_long_answers_arrive_whole() -> None:
    long = program('print(json.dumps({"_id": asked["_id"], "text": "x" * 300_000}))')
    assert len(interleave(long, long, QUESTIONS, seed=1, rounds=1).base_cpu_s) == 2


@pytest.mark.parametrize(("questions", "rounds"), [([], 3), (QUESTIONS, 0), ([QUESTIONS[0], QUESTIONS[0]], 3)])
def test_nothing_to_ask_is_refused(questions: list[tuple[str, str]], rounds: int) -> None:
    with pytest.raises(InputError, match="at least one question"):
        interleave(program(), program(), questions, rounds=rounds, seed=1)


def test_question_is_sent_as_it_is(asked: Path) -> None:
    echo = program(f"open({str(asked)!r}, 'w').write(json.dumps(asked['text'])); {OBEDIENT}")
    interleave(program(), echo, [("q", "Öl\n\u2028 \U0001f600?")], seed=1, rounds=1)
    assert json.loads(asked.read_text()) == "Öl\n\u2028 \U0001f600?"
