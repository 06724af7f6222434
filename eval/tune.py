"""Search for settings: which passages, weights, budgets and models give how good answers for how many CPU seconds.

Two aims stand against each other, quality and CPU seconds per answer, so the result is a frontier and not a point. How it is found:

- The pipelines of the suite come first; then Optuna proposes others, at random by the seed. Its samplers that learn would learn from CPU
  times too, so that their noise decides what is tried: TPE, run twice with one seed on 300 questions of XQuAD, tried other settings as
  soon as it had learnt, chose others, and found no higher quality than its ten random first ones had.
- Optuna prunes no search with two aims. Here each trial answers a growing share of the questions, and ends as soon as another, on the
  same questions, is better by more than chance and not dearer, or not worse by more than the margin and twice as cheap (`is_beaten`).
- The questions are split by group. One half is searched; of what it finds best, the figures of the other half are reported.
- The same seed tries the same settings with the same quality. CPU time differs by noise: what differs by less than 5 % counts as equal,
  and then the better or the earlier settings are taken. A busy machine makes more noise than that: docs/eval-tune.md has figures.

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
from eval.suite import PipelineMode, PipelineSpec, Suite
from eval.tuned import Ending, Point, Setting, Tuned, choose, frontier
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What some questions gave and took.

    Attributes:
        quality: Of the metric, by question id; a question that could not be scored is not there.
        cpu_s: CPU seconds of all of them together.
        energy_j: Joules of all; None without a power model.
    """

    quality: Mapping[str, float]
    cpu_s: float
    energy_j: float | None = None


Evaluate = Callable[[PipelineSpec, Sequence[str]], Outcome]
"""Puts questions, by id, to a pipeline; raises `RagError` where it cannot be run."""


@dataclass(frozen=True, slots=True)
class Space:
    """What is searched; a field with one value is fixed.

    Attributes:
        modes: Of `rag ask`. Weight is not varied for ``eco``, which has no vectors.
        k: Least and most passages.
        dense_weight: Least and most.
        max_tokens: Budgets of the packed context.
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
    """

    metric: str = ""
    max_trials: int = 40
    max_energy_j: float = 0.0
    max_cpu_s: float = 0.0
    seed: int = 0


@dataclass(slots=True)
class _Trial:
    """Settings under trial; ``cpu_at`` has the CPU seconds so far by the number of questions answered."""

    number: int
    spec: PipelineSpec
    quality: dict[str, float] = field(default_factory=dict)
    cpu_at: dict[int, float] = field(default_factory=lambda: {0: 0.0})
    energy_j: float | None = 0.0
    ending: Ending = "interrupted"
    reason: str = ""

    @property
    def n(self) -> int:
        return max(self.cpu_at)


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
        InputError: If the metric is unknown or better low, there are fewer than two groups, a limit is negative, a joule budget is set
            where joules are not known, or a quality is not a number.
        RagError: The first failure, if every trial failed.
    """
    name = options.metric or suite.metrics.correct
    if not name or not metric(name).is_better_high:
        raise InputError(
            f"metric {name!r} cannot be searched for; give --metric, or correct in [metrics], with one of which more is better",
            code="metric",
        )
    if options.max_trials < 1 or min(options.max_energy_j, options.max_cpu_s) < 0:
        raise InputError(f"limits are {options}; allowed: 1 trial or more, and no negative numbers", code="tune")
    searched, held_out = _halves(groups, options.seed)
    search = _Search(evaluate, searched, held_out, metric(name).margin, options)
    points: dict[int, Point] = {}
    ended = f"all {options.max_trials} trials were made"
    try:
        for trial in _proposals(suite, space, metric(name).call == "context", search):
            search.run(trial)
            if search.is_over():
                ended = f"the budget of {options.max_energy_j:g} J was used"
                break
        for point in frontier([_point(trial) for trial in search.trials]):
            points[point.number] = search.held_out(point)
    except KeyboardInterrupt:
        ended = "it was interrupted"
    if search.trials and all(trial.ending == "failed" for trial in search.trials):
        raise RagError(f"every trial failed, the first one so: {search.trials[0].reason}", code="tune")
    trials = tuple(points.get(trial.number, _point(trial)) for trial in search.trials)
    best = frontier(trials)
    chosen, rule = choose(best, options.max_cpu_s, metric(name).margin) if best else (None, "no trial was completed")
    return Tuned(
        suite.name, name, options.seed, len(searched), len(held_out), trials, best, chosen, rule, ended,
        search.n_answers, search.cpu_s, search.energy_j,
    )  # fmt: skip


class _Search:
    """Runs trials, compares them and keeps the account."""

    def __init__(
        self, evaluate: Evaluate, searched: Sequence[str], held_out: Sequence[str], margin: float, options: TuneOptions
    ) -> None:
        self._evaluate = evaluate
        self._searched = searched
        self._held_out = held_out
        self._margin = margin
        self._options = options
        self.max_trials = options.max_trials
        self.seed = options.seed
        self.trials: list[_Trial] = []
        self.n_answers = 0
        self.cpu_s = 0.0
        self.energy_j: float | None = 0.0

    def run(self, trial: _Trial) -> None:
        """Let a trial answer until it is beaten or done."""
        self.trials.append(trial)
        if same := next((other for other in self.trials[:-1] if _same(other.spec, trial.spec)), None):
            trial.quality, trial.cpu_at, trial.energy_j = same.quality, same.cpu_at, same.energy_j
            trial.ending, trial.reason = ("failed" if same.ending == "failed" else "beaten"), f"the same as trial {same.number}"
            return
        for n in sorted({max(math.ceil(share * len(self._searched)), min(_MIN_PAIRS, len(self._searched))) for share in _RUNGS}):
            outcome = self._asked(trial.spec, self._searched[trial.n : n])
            if isinstance(outcome, RagError):
                trial.ending, trial.reason = "failed", str(outcome)
                return
            trial.cpu_at[n] = trial.cpu_at[trial.n] + outcome.cpu_s
            trial.energy_j = _plus(trial.energy_j, outcome.energy_j)
            trial.quality |= outcome.quality
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
        best = {point.number for point in frontier([_point(trial) for trial in self.trials])}
        owed = sum(((t.energy_j or 0.0) / t.n for t in self.trials if t.number in best), 0.0) * len(self._held_out)
        return (self.energy_j or 0.0) + owed >= self._options.max_energy_j

    def held_out(self, point: Point) -> Point:
        """A point with the figures of the other half; without them, where it fails there."""
        n = len(self._held_out)
        outcome = self._asked(point.spec, self._held_out)
        if isinstance(outcome, RagError):
            return dataclasses.replace(point, reason=str(outcome))
        quality = statistics.fmean(outcome.quality.values()) if outcome.quality else None
        energy_j = None if outcome.energy_j is None else outcome.energy_j / n
        return dataclasses.replace(point, held_out_quality=quality, held_out_cpu_s=outcome.cpu_s / n, held_out_energy_j=energy_j)

    def _asked(self, spec: PipelineSpec, question_ids: Sequence[str]) -> Outcome | RagError:
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


def _proposals(suite: Suite, space: Space, packs: bool, search: _Search) -> Iterator[_Trial]:
    """The suite's pipelines, then what Optuna proposes, which is told what became of each."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=search.seed))
    for number in range(search.max_trials):
        if number < len(suite.pipelines):
            yield _Trial(number, suite.pipelines[number])
            continue
        asked = study.ask()
        trial = _Trial(number, _proposed(asked, number, space, packs))
        yield trial
        if trial.ending == "failed" or not trial.quality:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(asked, [statistics.fmean(trial.quality.values()), trial.cpu_at[trial.n] / trial.n])


def _proposed(asked: optuna.trial.Trial, number: int, space: Space, packs: bool) -> PipelineSpec:
    """What Optuna proposes; only what has an effect is varied: a budget where a context is packed, a weight where there are vectors."""
    mode = asked.suggest_categorical("mode", space.modes)
    k = asked.suggest_int("k", *space.k, log=True)
    settings: dict[str, Setting] = {}
    budget, style = space.max_tokens[0], space.styles[0]
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


def _point(trial: _Trial) -> Point:
    quality = statistics.fmean(trial.quality.values()) if trial.quality else None
    cpu_s = trial.cpu_at[trial.n] / trial.n if trial.n else None
    return Point(trial.number, trial.spec, trial.ending, trial.reason, len(trial.quality), quality, cpu_s)


def _seen(trial: _Trial, n: int) -> Outcome:
    return Outcome(trial.quality, trial.cpu_at[n])


def _same(one: PipelineSpec, two: PipelineSpec) -> bool:
    return msgspec.structs.replace(one, name="") == msgspec.structs.replace(two, name="")


def _plus(one: float | None, two: float | None) -> float | None:
    return None if one is None or two is None else one + two
