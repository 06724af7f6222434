"""The passages that an answer is held against, read once: sentences with their places and terms, and what all of them hold together."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from rag.facts import numbers_of
from rag.index.lexical import analyse
from rag.text import sentence_spans

# Sentences that a claim is compared with. Of the claims of the training data that need several, nearly all are carried by two.
N_EVIDENCE = 8
# Tables and menus have no full stops: cut like this, one of them holds no more words than a long sentence.
_MAX_WORDS = 60
_ONE = re.compile(r"\bone\b", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")


def storable(text: str) -> str:
    """A text of the same length that can be analysed: line ends as ``\\n``, no lone surrogates."""
    return _SURROGATE.sub("\ufffd", text.replace("\r\n", " \n").replace("\r", "\n"))


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a passage, or a piece of one that is too long.

    Attributes:
        passage: Number of the passage, from 0.
        start: First character in the passage.
        end: One past the last.
        text: The sentence.
        terms: Index terms in order.
        known: The distinct ones.
    """

    passage: int
    start: int
    end: int
    text: str
    terms: tuple[str, ...]
    known: frozenset[str]


class Context:
    """Passages, read.

    Args:
        passages: Texts; offsets of sentences refer to them as they are given.

    Attributes:
        texts: The passages, made storable.
        sentences: In order.
        known: Distinct terms of all.
        pairs: Terms that follow each other in a sentence.
        triples: Likewise three.
        numbers: Of all, in one form; "1" is among them where a passage has the word "one".
    """

    texts: tuple[str, ...]
    sentences: tuple[Sentence, ...]
    known: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    triples: frozenset[tuple[str, str, str]]
    numbers: frozenset[str]

    def __init__(self, passages: Sequence[str]) -> None:
        self.texts = tuple(storable(passage) for passage in passages)
        read = [_read(text) for text in self.texts]
        self.sentences = tuple(Sentence(n, *fields) for n, (found, _) in enumerate(read) for fields in found)
        self._n_holding = Counter(term for sentence in self.sentences for term in sentence.known)
        self.known = frozenset(self._n_holding)
        self.pairs = frozenset(pair for sentence in self.sentences for pair in pairwise(sentence.terms))
        self.triples = frozenset(triple for sentence in self.sentences for triple in triples(sentence.terms))
        self.numbers = frozenset[str]().union(*(numbers for _, numbers in read))

    def rarity(self, term: str, *, n_more: int = 0) -> float:
        """BM25's idf of a term among the sentences.

        Args:
            term: Need not occur.
            n_more: Sentences without it that are thought to stand beside them.

        Returns:
            Above 0.0.
        """
        n = self._n_holding[term]
        return math.log(1 + (len(self.sentences) + n_more - n + 0.5) / (n + 0.5))

    def evidence(self, terms: Collection[str]) -> list[int]:
        """The sentences that share most with a claim, by rarity of what is shared.

        Args:
            terms: Distinct terms of the claim, in a fixed order.

        Returns:
            At most `N_EVIDENCE` numbers of sentences that share a term, best first; equal ones in the order of the passages.
        """
        weights = {term: self.rarity(term) for term in terms}
        shared = [
            (math.fsum(weights[term] for term in terms if term in sentence.known), n) for n, sentence in enumerate(self.sentences)
        ]
        return [n for score, n in sorted(shared, key=lambda pair: (-pair[0], pair[1]))[:N_EVIDENCE] if score > 0]


def triples(terms: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Three terms that follow each other, in order."""
    return zip(terms, terms[1:], terms[2:], strict=False)


def numbers_with_one(text: str) -> frozenset[str]:
    """Numbers of what is evidence: there "one" may be what a claim writes as 1."""
    return numbers_of(text) | ({"1"} if _ONE.search(text) else frozenset())


# The passages of a collection come again with other questions; so many take a few megabytes.
@lru_cache(maxsize=1024)
def _read(text: str) -> tuple[tuple[tuple[int, int, str, tuple[str, ...], frozenset[str]], ...], frozenset[str]]:
    """What sentences of a passage are made of, and its numbers."""
    found = []
    for start, end in sentence_spans(text):
        for begin, stop in _windows(text, start, end):
            if terms := tuple(analyse(text[begin:stop])):
                found.append((begin, stop, text[begin:stop], terms, frozenset(terms)))
    return tuple(found), numbers_with_one(text)


def _windows(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A sentence, or pieces of it of nearly equal length."""
    words = [match.span() for match in re.finditer(r"\S+", text[start:end])]
    n_pieces = -(-len(words) // _MAX_WORDS)
    if n_pieces <= 1:
        yield start, end
        return
    size = -(-len(words) // n_pieces)
    for at in range(0, len(words), size):
        yield start + words[at][0], start + words[min(at + size, len(words)) - 1][1]
