"""Search for settings: which passages, weights, budgets and models give how good answers for how many CPU seconds.

Two aims stand against each other, quality and CPU seconds per answer, so the result is a frontier and not a point. How it is found:

- The pipelines of the suite come first; then Optuna proposes others, at random by the seed. Its samplers that learn would learn from CPU
  times too, so that their noise decides what is tried: TPE, run twice with one seed on 300 questions of XQuAD, tried other settings as
  soon as it had learnt, chose others, and found no higher quality than its ten random first ones had.
- Optuna prunes no search with two aims. Here each trial answers a growing share of the questions, and ends as soon as another, on the
  same questions, is better by more than chance and not dearer, or not worse by more than the margin and twice as cheap (`is_beaten`).
- The questions are split by group. One half is searched; of what it finds best, the figures of the other half are reported.
- A question that failed has quality 0.0. Qualities are means over the questions that have one in every trial that was completed.
- The same seed tries the same settings with the same quality. CPU time differs by noise: what differs by less than 5 % counts as equal,
  and then the better or the earlier settings are taken. What drifts over minutes is taken out: the first pipeline of the suite answers a
  few questions before and after each share, and the CPU time of the share is divided by how much slower than at first these were.

References:
    Akiba et al., Optuna, KDD 2019, arXiv:1907.10902. Jamieson, Talwalkar, Non-stochastic best arm identification (successive halving),
    AISTATS 2016, arXiv:1502.07943.
"""

from __future__ import annotations

import dataclasses
import math
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

import msgspec

from eval.metrics import metric
from eval.suite import NO_MODEL, PipelineMode, PipelineSpec, Suite
from eval.trials import Outcome, Trial, points_of, qualities, with_held_out
from eval.tuned import Setting, Tuned, choose, frontier
from rag.errors import InputError, RagError
from rag.types import ContextStyle

if TYPE_CHECKING:
    import optuna

# Shares of the searched questions after which a trial may end: doubled each time, as successive halving has it.
_RUNGS = (0.25, 0.5, 1.0)
# A difference of means is taken for real from two standard errors on.
_N_ERRORS = 2.0
# Cheaper at the same quality, and on part of the questions: only what is plain.
_MUCH_CHEAPER = 0.5
# Fewer pairs have a spread by luck.
_MIN_PAIRS = 20
# Questions of the reference before and after each share. CPU seconds of one pipeline for 80 questions of XQuAD in shares of 20, nine times
# on a machine that others kept busy, had a coefficient of variation of 28 %, and of 7 % scaled by so many; more cost more.
_N_REFERENCE = 8


Evaluate = Callable[[PipelineSpec, Sequence[str]], Outcome]
"""Puts questions, by id, to a pipeline; raises `RagError` where it cannot be run."""


@dataclass(frozen=True, slots=True)
class Space:
    """What is searched; a field with one value is fixed.

    Attributes:
        modes: Of `rag ask`. Weight is not varied for ``eco``, which has no vectors.
        k: Least and most passages.
        dense_weight: Least and most.
        max_tokens: Budgets of the packed context; varied for a metric of the context, as are the styles.
        styles: Of the packed context.
        tiers: Settings of each language model that is configured, by name; of modes ``generative`` and ``auto``.
    """

    modes: tuple[PipelineMode, ...] = ("eco", "standard")
    k: tuple[int, int] = (3, 30)
    dense_weight: tuple[float, float] = (0.3, 1.0)
    max_tokens: tuple[int, ...] = (128, 256, 512)
    styles: tuple[ContextStyle, ...] = get_args(ContextStyle)
    tiers: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """Limits of a search.

    Attributes:
        metric: Of quality; empty takes the suite's ``correct``.
        max_trials: Settings that are tried, those of the suite included.
        max_energy_j: Joules of the whole search, held-out answers included; 0 means no limit. It is passed by one share of a trial at
            most.
        max_cpu_s: CPU seconds per answer that the chosen settings may take; 0 chooses the knee.
        seed: Of sampler, split and order.

    Raises:
        InputError: If a limit is not finite, or out of its range; code ``usage``.
    """

    metric: str = ""
    max_trials: int = 40
    max_energy_j: float = 0.0
    max_cpu_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_trials < 1:
            raise InputError(f"--trials is {self.max_trials}; allowed: 1 or more", code="usage")
        for option, value in (("--max-joules", self.max_energy_j), ("--max-cpu-s", self.max_cpu_s)):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{option} is {value:g}; allowed: a number above 0, or 0 for no limit", code="usage")


def tune(suite: Suite, groups: Mapping[str, str], evaluate: Evaluate, space: Space, options: TuneOptions) -> Tuned:
    """Search for settings.

    An interruption (KeyboardInterrupt) ends the search, and what was found until then is the result.

    Args:
        suite: Its pipelines are tried first.
        groups: Group by question id, of all questions.
        evaluate: Puts questions to settings.
        space: What is searched.
        options: Limits.

    Returns:
        Trials, frontier and choice, and what the search took.

    Raises:
        InputError: If the metric is unknown or better low, there are fewer than two groups, a joule budget is set where joules are not
            known, or a quality is not a number.
        RagError: The first failure, if every trial failed.
    """
    name = options.metric or suite.metrics.correct
    if not name or not metric(name).is_better_high:
        raise InputError(
            f"metric {name!r} cannot be searched for; give --metric, or correct in [metrics], with one of which more is better",
            code="metric",
        )
    searched, held_out = _halves(groups, options.seed)
    search = _Search(evaluate, suite.pipelines[0], searched, held_out, metric(name).margin, options)
    outcomes: dict[int, Outcome | RagError] = {}
    ended = f"all {options.max_trials} trials were made"
    try:
        for trial in _proposals(suite, space, metric(name).call == "context", search):
            search.run(trial)
            if search.is_over():
                ended = f"the budget of {options.max_energy_j:g} J was used"
                break
        for point in frontier(points_of(search.trials)):
            outcomes[point.number] = search.asked(point.spec, held_out)
    except KeyboardInterrupt:
        ended = "it was interrupted"
    if search.trials and all(trial.ending == "failed" for trial in search.trials):
        raise RagError(f"every trial failed, the first one so: {search.trials[0].reason}", code="tune")
    trials = with_held_out(points_of(search.trials), outcomes, len(held_out))
    best = frontier(trials)
    nothing = (
        "no question was scored in every completed trial"
        if any(t.ending == "complete" for t in trials)
        else "no trial was completed"
    )
    chosen, rule = choose(best, options.max_cpu_s, metric(name).margin) if best else (None, nothing)
    return Tuned(
        suite.name, name, options.seed, len(searched), len(held_out), trials, best, chosen, rule, ended,
        search.n_answers, search.cpu_s, search.energy_j,
    )  # fmt: skip


class _Search:
    """Runs trials, compares them and keeps the account."""

    def __init__(
        self,
        evaluate: Evaluate,
        reference: PipelineSpec,
        searched: Sequence[str],
        held_out: Sequence[str],
        margin: float,
        options: TuneOptions,
    ) -> None:
        self._evaluate = evaluate
        self._reference = reference
        self._usual_s = 0.0
        self._searched = searched
        self._held_out = held_out
        self._margin = margin
        self._options = options
        self.max_trials = options.max_trials
        self.seed = options.seed
        self.trials: list[Trial] = []
        self.n_answers = 0
        self.cpu_s = 0.0
        self.energy_j: float | None = 0.0

    def run(self, trial: Trial) -> None:
        """Let a trial answer until it is beaten or done."""
        self.trials.append(trial)
        if same := next((other for other in self.trials[:-1] if _same(other.spec, trial.spec)), None):
            trial.quality, trial.cpu_at, trial.energy_j, trial.n_failed = same.quality, same.cpu_at, same.energy_j, same.n_failed
            trial.ending, trial.reason = ("failed" if same.ending == "failed" else "beaten"), f"the same as trial {same.number}"
            return
        for n in sorted({max(math.ceil(share * len(self._searched)), min(_MIN_PAIRS, len(self._searched))) for share in _RUNGS}):
            outcome = self.asked(trial.spec, self._searched[trial.n : n])
            if isinstance(outcome, RagError):
                trial.ending, trial.reason = "failed", str(outcome)
                return
            trial.cpu_at[n] = trial.cpu_at[trial.n] + outcome.cpu_s
            trial.energy_j = _plus(trial.energy_j, outcome.energy_j)
            trial.quality |= qualities(outcome)
            trial.n_failed += len(outcome.failed)
            if not trial.quality:
                trial.ending, trial.reason = "failed", f"none of {n} questions could be scored"
                return
            others = [other for other in self.trials[:-1] if n in other.cpu_at and n < len(self._searched)]
            if better := next((other for other in others if is_beaten(_seen(trial, n), _seen(other, n), self._margin)), None):
                trial.ending, trial.reason = "beaten", f"by trial {better.number} after {n} questions"
                return
            if self.is_over() and n < len(self._searched):
                trial.ending, trial.reason = "over budget", f"after {n} questions"
                return
        trial.ending = "complete"

    def is_over(self) -> bool:
        """Whether the joules are used, those that the held-out half of the frontier will take included."""
        if not self._options.max_energy_j:
            return False
        best = {point.number for point in frontier(points_of(self.trials))}
        owed = sum(((t.energy_j or 0.0) / t.n for t in self.trials if t.number in best), 0.0) * len(self._held_out)
        return (self.energy_j or 0.0) + owed >= self._options.max_energy_j

    def asked(self, spec: PipelineSpec, question_ids: Sequence[str]) -> Outcome | RagError:
        """The outcome, its CPU seconds as they were at the speed that the machine had first, or why the settings cannot be run."""
        before_s = self._reference_s()
        self._usual_s = self._usual_s or before_s
        outcome = self._put(spec, question_ids)
        now_s = (before_s + self._reference_s()) / 2
        if isinstance(outcome, RagError) or not now_s or not self._usual_s:
            return outcome
        return dataclasses.replace(outcome, cpu_s=outcome.cpu_s * self._usual_s / now_s)

    def _reference_s(self) -> float:
        """CPU seconds of a few questions without a model; 0.0 where that fails, which its own trial tells."""
        outcome = self._put(self._reference, self._searched[:_N_REFERENCE])
        return 0.0 if isinstance(outcome, RagError) or outcome.failed else outcome.cpu_s

    def _put(self, spec: PipelineSpec, question_ids: Sequence[str]) -> Outcome | RagError:
        """The outcome, on the account, or why the settings cannot be run; what is wrong with the search itself is raised."""
        try:
            outcome = self._evaluate(spec, question_ids)
        except RagError as error:
            return error
        if not all(map(math.isfinite, outcome.quality.values())):
            raise InputError(f"pipeline {spec.name!r} has a quality that is not a number; leave such questions out", code="tune")
        if self._options.max_energy_j and outcome.energy_j is None:
            raise InputError("a joule budget is set, and joules are not known here; limit --trials instead", code="tune")
        self.n_answers += len(question_ids)
        self.cpu_s += outcome.cpu_s
        self.energy_j = _plus(self.energy_j, outcome.energy_j)
        if len(outcome.failed) == len(question_ids):
            first = next(iter(outcome.failed.values()))
            return RagError(f"all {len(question_ids)} questions failed, the first one so: {first}", code="tune")
        if not outcome.cpu_s:
            return RagError("its CPU seconds are not known, so that it cannot be compared", code="tune")
        return outcome


def is_beaten(mine: Outcome, other: Outcome, margin: float) -> bool:
    """Whether it is plain that settings will not be on the frontier, by what they gave on the same questions as others.

    Either the others are not dearer and better by more than two standard errors of the paired difference, or they take half or less
    and are, two standard errors down, not worse by more than the margin. Fewer than 20 common questions show nothing.

    Args:
        mine: Of the settings.
        other: Of others, on the same questions.
        margin: A loss of quality that nobody minds.

    Returns:
        True only for what may be stopped.
    """
    gains = [other.quality[i] - value for i, value in mine.quality.items() if i in other.quality]
    if len(gains) < _MIN_PAIRS:
        return False
    low = statistics.fmean(gains) - _N_ERRORS * statistics.stdev(gains) / math.sqrt(len(gains))
    return (other.cpu_s <= mine.cpu_s and low > 0) or (other.cpu_s <= mine.cpu_s * _MUCH_CHEAPER and low >= -margin)


def _proposals(suite: Suite, space: Space, packs: bool, search: _Search) -> Iterator[Trial]:
    """The suite's pipelines, then what Optuna proposes, which is told what became of each."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=search.seed))
    base = next((spec for spec in suite.pipelines if spec.name != NO_MODEL), suite.pipelines[0])
    for number in range(search.max_trials):
        if number < len(suite.pipelines):
            yield Trial(number, suite.pipelines[number])
            continue
        asked = study.ask()
        trial = Trial(number, _proposed(asked, number, space, packs, base))
        yield trial
        if trial.ending == "failed" or not trial.quality:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(asked, [statistics.fmean(trial.quality.values()), trial.cpu_at[trial.n] / trial.n])


def _proposed(asked: optuna.trial.Trial, number: int, space: Space, packs: bool, base: PipelineSpec) -> PipelineSpec:
    """What Optuna proposes; only what has an effect is varied: a budget where a context is packed, a weight where there are vectors.

    The rest is as in ``base``.
    """
    mode = asked.suggest_categorical("mode", space.modes)
    k = asked.suggest_int("k", *space.k, log=True)
    settings: dict[str, Setting] = dict(base.settings)
    budget, style = base.max_tokens, base.style
    if mode not in ("eco", "bm25", "dense"):
        settings["search.dense_weight"] = round(asked.suggest_float("dense_weight", *space.dense_weight), 2)
    if mode in ("generative", "auto"):
        settings["answer.evidence"] = asked.suggest_categorical("evidence", space.styles)
        if space.tiers:
            settings |= space.tiers[asked.suggest_categorical("tier", sorted(space.tiers))]
    if packs:
        budget, style = asked.suggest_categorical("max_tokens", space.max_tokens), asked.suggest_categorical("style", space.styles)
    return PipelineSpec(f"trial-{number}", mode, k, budget, style, settings)


def _halves(groups: Mapping[str, str], seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Question ids in drawn order: the half that is searched, the other. Questions of a group stay together."""
    names = sorted(set(groups.values()))
    if len(names) < 2:
        raise InputError(
            f"the questions are of {len(names)} groups; give at least two, so that one half can be held out", code="tune"
        )
    draw = random.Random(seed)
    draw.shuffle(names)
    members: dict[str, list[str]] = {name: [] for name in names}
    for question_id in sorted(groups):
        members[groups[question_id]].append(question_id)
    halves: tuple[list[str], list[str]] = ([], [])
    for name in names:
        min(halves, key=len).extend(members[name])
    for half in halves:
        draw.shuffle(half)
    return tuple(halves[0]), tuple(halves[1])


def _seen(trial: Trial, n: int) -> Outcome:
    return Outcome(trial.quality, trial.cpu_at[n])


def _same(one: PipelineSpec, two: PipelineSpec) -> bool:
    return msgspec.structs.replace(one, name="") == msgspec.structs.replace(two, name="")


def _plus(one: float | None, two: float | None) -> float | None:
    return None if one is None or two is None else one + two
