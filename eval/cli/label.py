"""`rag eval new | judge | calibrate | selftest`: what people and models say of questions and answers."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import msgspec

from eval.calibrate import calibrate as fit
from eval.calibrate import calibrated_text
from eval.cli.shared import eval_parser, print_json, print_lines
from eval.draft import drafts, draw_passages, review
from eval.drafted import decided, keep, read_table, write_table
from eval.judge import DryRun, Price, open_judge
from eval.judged import cases_of, judged_result
from eval.record import load_result, save_result
from eval.selftest import self_test, self_test_text
from rag.console import line
from rag.errors import InputError
from rag.generate import open_language_model
from rag.groundedness import open_scorer
from rag.power.figure import said
from rag.settings import Settings
from rag.store import open_store

# Folder of the judge's answers in the data directory.
_JUDGE_CACHE = "eval/judge"
# Passages of the self-test: six to a context, so these make some two hundred claims.
_N_SELFTEST_PASSAGES = 400


def new(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag eval new`.

    Args:
        argv: Arguments behind the command.
        settings: Data directory, and the language model that drafts, if there is one.
        as_json: Print counts as JSON; drafts are then shown on standard error.

    Returns:
        0.

    Raises:
        InputError: If fewer than one passage is wanted.
    """
    parser = eval_parser("new", "Draw passages of a collection, draft a question for each, and keep what a person accepts.")
    parser.add_argument("--collection", default=settings.collection, metavar="C", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the data set, JSONL; what is there is kept")
    parser.add_argument("--n", type=int, default=50, metavar="N", help="passages to draw (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    table = parser.add_mutually_exclusive_group()
    table.add_argument("--csv", type=Path, metavar="FILE", help="write the drafts as a table instead of asking here")
    table.add_argument("--from-csv", type=Path, metavar="FILE", help="read the table back: rows with 'yes' under accept are kept")
    options = parser.parse_args(argv)
    if options.n < 1:
        raise InputError(f"--n is {options.n}; allowed: 1 or more", code="usage")
    if options.from_csv:
        done = asdict(read_table(options.from_csv, options.out))
    else:
        model = open_language_model(settings)
        with closing(open_store(settings.data_dir, options.collection)) as store:
            passages, known = draw_passages(store, options.n, options.seed), decided(options.out)
            waiting = drafts(store, passages, model, timeout_s=settings.language_model.timeout_s, done=known)
            n_known = sum(chunk.chunk_id in known for chunk in passages)
            if options.csv:
                done = {"n_drafts": write_table(waiting, options.csv), "n_known": n_known}
            else:
                decisions = review(waiting, sys.stdin, sys.stderr if as_json else sys.stdout)
                done = asdict(keep(decisions, options.out)) | {"n_known": n_known}
    out = options.csv or (options.out if done["n_accepted"] else None)
    if as_json:
        print_json(done | {"out": str(out) if out else None})
    else:
        counts = ", ".join(f"{count} {name.removeprefix('n_')}" for name, count in done.items())
        line(f"{counts}; written to {out}" if out else f"{counts}; nothing written to {options.out}")
    return 0


def judge(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag eval judge`; arguments as for `new`, 3 when an answer stayed unscored."""
    parser = eval_parser("judge", "Let the language model of [judge] look at every claim of a result and its evidence.")
    parser.add_argument("result", type=Path, metavar="RESULT", help="result file with texts")
    parser.add_argument("--out", type=Path, metavar="FILE", help="result with the judge's metrics (default: RESULT-judged)")
    parser.add_argument("--pipeline", action="append", default=[], metavar="P", help="only this one")
    parser.add_argument(
        "--repeats", type=int, default=1, metavar="N", help="calls an answer, the majority counts (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="say calls, tokens, dollars and joules; send nothing")
    parser.add_argument("--price", nargs=2, type=float, metavar=("IN", "OUT"), help="dollars for a million tokens read and written")
    options = parser.parse_args(argv)
    if options.repeats < 1:
        raise InputError(f"--repeats is {options.repeats}; allowed: 1 or more", code="usage")
    if options.price and not all(0 <= dollars < math.inf for dollars in options.price):
        given = " ".join(f"{dollars:g}" for dollars in options.price)
        raise InputError(f"--price is {given}; allowed: two finite numbers, 0 or more", code="usage")
    price = Price(*options.price) if options.price else None
    result = load_result(options.result)
    opened = open_judge(
        settings.judge, settings.data_dir / _JUDGE_CACHE, repeats=options.repeats, seed=result.seed, section="judge"
    )
    cases = cases_of(result, options.pipeline)
    dry = opened.dry_run((case for _, case in cases), price)
    if options.dry_run:
        if as_json:
            print_json(msgspec.to_builtins(dry))
        else:
            _show_dry(dry)
        return 0
    if not as_json:
        _show_dry(dry)
    judged = judged_result(result, cases, opened)
    out = options.out or _beside(options.result)
    save_result(judged.result, out)
    shown = {"out": str(out), "judge": opened.id, "n_unscored": judged.n_unscored, "effort": msgspec.to_builtins(opened.effort)}
    if as_json:
        print_json(shown)
    else:
        line(
            f"{opened.effort.n_calls} calls, {opened.effort.n_cached} from the cache, {judged.n_unscored} answers unscored; written to {out}"
        )
    return 3 if judged.n_unscored else 0


def _beside(path: Path) -> Path:
    """Where a judged result goes: `r.json.gz` becomes `r-judged.json.gz`."""
    suffix = next((each for each in (".json.gz", ".json") if path.name.endswith(each)), path.suffix)
    return path.with_name(f"{path.name.removesuffix(suffix)}-judged{suffix}")


def calibrate(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag eval calibrate`; arguments and result as for `new`."""
    parser = eval_parser("calibrate", "Fit the groundedness scorer to at least 50 labelled answers of your own.")
    parser.add_argument("labels", type=Path, metavar="LABELS", help="JSONL or CSV of answer (or claim), passages and supported")
    parser.add_argument("--out", type=Path, default=Path("calibration.json"), metavar="FILE", help="(default: %(default)s)")
    options = parser.parse_args(argv)
    done = fit(options.labels, options.out)
    if as_json:
        print_json(asdict(done))
    else:
        print_lines(calibrated_text(done))
        line(f"use it with: rag eval run SUITE --calibration {options.out}")
    return 0


def selftest(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag eval selftest`; arguments as for `new`, 1 when the scorer misses what it must see."""
    parser = eval_parser("selftest", "Plant errors into sentences of a collection, and count which the groundedness scorer sees.")
    parser.add_argument("--collection", default=settings.collection, metavar="C", help="(default: %(default)s)")
    parser.add_argument("--calibration", type=Path, metavar="FILE", help="of the scorer (default: the shipped one)")
    parser.add_argument("--seed", type=int, default=0, help="of all choices (default: %(default)s)")
    options = parser.parse_args(argv)
    with closing(open_store(settings.data_dir, options.collection)) as store:
        passages = [chunk.text for chunk in draw_passages(store, _N_SELFTEST_PASSAGES, options.seed)]
    test = self_test(open_scorer(options.calibration), passages, options.seed)
    if as_json:
        print_json(asdict(test))
    else:
        print_lines(self_test_text(test))
    return 0 if test.is_passed else 1


def _show_dry(dry: DryRun) -> None:
    """What judging takes at most, on one line."""
    dollars = "dollars unknown without --price" if dry.usd is None else f"{dry.usd:.4f} dollars"
    joules = "joules unknown" if dry.energy is None else said(dry.energy)
    line(
        f"{dry.n_answers} answers: at most {dry.n_calls} calls ({dry.n_cached} are known already), {dry.n_prompt} tokens to read and "
        f"{dry.n_completion} to write, {dollars}, {joules}; {dry.n_unscored} cannot be sent"
    )
