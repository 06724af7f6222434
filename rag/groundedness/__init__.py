"""Groundedness: is every claim of an answer carried by the passages? See `rag.groundedness.scorer`."""

from rag.groundedness.answer import ground
from rag.groundedness.scorer import Scorer, answer_support, open_scorer
from rag.verdict import Evidence, Finding, Flag, Grounding, Verdict

__all__ = ["Evidence", "Finding", "Flag", "Grounding", "Scorer", "Verdict", "answer_support", "ground", "open_scorer"]
