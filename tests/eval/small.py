"""A small suite on disk: an invented handbook of four pages, and eight questions on it."""

from __future__ import annotations

import json
from pathlib import Path

PAGES = {
    "pumps.md": "# Pumps\n\nThe pump starts at 5 bar because a valve opens then. Old pumps leak at 3 bar.\n",
    "garage.md": "# Garage\n\nThe garage is in the yard. The rent of the garage is 80 euros a month.\n",
    "boiler.md": "# Boiler\n\nThe boiler was built by Marta Lind in 1987. It heats the whole house with oil.\n",
    "holidays.md": "# Holidays\n\nThe office is closed on the first Monday of May. Mail is collected on the next day.\n",
}
QUESTIONS = (
    {"id": "q1", "question": "At what pressure does the pump start?", "answers": ["5 bar"], "relevant": ["pumps.md"]},
    {"id": "q2", "question": "At what pressure do old pumps leak?", "answers": ["3 bar"], "relevant": ["pumps.md"]},
    {"id": "q3", "question": "What is the rent of the garage?", "answers": ["80 euros"], "relevant": ["garage.md"]},
    {"id": "q4", "question": "Where is the garage?", "answers": ["in the yard"], "relevant": ["garage.md"]},
    {"id": "q5", "question": "Who built the boiler?", "answers": ["Marta Lind"], "relevant": ["boiler.md"]},
    {"id": "q6", "question": "When was the boiler built?", "answers": ["1987"], "relevant": ["boiler.md"]},
    {"id": "q7", "question": "When is the office closed?", "answers": ["first Monday of May"], "relevant": ["holidays.md"]},
    {"id": "q8", "question": "Which football team won the cup in Lisbon?", "answerable": False},
)
SUITE = """\
name = "small"
seed = 7

[[data]]
name = "handbook"
path = "questions.jsonl"
format = "jsonl"
documents = "pages"
licence = "ours"

[[pipeline]]
name = "standard"
settings = { "answer.abstain_below" = 0.3 }

[metrics]
names = ["ndcg@10", "recall@5", "context_recall", "answer_in_context", "containment", "token_f1", "rejection", "false_rejection",
         "abstention_correct", "groundedness", "hallucination", "citation_recall", "question_coverage", "refusal", "completion_tokens"]
correct = "containment"

[[gate]]
metric = "containment"
pipeline = "standard"
margin = 0.0
min = 0.8

[[gate]]
metric = "ndcg@10"
margin = 0.0
"""


def write_suite(folder: Path, suite: str = SUITE) -> Path:
    """Write pages, questions and suite.

    Args:
        folder: To write to.
        suite: Text of the suite.

    Returns:
        Path of the suite.
    """
    (folder / "pages").mkdir(parents=True, exist_ok=True)
    for name, text in PAGES.items():
        (folder / "pages" / name).write_text(text, encoding="utf-8")
    lines = "".join(json.dumps(question) + "\n" for question in QUESTIONS)
    (folder / "questions.jsonl").write_text(lines, encoding="utf-8")
    (folder / "suite.toml").write_text(suite, encoding="utf-8")
    return folder / "suite.toml"
