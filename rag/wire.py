"""Results as JSON values: the shapes that the command line prints and the service sends. One function a result."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rag.types import Answer, Candidate, Citation, ContextResult, Measurement, SearchResult

Json = dict[str, Any]


def measurement_json(measurement: Measurement) -> Json:
    """A measurement, field by field."""
    return asdict(measurement)


def search_json(result: SearchResult) -> Json:
    """Hits with the scores of both sources; a source that was not asked is null."""
    return {
        "hits": [_hit(hit) for hit in result.hits],
        "collection": result.collection,
        "version": result.version,
        "measurement": measurement_json(result.measurement),
    }


def context_json(result: ContextResult) -> Json:
    """A packed context with its citations."""
    context = result.context
    return {
        "text": context.text,
        "n_tokens": context.n_tokens,
        "max_tokens": context.max_tokens,
        "counter": context.counter,
        "citations": [citation_json(citation) for citation in context.citations],
        "collection": result.collection,
        "version": result.version,
        "measurement": measurement_json(result.measurement),
    }


def answer_json(answer: Answer) -> Json:
    """An answer with its citations."""
    return {
        "answer": answer.text,
        "abstained": answer.abstained,
        "reason": answer.reason,
        "confidence": answer.confidence,
        "citations": [citation_json(citation) for citation in answer.citations],
        "generator": answer.generator,
        "collection": answer.collection,
        "version": answer.version,
        "measurement": measurement_json(answer.measurement),
    }


def citation_json(citation: Citation) -> Json:
    """A citation; ``document_text[source.start_char:source.end_char] == quote``."""
    return asdict(citation)


def _hit(hit: Candidate) -> Json:
    chunk = hit.chunk
    return {
        "chunk_id": chunk.chunk_id,
        "doc_id": chunk.doc_id,
        "source": asdict(chunk.source),
        "start": chunk.source.start_char,
        "end": chunk.source.end_char,
        "text": chunk.text,
        "score": hit.score,
        "bm25": hit.bm25,
        "cosine": hit.cosine,
    }
