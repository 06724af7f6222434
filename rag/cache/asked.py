"""One question's dealings with the cache: asked for the same words, then for the same meaning, then told the new answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from rag.cache.answers import AnswerCache, Lookup
from rag.cache.entry import Edition, Hit, Key
from rag.cost import Figure, TokenCounts
from rag.meter import Meter
from rag.types import Answer, Step, Vector

Mode = Literal["off", "exact", "semantic"]
_NAME = "cache"


class Asked:
    """A question and the cache that may know its answer; for one question, in one thread.

    Args:
        cache: None where answers are not kept.
        mode: Whether paraphrases are looked for.
        key: Everything that decides the answer besides the question.
        edition: The version that an answer must hold in.
        meter: Charged with stage ``cache``.
    """

    def __init__(self, cache: AnswerCache | None, mode: Mode, key: Key, edition: Edition, meter: Meter) -> None:
        self._cache = cache
        self._mode = mode
        self._key = key
        self._edition = edition
        self._meter = meter
        self._notes: list[str] = []

    def exact(self, question: str) -> Answer | None:
        """The answer to the same question, if it is kept and holds."""
        if self._cache is None:
            return None
        with self._meter.stage(_NAME):
            return self._told(self._cache.exact(self._key, question, self._edition))

    def similar(self, question: str, vector: Vector | None) -> Answer | None:
        """The answer to a question that asks the same, if paraphrases are wanted and there is a vector to look by."""
        if self._cache is None or self._mode != "semantic" or vector is None:
            return None
        with self._meter.stage(_NAME):
            return self._told(self._cache.similar(self._key, question, vector, self._edition))

    def keep(self, question: str, vector: Vector | None, answer: Answer) -> Answer:
        """Keep a new answer.

        Args:
            question: As asked.
            vector: Of the question; None where none was made.
            answer: The answer.

        Returns:
            The answer as it is to be given: with a step that says so where the cache could not be used.
        """
        if self._cache is None:
            return answer
        note = ""
        # What was answered without a model that was down is asked anew when it is up.
        if not any(step.outcome == "failed" for step in answer.steps):
            with self._meter.stage(_NAME):
                note = self._cache.put(self._key, question, vector, answer, self._edition)
        notes = dict.fromkeys([*self._notes, note] if note else self._notes)
        failures = tuple(Step(_NAME, "answers given before come first", "failed", note) for note in notes)
        return replace(answer, steps=failures + answer.steps, measurement=replace(answer.measurement, cache="miss"))

    def _told(self, found: Lookup) -> Answer | None:
        if found.note:
            self._notes.append(found.note)
        return self._given_again(found.hit) if found.hit else None

    def _given_again(self, hit: Hit) -> Answer:
        """The kept answer with the cost of this question, and what it saved."""
        measured = self._meter.finish(TokenCounts())
        saved = _less(hit.energy, measured.energy.total) if hit.energy and measured.energy else None
        how = "the same question" if hit.kind == "exact" else f"asked before as {hit.question!r} (cosine {hit.cosine:.3f})"
        return replace(
            hit.answer,
            steps=(Step(_NAME, how, "abstained" if hit.answer.abstained else "answered", f"made from version {hit.version}"),),
            version=self._edition.version,
            measurement=replace(measured, cache="hit", saved_cpu_s=max(0.0, hit.cpu_s - measured.cpu_s), saved_j=saved),
        )


def _less(then: Figure, now: Figure) -> Figure:
    """What was spent then and not now; ends that cross are cut at 0."""
    value = max(0.0, then.value - now.value)
    return then._replace(value=value, lo=min(value, max(0.0, then.lo - now.hi)), hi=max(value, then.hi - now.lo))
