"""`rag eval run | interleave`: put questions to pipelines, write what came of it."""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from eval.cli.shared import add_suite_options, eval_parser, print_json, print_lines, run_options, tell, watched, with_data, with_url
from eval.record import Estimate, Result, RunRecord, save_result
from eval.run import run_suite
from eval.side import Side, SuitePair, interleave_suite, save_interleaved
from eval.suite import load_suite
from eval.tables import figure
from rag.console import line
from rag.power.defer import add_defer_options, parse_deferral, wait
from rag.settings import Settings

_PARTLY_FAILED = 3
# Costs that people look at first; the result file and the report have them all.
_SHOWN_COSTS = ("cpu_s", "cpu_s_per_correct", "wall_s_p95", "energy_j", "carbon_g", "peak_rss_bytes")


def run(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag eval run`.

    Args:
        argv: Arguments behind the command.
        settings: Defaults for what they leave open.
        as_json: Print a summary as JSON; the result file is written all the same.

    Returns:
        0, or 3 when a question failed.
    """
    parser = eval_parser("run", "Put every pipeline of a suite to every data set, and write a result file.")
    add_suite_options(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="result file, .json or .json.gz (default: eval-NAME.json)")
    parser.add_argument("--only", action="append", default=[], metavar="PIPELINE", help="run this one, and the one without a model")
    parser.add_argument("--url", metavar="URL", help="ask a running service instead of this process")
    parser.add_argument("--scores-only", action="store_true", help="leave questions, answers and claims out of the file")
    add_defer_options(parser)
    options = parser.parse_args(argv)
    chosen = run_options(options, with_url(settings, options.url))
    suite = load_suite(options.suite)
    chosen = replace(chosen, only=tuple(options.only), has_texts=not options.scores_only)
    if (deferral := parse_deferral(options, time.time())) is not None:
        wait(deferral, time.time, time.sleep, tell)
    out = options.out or Path(f"eval-{suite.name}.json")
    with watched() as progress:
        result = run_suite(suite, chosen, progress)
    save_result(result, out)
    if as_json:
        print_json(_summary(result, out))
    else:
        _show(result, out)
    return _PARTLY_FAILED if any(question.error for each in result.runs for question in each.questions) else 0


def interleave(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag eval interleave`; arguments and result as for `run`, 0 only."""
    parser = eval_parser("interleave", "Measure the CPU seconds of two releases or settings on the same questions, in one job.")
    add_suite_options(parser)
    parser.add_argument("--base", type=Path, metavar="RAG", help="the 'rag' of the base release (default: this one)")
    parser.add_argument("--base-config", type=Path, metavar="FILE", help="settings file of the base")
    parser.add_argument("--candidate-config", type=Path, metavar="FILE", help="settings file of the candidate")
    parser.add_argument(
        "--only", action="append", default=[], metavar="PIPELINE", help="measure this one (default: all that answer)"
    )
    parser.add_argument("--data", action="append", default=[], metavar="NAME", help="data set of the suite (default: all)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="times each question is put (default: %(default)s)")
    parser.add_argument(
        "--self", action="store_true", dest="is_self", help="measure the noise: A against A; 'rag eval gate' refuses such a file"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="for 'rag eval gate --interleaved' (default: interleaved-NAME.json)"
    )
    options = parser.parse_args(argv)
    suite = with_data(load_suite(options.suite), options.data)
    this = Path(sys.executable).with_name("rag")
    pair = SuitePair(
        base=Side(options.base or this, options.base_config, is_other=options.base is not None),
        candidate=Side(this, options.candidate_config, is_other=False),
        is_self=options.is_self,
    )
    with watched() as progress, tempfile.TemporaryDirectory() as work:
        chosen = replace(run_options(options, settings), only=tuple(options.only))
        found = interleave_suite(suite, pair, chosen, options.rounds, Path(work), progress)
    out = options.out or Path(f"interleaved-{suite.name}.json")
    save_interleaved(found, out)
    ratios = [
        {
            "data": one.data,
            "pipeline": one.pipeline,
            "ratio": sum(one.candidate_cpu_s) / sum(one.base_cpu_s),
            "n_questions": len(one.questions),
        }
        for one in found.pairs
    ]
    if as_json:
        print_json({"out": str(out), "ratios": ratios})
    for each in () if as_json else ratios:
        line(
            f"{each['data']}, {each['pipeline']}: {each['ratio']:.4f} times the CPU seconds of the base, {each['n_questions']} questions"
        )
    if not as_json:
        by_it = "it shows the noise" if found.is_self else f"'rag eval gate RESULT --suite SUITE --interleaved {out}' decides by it"
        line(f"written to {out}; {by_it}")
    return 0


def _summary(result: Result, out: Path) -> dict[str, object]:
    """What a program wants to know without reading the file."""
    return {
        "out": str(out),
        "suite": result.suite,
        "runs": [
            {
                "data": each.data,
                "pipeline": each.pipeline,
                "n_questions": len(each.questions),
                "n_failed": sum(bool(question.error) for question in each.questions),
                "quality": {name: _as_json(estimate) for name, estimate in each.quality.items()},
                "reasons": {name: reasons for name in each.quality if (reasons := _reasons(each, name))},
                "cost": {name: _as_json(estimate) for name, estimate in each.cost.items()},
                "method": each.method or None,
                "notes": list(each.notes),
            }
            for each in result.runs
        ],
        "effort": msgspec.to_builtins(result.effort),
    }


def _reasons(run: RunRecord, name: str) -> dict[str, int]:
    """Why questions have no score of a metric, with their number, most frequent first."""
    return dict(Counter(each.unscored[name] for each in run.questions if name in each.unscored).most_common())


def _as_json(estimate: Estimate) -> dict[str, object]:
    found: dict[str, object] = msgspec.to_builtins(estimate)
    return found


def _show(result: Result, out: Path) -> None:
    for name in dict.fromkeys(each.data for each in result.runs):
        runs = [each for each in result.runs if each.data == name]
        line(f"{name}: {max(len(each.questions) for each in runs)} questions")
        print_lines(_table(runs))
        for each in runs:
            for note in each.notes:
                line(f"  {each.pipeline}: {note}")
    effort = result.effort
    line(
        f"took {effort.wall_s:.0f} s; CPU: {effort.answers_cpu_s:.1f} s for answers, {effort.ingest_cpu_s:.1f} s for ingestion, "
        f"{effort.harness_cpu_s:.1f} s for the rest"
    )
    line(f"written to {out}; 'rag eval report {out}' shows it, 'rag eval gate {out} --suite SUITE' decides on it")


def _table(runs: Sequence[RunRecord]) -> str:
    """Metrics down, pipelines across; where nothing was scored by a metric, the most frequent reason."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("metric", *[each.pipeline for each in runs], box=SIMPLE)
    for name in runs[0].quality:
        table.add_row(name, *[Text(_cell(name, each.quality[name], _reasons(each, name))) for each in runs])
    for name in _SHOWN_COSTS:
        if any(each.cost[name].value is not None for each in runs):
            method = {each.method for each in runs if each.method} if name in ("energy_j", "carbon_g") else set()
            table.add_row(
                f"{name} ({', '.join(sorted(method))})" if method else name, *[_cell(name, each.cost[name]) for each in runs]
            )
    console = Console(file=io.StringIO(), width=max(100, 30 + 40 * len(runs)), color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(each.rstrip() for each in console.file.getvalue().strip("\n").split("\n"))


def _cell(name: str, estimate: Estimate, reasons: Mapping[str, int] | None = None) -> str:
    if estimate.value is None:
        return next((f"- ({reason}: {n})" for reason, n in (reasons or {}).items()), "-")
    span = (
        f" [{figure(estimate.lo, name)}, {figure(estimate.hi, name)}]"
        if estimate.lo is not None and estimate.hi is not None
        else ""
    )
    return figure(estimate.value, name) + span + (f" (n {estimate.n})" if estimate.n_unscored else "")
