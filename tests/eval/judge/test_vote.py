from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.judge.vote import Said, Vote, asked_format, most_said, read_vote

VERDICTS: tuple[Said, ...] = ("supported", "not_found", "contradicted")


def written(*verdicts: str, relevance: object = "most") -> str:
    return json.dumps({"verdicts": {str(n): verdict for n, verdict in enumerate(verdicts, start=1)}, "relevance": relevance})


def test_verdict_of_every_claim_is_read() -> None:
    assert read_vote(written(*VERDICTS), "stop", 3) == Vote(VERDICTS, 2 / 3)


def test_verdicts_may_come_in_any_order() -> None:
    text = '{"relevance": "all", "verdicts": {"2": "not_found", "1": "supported"}}'
    assert read_vote(text, "stop", 2).verdicts == ("supported", "not_found")


def test_answer_without_claims_has_a_relevance() -> None:
    assert read_vote(written(relevance="none"), "stop", 0) == Vote((), 0.0)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "does not follow the schema: Input data was truncated"),
        ("Sure! " + written("supported"), "does not follow the schema: JSON is malformed"),
        (f"```json\n{written('supported')}\n```", "does not follow the schema"),
        (written("maybe"), "Invalid enum value 'maybe'"),
        (written("supported", relevance=1.0), "Expected `str`, got `float`"),
        ('{"verdicts": {"1": "supported"}}', "missing required field `relevance`"),
        (written("supported")[:-1] + ', "score": 5}', "unknown field `score`"),
        (written(), "gave verdicts on the claims none; expected one for each of 1"),
        (written("supported", "supported"), "gave verdicts on the claims 1, 2; expected one for each of 1"),
        ('{"verdicts": {"01": "supported"}, "relevance": "all"}', "gave verdicts on the claims 01; expected one"),
        ('{"verdicts": [{"claim": 1, "verdict": "supported"}], "relevance": "all"}', "does not follow the schema"),
        ("NaN", "does not follow the schema"),
        ("[" * 10_000, "does not follow the schema"),
    ],
)
def test_text_that_does_not_follow_the_schema_has_a_fault_and_no_verdict(text: str, fault: str) -> None:
    vote = read_vote(text, "stop", 1)
    assert (vote.verdicts, vote.relevance) == ((), None)
    assert fault in vote.fault


def test_answer_that_was_cut_at_its_cap_has_a_fault() -> None:
    assert read_vote(written("supported"), "length", 1).fault == "the judge's answer was cut at its cap"


@given(st.text())
def test_no_text_is_an_error_or_a_verdict_by_chance(text: str) -> None:
    assert read_vote(text, "stop", 1).fault


@given(st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=9))
def test_verdict_of_most_votes_is_taken_and_of_equals_the_worse(votes: list[Said]) -> None:
    most = max(votes.count(verdict) for verdict in VERDICTS)
    assert most_said(votes) == next(v for v in ("contradicted", "not_found", "supported") if votes.count(v) == most)


def test_schema_is_as_strict_as_servers_want_it() -> None:
    schema = asked_format(3)["json_schema"]["schema"]
    verdicts = schema["properties"]["verdicts"]
    assert list(verdicts["properties"]) == ["1", "2", "3"]
    assert all(list(part["properties"]) == part["required"] for part in (schema, verdicts))
    assert all(part["additionalProperties"] is False for part in (schema, verdicts))


def test_every_value_of_the_schema_is_read() -> None:
    schema = asked_format(1)["json_schema"]["schema"]["properties"]
    votes = [
        read_vote(written(verdict, relevance=relevance), "stop", 1)
        for verdict in schema["verdicts"]["properties"]["1"]["enum"]
        for relevance in schema["relevance"]["enum"]
    ]
    assert not any(vote.fault for vote in votes)
    assert {vote.verdicts[0] for vote in votes} == set(VERDICTS)
    assert sorted({vote.relevance for vote in votes if vote.relevance is not None}) == [0.0, 1 / 3, 2 / 3, 1.0]
