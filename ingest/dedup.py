"""Duplicates: chunks that say the same thing are indexed once, and the others are reported, not lost.

Two chunks are one only where every metadata filter treats them alike. Exact means the same text but for case and white space. Near means
an estimated Jaccard similarity of word 3-shingles above a threshold, the same numbers, the same signs (currencies, operators, a minus)
and the same negations: two versions of a contract that differ in a sum, its currency or a "not" are two facts, however much of the
rest they share. The first in order of (doc_id,
place) stands for the others, so the outcome does not depend on the order in which files were ingested.

References:
    Broder, On the resemblance and containment of documents, 1997; the sketches are rensa's R-MinHash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from rensa import RMinHash, RMinHashLSH

from rag.store.rows import DuplicateRow, LiveChunk

_WORD = re.compile(r"\w+")
_SHINGLE_WORDS = 3
# Below this many words a shared phrase alone makes a high similarity; only exact copies collapse.
_MIN_NEAR_WORDS = 20
# 128 permutations: standard error 0.027 at a similarity of 0.9.
_N_PERMUTATIONS = 128
# 16 bands of 8 rows find pairs of similarity 0.9 with probability 0.9999, 0.85 with 0.994 and 0.7 with 0.6; the estimate then decides.
_N_BANDS = 16
_SEED = 42
# Numbers, the sign before one, and every symbol that is no punctuation of prose.
_FACT = re.compile(r"(?<!\w)-(?=[\d.])|\w+|[^\w\s.,;:?'\"’‘“”„«»()\[\]{}…–—-]")
_NEGATIONS = frozenset("no not never none nor neither without cannot t".split())  # "t" is what is left of "don't"


@dataclass(frozen=True, slots=True)
class _Sketch:
    """An indexed chunk: its similarity sketch, and a digest of what near duplicates must share exactly."""

    chunk_no: int
    sketch: RMinHash
    guard: bytes


def find_duplicates(chunks: Iterable[LiveChunk], threshold: float) -> list[DuplicateRow]:
    """Find the chunks that another one can stand for.

    Args:
        chunks: In order of (doc_id, place).
        threshold: Estimated similarity from which chunks are near duplicates, 0.5 to 1.0; 1.0 finds exact copies only.

    Returns:
        One row a collapsed chunk, in order of the chunks; what it refers to is never collapsed itself.
    """
    by_words: dict[bytes, int] = {}
    index = RMinHashLSH(threshold=threshold, num_perm=_N_PERMUTATIONS, num_bands=_N_BANDS)
    sketches: dict[int, _Sketch] = {}
    found: list[DuplicateRow] = []
    for place, chunk in enumerate(chunks):
        text = " ".join(chunk.text.lower().split())
        words = _WORD.findall(text)
        labels = "\0".join(chunk.tags).encode()
        exact = hashlib.blake2b(text.encode() + b"\0" + labels, digest_size=16).digest()
        if exact in by_words:
            found.append(DuplicateRow(chunk.chunk_no, by_words[exact], 1.0))
            continue
        near: DuplicateRow | None = None
        if threshold < 1.0 and len(words) >= _MIN_NEAR_WORDS:
            sketch = RMinHash(num_perm=_N_PERMUTATIONS, seed=_SEED)
            sketch.update([" ".join(words[i : i + _SHINGLE_WORDS]) for i in range(len(words) - _SHINGLE_WORDS + 1)])
            guard = hashlib.blake2b(_facts(text) + b"\0" + labels, digest_size=16).digest()
            near = _nearest(chunk.chunk_no, sketch, guard, [sketches[other] for other in sorted(index.query(sketch))])
            if near is None or near.similarity < threshold:
                near = None
                index.insert(place, sketch)
                sketches[place] = _Sketch(chunk.chunk_no, sketch, guard)
        if near is not None:
            found.append(near)
        else:
            by_words[exact] = chunk.chunk_no
    return found


def _facts(text: str) -> bytes:
    """What two near duplicates must share exactly, with repeats, in order; of words only numbers and negations."""
    found = _FACT.findall(text)
    return " ".join(word for word in found if word in _NEGATIONS or not word.isalpha()).encode()


def _nearest(chunk_no: int, sketch: RMinHash, guard: bytes, earlier: list[_Sketch]) -> DuplicateRow | None:
    """The most similar of the earlier chunks that state the same facts; of equals the first."""
    rows = [DuplicateRow(chunk_no, other.chunk_no, sketch.jaccard(other.sketch)) for other in earlier if other.guard == guard]
    return max(rows, key=lambda row: row.similarity, default=None)
