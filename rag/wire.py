"""Results as JSON values: the shapes that the command line prints and the service sends. One function a result."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rag.cost import Energy, Figure, Measurement, StageCost
from rag.power.figure import rounded
from rag.types import Answer, Candidate, Citation, ContextResult, SearchResult

Json = dict[str, Any]


def measurement_json(measurement: Measurement) -> Json:
    """A measurement; joules and grams have no more digits than their bands support, and are null without a power model."""
    energy = measurement.energy
    shown = asdict(measurement)
    del shown["energy"]
    shown["stages"] = [cost._asdict() | {"energy_j": _stage_joules(cost, measurement)} for cost in measurement.stages]
    return shown | {
        "energy_j": figure_json(energy.total) if energy else None,
        "energy_parts_j": _parts(energy) if energy else None,
        "carbon_g": figure_json(energy.carbon) if energy else None,
        "embodied_g": figure_json(energy.embodied) if energy and energy.embodied else None,
        "sci": figure_json(energy.sci) if energy else None,
        "saved_j": figure_json(measurement.saved_j) if measurement.saved_j else None,
        "assumed": list(energy.assumed) if energy else [],
        "not_modelled": list(energy.not_modelled) if energy else ["energy_j", "carbon_g"],
        "notes": list(energy.notes) if energy else [],
    }


def figure_json(figure: Figure) -> Json:
    """A figure with no more digits than its band supports."""
    return rounded(figure)._asdict()


def _parts(energy: Energy) -> Json:
    """The parts of the total by name; null is what this result has none of."""
    names = ("active", "idle", "dram", "gpu", "remote", "facility")
    return {name: figure_json(part) if (part := getattr(energy, name)) else None for name in names}


def _stage_joules(cost: StageCost, measurement: Measurement) -> float | None:
    """Active joules of a stage, rounded as a figure with the relative band of the part ``active`` would be."""
    if measurement.energy is None or cost.energy_j is None:
        return None
    active = measurement.energy.active
    share = cost.energy_j / active.value if active.value else 0.0
    return rounded(active._replace(value=cost.energy_j, lo=active.lo * share, hi=active.hi * share)).value


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
        "template": answer.template,
        "steps": [asdict(step) for step in answer.steps],
        "unverified": list(answer.unverified),
        "grounding": asdict(answer.grounding) if answer.grounding else None,
        "question": answer.question,
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
