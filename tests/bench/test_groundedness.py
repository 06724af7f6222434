from __future__ import annotations

import json
import statistics
from pathlib import Path

import numpy as np
import pytest

from bench.grounding_fit import FAMILY_WEIGHTS, Pairs, auc, part_of, read_pairs, style_figures
from eval.groundedness import style_margin
from rag.groundedness import open_scorer
from rag.groundedness.context import Context
from rag.groundedness.scorer import CALIBRATION_FILE


@pytest.mark.parametrize(("name", "bar"), [("scifact_validation", 0.76), ("qags_xsum_sent", 0.62)])
def test_the_scorer_separates_labelled_claims_that_it_was_not_fitted_on(data_dir: Path, name: str, bar: float) -> None:
    path = data_dir / "groundedness" / "dev.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    dev = read_pairs(path)
    mine = part_of(dev, dev.sets == name)
    scorer = open_scorer()
    supports = [scorer.judge_claim(claim, Context([document])).support for document, claim in mine.texts]
    assert None not in supports
    assert auc(np.array(supports, float), mine.labels) >= bar


def test_style_is_the_distance_between_long_and_short_claims_of_one_label() -> None:
    families = np.repeat(list(FAMILY_WEIGHTS), 4)
    labels = np.tile([0.0, 0.0, 1.0, 1.0], len(FAMILY_WEIGHTS))
    texts = (("", "short"), ("", "rather a long one")) * 2 * len(FAMILY_WEIGHTS)
    pairs = Pairs(families, families, families, families, texts, labels)
    supports = np.tile([0.2, 0.1, 0.6, 0.9], len(FAMILY_WEIGHTS))
    found = style_figures(supports, supports >= 0.5, pairs)
    assert found == {"groundedness": pytest.approx(statistics.fmean((0.1, 0.3))), "supported": 0.0}


def test_the_style_margin_is_what_the_training_measured() -> None:
    style = json.loads(CALIBRATION_FILE.read_text())["record"]["style"]
    assert style_margin("groundedness") == pytest.approx(style["groundedness"], abs=0.006)
    assert style_margin("citation_recall") == pytest.approx(style["supported"], abs=0.006)
