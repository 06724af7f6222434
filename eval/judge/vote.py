"""What a judge is asked to write, and what is made of what it wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

Said = Literal["supported", "not_found", "contradicted"]
_Relevance = Literal["none", "little", "most", "all"]
_STEPS: dict[_Relevance, float] = {"none": 0.0, "little": 1 / 3, "most": 2 / 3, "all": 1.0}
# Worst first: a tie of repeats counts against the answer.
_SEVERITY: tuple[Said, ...] = ("contradicted", "not_found", "supported")


@dataclass(frozen=True, slots=True)
class Vote:
    """One call.

    Attributes:
        verdicts: One a claim; empty when the call gave nothing usable.
        relevance: Share of the question that is answered: 0, 1/3, 2/3 or 1; None when the call gave nothing usable.
        fault: Why it gave nothing usable; empty otherwise.
    """

    verdicts: tuple[Said, ...]
    relevance: float | None
    fault: str = ""


class _Judged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    verdicts: dict[str, Said]
    relevance: _Relevance


def asked_format(n_claims: int) -> dict[str, Any]:
    """Say what a judge must write: an object with one key a claim, because servers enforce keys, and not all the length of a list.

    Args:
        n_claims: Claims that it is shown.

    Returns:
        ``response_format`` of a chat request, as strict as OpenAI wants it: every key required, no other allowed.
    """
    verdict = {"type": "string", "enum": list(reversed(_SEVERITY))}
    relevance = {"type": "string", "enum": list(_STEPS)}
    schema = _object({"verdicts": _object({str(n): verdict for n in range(1, n_claims + 1)}), "relevance": relevance})
    return {"type": "json_schema", "json_schema": {"name": "judgement", "strict": True, "schema": schema}}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def read_vote(text: str, finish: str, n_claims: int) -> Vote:
    """Read what a judge wrote, if it wrote what it was asked to.

    Args:
        text: Word for word.
        finish: Why it ended, as the server says it.
        n_claims: Claims that it was shown.

    Returns:
        The vote, with a fault where the text does not follow the schema or does not judge every claim.
    """
    if finish == "length":
        return Vote((), None, "the judge's answer was cut at its cap")
    try:
        judged = msgspec.json.decode(text, type=_Judged)
    except (msgspec.MsgspecError, UnicodeError) as error:
        return Vote((), None, f"the judge's answer does not follow the schema: {error}")
    wanted = [str(n) for n in range(1, n_claims + 1)]
    if judged.verdicts.keys() != set(wanted):
        found = ", ".join(judged.verdicts) or "none"
        return Vote((), None, f"the judge gave verdicts on the claims {found}; expected one for each of {n_claims}")
    return Vote(tuple(judged.verdicts[n] for n in wanted), _STEPS[judged.relevance])


def most_said(verdicts: Sequence[Said]) -> Said:
    """Take the verdict of most votes.

    Args:
        verdicts: Of one claim, at least one.

    Returns:
        The most frequent; of equals the worse one.

    Example:
        >>> most_said(["supported", "not_found"])
        'not_found'
    """
    counts = Counter(verdicts)
    return max(_SEVERITY, key=lambda verdict: counts[verdict])  # of equals the first
