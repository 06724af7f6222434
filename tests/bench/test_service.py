from __future__ import annotations

from bench.service import Measured, bars_of
from bench.strain import Overhead, Overload, Stream, Times

SOME = Times(10, 5.0, 6.0, 7.0)
NONE = Times(0, 0.0, 0.0, 0.0)


def overload(factor: float, *, share: float = 0.95, refused: Times = SOME, n_failed: int = 0, n_bad_probes: int = 0) -> Overload:
    return Overload(factor, 60.0, 100, 60.0, 60.0 * share, share, SOME, refused, 0, n_failed, SOME, n_bad_probes, 1.5, 0.1)


def verdicts(measured: Measured) -> dict[str, bool]:
    return {bar.what: bar.met for bar in bars_of(measured)}


def test_figures_on_the_good_side_are_met_and_others_are_not() -> None:
    good = Measured(loaded_mb=199.0, overhead=[Overhead("/x", 1, 9.0, 7.0, 2.0)], stream=Stream(1, 40.0, 9.0, 49.0))
    bad = Measured(loaded_mb=201.0, overhead=[Overhead("/x", 1, 9.0, 5.0, 4.0)], stream=Stream(1, 80.0, 60.0, 70.0))
    assert list(verdicts(good).values()) == [True] * 3
    assert list(verdicts(bad).values()) == [False] * 3


def test_overload_is_held_against_goodput_refusals_probes_and_broken_requests() -> None:
    assert list(verdicts(Measured(overload=[overload(10.0)])).values()) == [True] * 4
    found = verdicts(Measured(overload=[overload(10.0, share=0.5, refused=Times(9, 11.0, 12.0, 13.0), n_failed=1, n_bad_probes=1)]))
    assert list(found.values()) == [False] * 4


def test_capacity_itself_promises_no_goodput_and_no_refusal_has_no_time() -> None:
    found = verdicts(Measured(overload=[overload(1.0, share=0.5, refused=NONE)]))
    assert [what for what in found if "goodput" in what or "refusal at" in what] == []
