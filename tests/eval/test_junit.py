from __future__ import annotations

from xml.etree.ElementTree import Element, fromstring

import pytest

from eval.compare import Place
from eval.gate import EXIT_CODES, Check, Outcome, Report, Verdict, whole
from eval.junit import junit


def report(*outcomes: Outcome, data: str = "set") -> Report:
    verdicts = tuple(
        Verdict(
            Place(data, "standard", f"recall@{n}"),
            outcome,
            () if outcome == "unchecked" else (Check("base", "fail" if outcome == "waived" else outcome, "the figures"),),
            "waived by somebody" if outcome == "waived" else "",
        )
        for n, outcome in enumerate(outcomes, start=1)
    )
    verdict = whole(outcomes)
    return Report("suite", "1.0.0", verdict, EXIT_CODES[verdict], verdicts, ("a note",))


def suite(of: Report) -> Element:
    found = fromstring(junit(of)).find("testsuite")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("outcome", "tag"),
    [
        ("fail", "failure"),
        ("inconclusive", "error"),
        ("waived", "skipped"),
        ("unchecked", "skipped"),
        ("pass", None),
        ("improved", None),
    ],
)
def test_each_gate_is_a_case_that_a_build_server_reads_rightly(outcome: Outcome, tag: str | None) -> None:
    case = suite(report(outcome, "pass"))[0]
    assert (case.get("classname"), case.get("name")) == ("suite.set.standard", "recall@1")
    assert [child.tag for child in case if child.tag != "system-out"] == ([tag] if tag else [])


def test_a_failure_says_why() -> None:
    failure = suite(report("fail")).find("testcase/failure")
    assert failure is not None
    assert (failure.get("message"), failure.text) == ("the figures", "base: fail: the figures")


def test_counts_are_those_of_the_cases() -> None:
    found = suite(report("fail", "inconclusive", "inconclusive", "waived", "pass")).attrib
    assert (found["tests"], found["failures"], found["errors"], found["skipped"]) == ("5", "1", "2", "1")


def test_gates_of_which_none_was_checked_are_an_error() -> None:
    found = suite(report("unchecked"))
    assert (found.get("tests"), found.get("errors")) == ("2", "1")


def test_characters_that_xml_cannot_hold_are_replaced() -> None:
    case = suite(report("pass", data="a\x00b<&"))[0]
    assert case.get("classname") == "suite.a\ufffdb<&.standard"


def test_notes_are_shown() -> None:
    assert suite(report("pass")).findtext("system-out") == "a note"
