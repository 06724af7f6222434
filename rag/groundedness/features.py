"""Fifteen figures of a claim and its context: what the scorer knows. Shares of words in common, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rag.facts import n_negations, names_of, numbers_of
from rag.groundedness.context import Context, Sentence, numbers_with_one, triples
from rag.index.lexical import analyse

FEATURES = (
    "in_context", "in_best", "in_best_two", "in_window", "long_in_context", "near_in_window", "pairs", "triples", "sequence",
    "rare_in_context", "rare_in_window", "number_absent", "number_far", "name_absent", "negation",
)  # fmt: skip
"""Names of the figures, in their order. Terms are distinct stems; "best" is the first sentence of evidence, "window" it and its two
neighbours. All lie between 0 and 1.

``in_context`` .. ``in_window``: share of the claim's terms there. ``long_in_context``: the same, a term counting as it is long.
``near_in_window``: a missing term counts as the share of its runs of four letters that are there, so that "adoption" is near
"adoptive". ``pairs``, ``triples``: share of its neighbouring terms that stand so in the context. ``sequence``: longest common
subsequence with one of the three best sentences, as a share of the claim. ``rare_*``: weighed by rarity. ``number_absent``: 1 if a
number is not in the context; ``number_far``: not in the three best sentences. ``name_absent``: 1 if a name is not in the context.
``negation``: ``in_best`` where claim and best sentence differ in odd or even negations, else 0. Longest common run and share of absent
names were tried too and got no weight.
"""

# Of a handful of sentences all terms look common: as if so many others stood beside them.
_MORE_SENTENCES = 20
_LONG = 10
_NEAR = 4
_N_CLOSE = 3


@dataclass(frozen=True, slots=True)
class Stated:
    """What a claim states.

    Attributes:
        terms: Index terms in order, with repeats.
        distinct: The same without repeats.
        numbers: In one form.
        names: Terms of its names.
        n_negations: Words like "not".
    """

    terms: tuple[str, ...]
    distinct: tuple[str, ...]
    numbers: frozenset[str]
    names: frozenset[str]
    n_negations: int


def stated(claim: str) -> Stated:
    """Read a claim; the pronoun "I" is no name."""
    terms = tuple(analyse(claim))
    return Stated(terms, tuple(dict.fromkeys(terms)), numbers_of(claim), names_of(claim) - {"i"}, n_negations(claim))


def features(claim: Stated, context: Context, evidence: Sequence[int]) -> tuple[float, ...]:
    """Figures of a claim.

    Args:
        claim: With at least one term.
        context: Of the answer.
        evidence: From `Context.evidence`.

    Returns:
        As `FEATURES` names them.
    """
    close = [context.sentences[n] for n in evidence[:_N_CLOSE]]
    best = close[0].known if close else frozenset[str]()
    window = _window(context, evidence)
    rare = {term: context.rarity(term, n_more=_MORE_SENTENCES) for term in claim.distinct}
    long = {term: float(min(len(term), _LONG)) for term in claim.distinct}
    equal = dict.fromkeys(claim.distinct, 1.0)
    in_best = _share(equal, best)
    pairs = _found(list(pairwise(claim.terms)), context.pairs, _share(equal, context.known))
    differs = bool(close) and claim.n_negations % 2 != n_negations(close[0].text) % 2
    return (
        _share(equal, context.known),
        in_best,
        max((_share(equal, best | context.sentences[n].known) for n in evidence[1:]), default=in_best),
        _share(equal, window),
        _share(long, context.known),
        _near_share(claim.distinct, window),
        pairs,
        _found(list(triples(claim.terms)), context.triples, pairs),
        max((_sequence(claim.terms, sentence.terms) for sentence in close), default=0) / len(claim.terms),
        _share(rare, context.known),
        _share(rare, window),
        float(not claim.numbers <= context.numbers),
        float(bool(claim.numbers) and not claim.numbers <= _numbers(close)),
        float(not claim.names <= context.known),
        in_best if differs else 0.0,
    )


def _window(context: Context, evidence: Sequence[int]) -> frozenset[str]:
    """Terms of the best sentence and its neighbours, of whatever passage."""
    if not evidence:
        return frozenset()
    return frozenset[str]().union(*(s.known for s in context.sentences[max(evidence[0] - 1, 0) : evidence[0] + 2]))


def _numbers(sentences: Sequence[Sentence]) -> frozenset[str]:
    return frozenset[str]().union(*(numbers_with_one(sentence.text) for sentence in sentences))


def _share(weights: dict[str, float], known: frozenset[str]) -> float:
    return math.fsum(weight for term, weight in weights.items() if term in known) / math.fsum(weights.values())


def _found(wanted: Sequence[object], known: frozenset[object], otherwise: float) -> float:
    return sum(one in known for one in wanted) / len(wanted) if wanted else otherwise


def _near_share(terms: Sequence[str], window: frozenset[str]) -> float:
    missing = [term for term in terms if term not in window]
    if not missing:
        return 1.0
    runs = {run for term in window for run in _letters(term)}
    near = math.fsum(len(_letters(term) & runs) / len(_letters(term)) for term in missing)
    return (len(terms) - len(missing) + near) / len(terms)


def _letters(term: str) -> frozenset[str]:
    marked = f"^{term}"
    return frozenset(marked[at : at + _NEAR] for at in range(max(1, len(marked) - _NEAR + 1)))


def _sequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence: one bit a term, the sum carries what is matched.

    References:
        Hyyro, Bit-parallel LCS-length computation revisited, AWOCA 2004.
    """
    places: dict[str, int] = {}
    for at, term in enumerate(one):
        places[term] = places.get(term, 0) | 1 << at
    every = (1 << len(one)) - 1
    row = every
    for term in other:
        matched = row & places.get(term, 0)
        row = (row + matched | row - matched) & every
    return len(one) - row.bit_count()
