"""`rag eval tune`: search for better settings."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from eval.cli.shared import (
    add_suite_options,
    eval_parser,
    print_json,
    print_lines,
    run_options,
    tell,
    watched,
    with_data,
    write_file,
)
from eval.datasets import Dataset, load
from eval.run import Asking, RunOptions, limited, open_target
from eval.suite import MetricsSpec, PipelineSpec, Suite, load_suite
from eval.trials import Outcome
from eval.tune import Space, TuneOptions
from eval.tune import tune as search_settings
from eval.tuned import Setting, settings_toml, tuned_text
from ingest.report import Progress
from rag.errors import InputError
from rag.groundedness import open_scorer
from rag.power.defer import add_defer_options, parse_deferral, wait
from rag.settings import Settings


def tune(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag eval tune`.

    Args:
        argv: Arguments behind the command.
        settings: Defaults for what they leave open; a configured language model is searched too with ``--modes``.
        as_json: Print what was found as JSON.

    Returns:
        0, 1 where no settings could be chosen, or 3 where the chosen ones failed on questions.
    """
    options = _parser().parse_args(argv)
    limits = TuneOptions(options.metric, options.trials, options.max_joules, options.max_cpu_s)
    suite = load_suite(options.suite)
    limits = replace(limits, seed=suite.seed)
    chosen = replace(run_options(options, settings), beside=suite.path.parent)
    name = options.metric or suite.metrics.correct
    suite = replace(suite, metrics=MetricsSpec((name,) if name else (), name, suite.metrics.depth))
    if (deferral := parse_deferral(options, time.time())) is not None:
        wait(deferral, time.time, time.sleep, tell)
    dataset = load(
        limited(with_data(suite, [options.data] if options.data else []).data[0], chosen.limit),
        (*chosen.roots, suite.path.parent),
        suite.seed,
    )
    groups = {query.query_id: query.group for query in dataset.queries}
    space = replace(Space(), modes=tuple(options.modes), tiers=_tiers(settings, options.modes))
    with watched() as progress, _Bench(suite, dataset, chosen, progress) as bench:
        found = search_settings(suite, groups, bench.evaluate, space, limits)
    if found.chosen is not None:
        write_file(options.out, settings_toml(found).encode())
    if as_json:
        print_json({"out": str(options.out) if found.chosen else None, **msgspec.to_builtins(found)})
    else:
        print_lines(tuned_text(found))
        tell(f"written to {options.out}" if found.chosen else "no settings were written")
    if found.chosen is None:
        return 1
    return 3 if found.has_failures else 0


class _Bench:
    """Puts questions to settings; the pipeline asked last stays open, because a trial comes in several shares, and so does the reference."""

    def __init__(self, suite: Suite, dataset: Dataset, options: RunOptions, progress: Progress) -> None:
        self._suite = suite
        self._dataset = dataset
        self._options = options
        self._progress = progress
        self._scorer = open_scorer(options.calibration)
        self._queries = {query.query_id: query for query in dataset.queries}
        self._reference = suite.pipelines[0]
        self._open: dict[bool, Asking] = {}

    def __enter__(self) -> _Bench:
        return self

    def __exit__(self, *_: object) -> None:
        for is_reference in tuple(self._open):
            self._close(is_reference)

    def evaluate(self, spec: PipelineSpec, ids: Sequence[str]) -> Outcome:
        """See `eval.tune.Evaluate`."""
        is_reference = spec == self._reference
        asking = self._open.get(is_reference)
        if asking is None or asking.pipeline != spec:
            self._close(is_reference)
            target, _, _ = open_target(spec, self._dataset, self._options, self._progress)
            asking = self._open[is_reference] = Asking(self._suite, spec, target, self._scorer, has_texts=False)
        self._progress.begin(spec.name, len(ids))
        quality, failed, cpu_s, joules = {}, {}, [], []
        (name,) = self._suite.metrics.names
        for question_id in ids:
            record = asking.record(self._queries[question_id], self._dataset.qrels.get(question_id, {}))
            if record.error:
                failed[question_id] = record.error
            if name in record.scores:
                quality[question_id] = record.scores[name]
            if record.cost is not None:
                cpu_s.append(record.cost.cpu_s)
                joules.append(record.cost.energy_j)
            self._progress.advance()
        known = [joule for joule in joules if joule is not None]
        return Outcome(quality, math.fsum(cpu_s), math.fsum(known) if len(known) == len(joules) else None, failed)

    def _close(self, is_reference: bool) -> None:
        if (asking := self._open.pop(is_reference, None)) is not None:
            asking.target.close()


def _parser() -> argparse.ArgumentParser:
    parser = eval_parser(
        "tune", "Search for settings of more quality or less CPU time; the frontier is told on held-out questions."
    )
    add_suite_options(parser)
    parser.add_argument("--data", default="", metavar="NAME", help="data set of the suite (default: the first)")
    parser.add_argument("--metric", default="", help="of quality (default: correct of the suite)")
    parser.add_argument("--trials", type=int, default=40, metavar="N", help="settings to try (default: %(default)s)")
    parser.add_argument("--max-joules", type=float, default=0.0, metavar="J", help="joules of the whole search (default: no limit)")
    parser.add_argument(
        "--max-cpu-s", type=float, default=0.0, metavar="S", help="CPU seconds that an answer may take (default: the knee)"
    )
    parser.add_argument(
        "--modes",
        nargs="+",
        choices=("eco", "standard", "generative", "auto"),
        default=["eco", "standard"],
        help="modes to search; generative and auto need a language model (default: eco standard)",
    )
    parser.add_argument("--out", type=Path, default=Path("tuned.toml"), metavar="FILE", help="settings file (default: %(default)s)")
    add_defer_options(parser)
    return parser


def _tiers(settings: Settings, modes: Sequence[str]) -> Mapping[str, Mapping[str, Setting]]:
    """Settings of each configured language model, where a mode asks one."""
    if not {"generative", "auto"}.intersection(modes):
        return {}
    tiers: dict[str, Mapping[str, Setting]] = {}
    for section in ("language_model", "larger_model"):
        model = getattr(settings, section)
        if model.kind != "none":
            tiers[model.model] = {
                f"language_model.{key}": getattr(model, key) for key in ("kind", "model", "url", "window", "threads")
            }
    if not tiers:
        raise InputError(
            "--modes names a mode with a language model, and none is configured; set [language_model]", code="no_model"
        )
    return tiers
