from __future__ import annotations

from rag.cost import Measurement, TokenCounts
from rag.groundedness import ground, open_scorer
from rag.types import Answer, Citation, Source

NOTHING = Measurement(0.0, 0.0, None, TokenCounts(), (), "off", 0)
DOCUMENT = "Preface. The boiler was built by Marta Lind in 1987. It heats the house."
QUOTE = "The boiler was built by Marta Lind in 1987."


def answer(text: str, *, cited: bool = True) -> Answer:
    start = DOCUMENT.index(QUOTE)
    source = Source("uri", "t", (), None, None, start, start + len(QUOTE), None, {})
    citations = (Citation(1, 0, len(text), QUOTE, "d", "d#1", source),) if cited else ()
    return Answer(text, False, citations, 0.9, "", "extractive", "c", 1, NOTHING)


def test_evidence_leads_to_its_place_in_the_document() -> None:
    (claim,) = ground(answer("Marta Lind built the boiler in 1987."), open_scorer()).claims
    assert claim.verdict == "supported"
    assert claim.evidence is not None
    begin = answer("").citations[claim.evidence.passage].source.start_char
    assert DOCUMENT[begin + claim.evidence.start : begin + claim.evidence.end] == QUOTE


def test_claim_with_another_number_is_flagged() -> None:
    (claim,) = ground(answer("Marta Lind built the boiler in 1991."), open_scorer()).claims
    assert (claim.verdict, claim.flags) == ("not_found", ("number",))


def test_claim_without_a_citation_is_unscored() -> None:
    grounding = ground(answer("Marta Lind built the boiler.", cited=False), open_scorer())
    assert [(claim.verdict, claim.reason) for claim in grounding.claims] == [("unscored", "no_context")]
    assert grounding.support is None
