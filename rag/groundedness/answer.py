"""An answer held to what it cites."""

from __future__ import annotations

from rag.groundedness.scorer import Scorer
from rag.types import Answer
from rag.verdict import Grounding


def ground(answer: Answer, scorer: Scorer) -> Grounding:
    """Judge every claim of an answer against its own citations.

    Args:
        answer: With citations.
        scorer: From `rag.groundedness.open_scorer`.

    Returns:
        The grounding; the passage of an evidence is the place of the citation in ``answer.citations``, and its offsets count in the quote:
        the evidence stands in the document from ``source.start_char + start`` on. Without a citation no claim is scored.
    """
    quotes = [citation.quote for citation in answer.citations]
    return scorer.judge(answer.text, quotes, [(citation.start, citation.end, citation.quote) for citation in answer.citations])
