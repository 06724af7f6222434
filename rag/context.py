"""Candidates to a context: whole passages or single sentences, numbered by source, inside a token budget.

    [1] Title > Heading
    A passage, or sentences in their order in the document … with a mark where something was left out.

    [2] Title
    ...

Sources are numbered in the order of their best candidate and separated by a blank line; a source without title and headings has its
text on the line of its number. The order is fixed, so the same question gives the same prompt and a prefix cache can use it. The
text is counted as a whole by the target model's counter, and is never over the budget.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rag.evidence import Sentence, cite, penalties, score_sentences
from rag.text import context_line
from rag.types import Candidate, Citation, Context, ContextStyle

if TYPE_CHECKING:
    from rag.tokens import TokenCounter

# Between spans of one chunk that are not neighbours; one token in the vocabularies at hand.
_ELLIPSIS = " … "
_BETWEEN_SOURCES = "\n\n"
# What "[n] ", an ellipsis and a separator add to a span, at most, while choosing; the whole text is counted at the end.
_SPAN_OVERHEAD = 2
# What scores less only fills the budget. On XQuAD, without this limit a budget of 512 tokens is used to 475 instead of 234, and no more
# contexts hold the gold answer; leaving out every sentence that shares no word with the question loses one point.
_MIN_SCORE = -0.5
# When so many in a row of merit have not fitted, the budget is as good as full; counting the rest would cost more than it finds.
_MAX_LEFT_OUT = 8
_SOURCE_OVERHEAD = 4
# What a document takes of the budget before others that hold evidence have had theirs, and the score from which a piece is evidence: on
# XQuAD no context of 128 or 256 tokens loses the gold answer by it.
_DOCUMENT_SHARE = 0.5
_EVIDENCE = 0.5


@dataclass(frozen=True, slots=True)
class _Piece:
    """A span of a candidate that may be packed; ``end`` is exclusive, both count in the document. At most 1.0 is its merit."""

    rank: int
    start: int
    end: int
    merit: float


def pack(question: str, candidates: Sequence[Candidate], max_tokens: int, style: ContextStyle, counter: TokenCounter) -> Context:
    """Pack what answers a question into a budget.

    Passages are taken in the order of the candidates. Sentences are taken by score, those that score too little not at all,
    near-duplicates once. What does not fit is passed over for what comes after it and fits. When nothing fits, the words of
    the best sentence that do are taken, or its characters.

    Args:
        question: As asked.
        candidates: Best first.
        max_tokens: The budget, at least 1.
        style: ``passages`` or ``sentences``.
        counter: Counts tokens of the target model.

    Returns:
        The context; empty without candidates, or when the budget does not hold the first character of the best sentence.
    """
    sentences = score_sentences(question, candidates)
    pieces = _passages(candidates) if style == "passages" else [_piece(s) for s in sentences if s.score >= _MIN_SCORE]
    chosen = _choose(candidates, _shared_out(candidates, pieces, max_tokens, counter), max_tokens, counter)
    text, citations = _render(candidates, chosen)
    if not chosen and sentences:
        text, citations = _first_words(candidates, _piece(sentences[0]), max_tokens, counter)
    n_tokens = counter.count(text)
    return Context(
        text=text,
        n_tokens=n_tokens,
        max_tokens=max_tokens,
        counter=counter.name,
        citations=tuple(citations),
        n_tokens_saved=max(0, sum(c.chunk.n_tokens for c in candidates) - n_tokens),
    )


def _piece(sentence: Sentence) -> _Piece:
    return _Piece(sentence.rank, sentence.start, sentence.end, sentence.score)


def _passages(candidates: Sequence[Candidate]) -> list[_Piece]:
    """Whole candidates in their order; where some have flags, by how far they are behind and how little they are trusted."""
    behind = penalties(candidates)
    places = ((i, c.chunk.source) for i, c in enumerate(candidates))
    pieces = [_Piece(i, source.start_char, source.end_char, 1.0 - behind[i]) for i, source in places]
    if any(candidate.chunk.source.flags for candidate in candidates):
        pieces.sort(key=lambda piece: -piece.merit)
    return pieces


def _shared_out(candidates: Sequence[Candidate], pieces: Sequence[_Piece], max_tokens: int, counter: TokenCounter) -> list[_Piece]:
    """The pieces by merit, but what a document holds beyond its share of the budget behind the evidence of others."""
    names = [candidate.chunk.doc_id for candidate in candidates]
    evident = [piece for piece in pieces if piece.merit >= _EVIDENCE]
    if len({names[piece.rank] for piece in evident}) < 2:
        return list(pieces)
    used: dict[str, int] = {}
    first: list[_Piece] = []
    later: list[_Piece] = []
    for piece in evident:
        name = names[piece.rank]
        n_tokens = used.get(name, 0) + counter.count(_quote(candidates[piece.rank], piece))
        fits = name not in used or n_tokens <= _DOCUMENT_SHARE * max_tokens
        if fits:
            used[name] = n_tokens
        (first if fits else later).append(piece)
    return [*first, *later, *pieces[len(evident) :]]


def _choose(candidates: Sequence[Candidate], pieces: Sequence[_Piece], max_tokens: int, counter: TokenCounter) -> list[_Piece]:
    """Pieces that fit together, in the order given: first by their own counts, then, near the budget, by the count of the whole."""

    def n_tokens_of(some: Sequence[_Piece]) -> int:
        return counter.count(_render(candidates, some)[0])

    chosen: list[_Piece] = []
    left_out: list[tuple[_Piece, int]] = []
    open_sources: set[int] = set()
    n_used = 0
    for piece in pieces:
        n_own = counter.count(_quote(candidates[piece.rank], piece))
        n_tokens = n_own + _SPAN_OVERHEAD
        if piece.rank not in open_sources:
            n_tokens += _SOURCE_OVERHEAD + counter.count(_header(candidates[piece.rank]))
        if n_used + n_tokens <= max_tokens:
            n_used += n_tokens
            open_sources.add(piece.rank)
            chosen.append(piece)
        else:
            left_out.append((piece, n_own))
            if len(left_out) == _MAX_LEFT_OUT:
                break
    n_exact = n_tokens_of(chosen)
    while chosen and n_exact > max_tokens:  # tokens of parts do not add up exactly
        chosen.pop()
        n_exact = n_tokens_of(chosen)
    for piece, n_own in left_out:
        if n_exact + n_own <= max_tokens and (n_longer := n_tokens_of([*chosen, piece])) <= max_tokens:
            chosen.append(piece)
            n_exact = n_longer
    return chosen


def _render(candidates: Sequence[Candidate], chosen: Sequence[_Piece], *, with_headers: bool = True) -> tuple[str, list[Citation]]:
    """The text, and one citation for every run of neighbouring spans."""
    text = ""
    citations: list[Citation] = []
    ranks = sorted({piece.rank for piece in chosen})
    for index, rank in enumerate(ranks, start=1):
        candidate = candidates[rank]
        header = _header(candidate) if with_headers else ""
        text += (_BETWEEN_SOURCES if text else "") + f"[{index}] " + (f"{header}\n" if header else "")
        for i, run in enumerate(_runs(candidate, [piece for piece in chosen if piece.rank == rank])):
            text += _ELLIPSIS if i else ""
            quote = _quote(candidate, run)
            citations.append(cite(candidate, index, run.start, run.end, at=len(text), length=len(quote)))
            text += quote
    return text, citations


def _runs(candidate: Candidate, pieces: Sequence[_Piece]) -> list[_Piece]:
    """Spans in document order, those with only white space between them joined."""
    runs: list[_Piece] = []
    for piece in sorted(pieces, key=lambda p: p.start):
        if runs and not _quote(candidate, replace(piece, start=runs[-1].end, end=piece.start)).strip():
            runs[-1] = replace(runs[-1], end=piece.end)
        else:
            runs.append(piece)
    return runs


def _first_words(
    candidates: Sequence[Candidate], piece: _Piece, max_tokens: int, counter: TokenCounter
) -> tuple[str, list[Citation]]:
    """The longest beginning of a sentence that fits: whole words, if need be without a header, else as many characters."""
    words = _quote(candidates[piece.rank], piece)
    word_ends = [i for i in range(1, len(words)) if words[i].isspace()] + [len(words)]
    char_ends = [i for i in range(1, len(words) + 1) if unicodedata.category(words[i : i + 1] or " ")[0] != "M"]
    for ends in (word_ends, char_ends):
        for with_header in (True, False):
            best: tuple[str, list[Citation]] = ("", [])
            low, high = 0, len(ends)
            while low < high:  # a longer text has more tokens; where it has not, a shorter one than could be is taken
                middle = (low + high) // 2
                found = _render(candidates, [replace(piece, end=piece.start + ends[middle])], with_headers=with_header)
                if counter.count(found[0]) <= max_tokens:
                    best, low = found, middle + 1
                else:
                    high = middle
            if best[1]:
                return best
    return "", []


def _header(candidate: Candidate) -> str:
    """Title and headings; a title that is the first line of the text, as of a plain file, is not said twice."""
    source = candidate.chunk.source
    return context_line("" if candidate.chunk.text.startswith(source.title) else source.title, source.headings)


def _quote(candidate: Candidate, piece: _Piece) -> str:
    offset = candidate.chunk.source.start_char
    return candidate.chunk.text[piece.start - offset : piece.end - offset]
