"""A rich result for tests of the report: texts, claims, steps, stages and costs, all from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from eval.record import (
    FORMAT,
    ClaimRecord,
    CostRecord,
    DataRecord,
    EffortRecord,
    Estimate,
    QuestionRecord,
    Result,
    RunRecord,
    StageRecord,
    StepRecord,
)

SENTENCE = "The weir was rebuilt in 1961 by the town of Marl, which paid for it out of the salt tax. "
METRICS = ("containment", "token_f1", "groundedness", "question_coverage", "context_tokens", "prompt_tokens")


def mean(values: Sequence[float], n: int) -> Estimate:
    if not values:
        return Estimate(None, n_unscored=n)
    value = math.fsum(values) / len(values)
    return Estimate(value, value * 0.95, value * 1.05, len(values), n - len(values))


def question(n: int, *, share: float, joules: float | None, text: str = SENTENCE, generator: str = "extractive") -> QuestionRecord:
    """One question; ``share`` is how often it is right and how well it is grounded, ``joules`` the cost of its answer."""
    draw = random.Random(f"{n} {share}")
    if n % 50 == 49:
        unscored = dict.fromkeys(METRICS, "failed")
        return QuestionRecord(f"q{n}", f"g{n // 5}", f"slice {n % 3}", {}, unscored, text, error="model: the server did not answer")
    grounded = min(1.0, max(0.0, draw.gauss(share, 0.2)))
    scores = {"containment": float(draw.random() < share), "token_f1": share, "question_coverage": share}
    scores |= {"context_tokens": 200.0 + n % 9, "prompt_tokens": 300.0 if joules and generator != "extractive" else 0.0}
    is_empty = n % 40 == 39
    answer = text * 3
    verdict = "supported" if grounded > 0.5 else "not_found"
    claims = tuple(
        ClaimRecord(k * len(text), (k + 1) * len(text) - 1, verdict, round(grounded, 4), ("number",) if k else (), text, f"doc {n}")
        for k in range(3)
    )
    stages = tuple(
        StageRecord(name, share_of * (joules or 1.0) / 20, share_of * joules if joules else None)
        for name, share_of in (("embed", 0.3), ("search", 0.2), ("generate", 0.4))
    )
    cost = CostRecord(
        (joules or 1.0) / 20, (joules or 1.0) / 10, 200 << 20, joules, joules and joules * 0.5, joules and joules * 3, stages=stages
    )
    return QuestionRecord(
        question_id=f"q{n}",
        group=f"g{n // 5}",
        slice=f"slice {n % 3}",
        scores=scores if is_empty else scores | {"groundedness": grounded},
        unscored={"groundedness": "empty"} if is_empty else {},
        question=f"When was it rebuilt, and by whom ({n})?",
        answer=answer,
        claims=claims,
        steps=(StepRecord("extractive", "answered" if generator == "extractive" else "abstained", "first"),)
        + ((StepRecord(generator, "answered", "evidence is thin", 300, 40),) if generator != "extractive" else ()),
        generator=generator,
        cost=cost,
    )


def run(
    pipeline: str,
    *,
    share: float,
    joules: float | None,
    n: int = 60,
    data: str = "town",
    method: str = "modelled",
    text: str = SENTENCE,
) -> RunRecord:
    """A run whose every third answer is of a model, unless it is the one without a model."""
    has_model = pipeline != "no-model"
    questions = tuple(
        question(i, share=share, joules=joules, text=text, generator="gguf:small" if has_model and i % 3 == 0 else "extractive")
        for i in range(n)
    )
    costs = [q.cost for q in questions if q.cost]
    cost = {
        "cpu_s": mean([c.cpu_s for c in costs], n),
        "wall_s_p50": Estimate(0.1, n=n),
        "peak_rss_bytes": Estimate(200.0 * (1 << 20), n=n),
    }
    if joules is not None:
        cost |= {
            "energy_j": mean([joules] * n, n),
            "energy_lo_j": Estimate(joules * 0.5, n=n),
            "energy_hi_j": Estimate(joules * 3, n=n),
        }
    return RunRecord(
        data=data,
        pipeline=pipeline,
        settings={"answer.generator": "auto" if has_model else "extractive"},
        quality={name: mean([q.scores[name] for q in questions if name in q.scores], n) for name in METRICS},
        cost=cost,
        method=method if joules is not None else "",
        boundary="server_wall" if joules is not None else "",
        questions=questions,
        notes=("1 source of joules could not be read",),
    )


def result(*runs: RunRecord, version: str = "1.0.0", scorer: str = "l0-1", machine: str = "Xeon, 2 cores") -> Result:
    names = dict.fromkeys(one.data for one in runs)
    data = tuple(DataRecord(name, "ab" * 32, "CC-BY-SA-4.0", len(runs[0].questions), 120) for name in names)
    effort = EffortRecord("2026-11-01T10:00:00Z", 120.0, 10.0, 80.0, 9.0)
    return Result(FORMAT, "release", "cd" * 32, 7, version, scorer, "", machine, data, runs, effort, "containment")
