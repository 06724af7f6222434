"""An answer that a language model writes from the best sentences, of which only what the sentences carry is kept.

The way of an answer: select evidence, fit the prompt into the window and the budget, let the model write, cut its text into claims,
verify each against the passages, cite what is carried. What is not is dropped or flagged (``answer.unverified``); where nothing is
left, the answer is an abstention. Whether there is an answer at all is decided before the model is asked, by the same confidence as for
an extractive one, because a small model cannot tell (facts: slm, section 3).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rag.errors import ModelError
from rag.evidence import Sentence, cite, score_sentences, withheld
from rag.generate import ABSTENTION
from rag.generate.budget import CostModel
from rag.generate.model import Completion, LanguageModel, Limits, Message, Prompt
from rag.generate.prompt import NO_ANSWER, Passage, Template, escape, load_template, new_fence, render
from rag.generate.verify import Verdict, parse, verify
from rag.meter import Meter
from rag.settings import AnswerSettings
from rag.types import Budget, Candidate, Citation, Draft, Step, Task

# Two sentences suit a small model that copies (facts: slm, section 3); a chat model combines more, and six hold the gold answer of
# XQuAD in 98 of 100 cases at a quarter of the tokens of five passages.
_N_SENTENCES = {"few_shot": 2, "chat": 6}
_N_PASSAGES = 5
_STAGE = "model"
# Below a billion parameters a model holds the right answer half as often as the sentences that it reads, and copies better than it
# writes (facts: slm, section 3; bench/cascade.py measures it again). Four-bit weights of a billion parameters take about 600 MB.
_CAPABLE_BYTES = 600_000_000
# Below this an answer is a stump; what cannot afford it is not begun.
_MIN_COMPLETION = 8
# A question on its own feet is one line.
_MAX_SAID = 64


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a model is shown: candidates cut down to passages, and those candidates in the order of their numbers."""

    passages: tuple[Passage, ...]
    candidates: tuple[Candidate, ...]


class WrittenGenerator:
    """A `Generator` over a language model.

    Args:
        model: Writes.
        settings: Threshold, template, budgets, policy.
        timeout_s: Longest wait for one answer.
    """

    def __init__(self, model: LanguageModel, settings: AnswerSettings, timeout_s: float) -> None:
        self._model = model
        self._settings = settings
        self._timeout_s = timeout_s
        self._template: Template = load_template(settings.template or ("chat" if self.is_capable else "few-shot"))
        self._costs = CostModel(model.weights_bytes)

    @property
    def name(self) -> str:
        """That of the model."""
        return self._model.name

    @property
    def is_capable(self) -> bool:
        """Whether the model is large enough to write better answers than the sentences that it reads; one of unknown size is."""
        return self._model.weights_bytes == 0 or self._model.weights_bytes >= _CAPABLE_BYTES

    @property
    def template(self) -> str:
        """Name and hash of the prompt template."""
        return self._template.name

    def say(self, messages: Sequence[Message], meter: Meter) -> Completion | None:
        """See `rag.generate.Generator.say`."""
        prompt = Prompt("", tuple(messages))
        with meter.stage(_STAGE, lane=self._model.lane, child=self._model.cpu):
            if self._model.count(prompt) + _MAX_SAID > self._model.window:
                return None
        return self._asked(prompt, Limits(_MAX_SAID, self._timeout_s), meter)

    def close(self) -> None:
        """Let the model go."""
        self._model.close()

    def generate(self, task: Task, meter: Meter | None = None) -> Draft:
        """See `rag.generate.Generator.generate`."""
        meter = meter or Meter()
        sentences = score_sentences(task.focus or task.question, task.candidates)
        if reason := withheld(sentences, task.confidence, self._settings.abstain_below):
            return self._abstention(task.confidence, reason, Step(self.name, "", "abstained", reason))
        self._output_cap(
            0, meter, task.budget
        )  # what cannot afford the shortest answer need not load the model to count its prompt
        with meter.stage(_STAGE, lane=self._model.lane, child=self._model.cpu):  # counting may load the model
            shown, prompt, n_prompt = self._fitted(task, sentences)
        max_tokens = self._output_cap(n_prompt, meter, task.budget)
        completion = self._complete(prompt, shown, max_tokens, meter)
        return self._draft(task, completion, shown)

    def _fitted(self, task: Task, sentences: Sequence[Sentence]) -> tuple[_Shown, Prompt, int]:
        """The prompt with as much evidence as fits, by the model's own count."""
        candidates = task.candidates
        limit = self._model.window - _MIN_COMPLETION
        for wanted in (self._settings.max_prompt_tokens, task.budget.max_prompt_tokens):
            limit = min(limit, wanted) if wanted else limit
        if self._settings.evidence == "passages":
            options = [_passages(candidates[:n]) for n in range(min(_N_PASSAGES, len(candidates)), 0, -1)]
        else:
            n_most = min(_N_SENTENCES[self._template.style], len(sentences))
            options = [_sentences(candidates, sentences[:n]) for n in range(n_most, 0, -1)]
        n_prompt = 0
        for shown in options:
            prompt = render(self._template, task.question, shown.passages, new_fence(task.question, shown.passages))
            n_prompt = self._model.count(prompt)
            if n_prompt <= limit:
                return shown, prompt, n_prompt
        raise ModelError(
            f"the shortest prompt has {n_prompt} tokens; {self.name} and the budget allow {limit}; ask a shorter question, or raise "
            "language_model.window or answer.max_prompt_tokens",
            code="over_budget",
        )

    def _output_cap(self, n_prompt: int, meter: Meter, budget: Budget) -> int:
        """Tokens that the model may write: what is left of its window, of the token budgets and of the joules."""
        cap = min(self._settings.max_completion_tokens, self._model.window - n_prompt)
        if budget.max_completion_tokens:
            cap = min(cap, budget.max_completion_tokens)
        max_energy_j = min((j for j in (self._settings.max_energy_j, budget.max_energy_j) if j), default=0.0)
        if max_energy_j:
            left_s = meter.cpu_left_s(max_energy_j)
            affordable = None if left_s is None or self._model.is_remote else self._costs.max_written(n_prompt, left_s)
            if affordable is None:
                raise ModelError(
                    f"an answer may use {max_energy_j:g} J, and what {self.name} takes is not known; leave answer.max_energy_j out, or "
                    "use a model whose CPU time is counted here",
                    code="over_budget",
                )
            cap = min(cap, affordable)
        if cap < _MIN_COMPLETION:
            raise ModelError(
                f"the budget leaves {max(cap, 0)} tokens for the answer of {self.name}; needed: {_MIN_COMPLETION}; raise "
                "answer.max_energy_j, answer.max_completion_tokens or language_model.window",
                code="over_budget",
            )
        return cap

    def _complete(self, prompt: Prompt, shown: _Shown, max_tokens: int, meter: Meter) -> Completion:
        shown_text = escape(" ".join(" ".join(passage.text.split()) for passage in shown.passages))
        copy_from = shown_text if self._template.style == "few_shot" else ""
        return self._asked(prompt, Limits(max_tokens, self._timeout_s, copy_from), meter)

    def _asked(self, prompt: Prompt, limits: Limits, meter: Meter) -> Completion:
        """What the model writes, its cost charged and learnt from."""
        before_s, began = meter.cpu_s, time.monotonic()
        with meter.stage(_STAGE, lane=self._model.lane, child=self._model.cpu):
            completion = self._model.complete(prompt, limits)
        if self._model.is_remote:
            meter.remote(self._model.energy(completion, time.monotonic() - began))
        else:
            self._costs.observe(completion.n_prompt - completion.n_cached, completion.n_completion, meter.cpu_s - before_s)
        return completion

    def _draft(self, task: Task, completion: Completion, shown: _Shown) -> Draft:
        text = completion.text.strip()
        step = Step(self.name, "", "answered", n_prompt=completion.n_prompt, n_completion=completion.n_completion)
        if not text or NO_ANSWER in text:
            reason = "the language model found no answer in the documents" if text else "the language model wrote nothing"
            return self._abstention(task.confidence, reason, replace(step, outcome="abstained", detail=reason))
        claims = parse(text, len(shown.passages))
        if completion.ending == "length" and len(claims) > 1:
            claims = claims[:-1]  # the cap cut it: half a sentence says something else than the whole
        verdicts = verify(claims, shown.candidates, task.question)
        faults = [f"{verdict.fault}: {verdict.claim.text}" for verdict in verdicts if verdict.fault]
        if len(faults) == len(verdicts):
            reason = f"no sentence of the language model could be verified ({'; '.join(faults) or 'it wrote none'})"
            return self._abstention(task.confidence, reason, replace(step, outcome="unverified", detail=reason))
        kept = [verdict for verdict in verdicts if not verdict.fault or self._settings.unverified == "flag"]
        answer, citations = _cited(kept, shown.candidates)
        return Draft(
            text=answer,
            abstained=False,
            citations=citations,
            confidence=task.confidence,
            generator=self.name,
            template=self.template,
            steps=(replace(step, detail="; ".join(faults)),),
            unverified=tuple(verdict.claim.text for verdict in kept if verdict.fault),
        )

    def _abstention(self, confidence: float, reason: str, step: Step) -> Draft:
        return Draft(ABSTENTION, True, (), confidence, reason, self.name, self.template, (step,))


def _sentences(candidates: Sequence[Candidate], chosen: Sequence[Sentence]) -> _Shown:
    """The chosen sentences, by passage in the order of the candidates, each passage in the order of its document."""
    ranks = sorted({sentence.rank for sentence in chosen})
    passages = []
    for number, rank in enumerate(ranks, start=1):
        own = sorted((s for s in chosen if s.rank == rank), key=lambda s: s.place)
        passages.append(Passage(number, candidates[rank].chunk.source.title, " ".join(s.text for s in own)))
    return _Shown(tuple(passages), tuple(candidates[rank] for rank in ranks))


def _passages(candidates: Sequence[Candidate]) -> _Shown:
    passages = (Passage(n, c.chunk.source.title, c.chunk.text) for n, c in enumerate(candidates, start=1))
    return _Shown(tuple(passages), tuple(candidates))


def _cited(verdicts: Sequence[Verdict], candidates: Sequence[Candidate]) -> tuple[str, tuple[Citation, ...]]:
    """The claims as one text with markers, and a citation for every span that carries one; sources numbered as they come."""
    text = ""
    citations: list[Citation] = []
    numbers: dict[int, int] = {}
    for verdict in verdicts:
        text += " " if text else ""
        at = len(text)
        text += verdict.claim.text
        for evidence in verdict.evidence:
            index = numbers.setdefault(evidence.number, len(numbers) + 1)
            candidate = candidates[evidence.number - 1]
            citations.append(cite(candidate, index, evidence.start, evidence.end, at=at, length=len(verdict.claim.text)))
        text += "".join(f" [{index}]" for index in dict.fromkeys(numbers[e.number] for e in verdict.evidence))
    return text, tuple(citations)
