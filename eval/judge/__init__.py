"""An optional second opinion: a language model behind an OpenAI-compatible server judges claims against their evidence.

All claims of an answer go with their evidence in one call, at temperature 0 and with a seed, and a JSON schema is asked for; what comes
is checked anyway. What does not follow the schema is ``unscored``, kept as it came and counted, never guessed; the next run asks again.
Every call is kept under the hash of all that decides it, so that a run that breaks off pays for no usable answer twice. Documents and
answer are hostile: documents are fenced as in `rag.generate.prompt`, question and answer go as JSON strings. What the judge takes is
metered apart from what it judges.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from eval.judge.cache import Kept, load_call, make_folder, save_call
from eval.judge.vote import Vote, asked_format, most_said, read_vote
from rag.cost import Figure
from rag.errors import ConfigError, InputError
from rag.generate.chat_http import ChatHttp
from rag.generate.model import Completion, Prompt
from rag.generate.prompt import Passage, Template, load_template, new_fence, render
from rag.http import JsonServer
from rag.meter import Meter
from rag.power.figure import total
from rag.settings import LanguageModelSettings

JudgedVerdict = Literal["supported", "not_found", "contradicted", "unscored"]

_TEMPLATE = Path(__file__).parents[1] / "templates" / "judge.toml"
# "12": "contradicted" and a comma are 8 tokens with the vocabulary of GPT-4o; other vocabularies and white space may double that.
_TOKENS_PER_CLAIM = 16
_TOKENS_AROUND = 64
# For a dry run: what hosted models write in a second; the modelled joules hardly move with it.
_TOKENS_PER_S = 50.0


@dataclass(frozen=True, slots=True)
class Case:
    """An answer to be judged.

    Attributes:
        question: As asked.
        answer: As given.
        claims: First character and one past the last of each claim in the answer.
        passages: The evidence, numbered.
    """

    question: str
    answer: str
    claims: Sequence[tuple[int, int]]
    passages: Sequence[Passage]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge says of an answer.

    Attributes:
        verdicts: One a claim, that of most votes; of equals the worse one.
        relevance: Mean over the votes, 0.0 to 1.0; None without a usable vote.
        votes: One a repeat, in the order of the seeds.
        reason: Why there is no verdict; empty where there is one.
        is_cached: Whether nothing was sent for it.
    """

    verdicts: tuple[JudgedVerdict, ...]
    relevance: float | None
    votes: tuple[Vote, ...] = ()
    reason: str = ""
    is_cached: bool = False


@dataclass(frozen=True, slots=True)
class JudgeEffort:
    """What a judge took since it was opened.

    Attributes:
        n_calls: Calls that were answered.
        n_cached: Calls that were answered usably before.
        n_unparsed: Votes that were not usable.
        n_prompt: Tokens read, by the server's count where it tells.
        n_completion: Tokens written.
        cpu_s: CPU seconds in this process, and of a local server whose process the settings name.
        wall_s: Seconds waited.
        energy: Joules of a hosted service; None where those of a call are not known.
    """

    n_calls: int = 0
    n_cached: int = 0
    n_unparsed: int = 0
    n_prompt: int = 0
    n_completion: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    energy: Figure | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars for a million tokens, as the provider's list says; finite, 0.0 or more."""

    prompt_usd: float
    completion_usd: float


@dataclass(frozen=True, slots=True)
class DryRun:
    """What judging would take, from above.

    Attributes:
        n_answers: Answers to judge.
        n_calls: Calls that would be sent.
        n_cached: Calls that are answered usably already.
        n_unscored: Answers that cannot be sent.
        n_prompt: Tokens that would be read.
        n_completion: Tokens that could be written.
        usd: Dollars; None without a price.
        energy: Joules of a hosted service; None where they are not known.
    """

    n_answers: int
    n_calls: int
    n_cached: int
    n_unscored: int
    n_prompt: int
    n_completion: int
    usd: float | None
    energy: Figure | None


class _Turn(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Turn
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Reply(msgspec.Struct, frozen=True):
    choices: tuple[_Choice, ...]
    usage: _Usage | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    """A case as it is sent: key of all but the seed (server's URL and a hash), prompt, cap, and why it cannot be sent."""

    key: str
    prompt: Prompt
    n_prompt: int
    max_tokens: int
    n_claims: int
    fault: str

    def call(self, seed: int) -> str:
        """Key of the call with this seed."""
        return hashlib.sha256(f"{self.key} {seed}".encode()).hexdigest()


@dataclass(slots=True)
class Judge:
    """A judge; for one thread. Made by `open_judge`.

    Attributes:
        id: Model and prompt, for results: those of different judges are not compared.
        effort: What it took so far.
    """

    id: str
    effort: JudgeEffort
    _chat: ChatHttp
    _server: JsonServer
    _settings: LanguageModelSettings
    _template: Template
    _cache: Path
    _seeds: range

    def judge(self, question: str, answer: str, claims: Sequence[tuple[int, int]], passages: Sequence[Passage]) -> Judgement:
        """Judge an answer: whether the passages carry its claims, and how much of the question it answers.

        Args:
            question: As asked.
            answer: As given.
            claims: First character and one past the last of each claim in the answer.
            passages: The evidence, numbered.

        Returns:
            The judgement. Without a usable vote every claim is ``unscored`` and ``reason`` says why.

        Raises:
            InputError: If a claim is not within the answer, or a file of the cache is damaged or cannot be written.
            ModelError: If the server cannot be reached, refuses, is too slow or answers something else than a chat does; what was
                judged before stays in the cache.
        """
        began, meter = time.monotonic(), Meter("thread")
        try:
            with meter.stage("judge", child=self._chat.cpu):
                return self._judged(self._task(Case(question, answer, claims, passages)))
        finally:
            cpu_s, wall_s = self.effort.cpu_s + meter.cpu_s, self.effort.wall_s + time.monotonic() - began
            self.effort = replace(self.effort, cpu_s=cpu_s, wall_s=wall_s)

    def dry_run(self, cases: Iterable[Case], price: Price | None = None) -> DryRun:
        """Say what judging would take, and send nothing.

        Args:
            cases: Answers to judge.
            price: Of tokens; None leaves the dollars unknown.

        Returns:
            Counts, dollars and joules from above: prompts counted with what a chat template may add, answers at their cap.

        Raises:
            InputError: If a claim is not within its answer, or a file of the cache is damaged.
        """
        n_answers = n_cached = n_unscored = n_prompt = 0
        written: list[int] = []
        for n_answers, case in enumerate(cases, start=1):  # noqa: B007 - the number of the last is the count
            task = self._task(case)
            if task.fault:
                n_unscored += 1
                continue
            n_new = sum(self._known(task, seed) is None for seed in self._seeds)
            n_cached += len(self._seeds) - n_new
            n_prompt += n_new * task.n_prompt
            written += [task.max_tokens] * n_new
        energies = [self._chat.energy(Completion("", 0, n, 0, "stop"), n / _TOKENS_PER_S) for n in written]
        usd = (n_prompt * price.prompt_usd + sum(written) * price.completion_usd) / 1e6 if price else None
        return DryRun(n_answers, len(written), n_cached, n_unscored, n_prompt, sum(written), usd, _sum(energies))

    def _judged(self, task: _Task) -> Judgement:
        if task.fault:
            return _unscored(task)
        n_before = self.effort.n_calls
        votes = tuple(self._vote(task, seed) for seed in self._seeds)
        usable = [vote for vote in votes if not vote.fault]
        self.effort = replace(self.effort, n_unparsed=self.effort.n_unparsed + len(votes) - len(usable))
        is_cached = self.effort.n_calls == n_before
        if not usable:
            return replace(_unscored(task), votes=votes, reason=votes[0].fault, is_cached=is_cached)
        verdicts = tuple(most_said([vote.verdicts[n] for vote in usable]) for n in range(task.n_claims))
        relevance = [vote.relevance for vote in usable if vote.relevance is not None]
        return Judgement(verdicts, sum(relevance) / len(relevance), votes, "", is_cached)

    def _task(self, case: Case) -> _Task:
        texts = [_cut(case.answer, start, end) for start, end in case.claims]
        shown = [[passage.number, passage.title, passage.text] for passage in case.passages]
        # Not the fence: it is made of this hash, so that the same case is the same prompt in every run, whatever the server.
        content = json.dumps([self.id, case.question, case.answer, texts, shown])
        case_hash = hashlib.sha256(content.encode("ascii")).hexdigest()
        key = f"{self._settings.url.rstrip('/')} {case_hash}"
        claims = [{"claim": n, "text": text} for n, text in enumerate(texts, start=1)]
        asked = json.dumps({"question": case.question, "answer": case.answer, "claims": claims}, ensure_ascii=False)
        prompt = render(self._template, asked, case.passages, new_fence(asked, case.passages, _drawn_from(case_hash)))
        n_prompt, max_tokens = self._chat.count(prompt), _TOKENS_AROUND + _TOKENS_PER_CLAIM * len(texts)
        fault = "" if case.answer.strip() else "the answer is empty"
        if n_prompt + max_tokens > self._chat.window:
            fault = fault or f"prompt and verdicts may take {n_prompt + max_tokens} tokens, more than the judge's window"
        return _Task(key, prompt, n_prompt, max_tokens, len(texts), fault)

    def _vote(self, task: _Task, seed: int) -> Vote:
        kept = self._answered(task, seed)
        return read_vote(kept.text, kept.finish, task.n_claims)

    def _answered(self, task: _Task, seed: int) -> Kept:
        """A usable call from the cache, or sent and kept there."""
        if (kept := self._known(task, seed)) is not None:
            self.effort = replace(self.effort, n_cached=self.effort.n_cached + 1)
            return kept
        began = time.monotonic()
        kept = self._asked(task, seed)
        save_call(self._cache, task.call(seed), kept)
        joules = self._chat.energy(Completion("", kept.n_prompt, kept.n_completion, 0, "stop"), time.monotonic() - began)
        effort = self.effort
        self.effort = replace(
            effort,
            n_calls=effort.n_calls + 1,
            n_prompt=effort.n_prompt + kept.n_prompt,
            n_completion=effort.n_completion + kept.n_completion,
            energy=_sum([effort.energy, joules]) if effort.n_calls else joules,
        )
        return kept

    def _known(self, task: _Task, seed: int) -> Kept | None:
        """A call of the cache that was usable; what was not is asked again."""
        kept = load_call(self._cache, task.call(seed))
        return None if kept is None or read_vote(kept.text, kept.finish, task.n_claims).fault else kept

    def _asked(self, task: _Task, seed: int) -> Kept:
        timeout_s = self._settings.timeout_s
        request = {
            "model": self._settings.model,
            "messages": [{"role": message.role, "content": message.content} for message in task.prompt.messages],
            "temperature": 0,
            "seed": seed,
            "max_tokens": task.max_tokens,
            "response_format": asked_format(task.n_claims),
        }
        reply = self._server.post("/chat/completions", request, timeout_s, deadline=time.monotonic() + timeout_s)
        try:
            value = msgspec.json.decode(reply.body, type=_Reply)
            choice = value.choices[0]
        except (msgspec.MsgspecError, UnicodeError, IndexError) as error:
            said = reply.body.decode("utf-8", "replace").strip() or "nothing"
            raise self._server.fault(
                f"gave no chat answer: {said}", "check that url and model are those of a chat", "bad_answer"
            ) from error
        text, usage = self._server.masked(choice.message.content or ""), value.usage or _Usage()
        return Kept(
            judge=self.id,
            seed=seed,
            text=text,
            finish=choice.finish_reason or "",
            n_prompt=task.n_prompt if usage.prompt_tokens is None else usage.prompt_tokens,
            n_completion=self._chat.count(Prompt("", text=text)) if usage.completion_tokens is None else usage.completion_tokens,
        )


def open_judge(
    settings: LanguageModelSettings,
    cache: Path,
    *,
    repeats: int = 1,
    seed: int = 0,
    section: str = "language_model",
    sleep: Callable[[float], None] = time.sleep,
) -> Judge:
    """Open a judge; sends nothing.

    Args:
        settings: A server, ``kind`` ``http``; with ``provider`` its joules are modelled, with ``pid`` its CPU seconds counted.
        cache: Folder of answered calls, which is made.
        repeats: Calls an answer, 1 or more: with seeds from ``seed`` up, each kept by itself.
        seed: Sent with the first call.
        section: Of the settings, for messages.
        sleep: Waits between tries, in seconds; a test passes its own.

    Returns:
        A judge without any effort yet.

    Raises:
        ConfigError: If the settings name no server, or one that cannot be used.
        InputError: If ``repeats`` is less than 1, or the cache cannot be made.
    """
    if settings.kind != "http":
        raise ConfigError(f"{section}.kind is {settings.kind!r}; a judge needs http, with url and model", code="no_model")
    if repeats < 1:
        raise InputError(f"repeats is {repeats}; allowed: 1 or more", code="judge")
    make_folder(cache)  # now, and not when the first call has been paid for
    template = load_template(str(_TEMPLATE))
    prompt = hashlib.sha256(f"{template.hash}{json.dumps(asked_format(1))}".encode()).hexdigest()[:12]
    chat = ChatHttp(settings, sleep, section=section)
    server = JsonServer(section, "window", settings.url, settings.model, settings.api_key, sleep)
    judge_id = f"{chat.name}/{template.id}@{template.version}#{prompt}"
    return Judge(judge_id, JudgeEffort(), chat, server, settings, template, cache, range(seed, seed + repeats))


def _unscored(task: _Task) -> Judgement:
    verdict: JudgedVerdict = "unscored"
    return Judgement((verdict,) * task.n_claims, None, reason=task.fault)


def _cut(answer: str, start: int, end: int) -> str:
    if not 0 <= start < end <= len(answer):
        raise InputError(f"a claim is {start} to {end}; allowed: within the answer's {len(answer)} characters", code="claim")
    return answer[start:end]


def _drawn_from(case_hash: str) -> Callable[[int], str]:
    """Marks that a document cannot know, because it would have to hold a hash of itself; `new_fence` leaves out those that occur."""
    n_draw = itertools.count()
    return lambda n_bytes: hashlib.sha256(f"{case_hash} {next(n_draw)}".encode()).hexdigest()[: 2 * n_bytes]


def _sum(energies: Sequence[Figure | None]) -> Figure | None:
    known = [energy for energy in energies if energy is not None]
    return total(known) if known and len(known) == len(energies) else None
