"""Boilerplate: headers, footers and navigation that many documents repeat are left out of chunks, and stay in the text of the documents.

A block is a line of at most 25 words. It is boilerplate when it stands in enough documents, and furniture of one of them when it lies at
the edge of that document, among boilerplate only, or several times in it, as a header of pages does: a clause that many contracts share
stands once, in the middle, and is kept. The first document that has a block, in order of its id, keeps it, so that no words are lost to
the collection and the outcome does not depend on the order in which files were ingested. Chunks are trimmed at their edges, because a
chunk is one range of text.

Never furniture: headings, which are context; rows of tables, program code and records, whose lines may be alike and mean something each;
and a document that is nothing else, which is a copy and no decorated page (`ingest.dedup`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from zlib import crc32

import numpy as np

from rag.store.rows import LiveChunk, TrimRow
from rag.store.vectors import text_digest
from rag.store.view import View
from rag.text import indexed_text

_MAX_BLOCK_WORDS = 25
_MAX_BLOCK_CHARS = 400
# In fewer documents a line that several share is as likely to be said by each of them.
_MIN_DOCUMENTS = 10
# Four bytes each: 16 MB. A corpus of 20 million different lines has five in a bucket, which no share of its documents comes near.
_N_BUCKETS = 1 << 22
# Each row and line of these is a fact of its own, however many files repeat it.
_KINDS_OF_RECORDS = frozenset(("csv", "xlsx", "code"))
_LINE = re.compile(r"\S(?:[^\n\f]*\S)?")
_HEADING_MARK = re.compile(r"#{1,6}\s+")


@dataclass(frozen=True, slots=True)
class _Block:
    """A line of a chunk: its place in the text of the chunk, and what is compared; ``words`` is empty where it is never boilerplate."""

    start: int
    end: int
    words: str
    is_heading: bool


def find_boilerplate(view: View, share: float, count_tokens: Callable[[str], int]) -> list[TrimRow]:
    """Find what of the chunks of a version is furniture of their documents.

    Memory is bounded by the largest document, 16 MB, and the lines that many documents share.

    Args:
        view: The version; its present trims are not looked at, but those that stay the same are not counted anew.
        share: Share of the documents from which on a block is boilerplate, above 0.0; ten documents at least. 1.0 finds nothing.
        count_tokens: That of the embedder.

    Returns:
        One row for every chunk that loses something, in order of (doc_id, place). Every block stays in one chunk at least.
    """
    n_documents = view.counts().n_documents
    if share >= 1.0 or n_documents < _MIN_DOCUMENTS:
        return []
    repeated = _repeated(view, max(_MIN_DOCUMENTS, share * n_documents))
    known = view.trims()
    trims: list[TrimRow] = []
    kept_before: set[str] = set()
    for chunks in _documents(view) if repeated else ():
        document = [_blocks(chunk) for chunk in chunks]
        for chunk, blocks, cut in zip(chunks, document, _cuts(document, repeated, kept_before), strict=True):
            if len(kept := blocks[cut]) < len(blocks):
                trims.append(_trim(chunk, kept, len(blocks) - len(kept), count_tokens, known.get(chunk.chunk_no)))
        kept_before |= repeated.intersection(block.words for blocks in document for block in blocks)
    return trims


def _documents(view: View) -> Iterator[list[LiveChunk]]:
    """The chunks of one document after the other, as they were cut."""
    for _, chunks in groupby(view.live_chunks(whole=True), key=lambda chunk: chunk.doc_id):
        yield list(chunks)


def _blocks(chunk: LiveChunk) -> list[_Block]:
    """The lines of a chunk that are not blank."""
    headings = {" ".join(heading.split()) for heading in chunk.headings}
    found = []
    for line in _LINE.finditer(chunk.text):
        words = line.group().split()
        text = " ".join(words)
        is_heading = _HEADING_MARK.sub("", text) in headings
        is_fact = chunk.kind in _KINDS_OF_RECORDS or text.startswith("|")
        is_block = not is_heading and not is_fact and len(words) <= _MAX_BLOCK_WORDS and len(text) <= _MAX_BLOCK_CHARS
        found.append(_Block(line.start(), line.end(), text if is_block else "", is_heading))
    return found


def _repeated(view: View, n_enough: float) -> set[str]:
    """Blocks that stand in enough documents: first buckets of blocks are counted, then the blocks of full buckets."""
    buckets = np.zeros(_N_BUCKETS, np.uint32)
    for chunks in _documents(view):
        distinct = {_bucket(block.words) for chunk in chunks for block in _blocks(chunk) if block.words}
        buckets[np.fromiter(distinct, np.int64)] += 1
    full = set(np.flatnonzero(buckets >= n_enough).tolist())
    counts: Counter[str] = Counter()
    for chunks in _documents(view) if full else ():
        counts.update({b.words for chunk in chunks for b in _blocks(chunk) if b.words and _bucket(b.words) in full})
    return {words for words, n in counts.items() if n >= n_enough}


def _bucket(words: str) -> int:
    return crc32(words.encode("utf-8", "surrogatepass")) % _N_BUCKETS


def _cuts(document: Sequence[Sequence[_Block]], repeated: set[str], kept_before: set[str]) -> list[slice]:
    """Which blocks of each chunk are kept."""
    flat = [block for blocks in document for block in blocks]
    if all(block.words in repeated for block in flat):
        return [slice(0, len(blocks)) for blocks in document]
    n_front = sum(1 for _ in takewhile(lambda block: block.words in repeated or block.is_heading, flat))
    n_back = sum(1 for _ in takewhile(lambda block: block.words in repeated or block.is_heading, reversed(flat)))
    n_times = Counter(block.words for block in flat)
    cuts = []
    at = 0
    for blocks in document:
        furniture = [
            block.words in kept_before and (i < n_front or i >= len(flat) - n_back or n_times[block.words] > 1)
            for i, block in enumerate(blocks, start=at)
        ]
        at += len(blocks)
        first = sum(1 for _ in takewhile(bool, furniture))
        last = len(blocks) - sum(1 for _ in takewhile(bool, reversed(furniture)))
        cuts.append(slice(first, max(first, last)))
    return cuts


def _trim(
    chunk: LiveChunk, kept: Sequence[_Block], n_blocks: int, count_tokens: Callable[[str], int], known: TrimRow | None
) -> TrimRow:
    """The row of a chunk of which these blocks are kept."""
    if not kept:
        return TrimRow(chunk.chunk_no, chunk.start, chunk.start, 0, n_blocks, 0, b"")
    first, last = kept[0].start, kept[-1].end
    start, end = chunk.start + first, chunk.start + last
    if known and (known.start, known.end) == (start, end):
        return known
    text = indexed_text(chunk.title, chunk.headings, chunk.text[first:last])
    n_lines = chunk.text.count("\n", 0, first)
    return TrimRow(chunk.chunk_no, start, end, n_lines, n_blocks, count_tokens(text), text_digest(text))
