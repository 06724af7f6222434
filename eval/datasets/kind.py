"""What kind of question a question is, by its words: a slice for tables where a data set names none."""

from __future__ import annotations

import re

_KINDS = {
    "what": "what", "who": "who", "whom": "who", "whose": "who", "when": "when", "where": "where", "why": "why", "how": "how",
    "which": "which",
}  # fmt: skip
_AUXILIARIES = frozenset("am are is was were do does did has have had can could may might must shall should will would".split())


def question_kind(text: str) -> str:
    """Tell the kind of an English question.

    The first word decides when it is a question word or an auxiliary verb; otherwise the first question word of a text that ends in a
    question mark, because statements have such words too.

    Args:
        text: A question, or a statement to be checked.

    Returns:
        ``what``, ``who``, ``when``, ``where``, ``why``, ``how``, ``which``, ``yes-no`` or ``other``.

    Example:
        >>> question_kind("In which year was it built?"), question_kind("Is it tall?"), question_kind("It falls when it rains.")
        ('which', 'yes-no', 'other')
    """
    words = re.findall(r"[^\W\d_]+", text.lower())
    if not words:
        return "other"
    if words[0] in _AUXILIARIES:
        return "yes-no"
    asked = words if text.rstrip().endswith("?") else words[:1]
    return next((_KINDS[word] for word in asked if word in _KINDS), "other")
