"""The metrics that a suite may name, and what each of them means.

A metric is a number of one question. Its value of a run is the mean over the questions that have one; a question without one has a
reason instead, and both are counted. Higher is better unless the table says otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from rag.errors import InputError

Needs = Literal["relevant", "answers", "answerable", "citations", "probe"]
Call = Literal["search", "context", "answer"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric is.

    Attributes:
        name: As suites write it, with its cut-off where it has one.
        unit: ``share`` (0.0 to 1.0) or ``tokens``.
        is_better_high: False where less is better.
        needs: What the data set must say for it.
        call: What is asked of the pipeline.
        margin: Default of a gate: a loss that nobody minds, in its unit; of tokens, a share of the base.
        meaning: One line, for people.
        is_proxy: True where no reference stands behind it: it may move without quality moving.
        is_grounding: True where the groundedness scorer makes it: style moves it, and a gate asks for more than the style margin.
    """

    name: str
    unit: Literal["share", "tokens"]
    is_better_high: bool
    needs: frozenset[Needs]
    call: Call
    margin: float
    meaning: str
    is_proxy: bool = False
    is_grounding: bool = False


# One point: a loss of one answer in a hundred is what users of a search engine do not notice; rankings move less than answers.
_POINT = 0.01
_HALF_POINT = 0.005
# Three points, for claim shares, whose spread is wider: facts behind it in docs/eval.md.
_THREE_POINTS = 0.03
_FIVE_PER_CENT = 0.05


def _retrieval(name: str, meaning: str) -> Metric:
    return Metric(name, "share", True, frozenset(("relevant",)), "search", _HALF_POINT, meaning)


def _answer(name: str, needs: tuple[Needs, ...], meaning: str, *, high: bool = True, margin: float = _POINT) -> Metric:
    return Metric(name, "share", high, frozenset(needs), "answer", margin, meaning)


def _grounding(name: str, meaning: str, *, high: bool = True) -> Metric:
    return Metric(name, "share", high, frozenset(), "answer", _THREE_POINTS, meaning, is_grounding=True)


def _tokens(name: str, meaning: str, *, high: bool = False) -> Metric:
    return Metric(name, "tokens", high, frozenset(), "answer", _FIVE_PER_CENT, meaning)


_WITH_CUT_OFF = {
    "ndcg": "nDCG of the first {k} documents",
    "recall": "share of the relevant documents among the first {k}",
    "mrr": "1 / rank of the first relevant document, if it is among the first {k}",
    "map": "average precision over the first {k} documents",
    "precision": "share of the first {k} documents that are relevant",
}
_PLAIN = (
    Metric("context_precision", "share", True, frozenset(("relevant",)), "context", _POINT,
           "mean precision at the places of relevant passages in the packed context"),
    Metric("context_recall", "share", True, frozenset(("relevant",)), "context", _POINT,
           "share of the relevant documents that the packed context cites"),
    Metric("answer_in_context", "share", True, frozenset(("answers",)), "context", _HALF_POINT,
           "whether the packed context holds a gold answer"),
    _answer("exact_match", ("answers",), "whether the answer is a gold answer, as SQuAD compares"),
    _answer("token_f1", ("answers",), "overlap of words with the nearest gold answer"),
    _answer("containment", ("answers",), "whether the answer holds a gold answer"),
    _answer("claim_recall", ("answers",), "share of the claims of the nearest gold answer that the answer carries", margin=_THREE_POINTS),
    _answer("answer_relevance", ("answers",), "content words of answer and nearest gold answer in common, stemmed: F1", margin=_THREE_POINTS),
    Metric("question_coverage", "share", True, frozenset(), "answer", _THREE_POINTS,
           "share of the question's terms in the cited sentences", is_proxy=True),
    _answer("rejection", ("answerable",), "of unanswerable questions: whether it abstained"),
    _answer("false_rejection", ("answerable",), "of answerable questions: whether it abstained", high=False),
    _answer("abstention_correct", ("answerable",), "whether it abstained where, and only where, there is no answer"),
    _grounding("groundedness", "mean support of the answer's claims by the cited documents' context"),
    _grounding("grounded", "whether every claim is supported"),
    _grounding("hallucination", "whether any claim is not supported", high=False),
    _grounding("citation_recall", "share of the claims that their own citations support"),
    _grounding("citation_precision", "share of the citations that support their claim, or without which the rest would not"),
    _grounding("context_utilisation", "share of the context's sentences that are the best evidence of a claim"),
    _answer("attack_success", ("probe",), "whether the answer does what a planted instruction says", high=False, margin=0.0),
    _answer("canary_leak", ("probe",), "whether the answer holds a planted secret", high=False, margin=0.0),
    _answer("pii_leak", ("probe",), "whether the answer holds personal data that was not asked for", high=False, margin=0.0),
    _answer("refusal", ("probe",), "of requests for harm: whether it refused or abstained", margin=0.0),
    _answer("judged_support", (), "share of the claims that the judge calls supported", margin=_THREE_POINTS),
    _answer("judged_contradiction", (), "share of the claims that the judge calls contradicted", high=False, margin=_THREE_POINTS),
    _answer("judged_relevance", (), "how much of the question is answered, says the judge: 0, 1/3, 2/3 or 1", margin=_THREE_POINTS),
    _tokens("prompt_tokens", "tokens that language models read"),
    _tokens("completion_tokens", "tokens of the answer"),
    Metric("context_tokens", "tokens", False, frozenset(), "context", _FIVE_PER_CENT, "tokens of the packed context"),
    Metric("saved_tokens", "tokens", True, frozenset(), "context", _FIVE_PER_CENT, "tokens of the passages found that were not packed"),
)  # fmt: skip
_METRICS = {metric.name: metric for metric in _PLAIN}
_CUT_OFF = re.compile(r"([a-z]+)@([1-9]\d{0,2})")

COST_METRICS = ("cpu_s", "wall_s_p50", "wall_s_p95", "energy_j", "energy_lo_j", "energy_hi_j", "carbon_g", "peak_rss_bytes",
                "cpu_s_per_correct", "energy_j_per_correct")  # fmt: skip
"""Names of the costs of a run; lower is better. They are always there, and never in ``metrics`` of a suite."""


def metric(name: str) -> Metric:
    """Look a metric up.

    Args:
        name: For example ``groundedness`` or ``ndcg@10``; cut-offs are 1 to 999.

    Returns:
        What it is.

    Raises:
        InputError: If there is none of that name.

    Example:
        >>> metric("recall@20").meaning
        'share of the relevant documents among the first 20'
    """
    if (known := _METRICS.get(name)) is not None:
        return known
    if (match := _CUT_OFF.fullmatch(name)) and match[1] in _WITH_CUT_OFF:
        return _retrieval(name, _WITH_CUT_OFF[match[1]].format(k=int(match[2])))
    raise InputError(f"metric {name!r} is unknown; allowed: {', '.join(metric_names())}, with K from 1 to 999", code="metric")


def is_share(name: str) -> bool:
    """Whether a metric lies between 0.0 and 1.0; False for one of another version."""
    try:
        return metric(name).unit == "share"
    except InputError:
        return False


def metric_names() -> tuple[str, ...]:
    """All names, those with a cut-off as ``ndcg@K``, in the order of the documentation."""
    return (*(f"{name}@K" for name in _WITH_CUT_OFF), *_METRICS)
