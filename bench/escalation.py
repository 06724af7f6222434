"""Whether it can be told that extraction misses a fact: the rule of the cascade, learnt on half of XQuAD and read on the other.

A question for a fact that extraction answers is a miss when the answer does not contain the gold answer (SQuAD normalisation, whole
words); abstentions are never escalated, so they are left out. Halves and folds are articles, five paragraphs each. The rule is held
against the reasoned one that it took the place of: no sentence covers half of the question, and three together four fifths.

- why, how, compare: the same probability on the kinds of question that are escalated by their words.
- hidden: the paragraph with the answer is hidden; whatever is answered is wrong, and no model can repair it.
- scifact: claims; a miss is an answer that cites no abstract judged relevant.

    python -m bench.escalation [--work DIR]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from bench.corpora import Corpus, open_corpus
from bench.hiding import HidingStore
from bench.machine import Machine, commit, this_machine
from bench.result import result_parser, today, write_result
from eval.answers import contains_answer, roc_auc
from eval.datasets import EvalQuery
from rag.engine import Engine
from rag.evidence import Sentence, question_terms, score_sentences
from rag.generate.cascade import LIKELY_MISS, question_kind
from rag.generate.escalate import WEIGHTS, Signs, Weights, miss_probability, signs
from rag.generate.extractive import ExtractiveGenerator
from rag.meter import Meter
from rag.types import Draft, Query, Task

_FORMAT = 1
_ARTICLE = 5
_N_FOLDS = 6
_RIDGE = 1.0
_STEPS = 20
# As many as a chat model reads.
_N_SHOWN = 6
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """A question that extraction answered.

    Attributes:
        group: Number of its article.
        signs: What the rule goes by.
        missed: Whether the answer lacks the gold answer.
        reachable: Whether the sentences that a model would be shown hold it.
        is_spread_out: What the reasoned rule says.
        uncovered: One minus the coverage of the best sentence: what the reasoned rule goes by, as a number.
    """

    group: int
    signs: Signs
    missed: bool
    reachable: bool
    is_spread_out: bool
    uncovered: float


@dataclass(frozen=True, slots=True)
class Learnt:
    """What was learnt, and from what.

    Attributes:
        data: Name of the data.
        n: Questions.
        n_missed: Of which missed.
        n_folds: Folds of the cross-validation, by article.
        auc: Area under the curve in cross-validation.
        means: Mean of each sign.
        weights: Fitted to all of them.
        shipped: Those of this version.
    """

    data: str
    n: int
    n_missed: int
    n_folds: int
    auc: float
    means: Signs
    weights: Weights
    shipped: Weights


@dataclass(frozen=True, slots=True)
class Reading:
    """The shipped rule on one set of questions, against the reasoned one; precision is the share of misses among the escalated.

    Attributes:
        data: Which set.
        n: Questions that extraction answered.
        n_missed: Of which missed.
        mean_probability: Mean of the probability of a miss; ``n_missed / n`` if it is calibrated.
        auc: Area under the curve of that probability; None without both kinds.
        auc_reasoned: Likewise of the question's share that the best sentence does not cover.
        n_escalated: Questions that the rule escalates.
        precision: Misses among them; None for none.
        n_reachable: Misses among them that a model could repair: the sentences it is shown hold the gold answer.
        n_reasoned: Questions that the reasoned rule escalates.
        precision_reasoned: Misses among those.
        precision_equal: Misses among as many with the highest probability.
    """

    data: str
    n: int
    n_missed: int
    mean_probability: float
    auc: float | None
    auc_reasoned: float | None
    n_escalated: int
    precision: float | None
    n_reachable: int
    n_reasoned: int
    precision_reasoned: float | None
    precision_equal: float | None


@dataclass(frozen=True, slots=True)
class Hidden:
    """Questions whose paragraph is hidden: how many are answered all the same, and how many of those would be escalated."""

    n: int
    n_answered: int
    n_escalated: int


@dataclass(frozen=True, slots=True)
class Result:
    """Everything, as it is written; ``cpu_ms`` is what a decision costs on top of extraction."""

    format: int
    commit: str
    date: str
    machine: Machine
    threshold: float
    cpu_ms: float
    learnt: Learnt
    readings: tuple[Reading, ...]
    hidden: Hidden


class _Recorder(ExtractiveGenerator):
    """Extraction that keeps what it was given."""

    task: Task

    def generate(self, task: Task, meter: Meter | None = None) -> Draft:
        """See `rag.generate.Generator.generate`."""
        self.task = task
        return super().generate(task, meter)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write the result."""
    parser = result_parser(__doc__)
    parser.add_argument("--work", type=Path, help="keep the collections here")
    options = parser.parse_args(argv)
    with TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        xquad = open_corpus(options.data / "xquad-en", work)
        facts, others = _xquad(xquad)
        hidden, cpu_ms = _hidden(xquad), _cpu_ms(xquad)
        xquad.store.close()
        scifact = open_corpus(options.data / "scifact", work)
        claims = _claims(scifact)
        scifact.store.close()
    dev = [case for case in facts if case.group % 2 == 0]
    test = [case for case in facts if case.group % 2 == 1]
    result = Result(
        format=_FORMAT,
        commit=commit(),
        date=today(),
        machine=this_machine(),
        threshold=LIKELY_MISS,
        cpu_ms=cpu_ms,
        learnt=learn("xquad-en, even articles", dev),
        readings=(
            read("xquad-en, even articles", dev),
            read("xquad-en, odd articles", test),
            read("xquad-en, why how compare", others),
            read("scifact", claims),
        ),
        hidden=hidden,
    )
    print(f"learnt, AUC in cross-validation {result.learnt.auc:.3f}: {result.learnt.weights}")
    for reading in result.readings:
        print(reading)
    print(hidden, f"{cpu_ms:.3f} CPU-ms a decision")
    write_result(result, options.out, "escalation")


def learn(data: str, cases: Sequence[Case]) -> Learnt:
    """Fit the weights, and tell by cross-validation how well they separate.

    Args:
        data: Name of the data.
        cases: Of at least as many articles as folds, some missed and some not.

    Returns:
        The record of it. Article ``g`` is in fold ``g // 2 % n_folds``: every other article is in here.
    """
    x, y = _matrix(cases), np.array([case.missed for case in cases], np.float64)
    folds = np.array([case.group // 2 % _N_FOLDS for case in cases])
    scores = np.empty(len(cases))
    for fold in range(_N_FOLDS):
        fitted = fit(x[folds != fold], y[folds != fold])
        scores[folds == fold] = fitted[0] + x[folds == fold] @ fitted[1:]
    return Learnt(
        data=data,
        n=len(cases),
        n_missed=int(y.sum()),
        n_folds=_N_FOLDS,
        auc=roc_auc(scores[y == 1].tolist(), scores[y == 0].tolist()),
        means=Signs(*x.mean(axis=0).tolist()),
        weights=Weights(*fit(x, y).tolist()),
        shipped=WEIGHTS,
    )


def fit(x: Floats, y: Floats) -> Floats:
    """Logistic regression with an L2 penalty of strength 1 on standardised columns, by Newton's method.

    Args:
        x: Shape (n, m).
        y: Shape (n,), 0.0 or 1.0.

    Returns:
        Shape (1 + m,): the bias and a weight a column, on the scale of ``x``; a constant column gets 0.
    """
    mean, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread == 0] = np.inf
    design = np.column_stack([np.ones(len(x)), (x - mean) / spread])
    penalty = np.full(design.shape[1], _RIDGE)
    penalty[0] = 0.0
    w = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-(design @ w)))
        hessian = (design.T * (p * (1 - p))) @ design + np.diag(penalty)
        w -= np.linalg.solve(hessian, design.T @ (p - y) + penalty * w)
    weights = w[1:] / spread
    return np.concatenate([[w[0] - weights @ mean], weights])


def read(data: str, cases: Sequence[Case]) -> Reading:
    """Figures of the shipped rule and of the reasoned one.

    Args:
        data: Name of the set.
        cases: At least one.

    Returns:
        The figures; of equal probabilities the earlier case is escalated first.
    """
    p = [miss_probability(case.signs) for case in cases]
    escalated = [case for case, probability in zip(cases, p, strict=True) if probability >= LIKELY_MISS]
    reasoned = [case for case in cases if case.is_spread_out]
    likeliest = [cases[i] for i in sorted(range(len(cases)), key=lambda i: -p[i])[: len(reasoned)]]
    return Reading(
        data=data,
        n=len(cases),
        n_missed=sum(case.missed for case in cases),
        mean_probability=statistics.fmean(p),
        auc=_auc(cases, p),
        auc_reasoned=_auc(cases, [case.uncovered for case in cases]),
        n_escalated=len(escalated),
        precision=_missed(escalated),
        n_reachable=sum(case.missed and case.reachable for case in escalated),
        n_reasoned=len(reasoned),
        precision_reasoned=_missed(reasoned),
        precision_equal=_missed(likeliest),
    )


def _missed(cases: Sequence[Case]) -> float | None:
    return statistics.fmean(case.missed for case in cases) if cases else None


def _auc(cases: Sequence[Case], scores: Sequence[float]) -> float | None:
    missed = [score for case, score in zip(cases, scores, strict=True) if case.missed]
    hit = [score for case, score in zip(cases, scores, strict=True) if not case.missed]
    return roc_auc(missed, hit) if missed and hit else None


def _matrix(cases: Sequence[Case]) -> Floats:
    return np.array([list(asdict(case.signs).values()) for case in cases], np.float64)


def _xquad(corpus: Corpus) -> tuple[list[Case], list[Case]]:
    """Questions for a fact, and the others."""
    article = {record.doc_id: n // _ARTICLE for n, record in enumerate(corpus.dataset.corpus)}
    facts: list[Case] = []
    others: list[Case] = []
    for query, task, draft in _answered(corpus):
        shown = score_sentences(query.text, task.candidates)
        case = _case(
            group=article[min(corpus.dataset.qrels[query.query_id])],
            question=query.text,
            draft=draft,
            sentences=shown,
            missed=not contains_answer(draft.text, query.answers),
            reachable=contains_answer(" ".join(sentence.text for sentence in shown[:_N_SHOWN]), query.answers),
        )
        (facts if question_kind(query.text) == "fact" else others).append(case)
    return facts, others


def _claims(corpus: Corpus) -> list[Case]:
    cases = []
    for number, (query, task, draft) in enumerate(_answered(corpus)):
        gold = {doc_id for doc_id, grade in corpus.dataset.qrels[query.query_id].items() if grade > 0}
        shown = score_sentences(query.text, task.candidates)
        cited = {citation.doc_id for citation in draft.citations}
        readable = {task.candidates[sentence.rank].chunk.doc_id for sentence in shown[:_N_SHOWN]}
        cases.append(
            _case(
                group=number,
                question=query.text,
                draft=draft,
                sentences=shown,
                missed=cited.isdisjoint(gold),
                reachable=not readable.isdisjoint(gold),
            )
        )
    return cases


def _answered(corpus: Corpus) -> list[tuple[EvalQuery, Task, Draft]]:
    """Questions that extraction answers, with what it was given."""
    recorder = _Recorder(corpus.settings.answer)
    engine = Engine(corpus.store, corpus.embedder, recorder, corpus.settings)
    found = []
    for query in corpus.dataset.queries:
        engine.ask(Query(query.text))
        draft = recorder.generate(recorder.task)
        if not draft.abstained:
            found.append((query, recorder.task, draft))
    return found


def _case(*, group: int, question: str, draft: Draft, sentences: Sequence[Sentence], missed: bool, reachable: bool) -> Case:
    best = sentences[0].coverage
    return Case(group, signs(question, draft), missed, reachable, _is_spread_out(question, sentences), 1 - best)


def _is_spread_out(question: str, sentences: Sequence[Sentence]) -> bool:
    wanted = question_terms(question)
    held = frozenset().union(*(sentence.terms for sentence in sentences[:3]))
    together = sum(term in held for term in wanted) / len(wanted) if wanted else 0.0
    return sentences[0].coverage < 0.5 and together >= 0.8


def _hidden(corpus: Corpus) -> Hidden:
    rows: dict[str, list[int]] = {}
    for row, chunk in enumerate(corpus.chunks()):
        rows.setdefault(chunk.doc_id, []).append(row)
    recorder = _Recorder(corpus.settings.answer)
    n = n_answered = n_escalated = 0
    for query in corpus.dataset.queries:
        if question_kind(query.text) != "fact":
            continue
        store = HidingStore(corpus.store, np.array(rows[min(corpus.dataset.qrels[query.query_id])], np.int64))
        Engine(store, corpus.embedder, recorder, corpus.settings).ask(Query(query.text))
        draft = recorder.generate(recorder.task)
        n += 1
        n_answered += not draft.abstained
        n_escalated += not draft.abstained and miss_probability(signs(query.text, draft)) >= LIKELY_MISS
    return Hidden(n, n_answered, n_escalated)


def _cpu_ms(corpus: Corpus) -> float:
    drafts = [(query.text, draft) for query, _, draft in _answered(corpus)]
    began = time.process_time()
    for question, draft in drafts:
        miss_probability(signs(question, draft))
    return (time.process_time() - began) / len(drafts) * 1000


if __name__ == "__main__":
    main()
