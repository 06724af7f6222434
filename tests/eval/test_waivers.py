from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from eval.compare import Place
from eval.gate import Check, Outcome, Report, Verdict
from eval.waivers import Waiver, apply_waivers, load_waivers
from rag.errors import InputError

TEXT = """
[[waiver]]
metric = "ndcg@10"
data = "set"
pipeline = "standard"
reason = "the new chunker is worth it"
by = "A. Person"
expires = 2026-12-31
"""
WAIVER = Waiver("ndcg@10", "set", "standard", "the new chunker is worth it", "A. Person", date(2026, 12, 31))
LAST_DAY = date(2026, 12, 31)


def report(*outcomes: Outcome) -> Report:
    names = ("ndcg@10", "mrr@10", "map@10")
    verdicts = tuple(
        Verdict(Place("set", "standard", name), outcome, (Check("base", outcome, "why"),))
        for name, outcome in zip(names, outcomes, strict=False)
    )
    return Report("suite", "1.0.0", "fail", 1, verdicts, ())


def test_a_waiver_is_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "waivers.toml"
    path.write_text(TEXT, encoding="utf-8")
    assert load_waivers(path) == (WAIVER,)


def test_a_failed_gate_is_waived_on_the_last_day_and_the_rest_decides() -> None:
    found = apply_waivers(report("fail", "pass"), [WAIVER], LAST_DAY)
    assert [verdict.outcome for verdict in found.verdicts] == ["waived", "pass"]
    assert found.verdicts[0].waiver == "waived by A. Person until 2026-12-31: the new chunker is worth it"
    assert (found.outcome, found.exit_code, found.errors) == ("pass", 0, ())


def test_an_expired_waiver_is_an_error_and_the_gate_stays_failed() -> None:
    found = apply_waivers(report("fail"), [WAIVER], date(2027, 1, 1))
    assert (found.outcome, found.exit_code, found.verdicts[0].outcome) == ("fail", 1, "fail")
    assert found.errors == (
        "the waiver of ndcg@10 of standard on set by A. Person expired on 2026-12-31; mend the cause, or decide anew",
    )


def test_a_waiver_waives_its_own_gate_alone() -> None:
    assert apply_waivers(report("fail", "fail"), [WAIVER], LAST_DAY).exit_code == 1


def test_what_is_inconclusive_is_not_waived() -> None:
    found = apply_waivers(report("inconclusive"), [WAIVER], LAST_DAY)
    assert (found.outcome, found.exit_code) == ("inconclusive", 4)


@pytest.mark.parametrize("waiver", [WAIVER, Waiver("no", "such", "gate", "r", "b", LAST_DAY)])
def test_a_waiver_of_no_use_is_noted(waiver: Waiver) -> None:
    found = apply_waivers(replace(report("pass"), outcome="pass", exit_code=0), [waiver], LAST_DAY)
    assert len(found.notes) == 1
    assert "is of no use" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[waiver]\n", "is not TOML"),
        (TEXT.replace("2026-12-31", '"soon"'), "expires"),
        (TEXT.replace("by =", "who ="), "who"),
        (TEXT.replace('"A. Person"', '" "'), "by of waiver 1 is empty"),
        (TEXT + TEXT, "waiver 2 waives ndcg@10 of standard on set a second time"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "waivers.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_waivers(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_waivers(tmp_path / "none.toml")
