"""The cheapest writer that suffices: extraction first, a language model where the question or the evidence calls for it, then a larger.

`choose` is the rule. What it goes by is known once extraction has answered, for nothing: the kind of the question by its words, and for
a fact how likely that answer misses it (`rag.generate.escalate`). Every attempt is a `Step` with its reason, so that an answer says why
it cost what it did.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rag.errors import ModelError
from rag.evidence import question_terms
from rag.generate import Generator
from rag.generate.escalate import Signs, miss_probability, signs
from rag.generate.model import Completion, Message
from rag.generate.written import WrittenGenerator
from rag.index.lexical import analyse
from rag.meter import Meter
from rag.types import Draft, Step, Task

QuestionKind = Literal["fact", "explain", "compare", "summarise"]

_SUMMARISE = re.compile(r"\b(summari[sz]e|summary|overview|outline|main points?|in short|tl;?dr)\b", re.IGNORECASE)
_COMPARE = re.compile(
    r"\b(compare[ds]?|comparison|differences?|differ|versus|vs\.?|pros and cons|advantages? and disadvantages?)\b", re.IGNORECASE
)
# "How many", "how old" and their like ask for a number, which stands in one sentence.
_EXPLAIN = re.compile(
    r"^\W*(why\b|how(?!\s+(many|much|long|old|far|often|tall|high|big|large|fast|deep|wide|heavy|late|early|soon|hot|cold)\b)\b|explain\b)",
    re.IGNORECASE,
)
# A comparison or a summary of fewer words is a copied scrap: small models answer any question with a name or a number.
_MIN_WORDS = 8
# Share of what extraction covers of the question that a written answer must cover; assumed: one that says none of its words, after the
# sentence that did was dropped, is about something else.
_MIN_COVERED = 0.5
# A model is asked for a fact from this probability on that extraction misses it. What asking gains in right answers is expected to be
# p * repaired - (1 - p) * spoilt: the share of the misses that the model repairs, and that of the hits that it spoils. Neither is known of a
# model at hand; from a half on, any gains that repairs as large a share as it spoils. A call costs as much as 120 to 300 extractions
# with 135M parameters and more with more, so a lower probability is not worth it. Those 135M repair 0.21 and spoil 0.75, which would
# need 0.78: why such a model is not asked at all.
LIKELY_MISS = 0.5


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether a language model is asked, and why or why not."""

    escalate: bool
    reason: str


def question_kind(question: str) -> QuestionKind:
    """What a question asks for, by its words.

    Args:
        question: As asked, English.

    Returns:
        ``summarise`` and ``compare`` go before ``explain``; everything else is a ``fact``.

    Example:
        >>> [question_kind(q) for q in ("How many are there?", "How does it work?", "Compare A and B.")]
        ['fact', 'explain', 'compare']
    """
    if _SUMMARISE.search(question):
        return "summarise"
    if _COMPARE.search(question):
        return "compare"
    return "explain" if _EXPLAIN.search(question) else "fact"


def choose(question: str, extracted: Draft) -> Choice:
    """Decide whether extraction is enough, where there is a model that may answer better than the sentences that it reads.

    Args:
        question: As asked.
        extracted: What extraction answered; not an abstention.

    Returns:
        The decision with its reason.
    """
    kind = question_kind(question)
    if kind in ("compare", "summarise"):
        return Choice(True, f"the question asks to {kind}, which no single sentence does")
    if kind == "explain":
        return Choice(True, "the question asks why or how, which takes more than one sentence")
    found = signs(question, extracted)
    probability = miss_probability(found)
    likely = probability >= LIKELY_MISS
    return Choice(likely, f"extraction likely {'misses' if likely else 'has'} the fact: {_told(found)}, p(miss)={probability:.2f}")


def _told(found: Signs) -> str:
    """The signs in words."""
    lacking = f" and no new {'number' if found.asks_number else 'name'}" if found.lacks_kind else ""
    return f"its sentences hold {found.covered:.2f} of the question's words{lacking}"


def _covered(question: str, held: frozenset[str]) -> float:
    """Share of the question's terms among some terms."""
    wanted = question_terms(question)
    return sum(term in held for term in wanted) / len(wanted) if wanted else 0.0


class Cascade:
    """A `Generator` that asks others, the cheapest first.

    Args:
        extractive: Always there, and what is fallen back on.
        model: Asked when the rule says so; None means never.
        larger: Asked when the answer of ``model`` cannot be verified or it fails; None means never.
        always: Ask the model whatever the rule says; its failures are then errors, not reasons to fall back.
    """

    def __init__(
        self, extractive: Generator, model: WrittenGenerator | None, larger: WrittenGenerator | None, *, always: bool = False
    ) -> None:
        self._extractive = extractive
        self._models = [written for written in (model, larger) if written is not None]
        self._always = always

    @property
    def name(self) -> str:
        """``auto`` or ``model``, with the names of the models."""
        return "+".join(["model" if self._always else "auto", *(written.name for written in self._models)])

    @property
    def template(self) -> str:
        """Those of the models."""
        return "+".join(written.template for written in self._models)

    def say(self, messages: Sequence[Message], meter: Meter) -> Completion | None:
        """See `rag.generate.Generator.say`."""
        return self._models[0].say(messages, meter) if self._models else None

    def close(self) -> None:
        """Let the models go."""
        for written in self._models:
            written.close()

    def generate(self, task: Task, meter: Meter | None = None) -> Draft:
        """See `rag.generate.Generator.generate`."""
        extracted = self._extractive.generate(task, meter)
        if extracted.abstained:  # what cannot be found cannot be written about; a model would invent it
            return replace(extracted, steps=(_extraction(extracted, "extraction comes first"),))
        if not self._models:
            return replace(extracted, steps=(_extraction(extracted, "no language model is configured"),))
        models = self._models if self._always else [written for written in self._models if written.is_capable]
        choice = Choice(True, "a language model was asked for")
        if not models:
            choice = Choice(False, "the language model is too small to answer better than its sources")
        elif not self._always:
            choice = choose(task.focus or task.question, extracted)
        if not choice.escalate:
            return replace(extracted, steps=(_extraction(extracted, choice.reason),))
        steps: list[Step] = [] if self._always else [_extraction(extracted, "extraction comes first")]
        reason = choice.reason
        for written in models:
            draft, step = self._attempt(written, reason, task, meter)
            if draft is not None and not self._always:
                draft, step = self._judged(draft, step, extracted, task.focus or task.question)
            steps.append(step)
            if draft is not None and (self._always or not draft.abstained):
                return replace(draft, steps=tuple(steps))
            reason = f"{written.name} {step.outcome}"
        return replace(extracted, steps=(*steps, _extraction(extracted, reason)))

    def _attempt(self, written: WrittenGenerator, reason: str, task: Task, meter: Meter | None) -> tuple[Draft | None, Step]:
        """Ask one model; its errors end the question only where it was asked for by name."""
        try:
            draft = written.generate(task, meter)
        except ModelError as error:
            is_over_budget = error.code == "over_budget"
            if self._always and not is_over_budget:
                raise
            return None, Step(written.name, reason, "skipped" if is_over_budget else "failed", str(error))
        (step,) = draft.steps
        return draft, replace(step, reason=reason)

    def _judged(self, draft: Draft, step: Step, extracted: Draft, question: str) -> tuple[Draft | None, Step]:
        """What a model wrote, if it is worth more than what extraction has already; sentences that were dropped may leave a torso."""
        kind = question_kind(question)
        if draft.abstained:
            return draft, step
        if kind != "fact" and len(draft.text.split()) < _MIN_WORDS:
            return None, replace(step, outcome="unverified", detail=f"too short to {kind}: {draft.text}")
        covered, by_extraction = (_covered(question, frozenset(analyse(text))) for text in (draft.text, extracted.text))
        if covered < by_extraction * _MIN_COVERED:
            detail = f"beside the point: it covers {covered:.2f} of the question, extraction {by_extraction:.2f}: {draft.text}"
            return None, replace(step, outcome="unverified", detail=detail)
        return draft, step


def _extraction(draft: Draft, reason: str) -> Step:
    return Step(draft.generator, reason, "abstained" if draft.abstained else "answered", draft.reason)
