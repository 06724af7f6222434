from __future__ import annotations

import hashlib
import random
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.answers import contains_answer
from eval.suite import PipelineSpec, Suite, load_suite
from eval.trials import Outcome
from eval.tune import Space, TuneOptions, is_beaten, tune
from eval.tuned import Point, choose, frontier, settings_toml, tuned_text
from rag.__main__ import main
from rag.engine import open_engine
from rag.errors import InputError, ModelError, RagError
from rag.settings import load_settings
from rag.types import Query, SearchMode

GROUPS = {f"q{n:03}": f"g{n // 2:02}" for n in range(160)}
SPACE = Space(modes=("eco", "standard", "generative"), tiers={"small": {"language_model.model": "small"}})
OPTIONS = TuneOptions(max_trials=25, seed=3)
MARGIN = 0.01
N_REFERENCE = 8


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    path = tmp_path / "suite.toml"
    path.write_text(
        'name = "small"\n[[data]]\nname = "d"\npath = "d"\n[[pipeline]]\nname = "first"\nk = 10\n'
        '[metrics]\nnames = ["containment", "answer_in_context", "hallucination"]\ncorrect = "containment"\n'
    )
    return load_suite(path)


def strength(spec: PipelineSpec) -> float:
    """How good settings are: known, so that the frontier is. A model that writes is worse than the sentences, at fifty times the price."""
    best = {"eco": 0.55, "standard": 0.8, "generative": 0.5}[spec.mode]
    return best - 0.2 * abs(float(spec.settings.get("search.dense_weight", 0.7)) - 0.7) - 0.3 / spec.k


def price_s(spec: PipelineSpec) -> float:
    return {"eco": 0.001, "standard": 0.01, "generative": 0.5}[spec.mode] * (1 + spec.k / 30)


class Known:
    """An evaluation by a known function: a question is answered if it is easier than the settings are strong."""

    def __init__(self, noise: float = 0.0, j_per_cpu_s: float | None = 10.0) -> None:
        self.asked: list[tuple[PipelineSpec, tuple[str, ...]]] = []
        self._noise = random.Random(noise)
        self._spread = noise
        self._j_per_cpu_s = j_per_cpu_s

    def __call__(self, spec: PipelineSpec, ids: Sequence[str]) -> Outcome:
        self.asked.append((spec, tuple(ids)))
        quality = {i: float(int(hashlib.sha256(i.encode()).hexdigest(), 16) % 1000 / 1000 < strength(spec)) for i in ids}
        cpu_s = price_s(spec) * len(ids) * (1 + self._noise.uniform(-self._spread, self._spread))
        return Outcome(quality, cpu_s, None if self._j_per_cpu_s is None else cpu_s * self._j_per_cpu_s)


def point(number: int, quality: float, cpu_s: float, *, ending: str = "complete") -> Point:
    return Point(number, PipelineSpec(f"p{number}"), ending, "", 10, quality, cpu_s)  # type: ignore[arg-type] # a literal


def test_frontier_of_a_known_function_has_words_and_vectors_but_no_model(suite: Suite) -> None:
    found = tune(suite, GROUPS, Known(), SPACE, OPTIONS)
    assert {p.spec.mode for p in found.frontier} == {"eco", "standard"}
    costs = [p.cpu_s for p in found.frontier]
    assert costs == sorted(costs, key=lambda s: s or 0.0)
    assert found.chosen in found.frontier


def test_pipelines_of_the_suite_are_tried_first(suite: Suite) -> None:
    known = Known()
    found = tune(suite, GROUPS, known, SPACE, OPTIONS)
    assert [p.spec.name for p in found.trials[:2]] == ["no-model", "first"]
    assert len(found.trials) == 25
    assert [p.number for p in found.trials] == list(range(25))


def test_held_out_half_is_asked_for_the_frontier_alone_and_shares_no_group(suite: Suite) -> None:
    known = Known()
    found = tune(suite, GROUPS, known, SPACE, OPTIONS)
    trials = [(spec, ids) for spec, ids in known.asked if len(ids) > N_REFERENCE]
    last = trials[-len(found.frontier) :]
    held_out = set(last[0][1])
    searched = {i for _, ids in trials[: -len(found.frontier)] for i in ids}
    assert {spec.name for spec, _ in last} == {p.spec.name for p in found.frontier}
    assert not {GROUPS[i] for i in held_out} & {GROUPS[i] for i in searched}
    assert held_out | searched == set(GROUPS)
    assert (len(searched), len(held_out)) == (found.n_searched, found.n_held_out) == (80, 80)
    assert all(p.held_out_quality is not None for p in found.frontier)


def test_beaten_trials_stop_early(suite: Suite) -> None:
    known = Known()
    found = tune(suite, GROUPS, known, SPACE, OPTIONS)
    beaten = [p for p in found.trials if p.ending == "beaten" and p.reason.startswith("by trial")]
    assert beaten
    assert all(p.n_scored < found.n_searched for p in beaten)
    generative = [p for p in found.trials if p.spec.mode == "generative"]
    assert generative
    assert all(p.ending == "beaten" for p in generative)


def test_account_is_the_sum_of_all_that_was_asked(suite: Suite) -> None:
    known = Known()
    found = tune(suite, GROUPS, known, SPACE, OPTIONS)
    assert found.n_answers == sum(len(ids) for _, ids in known.asked)
    assert found.cpu_s == pytest.approx(sum(price_s(spec) * len(ids) for spec, ids in known.asked))
    assert found.energy_j == pytest.approx(found.cpu_s * 10)
    assert f"{found.cpu_s:.3g} CPU-s" in tuned_text(found)


def test_same_seed_finds_the_same(suite: Suite) -> None:
    assert tune(suite, GROUPS, Known(), SPACE, OPTIONS) == tune(suite, GROUPS, Known(), SPACE, OPTIONS)
    assert tune(suite, GROUPS, Known(), SPACE, OPTIONS) != tune(suite, GROUPS, Known(), SPACE, replace(OPTIONS, seed=4))


def test_noise_of_cpu_time_leaves_the_quality_of_the_choice(suite: Suite) -> None:
    one, two = (tune(suite, GROUPS, Known(noise), SPACE, replace(OPTIONS, max_cpu_s=0.1)) for noise in (0.0, 0.01))
    assert one.chosen
    assert two.chosen
    assert one.chosen.spec.mode == two.chosen.spec.mode == "standard"
    assert one.chosen.quality == pytest.approx(two.chosen.quality, abs=0.03)


def test_joule_budget_ends_the_search_and_leaves_enough_for_the_held_out_half(suite: Suite) -> None:
    unlimited = tune(suite, GROUPS, Known(), SPACE, OPTIONS)
    found = tune(suite, GROUPS, Known(), SPACE, replace(OPTIONS, max_energy_j=100.0))
    assert unlimited.energy_j
    assert found.energy_j
    assert found.energy_j < unlimited.energy_j
    assert found.energy_j <= 100 + 0.5 * 2 * 20 * 10  # passed by one share of the dearest trial at most
    assert "budget of 100 J" in found.ended
    assert found.frontier
    assert all(p.held_out_quality is not None for p in found.frontier)


def test_joule_budget_without_joules_is_refused(suite: Suite) -> None:
    with pytest.raises(InputError, match="joules are not known"):
        tune(suite, GROUPS, Known(j_per_cpu_s=None), SPACE, replace(OPTIONS, max_energy_j=1.0))


def test_joules_that_are_not_known_are_told(suite: Suite) -> None:
    found = tune(suite, GROUPS, Known(j_per_cpu_s=None), SPACE, OPTIONS)
    assert found.energy_j is None
    assert "joules not known" in tuned_text(found)


def interrupted_after(n: int) -> Callable[[PipelineSpec, Sequence[str]], Outcome]:
    known = Known()

    def evaluate(spec: PipelineSpec, ids: Sequence[str]) -> Outcome:
        if len(known.asked) == n:
            raise KeyboardInterrupt
        return known(spec, ids)

    return evaluate


def test_interrupted_search_reports_what_was_found(suite: Suite) -> None:
    found = tune(suite, GROUPS, interrupted_after(24), SPACE, OPTIONS)
    assert "interrupted" in found.ended
    assert found.frontier
    assert all(p.held_out_quality is None for p in found.frontier)
    assert "not asked on the other" in tuned_text(found)
    assert tomllib.loads(settings_toml(found))


def test_search_interrupted_at_once_chooses_nothing(suite: Suite) -> None:
    found = tune(suite, GROUPS, interrupted_after(0), SPACE, OPTIONS)
    assert (found.chosen, found.frontier) == (None, ())
    assert "no trial was completed" in tuned_text(found)
    with pytest.raises(InputError, match="nothing was chosen"):
        settings_toml(found)


def test_failed_trial_is_told_and_the_search_goes_on(suite: Suite) -> None:
    known = Known()

    def evaluate(spec: PipelineSpec, ids: Sequence[str]) -> Outcome:
        if spec.mode == "generative":
            raise ModelError("the server is away")
        return known(spec, ids)

    found = tune(suite, GROUPS, evaluate, SPACE, OPTIONS)
    assert {p.ending for p in found.trials if p.spec.mode == "generative"} == {"failed"}
    assert found.frontier
    assert "failed: the server is away" in tuned_text(found)


def test_point_that_fails_on_the_held_out_half_says_so(suite: Suite) -> None:
    known = Known()
    n_searched = tune(suite, GROUPS, Known(), SPACE, replace(OPTIONS, max_trials=1)).n_searched

    def evaluate(spec: PipelineSpec, ids: Sequence[str]) -> Outcome:
        if len(ids) == n_searched:  # no share of the searched half is as long
            raise ModelError("the server is away")
        return known(spec, ids)

    (best,) = tune(suite, GROUPS, evaluate, SPACE, replace(OPTIONS, max_trials=1)).frontier
    assert (best.held_out_quality, best.reason) == (None, "the server is away")


def test_search_of_failures_alone_is_an_error(suite: Suite) -> None:
    def evaluate(spec: PipelineSpec, ids: Sequence[str]) -> Outcome:
        raise ModelError("the server is away")

    with pytest.raises(RagError, match="every trial failed, the first one so: the server is away"):
        tune(suite, GROUPS, evaluate, SPACE, OPTIONS)


def test_trial_without_a_score_has_failed_and_is_no_zero(suite: Suite) -> None:
    with pytest.raises(RagError, match="none of 20 questions could be scored"):
        tune(suite, GROUPS, lambda spec, ids: Outcome({}, 1.0), SPACE, OPTIONS)


def failing(known: Known, mode: str, share: int) -> Callable[[PipelineSpec, Sequence[str]], Outcome]:
    """An evaluation in which a mode answers only one of so many questions, and those well."""

    def evaluate(spec: PipelineSpec, ids: Sequence[str]) -> Outcome:
        outcome = known(spec, ids)
        if spec.mode != mode:
            return outcome
        failed = dict.fromkeys((i for n, i in enumerate(ids) if n % share), "the server is away")
        quality = {i: 1.0 for i in ids if i not in failed}
        return replace(outcome, quality=quality, cpu_s=price_s(spec) * len(quality), failed=failed)

    return evaluate


def test_failed_questions_count_as_zero_and_are_told(suite: Suite) -> None:
    found = tune(suite, GROUPS, failing(Known(), "standard", 4), SPACE, OPTIONS)
    failed = [p for p in found.trials if p.spec.mode == "standard" and p.reason[:8] != "the same"]
    assert {p.quality for p in failed} == {0.25}
    assert all(p.n_failed > p.n_scored / 2 for p in failed)
    assert failed[0].cpu_s == pytest.approx(price_s(failed[0].spec))
    assert found.chosen
    assert found.chosen.spec.mode == "eco"
    assert not found.has_failures
    assert f"trial {failed[0].number}: {failed[0].n_failed} questions failed" in tuned_text(found)


def test_failures_of_the_choice_are_told_with_it(suite: Suite) -> None:
    found = tune(suite, GROUPS, failing(Known(), "eco", 4), SPACE, replace(OPTIONS, max_trials=1))
    assert found.chosen
    assert (found.chosen.quality, found.chosen.n_failed, found.chosen.held_out_n_failed) == (0.25, 60, 60)
    assert (found.chosen.held_out_quality, found.has_failures) == (0.25, True)
    assert "120 questions failed" in tuned_text(found)


def test_trial_whose_questions_all_failed_has_failed(suite: Suite) -> None:
    with pytest.raises(RagError, match="every trial failed, the first one so: all 20 questions failed, the first one so: away"):
        tune(suite, GROUPS, lambda spec, ids: Outcome({}, 0.0, failed=dict.fromkeys(ids, "away")), SPACE, OPTIONS)


def test_trial_without_cpu_seconds_is_not_for_nothing(suite: Suite) -> None:
    known = Known()

    def evaluate(spec: PipelineSpec, ids: Sequence[str]) -> Outcome:
        return replace(known(spec, ids), cpu_s=0.0) if spec.name == "first" else known(spec, ids)

    assert tune(suite, GROUPS, evaluate, SPACE, OPTIONS).trials[1].ending == "failed"


def test_completed_trials_are_compared_on_the_questions_that_all_of_them_score(suite: Suite) -> None:
    known = Known()

    def evaluate(spec: PipelineSpec, ids: Sequence[str]) -> Outcome:
        """The first pipeline leaves out what it would get wrong."""
        outcome = known(spec, ids)
        return replace(outcome, quality={i: q for i, q in outcome.quality.items() if q or spec.name != "first"})

    no_model, first = tune(suite, GROUPS, evaluate, SPACE, replace(OPTIONS, max_trials=2)).trials
    assert no_model.n_scored == first.n_scored < 80
    assert first.quality == 1.0
    assert no_model.quality == pytest.approx(0.55 / 0.8, abs=0.1)
    assert no_model.held_out_quality is not None


def test_no_question_that_all_completed_trials_score_is_told_and_chooses_nothing(suite: Suite) -> None:
    known = Known()

    def evaluate(spec: PipelineSpec, ids: Sequence[str]) -> Outcome:
        outcome = known(spec, ids)
        return replace(outcome, quality={i: q for i, q in outcome.quality.items() if (int(i[1:]) % 4 < 2) == (spec.mode == "eco")})

    found = tune(suite, GROUPS, evaluate, SPACE, replace(OPTIONS, max_trials=2))
    assert found.chosen is None
    assert "no question was scored in every completed trial" in tuned_text(found)


def test_drift_of_the_machine_is_taken_out_of_cpu_seconds_and_left_in_the_account(suite: Suite) -> None:
    known, quiet = Known(), tune(suite, GROUPS, Known(), SPACE, OPTIONS)

    def evaluate(spec: PipelineSpec, ids: Sequence[str]) -> Outcome:
        outcome = known(spec, ids)
        return replace(outcome, cpu_s=outcome.cpu_s * (1 if len(known.asked) < 10 else 1.5))

    found = tune(suite, GROUPS, evaluate, SPACE, OPTIONS)
    assert found.chosen
    assert quiet.chosen
    assert found.chosen.spec == quiet.chosen.spec
    assert found.chosen.cpu_s == pytest.approx(quiet.chosen.cpu_s)
    assert found.cpu_s > quiet.cpu_s * 1.2


def test_what_is_not_searched_is_as_in_the_first_pipeline_of_the_suite(suite: Suite) -> None:
    first = msgspec.structs.replace(suite.pipelines[1], max_tokens=77, style="passages", settings={"answer.abstain_below": 0.3})
    suite = replace(suite, pipelines=(suite.pipelines[0], first))
    found = tune(suite, GROUPS, Known(), SPACE, OPTIONS)
    assert {(p.spec.max_tokens, p.spec.style) for p in found.trials[1:]} == {(77, "passages")}
    assert {p.spec.settings["answer.abstain_below"] for p in found.trials[1:]} == {0.3}


def test_context_is_in_the_settings_file_only_where_it_was_searched(suite: Suite) -> None:
    answered = tomllib.loads(settings_toml(tune(suite, GROUPS, Known(), SPACE, OPTIONS)))
    packed = tomllib.loads(settings_toml(tune(suite, GROUPS, Known(), SPACE, replace(OPTIONS, metric="answer_in_context"))))
    assert "context" not in answered
    assert set(packed["context"]) == {"max_tokens", "style"}


def test_quality_that_is_not_a_number_is_refused(suite: Suite) -> None:
    with pytest.raises(InputError, match="not a number"):
        tune(suite, GROUPS, lambda spec, ids: Outcome(dict.fromkeys(ids, float("nan")), 1.0), SPACE, OPTIONS)


@pytest.mark.parametrize(("name", "match"), [("hallucination", "more is better"), ("fame", "unknown")])
def test_metric_that_cannot_be_searched_for_is_refused(suite: Suite, name: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        tune(suite, GROUPS, Known(), SPACE, replace(OPTIONS, metric=name))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_trials": 0}, "--trials is 0; allowed: 1 or more"),
        ({"max_cpu_s": -1.0}, "--max-cpu-s is -1; allowed: "),
        ({"max_cpu_s": float("nan")}, "--max-cpu-s is nan; allowed: "),
        ({"max_energy_j": float("nan")}, "--max-joules is nan; allowed: "),
        ({"max_energy_j": float("inf")}, "--max-joules is inf; allowed: "),
    ],
)
def test_limit_out_of_its_range_is_refused_by_the_name_of_its_option(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        TuneOptions(**limits)
    assert raised.value.code == "usage"


def test_questions_of_one_group_cannot_be_split(suite: Suite) -> None:
    with pytest.raises(InputError, match="at least two"):
        tune(suite, dict.fromkeys(GROUPS, "g"), Known(), SPACE, OPTIONS)


def test_budget_of_the_context_is_varied_only_where_a_context_is_scored(suite: Suite) -> None:
    packed = tune(suite, GROUPS, Known(), SPACE, replace(OPTIONS, metric="answer_in_context")).trials[2:]
    answered = tune(suite, GROUPS, Known(), SPACE, OPTIONS).trials[2:]
    assert len({p.spec.max_tokens for p in packed}) > 1
    assert len({p.spec.max_tokens for p in answered}) == 1


@pytest.mark.parametrize(
    ("mine", "other", "stops"),
    [
        ((0.5, 1.0), (0.9, 1.0), True),  # better and not dearer
        ((0.5, 1.0), (0.9, 1.1), False),  # better and dearer
        ((0.5, 1.0), (0.5, 0.6), False),  # as good, and not half as dear
        ((0.5, 1.0), (0.5, 0.5), True),  # as good at half the price
        ((0.5, 1.0), (0.4, 0.1), False),  # worse and cheaper
    ],
)
def test_beaten_is_what_others_exceed_by_a_margin(mine: tuple[float, float], other: tuple[float, float], stops: bool) -> None:
    def outcome(share: float, cpu_s: float) -> Outcome:
        return Outcome({f"q{n}": float(n < share * 40) for n in range(40)}, cpu_s)

    assert is_beaten(outcome(*mine), outcome(*other), MARGIN) is stops


def test_few_questions_stop_nothing() -> None:
    few = [f"q{n}" for n in range(19)]
    assert not is_beaten(Outcome(dict.fromkeys(few, 0.0), 1.0), Outcome(dict.fromkeys(few, 1.0), 1.0), MARGIN)


def test_luck_of_a_few_questions_stops_nothing() -> None:
    ids = [f"q{n}" for n in range(40)]
    mine = Outcome({i: float(n % 2) for n, i in enumerate(ids)}, 1.0)
    other = Outcome({i: float(n % 2 == 0 or n == 1) for n, i in enumerate(ids)}, 1.0)
    assert not is_beaten(mine, other, MARGIN)


_POINTS = st.lists(st.tuples(st.integers(0, 10), st.integers(1, 10_000)), min_size=1, max_size=12)


@given(_POINTS)
def test_frontier_holds_the_best_and_nothing_worse_that_is_not_plainly_cheaper(drawn: list[tuple[int, int]]) -> None:
    points = [point(n, quality / 10, cpu / 1000) for n, (quality, cpu) in enumerate(drawn)]
    best = frontier(points)
    assert max(p.quality or 0.0 for p in best) == max(p.quality or 0.0 for p in points)
    pairs = list(zip(best, best[1:], strict=False))
    assert all((a.quality or 0) < (b.quality or 0) and (a.cpu_s or 0) * 1.05 < (b.cpu_s or 0) for a, b in pairs)
    for p in points:  # whatever is left out is reached by one that is kept, within the noise
        assert any((b.quality or 0) >= (p.quality or 0) and (b.cpu_s or 0) <= (p.cpu_s or 0) * 1.05 for b in best)


def test_of_equal_settings_within_the_noise_the_first_is_kept() -> None:
    assert [p.number for p in frontier([point(0, 0.8, 1.03), point(1, 0.8, 1.0)])] == [0]
    assert [p.number for p in frontier([point(0, 0.8, 1.06), point(1, 0.8, 1.0)])] == [1]


def test_trials_that_did_not_answer_everything_are_not_on_the_frontier() -> None:
    assert frontier([point(0, 0.9, 0.1, ending="beaten"), point(1, 0.8, 1.0)]) == (point(1, 0.8, 1.0),)


BEST = (point(0, 0.50, 0.001), point(1, 0.80, 0.010), point(2, 0.805, 0.020), point(3, 0.83, 2.0))


@pytest.mark.parametrize(("limit", "chosen"), [(0.0, 1), (0.005, 0), (0.1, 1), (5.0, 3), (0.0001, 0)])
def test_choice_is_the_best_within_the_limit_or_the_knee(limit: float, chosen: int) -> None:
    found, rule = choose(BEST, limit, MARGIN)
    assert found.number == chosen
    assert ("knee" in rule) == (limit == 0.0)


def test_nothing_plainly_better_means_the_cheapest() -> None:
    assert choose([point(0, 0.8, 0.1), point(1, 0.805, 1.0)], 0.0, MARGIN)[0].number == 0


def test_written_settings_are_read_back(suite: Suite, tmp_path: Path) -> None:
    found = tune(suite, GROUPS, Known(), SPACE, replace(OPTIONS, max_cpu_s=0.1))
    assert found.chosen
    (tmp_path / "ragwatt.toml").write_text(settings_toml(found))
    settings = load_settings(config=tmp_path / "ragwatt.toml")
    assert settings.search.k == found.chosen.spec.k
    assert settings.answer.generator == "extractive"
    assert settings.search.dense_weight == found.chosen.spec.settings.get("search.dense_weight", 0.7)


def test_real_collection_is_tuned(suite: Suite, tmp_path: Path) -> None:
    parts = ["pump", "valve", "boiler", "stove", "filter", "garage", "ladder", "engine"]
    for n, part in enumerate(parts):
        (tmp_path / f"{part}.md").write_text(f"# The {part}\n\nThe {part} was bought in {1950 + n}. It is kept in hall {n}.")
    data = str(tmp_path / "data")
    assert main(["ingest", *(str(tmp_path / f"{part}.md") for part in parts), "--data-dir", data]) == 0
    gold = {part: str(1950 + n) for n, part in enumerate(parts)}

    def evaluate(spec: PipelineSpec, ids: Sequence[str]) -> Outcome:
        with open_engine(load_settings({"data_dir": data, **spec.settings}), "default") as engine:
            mode: SearchMode = "bm25" if spec.mode == "eco" else "hybrid"
            answers = {i: engine.ask(Query(f"When was the {i} bought?", spec.k, mode)) for i in ids}
        quality = {i: float(contains_answer(answer.text, [gold[i]])) for i, answer in answers.items()}
        return Outcome(quality, sum(answer.measurement.cpu_s for answer in answers.values()))

    found = tune(suite, {part: part for part in parts}, evaluate, Space(), TuneOptions(max_trials=5, seed=1))
    assert found.chosen
    assert found.chosen.held_out_quality == 1.0
    assert "chosen" in tuned_text(found)
