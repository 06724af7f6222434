"""Which questions of a data set are asked, and which documents are hidden so that some of them have no answer.

Everything is drawn by the hash of seed and name, so that it does not depend on the order of a file or on what else is in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from eval.datasets import Dataset, EvalQuery, relevant_documents
from rag.errors import InputError


def draw(dataset: Dataset, limit: int, seed: int) -> Dataset:
    """Draw questions; the documents stay.

    Args:
        dataset: Any.
        limit: Questions wanted, 1 or more; all where there are no more.
        seed: The same draws the same; a larger limit draws these and more.

    Returns:
        The data set with the questions drawn, in their order.
    """
    drawn = {query.query_id for query in sorted(dataset.queries, key=lambda query: _lot(seed, query.query_id))[:limit]}
    return replace(
        dataset,
        queries=tuple(query for query in dataset.queries if query.query_id in drawn),
        qrels=MappingProxyType({query_id: grades for query_id, grades in dataset.qrels.items() if query_id in drawn}),
    )


def hide(dataset: Dataset, share: float, seed: int) -> Dataset:
    """Make questions unanswerable by taking their relevant documents away.

    Questions that share a relevant document or a group go together, so that none is left with half of its documents. Whole families are
    drawn as long as they fit into the share. Attacks, and families with a question whose documents are not known, are left alone.

    Args:
        dataset: Any.
        share: Of the questions, above 0.0, at most 1.0; it is reached from below.
        seed: Of the draw.

    Returns:
        The data set without those documents and their judgements; their questions have no answers and citations any more, and
        ``answerable`` is False.

    Raises:
        InputError: If no family fits: a share of nothing would be measured as if nothing had been asked.
    """
    n_wanted = round(share * len(dataset.queries))
    lost: set[str] = set()
    hidden: set[str] = set()
    families = [family for family in _families(dataset) if _can_be_hidden(family, dataset.qrels)]
    for family in sorted(families, key=lambda family: _lot(seed, min(query.query_id for query in family))):
        answerable = {query.query_id for query in family if query.answerable is not False}
        if len(lost) + len(answerable) <= n_wanted:
            lost |= answerable
            hidden.update(doc_id for query in family for doc_id in _relevant(query, dataset.qrels))
    if not lost:
        raise InputError(
            f"data set {dataset.name!r}: hide is {share}, that is {n_wanted} of {len(dataset.queries)} questions, and no set of questions "
            "with documents of their own is that small; raise hide or limit, or leave hide out",
            code="data_set",
        )
    left = {
        query_id: {doc_id: grade for doc_id, grade in grades.items() if doc_id not in hidden}
        for query_id, grades in dataset.qrels.items()
        if query_id not in lost
    }
    return replace(
        dataset,
        corpus=tuple(record for record in dataset.corpus if record.doc_id not in hidden),
        queries=tuple(
            replace(query, answers=(), citations=(), answerable=False) if query.query_id in lost else query
            for query in dataset.queries
        ),
        qrels=MappingProxyType({query_id: MappingProxyType(grades) for query_id, grades in left.items() if grades}),
        hidden=tuple(sorted(hidden)),
    )


def _lot(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogatepass")).digest()


def _relevant(query: EvalQuery, qrels: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    return relevant_documents(qrels.get(query.query_id, {}))


def _can_be_hidden(family: Sequence[EvalQuery], qrels: Mapping[str, Mapping[str, int]]) -> bool:
    answerable = [query for query in family if query.answerable is not False]
    return bool(answerable) and all(query.probe is None and _relevant(query, qrels) for query in answerable)


def _families(dataset: Dataset) -> list[list[EvalQuery]]:
    """Questions that hang together by a relevant document or a group, directly or through others."""
    leaders: dict[tuple[str, str], tuple[str, str]] = {}

    def leader(key: tuple[str, str]) -> tuple[str, str]:
        while (above := leaders.setdefault(key, key)) != key:
            leaders[key] = key = leaders[above]  # shortens the way for the next one
        return key

    for query in dataset.queries:
        for doc_id in _relevant(query, dataset.qrels):
            leaders[leader(("document", doc_id))] = leader(("group", query.group))
    families: dict[tuple[str, str], list[EvalQuery]] = {}
    for query in dataset.queries:
        families.setdefault(leader(("group", query.group)), []).append(query)
    return list(families.values())
