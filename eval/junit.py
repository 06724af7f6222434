"""The report of the gate as JUnit XML, which build servers show: one test case a gate."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from eval.gate import Report, Verdict
from eval.tables import check_lines


def junit(report: Report) -> bytes:
    """Write a report as JUnit XML.

    A gate that fails is a ``failure``; one that is inconclusive is an ``error``, because build servers count what is skipped as
    good; a waived or unchecked one is ``skipped``.

    Args:
        report: Of the gate.

    Returns:
        UTF-8 with a declaration. Characters that XML cannot hold are U+FFFD.
    """
    cases = [_case(report.suite, verdict) for verdict in report.verdicts]
    if report.outcome == "inconclusive" and not any(case.find("error") is not None for case in cases):
        nothing = Element("testcase", classname=_text(report.suite), name="any gate")
        SubElement(nothing, "error", message="no gate was checked")
        cases.append(nothing)
    counts = {kind: f"{sum(case.find(tag) is not None for case in cases)}" for kind, tag in _COUNTED}
    root = Element("testsuites")
    suite = SubElement(root, "testsuite", {"name": _text(f"gate {report.suite}"), "tests": f"{len(cases)}", **counts})
    suite.extend(cases)
    if report.errors or report.notes:
        SubElement(suite, "system-err" if report.errors else "system-out").text = _text("\n".join((*report.errors, *report.notes)))
    indent(root)
    content: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


_COUNTED = (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))


def _case(suite: str, verdict: Verdict) -> Element:
    place = verdict.place
    case = Element("testcase", classname=_text(f"{suite}.{place.data}.{place.pipeline}"), name=_text(place.metric))
    lines = check_lines(verdict)
    match verdict.outcome:
        case "fail" | "inconclusive":
            worst = next(check.reason for check in verdict.checks if check.outcome == verdict.outcome)
            tag = "failure" if verdict.outcome == "fail" else "error"
            SubElement(case, tag, message=_text(worst), type=verdict.outcome).text = _text("\n".join(lines))
        case "waived" | "unchecked":
            SubElement(case, "skipped", message=_text(verdict.waiver or "nothing to be held against"))
        case "pass" | "improved":
            SubElement(case, "system-out").text = _text("\n".join(lines))
    return case


def _text(text: str) -> str:
    """Names come from files of the user; a control character would make the file unreadable."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
