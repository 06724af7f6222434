from __future__ import annotations

from bench.conversation import CONVERSATIONS, read_conversations
from bench.machine import CHECKOUT
from rag.conversation import Turn


def test_every_question_comes_with_the_turns_before_it() -> None:
    first, second, third, *_ = read_conversations(CONVERSATIONS)
    assert first.history == ()
    assert second.history == (Turn("user", first.question), third.history[1])
    assert third.history[:2] == second.history
    assert third.history[2] == Turn("user", second.question)


def test_right_pages_are_pages_of_the_guide() -> None:
    named = {page for one in read_conversations(CONVERSATIONS) for page in one.pages}
    assert named <= {path.stem for path in (CHECKOUT / "docs").glob("*.md")}


def test_conversations_begin_with_a_question_that_stands_alone() -> None:
    asked = list(read_conversations(CONVERSATIONS))
    assert not any(one.follows for one in asked if not one.history)
    assert sum(not one.history for one in asked) >= 40
