"""A `Store` of plain lists and exact arithmetic: the oracle that fast stores are compared with."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from rag.embed import Embedder
from rag.errors import InputError
from rag.index.lexical import analyse
from rag.store.catalog import tags_of
from rag.store.vectors import text_digest
from rag.text import indexed_text
from rag.types import Chunk, Document, Filters, Rows, Scored, Scores, Source, Span, Vector

K1, B = 1.2, 0.75


class NaiveStore:
    """Chunks of documents, searched one by one: Lucene's BM25 with exact lengths, exact cosine of float32 vectors.

    Exact copies (but for case and white space) in documents with the same labels are one row, as in the shipped store.

    Args:
        documents: Documents with the spans that they are cut into, in any order.
        embedder: Makes the vectors.
        collection: Its name.
        version: Its version.
    """

    def __init__(
        self, documents: Sequence[tuple[Document, Sequence[Span]]], embedder: Embedder, collection: str = "naive", version: int = 1
    ) -> None:
        self.collection = collection
        self.version = version
        self.embedder = embedder.id
        self._documents = {document.doc_id: document for document, _ in documents}
        self._copies: list[list[tuple[Document, Span]]] = []
        places: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
        for document, spans in sorted(documents, key=lambda pair: pair[0].doc_id):
            for span in spans:
                key = (" ".join(document.text[span.start : span.end].lower().split()), tuple(tags_of(document)))
                if key not in places:
                    places[key] = len(self._copies)
                    self._copies.append([])
                self._copies[places[key]].append((document, span))
        texts = [_indexed(*copies[0]) for copies in self._copies]
        self._terms = [Counter(analyse(text)) for text in texts]
        self._lengths = [sum(terms.values()) for terms in self._terms]
        self._vectors = embedder.embed(texts)

    @property
    def n_rows(self) -> int:
        return len(self._copies)

    def search_lexical(self, text: str, k: int, filters: Filters) -> Scored:
        allowed = self._allowed(filters)
        return _best([(row, score) for row in allowed if (score := self._bm25(text, row)) > 0], k)

    def search_dense(self, vector: Vector, k: int, filters: Filters) -> Scored:
        return _best([(row, self._cosine(vector, row)) for row in self._allowed(filters)], k)

    def score_lexical(self, text: str, rows: Rows) -> Scores:
        return _floats([self._bm25(text, row) for row in rows.tolist()])

    def score_dense(self, vector: Vector, rows: Rows) -> Scores:
        return _floats([self._cosine(vector, row) for row in rows.tolist()])

    def document_frequency(self, terms: Sequence[str]) -> list[int]:
        return [sum(term in counts for counts in self._terms) for term in terms]

    def chunks(self, rows: Rows, filters: Filters | None = None) -> list[Chunk]:
        wanted = (filters or {}).get("doc_id")
        found = []
        for row in rows.tolist():
            copies = self._copies[row]
            own = [pair for pair in copies if wanted is None or pair[0].doc_id in wanted]
            document, span = (own or copies)[0]
            also = tuple(sorted({other.doc_id for other, _ in copies[1:]})) if (document, span) == copies[0] else ()
            found.append(_chunk(document, span, also))
        return found

    def document_text(self, doc_id: str) -> str:
        if doc_id not in self._documents:
            raise InputError(f"no document {doc_id!r}", code="unknown_document")
        return self._documents[doc_id].text

    def fingerprints(self, doc_ids: Sequence[str]) -> dict[str, str]:
        wanted = [self._documents[doc_id] for doc_id in doc_ids if doc_id in self._documents]
        return {document.doc_id: hashlib.sha256(repr(document).encode()).hexdigest() for document in wanted}

    def close(self) -> None:
        """Nothing is held."""

    def _allowed(self, filters: Filters) -> list[int]:
        tests: list[Callable[[Document], bool]] = []
        for key, values in filters.items():
            if key == "doc_id":
                tests.append(lambda document, values=values: document.doc_id in values)  # type: ignore[misc]
                continue
            if not any(key in dict(tags_of(document)) for document in self._documents.values()):
                raise InputError(f"no document has metadata {key!r}", code="unknown_key")
            tests.append(lambda document, key=key, values=values: dict(tags_of(document)).get(key) in values)  # type: ignore[misc]
        return [
            row for row, copies in enumerate(self._copies) if any(all(test(document) for test in tests) for document, _ in copies)
        ]

    def _bm25(self, text: str, row: int) -> float:
        mean_length = sum(self._lengths) / max(1, self.n_rows)
        norm = K1 * (1 - B + B * self._lengths[row] / mean_length) if mean_length else 0.0
        score = 0.0
        for term in analyse(text):
            n = self.document_frequency([term])[0]
            count = self._terms[row][term]
            idf = math.log(1 + (self.n_rows - n + 0.5) / (n + 0.5))
            score += idf * (K1 + 1) * count / (count + norm) if count else 0.0
        return score

    def _cosine(self, vector: Vector, row: int) -> float:
        return float(self._vectors[row] @ vector)


def _indexed(document: Document, span: Span) -> str:
    return indexed_text(document.title, span.headings, document.text[span.start : span.end])


def _chunk(document: Document, span: Span, also_in: tuple[str, ...]) -> Chunk:
    source = Source(
        document.uri,
        document.title,
        span.headings,
        span.page,
        span.line,
        span.start,
        span.end,
        document.mtime,
        dict(document.metadata),
        also_in,
    )
    chunk_id = f"{document.doc_id}#{text_digest(_indexed(document, span))[:6].hex()}"
    return Chunk(chunk_id, document.doc_id, document.text[span.start : span.end], span.n_tokens, source)


def _best(pairs: list[tuple[int, float]], k: int) -> Scored:
    # Rounded as the result is, so that what looks equal is ordered by row.
    first = sorted(((row, float(np.float32(score))) for row, score in pairs), key=lambda pair: (-pair[1], pair[0]))[:k]
    return Scored(np.array([row for row, _ in first], np.int64), _floats([score for _, score in first]))


def _floats(values: list[float]) -> Scores:
    return np.array(values, np.float32)
