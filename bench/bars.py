"""The numbers to hold, each with the figure of a result.

CPU times were promised for a faster machine than many. They are held against the bar twice: as measured, and divided by the machine
factor of the result (`bench.cost.Calibration`; of its two factors the smaller, which flatters less, except for ingestion, which is
nearly all forward pass of long texts). The second is an estimate: only the forward pass was timed on both machines. Met means as
measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.abstain import Answers
from bench.context import ContextShare
from bench.cost import Calibration, Cost
from bench.processes import InstallSize, Processes
from bench.quality import Quality

Side = Literal[">=", "<="]


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise and its figure.

    Attributes:
        what: What is measured, for people.
        side: Which side of the limit is good.
        limit: The limit.
        figure: As measured.
        unit: Of limit and figure; empty for shares and scores.
        met: Whether the figure holds.
        scaled: The figure at the speed of the reference machine; None where time is not what is measured or the factor is unknown.
        met_scaled: Whether that holds.
    """

    what: str
    side: Side
    limit: float
    figure: float
    unit: str
    met: bool
    scaled: float | None = None
    met_scaled: bool | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run measured; what it left out is None or empty."""

    quality: Sequence[Quality] = ()
    cost: Cost | None = None
    processes: Processes | None = None
    install: InstallSize | None = None
    context: Sequence[ContextShare] = ()
    answers: Sequence[Answers] = ()


def bars_of(measured: Measured) -> tuple[Bar, ...]:
    """Hold a result against every bar that it has a figure for.

    Args:
        measured: The result.

    Returns:
        One entry a bar, in a fixed order.
    """
    calibration = measured.cost.calibration if measured.cost else None
    return (
        *(bar for quality in measured.quality for bar in _quality(quality)),
        *(_cost(measured.cost) if measured.cost else ()),
        *(_processes(measured.processes, calibration) if measured.processes else ()),
        *(_install(measured.install) if measured.install else ()),
        *_context(measured.context),
        *_answers(measured.answers),
    )


def _bar(what: str, side: Side, limit: float, figure: float, unit: str = "", *, factor: float | None = None) -> Bar:
    def holds(value: float) -> bool:
        return value >= limit if side == ">=" else value <= limit

    scaled = None if factor is None else figure / factor
    return Bar(what, side, limit, figure, unit, holds(figure), scaled, None if scaled is None else holds(scaled))


def _quality(quality: Quality) -> Iterator[Bar]:
    ndcg = {arm.arm: arm.ndcg10 for arm in quality.arms}
    if quality.data == "xquad-en":
        yield _bar("XQuAD nDCG@10, hybrid", ">=", 0.975, ndcg["hybrid"])
    if quality.data == "scifact":
        yield _bar("SciFact nDCG@10, hybrid", ">=", 0.73, ndcg["hybrid"])
        yield _bar("SciFact nDCG@10, BM25", ">=", 0.68, ndcg["bm25"])
        yield _bar("SciFact nDCG@10, dense int8", ">=", 0.643, ndcg["dense"])
        if "dense fp32" in ndcg:
            yield _bar("SciFact nDCG@10, loss of int8 against fp32", "<=", 0.005, ndcg["dense fp32"] - ndcg["dense"])


def _cost(cost: Cost) -> Iterator[Bar]:
    factors = cost.calibration
    least = min(factors.document_factor, factors.query_factor)
    yield _bar("hybrid search, CPU a query", "<=", 3.0, cost.query.hybrid_ms, "ms", factor=least)
    yield _bar("ingest, CPU a chunk of 184 tokens", "<=", 15.0, cost.ingest.total_ms, "ms", factor=factors.document_factor)


def _processes(processes: Processes, calibration: Calibration | None) -> Iterator[Bar]:
    factor = min(calibration.document_factor, calibration.query_factor) if calibration else None
    yield _bar("rag search as a new process, CPU", "<=", 0.6, processes.search.cpu_s, "s", factor=factor)
    yield _bar("rag search as a new process, peak memory", "<=", 150, processes.search.peak_rss_bytes / 1e6, "MB")
    yield _bar("100 searches in one process, peak memory", "<=", 200, processes.batch.peak_rss_bytes / 1e6, "MB")
    yield _bar("rag --help as a new process, CPU", "<=", 0.15, processes.help.cpu_s, "s", factor=factor)
    yield _bar("SciFact on disk, texts and vectors included", "<=", 20, processes.disk.n_bytes / 1e6, "MB")


def _install(install: InstallSize) -> Iterator[Bar]:
    yield _bar("core install", "<=", 300, install.n_bytes / 1e6, "MB")
    yield _bar("torch in the core install", "<=", 0, float(install.has_torch))


def _context(shares: Sequence[ContextShare]) -> Iterator[Bar]:
    limits = {128: 0.94, 256: 0.975}
    for share in shares:
        if share.arm == "hybrid sentences" and share.max_tokens in limits:
            what = f"XQuAD gold answer inside {share.max_tokens} tokens of sentences"
            yield _bar(what, ">=", limits[share.max_tokens], share.contained)
    if shares:
        yield _bar("contexts over their budget", "<=", 0, float(sum(share.n_over for share in shares)))


def _answers(answers: Sequence[Answers]) -> Iterator[Bar]:
    for found in answers:
        if found.mode == "hybrid":
            yield _bar("XQuAD gold answer in the extractive answer", ">=", 0.80, found.contained)
            yield _bar("tokens of an extractive answer, mean", "<=", 60, found.mean_tokens)
            yield _bar("abstention AUC, gold paragraph removed", ">=", 0.92, found.auc_removed)
