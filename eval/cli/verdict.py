"""`rag eval compare | gate | report`: what two results, or a release, come to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from eval.cli.shared import eval_parser, print_json, print_lines, write_file
from eval.compare import compare as compare_results
from eval.gate import References
from eval.gate import gate as gate_result
from eval.groundedness import style_margin
from eval.junit import junit
from eval.record import load_result
from eval.side import load_interleaved
from eval.suite import load_suite
from eval.tables import as_json as shown_json
from eval.tables import as_markdown, as_text, report_markdown, report_text
from eval.waivers import apply_waivers, load_waivers
from rag.console import line
from rag.errors import InputError
from rag.settings import Settings

_GROUNDEDNESS = "groundedness"


def compare(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag eval compare`.

    Args:
        argv: Arguments behind the command.
        settings: Not used.
        as_json: Print JSON.

    Returns:
        0.
    """
    parser = eval_parser("compare", "Compare two results of one suite, question by question.")
    parser.add_argument("base", type=Path, metavar="BASE", help="result file of the base")
    parser.add_argument("candidate", type=Path, metavar="CANDIDATE", help="result file of the candidate")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown too")
    options = parser.parse_args(argv)
    base, candidate = load_result(options.base), load_result(options.candidate)
    comparison = compare_results(base, candidate, seed=candidate.seed)
    if options.markdown:
        write_file(options.markdown, as_markdown(comparison).encode("utf-8", "replace"))
    print_lines(shown_json(comparison) if as_json else as_text(comparison))
    return 0


def gate(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag eval gate`; arguments as for `compare`, 0 when it passed, 1 when it failed, 4 when that cannot be decided."""
    parser = eval_parser("gate", "Decide on a result by the gates of its suite: exit code 0 pass, 1 fail, 4 cannot be decided.")
    parser.add_argument("candidate", type=Path, metavar="CANDIDATE", help="result file")
    parser.add_argument("--suite", type=Path, required=True, metavar="SUITE", help="the suite, which has the gates")
    parser.add_argument("--base", type=Path, metavar="RESULT", help="of the last release (default: only fixed bounds are checked)")
    parser.add_argument("--anchor", type=Path, metavar="RESULT", help="of a pinned older release, so that slow drift is seen")
    parser.add_argument("--interleaved", type=Path, metavar="FILE", help="CPU seconds, from 'rag eval interleave'")
    parser.add_argument("--waivers", type=Path, metavar="FILE", help="failures that are borne until a date")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a summary as Markdown")
    options = parser.parse_args(argv)
    references = References(
        base=load_result(options.base) if options.base else None,
        anchor=load_result(options.anchor) if options.anchor else None,
        interleaved=load_interleaved(options.interleaved) if options.interleaved else None,
    )
    report = gate_result(
        load_suite(options.suite), load_result(options.candidate), references, style_margin=style_margin(_GROUNDEDNESS)
    )
    if options.waivers:
        report = apply_waivers(report, load_waivers(options.waivers), date.today())
    if options.junit:
        write_file(options.junit, junit(report))
    if options.markdown:
        write_file(options.markdown, report_markdown(report).encode("utf-8", "replace"))
    print_lines(shown_json(report) if as_json else report_text(report))
    return report.exit_code


def report(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag eval report`; arguments and result as for `compare`."""
    from eval.report import write_report

    parser = eval_parser("report", "Show results as one HTML page; several are set side by side.")
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULT", help="result files, oldest first")
    parser.add_argument("--out", type=Path, default=Path("eval-report.html"), metavar="FILE", help="(default: %(default)s)")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write every plot as SVG and PNG too")
    parser.add_argument("--mlflow", metavar="URI", help="log to this MLflow store too, such as sqlite:///mlflow.db")
    parser.add_argument("--experiment", default="ragwatt", metavar="NAME", help="of MLflow (default: %(default)s)")
    options = parser.parse_args(argv)
    results = [load_result(path) for path in options.results]
    if options.out.resolve() in [path.resolve() for path in options.results]:
        raise InputError(f"--out {options.out} is one of the results; name another file", code="usage")
    write_report(results, options.out, options.plots)
    logged: list[str] = []
    if options.mlflow:
        from eval.track import log_result

        for result, path in zip(results, options.results, strict=True):
            logged += log_result(result, options.experiment, options.mlflow, [path])
    if as_json:
        print_json({"out": str(options.out), "plots": str(options.plots) if options.plots else None, "mlflow_runs": logged})
    else:
        line(f"written to {options.out}" + (f", plots in {options.plots}" if options.plots else ""))
        if logged:
            line(f"{len(logged)} MLflow runs logged to {options.mlflow}")
    return 0
