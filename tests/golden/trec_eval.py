"""What trec_eval itself says of a few rankings; `python -P -m tests.golden.trec_eval` writes the golden file anew."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytrec_eval

PATH = Path(__file__).with_suffix(".json")
MEASURES = {"ndcg@10": "ndcg_cut_10", "ndcg@3": "ndcg_cut_3", "recall@5": "recall_5", "map@10": "map_cut_10", "precision@5": "P_5"}
N_QUERIES = 12


def main() -> None:
    draw = random.Random(7)
    documents = [f"d{n}" for n in range(20)]
    rankings = {f"q{n}": draw.sample(documents, draw.randint(1, 20)) for n in range(N_QUERIES)}
    qrels = {f"q{n}": {d: draw.choice((0, 0, 1, 1, 2, 3)) for d in draw.sample(documents, 6)} for n in range(N_QUERIES)}
    run = {q: {d: float(-place) for place, d in enumerate(ranking)} for q, ranking in rankings.items()}
    told = pytrec_eval.RelevanceEvaluator(qrels, {*MEASURES.values(), "recip_rank"}).evaluate(run)
    # trec_eval has no cut-off for the reciprocal rank; no ranking is longer than 20.
    scores = {q: {name: of[theirs] for name, theirs in MEASURES.items()} | {"mrr@20": of["recip_rank"]} for q, of in told.items()}
    PATH.write_text(json.dumps({"rankings": rankings, "qrels": qrels, "scores": scores}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
