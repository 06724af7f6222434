from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rag.evidence import cite
from rag.generate.verify import Claim, Evidence, Fault, Verdict, parse, verify
from rag.index.lexical import analyse
from rag.text import normalise, sentence_spans
from rag.types import Candidate, Chunk, Source

TOWER = (
    "The Eiffel Tower stands in Paris. It was finished in 1889, and it is 330 m tall.\n\n"
    "- Gustave Eiffel's firm built it with 7,300 tons of iron.\n- It does not belong to the firm."
)
BRIDGE = "The Maren bridge carries two railway tracks. It was opened by Ida Holm in 1931."


def passage(text: str, *, start: int = 0, title: str = "") -> Candidate:
    source = Source("a.txt", title, (), None, 1, start, start + len(text), None, {})
    return Candidate(Chunk("a#1", "a", text, 10, source), 0.8, None, None)


def check(text: str, *passages: Candidate, question: str = "", cited: tuple[int, ...] = ()) -> Verdict:
    (verdict,) = verify([Claim(text, cited)], passages or (passage(TOWER),), question)
    return verdict


def quotes(verdict: Verdict, *passages: Candidate) -> list[str]:
    """What the evidence says, checked to be what a citation of it quotes."""
    found = passages or (passage(TOWER),)
    citations = [cite(found[e.number - 1], e.number, e.start, e.end, at=0, length=0) for e in verdict.evidence]
    return [citation.quote for citation in citations]


def without_articles(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.lower()) if word not in ("a", "an", "the")]


@pytest.mark.parametrize(
    ("answer", "sentence", "numbers"),
    [
        ("It is old [1].", "It is old.", (1,)),
        ("It is old[1].", "It is old.", (1,)),
        ("It is old. [1]", "It is old.", (1,)),
        ("It is old.[1]", "It is old.", (1,)),
        ("It is old.\n[1]", "It is old.", (1,)),
        ("It is old.\n[1].\n", "It is old.", (1,)),
        ("[1] It is old.", "It is old.", (1,)),
        ("It [1] is old [2].", "It is old.", (1, 2)),
        ("It is old [2][1].", "It is old.", (2, 1)),
        ("It is old [2] [1] [2].", "It is old.", (2, 1)),
        ("It is old [1, 2;3].", "It is old.", (1, 2, 3)),
        ("- It is\n  old [1].", "It is old.", (1,)),
        ("It is old.", "It is old.", ()),
        ("It is a[0].", "It is a[0].", ()),
    ],
)
def test_markers_of_one_sentence_are_taken_out(answer: str, sentence: str, numbers: tuple[int, ...]) -> None:
    assert parse(answer, 3) == (Claim(sentence, numbers),)


def test_marker_behind_a_full_stop_belongs_to_the_sentence_before() -> None:
    assert parse("It is old. [1] It is tall.[2] It is grey.", 2) == (
        Claim("It is old.", (1,)),
        Claim("It is tall.", (2,)),
        Claim("It is grey.", ()),
    )


def test_marker_at_the_beginning_of_a_line_belongs_to_that_line() -> None:
    assert parse("It is old.\n\n[1] It is tall.\n- [2] It is grey.", 2) == (
        Claim("It is old.", ()),
        Claim("It is tall.", (1,)),
        Claim("It is grey.", (2,)),
    )


def test_list_items_are_sentences_without_their_marks() -> None:
    assert [claim.text for claim in parse("Steps:\n1. Open it.\n2) Wait\n* Close it", 1)] == [
        "Steps:",
        "Open it.",
        "Wait",
        "Close it",
    ]


def test_markers_out_of_range_are_remembered_as_bad() -> None:
    assert parse("It is old [3, 1][9][3].", 2) == (Claim("It is old.", (1,), (3, 9)),)


@pytest.mark.parametrize("answer", ["", " \n", "[1]", "[1] [2].", "...", "-"])
def test_answer_without_words_has_no_claims(answer: str) -> None:
    assert parse(answer, 2) == ()


@given(
    st.lists(st.sampled_from(["[1]", "[2, 3]", ". ", ".", "\n", "- ", "It is ", "old", " ", "\ud800", "[99]", "1. "])).map("".join)
)
def test_any_answer_is_parsed_without_loss_of_words_or_markers(answer: str) -> None:
    claims = parse(answer, 3)
    assert "".join(claim.text for claim in claims).count("old") == answer.count("old")
    if claims:
        assert any(99 in claim.bad for claim in claims) is ("[99]" in answer)
        assert {n for claim in claims for n in claim.numbers} == {n for n in (1, 2, 3) if f"[{n}" in answer or f" {n}]" in answer}


def test_sentence_in_other_order_and_form_is_supported() -> None:
    verdict = check("Gustave Eiffel's firm used 7300 tons of iron when building it.")
    assert (verdict.fault, quotes(verdict)) == (None, ["Gustave Eiffel's firm built it with 7,300 tons of iron."])


def test_claim_that_needs_two_neighbours_has_both_as_evidence() -> None:
    verdict = check("The Maren bridge was opened in 1931 by Ida Holm.", passage(BRIDGE))
    assert (verdict.fault, quotes(verdict, passage(BRIDGE))) == (None, [BRIDGE])


@pytest.mark.parametrize(
    ("claim", "fault"),
    [
        ("It was finished in 1887, and it is 330 m tall.", "number"),
        ("It was finished in 1889, and it is three hundred and five m tall.", "number"),
        ("It was finished by Napoleon in 1889, and it is 330 m tall.", "name"),
        ("It was not finished in 1889, and it is 330 m tall.", "negation"),
        ("It wasn't finished in 1889, and it is 330 m tall.", "negation"),
        ("It belongs to the firm, truly.", "negation"),
        ("It attracts millions of visitors and shops.", "coverage"),
        ("Yes.", "coverage"),
        ("It is.", "coverage"),
    ],
)
def test_unsupported_claim_says_why_and_has_no_evidence(claim: str, fault: Fault) -> None:
    verdict = check(claim)
    assert (verdict.fault, verdict.evidence) == (fault, ())


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("There are 1000 rooms on each floor.", "There are 1,000 rooms on each floor."),
        ("There are 3 rooms on each floor.", "There are three rooms on each floor."),
        ("There are twelve rooms on each floor.", "There are 12 rooms on each floor."),
        ("There is 1 room on each floor.", "There is one room on each floor."),
        ("Each room measures 3.5 metres across.", "Each room measures 3.50 metres across."),
        ("It opens at 09:30 on every day.", "It opens at 9:30 on every day."),
        ("One of the rooms on the floor is empty.", "Of the rooms on the floor a single room is empty."),
    ],
)
def test_numbers_are_compared_as_numbers(claim: str, said: str) -> None:
    assert check(claim, passage(said)).fault is None


def test_name_may_stand_elsewhere_in_the_passage_in_the_question_or_in_the_title() -> None:
    claim = "The tower that Sauvestre designed was finished in 1889, and it is 330 m tall."
    assert check(claim).fault == "name"
    assert check(claim, question="What did Sauvestre design?").fault is None
    assert check(claim, passage(TOWER, title="Sauvestre")).fault is None
    assert check(claim, passage(f"Stephen Sauvestre was an architect. He drew it. {TOWER}")).fault is None


def test_words_of_the_title_alone_support_nothing() -> None:
    verdict = check("The Eiffel Tower is closed for repair.", passage("It has a restaurant.", title="Eiffel Tower"))
    assert (verdict.fault, verdict.coverage) == ("coverage", 0.0)


def test_negation_of_a_neighbour_does_not_support_a_negated_claim() -> None:
    text = "The valve of the tank is open. It does not leak."
    assert check("The valve of the tank is not open.", passage(text)).fault == "negation"


@pytest.mark.parametrize(
    "answer", ["1889", "in Paris", "Gustave Eiffel's firm", "the Eiffel Tower", "Eiffel tower", "330 m", "1889."]
)
def test_phrase_that_stands_in_the_passage_is_supported(answer: str) -> None:
    assert check(answer).fault is None


@pytest.mark.parametrize("answer", ["Eiffel Paris", "Gustave's firm", "330 tall", "in Berlin", "no", "the"])
def test_phrase_that_stands_nowhere_is_not_supported(answer: str) -> None:
    assert check(answer).fault is not None


def test_phrase_out_of_a_negated_sentence_needs_a_question_that_negates() -> None:
    assert check("to the firm", question="To whom does it belong?").fault == "negation"
    assert quotes(check("to the firm", question="To whom does it not belong?")) == ["It does not belong to the firm."]


def test_long_phrase_is_supported_word_for_word() -> None:
    text = "She met the king of France and his two elder brothers."
    assert check("the king of France and his two elder brothers", passage(text)).fault is None


def test_short_sentence_needs_all_of_its_terms() -> None:
    assert check("It opened in 1931.", passage(BRIDGE)).fault is None
    assert check("It closed in 1931.", passage(BRIDGE)).fault == "coverage"


def test_phrase_is_found_in_the_sentence_nearest_to_the_question() -> None:
    text = "In 1889 the king died. The tower was finished in 1889. A fair was held in 1889."
    assert quotes(check("1889", passage(text), question="When was the tower finished?"), passage(text)) == [
        "The tower was finished in 1889."
    ]


def test_cited_passage_alone_is_looked_at() -> None:
    both = (passage(BRIDGE), passage(TOWER))
    claim = "It was finished in 1889, and it is 330 m tall."
    assert check(claim, *both, cited=(1,)).fault == "number"
    assert [e.number for e in check(claim, *both, cited=(2,)).evidence] == [2]


def test_claim_without_citation_is_looked_for_in_every_passage() -> None:
    verdict = check("It was finished in 1889, and it is 330 m tall.", passage(BRIDGE), passage(TOWER))
    assert [e.number for e in verdict.evidence] == [2]


def test_claim_of_two_passages_has_evidence_in_both() -> None:
    both = (passage(BRIDGE), passage(TOWER))
    claim = "The bridge was opened by Ida Holm in 1931, the tower was finished in 1889."
    verdict = check(claim, *both, cited=(1, 2))
    assert (verdict.fault, [e.number for e in verdict.evidence]) == (None, [1, 2])
    assert check(claim, *both).fault == "number"


def test_of_two_cited_passages_one_is_enough() -> None:
    verdict = check("It was finished in 1889, and it is 330 m tall.", passage(BRIDGE), passage(TOWER), cited=(1, 2))
    assert [e.number for e in verdict.evidence] == [2]


def test_offsets_count_in_the_document() -> None:
    verdict = check("The Maren bridge carries two railway tracks.", passage(BRIDGE, start=100))
    assert verdict.evidence == (Evidence(1, 100, 144),)


def test_heading_is_no_evidence() -> None:
    text = "## Opening hours\n\nThe pool opens at 9."
    source = Source("a.md", "", ("Opening hours",), None, 1, 0, len(text), None, {})
    verdict = check("Opening hours", Candidate(Chunk("a#1", "a", text, 10, source), 0.8, None, None))
    assert (verdict.fault, verdict.evidence) == ("coverage", ())


def test_without_passages_nothing_is_supported() -> None:
    assert verify([Claim("It is old.", ())], [], "Is it?") == (Verdict(Claim("It is old.", ()), "coverage", 0.0, ()),)


words = st.sampled_from(
    "the a no not never bridge tower Paris king 1889 1,000 3.50 three one café 中文 33C U.S. Mr. [2] 1. - \n \n\n".split(" ")
)
texts = st.lists(words | st.sampled_from([". ", "! ", ".\n\n", "? "]), min_size=1, max_size=40).map(" ".join).map(normalise)


@given(st.lists(texts, min_size=1, max_size=3), texts, st.text(max_size=30), st.integers(0, 9))
def test_evidence_lies_in_its_passage(documents: list[str], answer: str, question: str, start: int) -> None:
    found = [passage(text, start=start) for text in documents]
    for verdict in verify(parse(answer, len(found)), found, question):
        assert bool(verdict.evidence) is (verdict.fault is None)
        assert 0.0 <= verdict.coverage <= 1.0
        for evidence in verdict.evidence:
            source = found[evidence.number - 1].chunk.source
            assert source.start_char <= evidence.start < evidence.end <= source.end_char


@given(texts, st.data())
def test_sentence_of_a_cited_passage_is_supported_by_that_very_sentence(text: str, data: st.DataObject) -> None:
    text = text.replace("[2]", "")
    start, end = data.draw(st.sampled_from(sentence_spans(text) or [(0, 0)]))
    claims = parse(text[start:end], 1)
    assume(len(claims) == 1 and analyse(claims[0].text) and not re.fullmatch(r"\d{1,3}\.", claims[0].text))  # a number of a list
    verdict = check(claims[0].text, passage(text), cited=(1,))
    assert verdict.fault is None
    (quote,) = quotes(verdict, passage(text))
    assert without_articles(quote) == without_articles(claims[0].text)


@given(texts, texts)
def test_number_that_stands_nowhere_is_never_supported(text: str, answer: str) -> None:
    assert check(f"{answer} 4711", passage(text)).fault is not None


TERMS = "The rent is 1,450 euros a month. It is not due in August. The landlord may not enter without notice. It may be paid in two parts."


@pytest.mark.parametrize(
    ("text", "question", "fault"),
    [
        ("The rent is thirty euros a month.", "What is the rent?", "number"),
        ("The rent is a thousand euros a month.", "What is the rent?", "number"),
        ("The rent is 1,450 million euros a month.", "What is the rent?", "number"),
        ("The rent is 1,450 euros a month.", "What is the rent?", None),
        ("due in August", "When is the rent due?", "negation"),
        ("August", "When is the rent due?", "negation"),
        ("August", "When is the rent not due?", None),
        ("The landlord may enter the flat.", "May the landlord enter?", "negation"),
    ],
)
def test_written_numbers_and_negated_phrases_are_checked(text: str, question: str, fault: str | None) -> None:
    source = Source("lease.txt", "Lease", (), None, 1, 0, len(TERMS), None, {})
    candidate = Candidate(Chunk("lease#1", "lease", TERMS, 40, source), 0.9, 5.0, 0.9)
    (verdict,) = verify(parse(text, 1), [candidate], question)
    assert verdict.fault == fault


@pytest.mark.parametrize(
    ("claim", "said", "fault"),
    [
        ("The road to the lake is 10 miles long.", "The road to the lake is 10 km long.", "unit"),
        ("The road to the lake is ten miles long.", "The road to the lake is ten kilometres long.", "unit"),
        ("The road to the lake is 10 kilometres long.", "The road to the lake is 10 km long.", None),
        ("The dose of the drug is 5 mg.", "The dose of the drug is 5 %.", "unit"),
        ("The dose of the drug is 5 mg.", "The dose of the drug is 5.", None),
        ("The dose of the drug is 5.", "The dose of the drug is 5 mg.", None),
        ("The rent of the flat is $80.", "The rent of the flat is €80.", "unit"),
        ("The rent of the flat is 80 euros.", "The rent of the flat is €80.", None),
        ("The city spent 2 million dollars on it.", "The city spent 2 million euros on it.", "unit"),
        ("The city spent 2 million dollars on it.", "The city spent $2 million on it.", None),
        ("Water in the tank freezes at 5 degrees.", "Water in the tank freezes at -5 degrees.", "unit"),
        ("Water in the tank freezes at -5 degrees.", "Water in the tank freezes at 5 degrees.", "unit"),
        ("Water in the tank freezes at -5 degrees.", "Water in the tank freezes at minus five degrees Celsius.", None),
        ("at 5 degrees", "Water in the tank freezes at -5 degrees.", "unit"),
        ("It takes 3 to 5 hours and costs 5 euros.", "It takes 3-5 hours and costs 5 euros.", None),
    ],
)
def test_unit_and_sign_of_a_number_are_compared(claim: str, said: str, fault: Fault | None) -> None:
    assert check(claim, passage(said)).fault == fault
