"""Sentences of the candidates, scored by how likely they hold the answer; no model.

The score of a sentence is ``coverage - penalty``. Coverage is the share of the question's terms in it, weighted by how rare a term is
among the sentences at hand: what all of them share tells nothing. The penalty says how far its passage lies behind the best passage, and
whether it deserves less trust (`penalties`). Of passages of several documents that are copies of each other but for numbers, one is looked
at (`copies`). A logistic regression on fourteen features, fitted on one half of XQuAD and read on the other, was no better than these
two.

`cite` turns a span of a candidate into a citation. How well the evidence covers the question decides whether to answer at all: see
`confidence`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rag.index.lexical import analyse
from rag.text import indexed_text, normalise, sentence_spans
from rag.types import Candidate, Citation

# Ratio of the two fitted coefficients on either half of XQuAD: 2.9 and 2.9 for fused scores, 2.5 and 3.8 for cosines, and 1.41 and
# 1.46 for BM25 over its maximum, which falls off faster.
_GAP_WEIGHT = 3.0
_GAP_WEIGHT_BM25 = 1.4
# Two sentences that share nine of ten terms, all numbers and all negations (which are stopwords) say the same.
_SAME_TERMS = 0.9
# They ask; what answers them does not repeat them. Without them the area under the curve of `confidence` on XQuAD is 0.945 instead of
# 0.942, and questions in the words of a small collection are no longer taken for unanswerable.
_QUESTION_WORDS = "how what why when who whom whose which where do does did"
# Of shingles: about one word in thirty differs, numbers aside. The most alike of different XQuAD passages share 0.07.
_SAME_PASSAGE = 0.8
_SHINGLE_WORDS = 3
# Long words are rare, and copies share them.
_LONG_WORD = re.compile(r"[^\W\d_]{8,}")
_FEW_WORDS = 4
# On XQuAD, with a flagged chunk in the best place that repeats the question and adds a wrong answer: the share of questions whose best
# sentence is that one is 1.00 without it, 0.71 at 0.25, 0.28 at 0.5, 0.05 at 0.75 and 0.01 at 1.0. Where all that holds the gold answer is
# flagged instead, contexts of 256 tokens still hold it at 0.98, 0.96, 0.95, 0.88 and 0.73.
_UNTRUSTED = 0.75
LIST_MARK = r"(?:[-*+•>]|\d{1,3}[.)]|#{1,6})"
_LEADING_MARK = re.compile(rf"{LIST_MARK}(?:\s+|\Z)")
# Han, kana and Hangul have no spaces between words.
_WORD = re.compile(r"[\u2e80-\u9fff\uac00-\ud7a3]|[^\W\u2e80-\u9fff\uac00-\ud7a3]+")
_NUMBER = re.compile(r"\d+")
_NEGATION = re.compile(r"\b(?:no|not|nor|never|none|neither|cannot|without)\b|n['’]t\b")
_FACT = re.compile(rf"\d+|{_NEGATION.pattern}")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a candidate.

    Attributes:
        rank: Place of its candidate among the candidates, from 0.
        place: Place in its chunk, from 0.
        start: First character in the document.
        end: One past the last.
        text: The sentence.
        terms: Its distinct index terms.
        score: Higher is better; 1.0 when it has all terms of the question and lies in the best passage.
        coverage: 0.0 to 1.0.
    """

    rank: int
    place: int
    start: int
    end: int
    text: str
    terms: frozenset[str]
    score: float
    coverage: float


def question_terms(question: str) -> tuple[str, ...]:
    """Distinct index terms of a question, in order, without the words that only ask.

    Args:
        question: As asked.

    Returns:
        Terms as `rag.index.lexical.analyse` gives them; the asking words too when there are no others ("Who's who?").

    Example:
        >>> question_terms("How are duplicates handled?")
        ('duplic', 'handl')
    """
    terms = tuple(dict.fromkeys(analyse(normalise(question))))  # the analyser refuses lone surrogates
    asking = frozenset(analyse(_QUESTION_WORDS))
    return tuple(term for term in terms if term not in asking) or terms


def score_sentences(question: str, candidates: Sequence[Candidate]) -> list[Sentence]:
    """Score every sentence of the candidates.

    Args:
        question: As asked.
        candidates: Best first.

    Returns:
        Best first; equal scores by rank, then by place. Of sentences that say the same, only the best is there.
        Headings are not sentences, and the mark of a list item or heading is not part of one.
    """
    wanted = question_terms(question)
    pieces = []
    for rank, candidate in enumerate(candidates):
        text, offset = candidate.chunk.text, candidate.chunk.source.start_char
        for place, (start, end) in enumerate(sentence_spans(text)):
            start = behind_mark(text, start, end)
            sentence = text[start:end]
            if sentence and " ".join(sentence.split()) not in candidate.chunk.source.headings:
                pieces.append((rank, place, offset + start, offset + end, sentence, frozenset(analyse(sentence))))
    weights = _rarity(wanted, [terms for *_, terms in pieces])
    behind = penalties(candidates)
    sentences = []
    for rank, place, start, end, text, terms in pieces:
        coverage = sum(weights[term] for term in wanted if term in terms)
        sentences.append(Sentence(rank, place, start, end, text, terms, coverage - behind[rank], coverage))
    sentences.sort(key=lambda s: (-s.score, s.rank, s.place))
    return _without_repeats(sentences)


def penalties(candidates: Sequence[Candidate]) -> list[float]:
    """How much less the sentences of each candidate score: for lying behind the best one, and for deserving less trust.

    Args:
        candidates: Best first.

    Returns:
        0.0 or more for each. Where all have flags there is nothing else to trust, and flags cost nothing.
    """
    is_all_flagged = all(candidate.chunk.source.flags for candidate in candidates)
    flags = [_UNTRUSTED if c.chunk.source.flags and not is_all_flagged else 0.0 for c in candidates]
    return [gap + flag for gap, flag in zip(_gap_penalties(candidates), flags, strict=True)]


def copies(question: str, candidates: Sequence[Candidate]) -> frozenset[int]:
    """Find the candidates that one of another document can stand for: the same words but for numbers and a few, the same negations.

    A flood of copies then takes one place. Records that differ in a number are copies too; of those the ones that hold more of the
    question's terms stay, so a number that the question names finds its row. Passages of one document are never copies of each other.

    Args:
        question: As asked.
        candidates: Best first.

    Returns:
        Places of the copies among the candidates, from 0; of candidates with the same terms of the question the best stays,
        and one with flags only where there is none without.
    """
    wanted = frozenset(question_terms(question))
    kept: list[_Passage] = []
    by_word: dict[str, list[int]] = {}
    left_out: set[int] = set()
    # What deserves less trust never stands for what deserves more.
    for rank, candidate in sorted(enumerate(candidates), key=lambda item: bool(item[1].chunk.source.flags)):
        passage = _Passage(rank, candidate, _long_words(candidate.chunk.text))
        shared = Counter(n for word in passage.long_words for n in by_word.get(word, ()))
        # What shares too few long words is not looked at: setting every passage against each other would take half of the time of packing.
        near = [n for n, n_shared in shared.items() if 2 * n_shared >= len(passage.long_words)]
        like = [
            kept[n] for n in (near if len(passage.long_words) >= _FEW_WORDS else range(len(kept))) if _is_copy(passage, kept[n])
        ]
        mine = _terms_asked(candidate, wanted) if like else frozenset()
        if any(mine <= _terms_asked(other.candidate, wanted) for other in like):
            left_out.add(rank)
            continue
        weaker = [other.rank for other in like if _terms_asked(other.candidate, wanted) < mine]
        left_out.update(weaker if not candidate.chunk.source.flags else ())
        for word in passage.long_words:
            by_word.setdefault(word, []).append(len(kept))
        kept.append(passage)
    return frozenset(left_out)


@dataclass(frozen=True, slots=True)
class _Passage:
    """A candidate that may be a copy of another one, or stand for it."""

    rank: int
    candidate: Candidate
    long_words: frozenset[str]


def _long_words(text: str) -> frozenset[str]:
    return frozenset(_LONG_WORD.findall(text))


def _is_copy(one: _Passage, other: _Passage) -> bool:
    if one.candidate.chunk.doc_id == other.candidate.chunk.doc_id:
        return False
    text, other_text = one.candidate.chunk.text, other.candidate.chunk.text
    if _NEGATION.findall(text.lower()) != _NEGATION.findall(other_text.lower()):
        return False
    mine, theirs = _shingles(text), _shingles(other_text)
    return len(mine & theirs) >= _SAME_PASSAGE * len(mine | theirs)


def _shingles(text: str) -> frozenset[str]:
    words = _WORD.findall(_NUMBER.sub("0", text.lower()))
    return frozenset(" ".join(words[i : i + _SHINGLE_WORDS]) for i in range(max(1, len(words) - _SHINGLE_WORDS + 1)))


def _terms_asked(candidate: Candidate, wanted: frozenset[str]) -> frozenset[str]:
    """Terms of the question that a passage or the line above it holds."""
    source = candidate.chunk.source
    return wanted.intersection(analyse(indexed_text(source.title, source.headings, candidate.chunk.text)))


def behind_mark(text: str, start: int, end: int) -> int:
    """Find where a sentence begins that may have the mark of a list item or heading.

    Args:
        text: Holds it.
        start: First character, mark included.
        end: One past the last.

    Returns:
        First character behind the mark and its white space; ``end`` of a mark alone, for sentences are cut behind the full stop of "1.".
    """
    mark = _LEADING_MARK.match(text, start, end)
    return mark.end() if mark else start


def _rarity(wanted: Sequence[str], sentences: Sequence[frozenset[str]]) -> dict[str, float]:
    """Weight of each wanted term, by its BM25 idf among the sentences; those that occur at all sum to 1."""
    n = len(sentences)
    counts = Counter(term for terms in sentences for term in terms)
    raw = {term: math.log(1 + (n - counts[term] + 0.5) / (counts[term] + 0.5)) for term in wanted}
    total = sum(raw[term] for term in wanted if counts[term]) or 1.0
    return {term: weight / total for term, weight in raw.items()}


def _gap_penalties(candidates: Sequence[Candidate]) -> list[float]:
    if not candidates:
        return []
    top = candidates[0].score
    if candidates[0].cosine is None:  # BM25 has no fixed scale
        return [_GAP_WEIGHT_BM25 * (1 - c.score / top) if top > 0 else 0.0 for c in candidates]
    return [_GAP_WEIGHT * (top - c.score) for c in candidates]


def _without_repeats(sentences: Sequence[Sentence]) -> list[Sentence]:
    kept: list[Sentence] = []
    by_term: dict[str, list[int]] = {}
    for sentence in sentences:
        # Counted by postings: nearly all pairs share a word or two, and setting each pair against each other took three times as long.
        shared = Counter(n for term in sentence.terms for n in by_term.get(term, ()))
        if any(_say_the_same(sentence, kept[n], n_shared) for n, n_shared in shared.items()):
            continue
        for term in sentence.terms:
            by_term.setdefault(term, []).append(len(kept))
        kept.append(sentence)
    return kept


def _say_the_same(sentence: Sentence, other: Sentence, n_shared: int) -> bool:
    union = len(sentence.terms) + len(other.terms) - n_shared
    return n_shared >= _SAME_TERMS * union and _facts(sentence) == _facts(other)


def _facts(sentence: Sentence) -> list[str]:
    return _FACT.findall(sentence.text.lower())


def confidence(
    question: str, candidates: Sequence[Candidate], document_frequency: Callable[[Sequence[str]], list[int]], n_rows: int
) -> float:
    """How well the best passage covers the question: what an answer is given or withheld on.

    The mean of two shares: the question's terms that the passage has, weighted by idf in the whole collection, and the cosine of
    question and passage; the first alone where there is no cosine. Area under the curve on XQuAD, answerable against the same
    question with its paragraph removed from the collection: 0.945 for the mean, 0.93 for coverage alone, 0.83 for the cosine alone.

    Args:
        question: As asked.
        candidates: Best first.
        document_frequency: Rows that hold each of some terms.
        n_rows: Rows of the collection.

    Returns:
        0.0 to 1.0; 0.0 without candidates.
    """
    if not candidates:
        return 0.0
    terms = question_terms(question)
    idf = [math.log(1 + (n_rows - n + 0.5) / (n + 0.5)) for n in document_frequency(terms)]
    best = candidates[0]
    found = frozenset(analyse(best.chunk.text))
    coverage = sum(w for w, term in zip(idf, terms, strict=True) if term in found) / (sum(idf) or 1.0)
    if best.cosine is None:
        return coverage
    return (coverage + min(max(best.cosine, 0.0), 1.0)) / 2


def shares_a_word(question: str, candidates: Sequence[Candidate]) -> bool:
    """Whether some passage holds a term of the question: one that holds none chooses no sentence."""
    terms = frozenset(question_terms(question))
    return any(not terms.isdisjoint(analyse(candidate.chunk.text)) for candidate in candidates)


def withheld(sentences: Sequence[Sentence], sure: float, abstain_below: float) -> str:
    """Why an answer is withheld, whoever would write it.

    Args:
        sentences: From `score_sentences`.
        sure: From `confidence`.
        abstain_below: The threshold (``answer.abstain_below``).

    Returns:
        The reason, for people; empty when the evidence carries an answer.
    """
    if not any(sentence.coverage > 0 for sentence in sentences):
        return "no passage shares a word with the question"
    if sure < abstain_below:
        return f"confidence {sure:.2f} is below {abstain_below:.2f} (answer.abstain_below)"
    return ""


def cite(candidate: Candidate, index: int, start: int, end: int, *, at: int, length: int) -> Citation:
    """Cite a span of a candidate.

    Args:
        candidate: Whose chunk holds the span.
        index: Number of the source, from 1.
        start: First character in the document.
        end: One past the last.
        at: Where our text rests on it.
        length: Characters of our text that do.

    Returns:
        A citation whose quote is exactly the span; page and heading path are those of the chunk, the line is that of the span.
    """
    chunk = candidate.chunk
    offset = chunk.source.start_char
    line = None if chunk.source.line is None else chunk.source.line + chunk.text.count("\n", 0, start - offset)
    return Citation(
        index=index,
        start=at,
        end=at + length,
        quote=chunk.text[start - offset : end - offset],
        doc_id=chunk.doc_id,
        chunk_id=chunk.chunk_id,
        source=replace(chunk.source, start_char=start, end_char=end, line=line),
    )
