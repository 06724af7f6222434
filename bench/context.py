"""How often the gold answer is inside the context, by budget, with the whole collection as the corpus.

Sentences and passages are packed from a hybrid search for the default ten chunks. The baseline is what a plain pipeline sends: whole
passages in BM25 order until the next one does not fit. Tokens are counted exactly, by the shipped tokenizer.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.corpora import Corpus
from eval.answers import contains_answer
from rag.context import pack
from rag.tokens import SHIPPED_NAME, TokenCounter, open_counter
from rag.types import ContextStyle, Query

BUDGETS = (64, 128, 256, 512)
_STYLES: tuple[ContextStyle, ...] = ("sentences", "passages")
BASELINE = "bm25 passages, plain"


@dataclass(frozen=True, slots=True)
class ContextShare:
    """One way of packing at one budget.

    Attributes:
        arm: Name of the way.
        max_tokens: The budget.
        contained: Share of questions whose gold answer is in the context, 0.0 to 1.0; both normalised, the answer anywhere.
        contained_whole_words: The same, but the answer must be a run of whole words.
        mean_tokens: Mean tokens of a context.
        n_over: Contexts over the budget.
        n_questions: Questions asked.
    """

    arm: str
    max_tokens: int
    contained: float
    contained_whole_words: float
    mean_tokens: float
    n_over: int
    n_questions: int


@dataclass(frozen=True, slots=True)
class _Packed:
    """One context."""

    n_tokens: int
    contained: bool
    contained_whole_words: bool


def measure_context(corpus: Corpus) -> tuple[ContextShare, ...]:
    """Pack contexts for every question that has gold answers.

    Args:
        corpus: XQuAD, or another collection with answers.

    Returns:
        One entry an arm and budget.
    """
    engine = corpus.engine()
    counter = open_counter(SHIPPED_NAME)
    found: dict[tuple[str, int], list[_Packed]] = {}
    for query in corpus.dataset.queries:
        if not query.answers:
            continue
        hybrid = engine.search(Query(query.text)).hits
        lexical = engine.search(Query(query.text, mode="bm25")).hits
        for budget in BUDGETS:
            for style in _STYLES:
                context = pack(query.text, hybrid, budget, style, counter)
                packed = _packed(context.text, context.n_tokens, query.answers)
                found.setdefault((f"hybrid {style}", budget), []).append(packed)
            text = plain_context([hit.chunk.text for hit in lexical], budget, counter)
            packed = _packed(text, counter.count(text), query.answers)
            found.setdefault((BASELINE, budget), []).append(packed)
    return tuple(_share(arm, budget, rows) for (arm, budget), rows in sorted(found.items()))


def _packed(text: str, n_tokens: int, answers: Sequence[str]) -> _Packed:
    return _Packed(n_tokens, contains_answer(text, answers, whole_words=False), contains_answer(text, answers))


def plain_context(passages: Sequence[str], max_tokens: int, counter: TokenCounter) -> str:
    """Whole passages, separated by blank lines, until the next one does not fit.

    Args:
        passages: Best first.
        max_tokens: The budget.
        counter: Counts tokens.

    Returns:
        The context; empty when not even the first fits.
    """
    text = ""
    for passage in passages:
        longer = f"{text}\n\n{passage}" if text else passage
        if counter.count(longer) > max_tokens:
            break
        text = longer
    return text


def _share(arm: str, budget: int, rows: Sequence[_Packed]) -> ContextShare:
    return ContextShare(
        arm=arm,
        max_tokens=budget,
        contained=statistics.fmean(row.contained for row in rows),
        contained_whole_words=statistics.fmean(row.contained_whole_words for row in rows),
        mean_tokens=statistics.fmean(row.n_tokens for row in rows),
        n_over=sum(row.n_tokens > budget for row in rows),
        n_questions=len(rows),
    )
