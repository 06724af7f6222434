"""Rows of the catalog, as a version of a collection shows them."""

from __future__ import annotations

from dataclasses import dataclass

from rag.text import indexed_text


@dataclass(frozen=True, slots=True)
class LiveChunk:
    """A chunk as the indexes see it.

    Attributes:
        chunk_no: Its row in the catalog.
        doc_id: Its document.
        title: Title of its document.
        headings: Its heading path.
        text: Its text.
        digest: 16 bytes: key of the vector of its indexed text.
        tags: Labels of its document (`rag.index.lexical.label`), in order of key and value, without the document id.
        start: First character in its document.
        kind: Format family of its document.
    """

    chunk_no: int
    doc_id: str
    title: str
    headings: tuple[str, ...]
    text: str
    digest: bytes
    tags: tuple[str, ...]
    start: int = 0
    kind: str = "text"

    @property
    def indexed_text(self) -> str:
        """What is embedded and searched."""
        return indexed_text(self.title, self.headings, self.text)


@dataclass(frozen=True, slots=True)
class DuplicateRow:
    """A chunk that another one stands for, with their estimated Jaccard similarity."""

    chunk_no: int
    of_chunk_no: int
    similarity: float


@dataclass(frozen=True, slots=True)
class TrimRow:
    """What a version shows of a chunk whose edges are boilerplate.

    ``start`` and ``end`` count in the document, ``n_lines`` the line ends before ``start``, ``n_blocks`` what is left out. A chunk of
    which nothing is left has ``start == end``, no tokens and an empty digest.
    """

    chunk_no: int
    start: int
    end: int
    n_lines: int
    n_blocks: int
    n_tokens: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Counts:
    """Sizes of a version; ``n_chunks`` counts collapsed duplicates too, ``n_boilerplate`` blocks of text left out of chunks."""

    n_documents: int
    n_chunks: int
    n_duplicates: int
    n_boilerplate: int


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document as listed."""

    doc_id: str
    uri: str
    title: str
    kind: str
    n_chars: int
    n_chunks: int
