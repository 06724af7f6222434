"""`rag energy doctor | regions | calibrate | bench`: what joules and grams rest on here, and how to make them better."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rag.console import emphasised, faint, line
from rag.cost import Figure
from rag.errors import ConfigError, InputError, PowerError
from rag.power import Price, calibration_path, open_power
from rag.power.figure import Band, product, said
from rag.settings import Settings
from rag.usage import Parser
from rag.wire import Json, figure_json

if TYPE_CHECKING:
    from rag.models.registry import Model
    from rag.power.grid import Intensity

# One kWh, for a comparison of regions without a measured load.
_ONE_KWH_J = 3.6e6
_ONE_KWH = Figure(_ONE_KWH_J, _ONE_KWH_J, _ONE_KWH_J, "J", "assumed", "1 kWh; --results FILE takes the joules of results", "any")
# A meter settles in seconds, a fan in minutes; an hour for each load is a slip.
_MAX_SETTLE_S = 3600.0
# Somebody who cannot give a number of watts four times will not the fifth time.
_MAX_SLIPS = 3


def main(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag energy`.

    Args:
        argv: Arguments behind the command.
        settings: Region, calibration and sources of watts.
        as_json: Print JSON.

    Returns:
        Exit status.
    """
    options = _parser().parse_args(argv)
    match options.command:
        case "doctor":
            return _doctor(settings, as_json)
        case "regions":
            return _regions(options, settings, as_json)
        case "calibrate":
            return _calibrate(options, settings, as_json)
        case _:
            return _bench(options, settings, as_json)


def _parser() -> Parser:
    parser = Parser(
        prog="rag energy",
        description="What joules and grams rest on here, and how to make them better.",
        epilog="Every command also takes --data-dir DIR, --config FILE and --json.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="doctor|regions|calibrate|bench")
    commands.add_parser("doctor", help="which counters and tables this machine offers, why not, and the one-line fix")
    regions = commands.add_parser("regions", help="compare grid regions for a measured load")
    regions.add_argument("codes", nargs="*", metavar="REGION", help="codes or names, such as FRA or US-CA; all when none is given")
    regions.add_argument(
        "--results",
        metavar="FILE",
        help="JSON results of other commands, one a line, - for standard input: their joules are the load (default: 1 kWh)",
    )
    calibrate = commands.add_parser("calibrate", help="learn watts from the readings of a wall meter")
    calibrate.add_argument(
        "--readings",
        metavar="FILE",
        help="lines of busy threads and watts, - for standard input; without it, load is made and you are asked",
    )
    calibrate.add_argument("--threads", metavar="N,N", help="busy threads to make load with (default: none, a quarter, half, all)")
    calibrate.add_argument(
        "--settle",
        type=float,
        default=10.0,
        metavar="S",
        help="seconds of load before you are asked, 0 to 3600 (default: %(default)g)",
    )
    bench = commands.add_parser(
        "bench", help="threads x batch of the embedder: the least CPU-seconds a query within a latency limit"
    )
    bench.add_argument(
        "--max-latency-ms", type=float, default=100.0, metavar="MS", help="limit of the 95th percentile (default: %(default)g)"
    )
    bench.add_argument("--threads", metavar="N,N", help="thread counts to try (default: powers of two up to the cores)")
    bench.add_argument("--batch", default="1,4,16", metavar="N,N", help="queries a run to try (default: %(default)s)")
    bench.add_argument("--rounds", type=int, default=3, metavar="N", help="interleaved repetitions (default: %(default)s)")
    return parser


def _doctor(settings: Settings, as_json: bool) -> int:
    from rag.power.doctor import Places, chain, examine

    places = Places(
        powercap=settings.energy.powercap_root,
        calibration=calibration_path(settings.energy, settings.data_dir),
        region=settings.energy.region,
        pue=settings.energy.pue,
        gpu=settings.energy.gpu,
    )
    findings = examine(places)
    if as_json:
        _print_json({"findings": [asdict(finding) for finding in findings], "chain": chain(findings)})
        return 0
    for finding in findings:
        emphasised(f"{finding.status:<10} {finding.name}", f"  {finding.detail}")
        if finding.fix:
            line(f"{'':<10}   -> {finding.fix}")
    line("")
    line(chain(findings))
    return 0


def _regions(options: argparse.Namespace, settings: Settings, as_json: bool) -> int:
    from rag.power.grid import compare, regions
    from rag.power.load import Load, results_load

    codes = [_code(code) for code in options.codes] or [row.code for row in regions()]
    load = results_load(_lines(options.results), options.results) if options.results is not None else Load(_ONE_KWH)
    joules = load.joules
    power = open_power(settings.energy, settings.data_dir)
    current, notes = power.intensity, power.notes + load.notes
    rows = [cost.intensity for cost in compare(Band(joules.value, joules.lo, joules.hi).times(1 / _ONE_KWH_J), codes)]
    carbon = [product(joules, row.g_per_kwh.times(1 / _ONE_KWH_J), "g", "modelled", row.source, row.year) for row in rows]
    if as_json:
        listed = [_region_json(row) | {"carbon_g": figure_json(grams)} for row, grams in zip(rows, carbon, strict=True)]
        found = {"load_j": figure_json(joules), "region": _region_json(current), "regions": listed}
        _print_json(found | {"n_skipped": load.n_skipped, "notes": list(notes)})
        return 0
    line(f"load: {said(joules)}, {joules.source}")
    for row, grams in zip(rows, carbon, strict=True):
        mark = "*" if row.code == current.code and current.is_known else " "
        line(f"{mark} {row.code:<6} {row.g_per_kwh.value:5.0f} g/kWh  {said(grams)}  {row.name}, {row.year}, {row.source}")
    if load.n_skipped:
        line(f"skipped: {load.n_skipped} lines that hold an error and no result")
    if not current.is_known:
        line(f"this machine: no region set, so {current.g_per_kwh.value:.0f} g/kWh are assumed; set energy.region")
    for note in notes:
        faint(f"note: {note}")
    return 0


def _code(region: str) -> str:
    """The code of a region that was named as an argument."""
    from rag.power.grid import intensity

    try:
        return intensity(region).code
    except PowerError as error:
        if error.code != "region_unknown":
            raise
        # The table speaks of the setting first and of what is allowed there last; between them is what it has that is near.
        found = str(error).removeprefix("energy.region is ").partition("; allowed:")[0]
        raise InputError(
            f"REGION is {found}; allowed: codes and names that 'rag energy regions' lists, or none for all of them", code=error.code
        ) from error


def _region_json(row: Intensity) -> Json:
    return asdict(row) | {"g_per_kwh": row.g_per_kwh._asdict()}


def _price_json(price: Price) -> Json:
    return price._asdict() | {"active_w": price.active_w._asdict(), "idle_w": price.idle_w._asdict()}


def _lines(path: str) -> Iterator[str]:
    try:
        if path == "-":
            yield from sys.stdin
        else:  # not splitlines: a string of JSON may hold what that takes for the end of a line
            yield from Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}; give a text file, or - for standard input", code="unreadable") from error


def _calibrate(options: argparse.Namespace, settings: Settings, as_json: bool) -> int:
    import datetime
    import os

    from rag.power.calibration import calibrated_price, check_place, fit, parse_readings, save
    from rag.power.cpu import identify

    if not 0 <= options.settle <= _MAX_SETTLE_S:
        raise InputError(
            f"--settle is {options.settle:g}; allowed: 0 to {_MAX_SETTLE_S:g} seconds; give how long your meter needs", code="usage"
        )
    path = calibration_path(settings.energy, settings.data_dir)
    check_place(path)
    lines = _lines(options.readings) if options.readings is not None else _asked(options, settings)
    readings = parse_readings(lines, options.readings or "standard input")
    made = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    calibration = fit(readings, identify().name, os.cpu_count() or 1, made)
    price = calibrated_price(calibration, calibration.cpu, calibration.n_threads)
    save(path, calibration)
    if as_json:
        _print_json({"path": str(path), "calibration": asdict(calibration), "price": _price_json(price)})
        return 0
    line(f"written to {path}: {price.source}")
    line(
        f"idle {calibration.idle_w:.1f} W; a busy thread adds {calibration.active_w:.2f} W "
        f"({calibration.active_lo_w:.2f} to {calibration.active_hi_w:.2f})"
    )
    line("results use it from now on, unless there are energy counters; 'rag energy doctor' says which source is used")
    return 0


def _asked(options: argparse.Namespace, settings: Settings) -> Iterator[str]:
    """Make load, some threads at a time, and ask for what the meter shows; a line of busy threads and watts for every answer."""
    import os
    import time

    from rag.embed.tuning import burn

    model = _model(settings, "rag energy calibrate makes load with")
    n_threads = os.cpu_count() or 1
    loads = _counts(options.threads, "--threads", 0) or sorted({0, -(-n_threads // 4), -(-n_threads // 2), n_threads})
    if max(loads) > n_threads:
        raise InputError(f"--threads names {max(loads)}; this machine has {n_threads}", code="usage")
    for busy in loads:
        with burn(model, busy):
            sys.stderr.write(f"{busy} of {n_threads} threads are busy; wait {options.settle:g} s, then read the meter\n")
            time.sleep(options.settle)
            reading = _asked_watts(busy)
        yield reading


def _asked_watts(busy: int) -> str:
    """A line of busy threads and watts; after a slip the question is put again."""
    from rag.power.calibration import parse_readings

    n_slips = 0
    while True:
        sys.stderr.write("watts shown: ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if not answer:
            raise InputError("standard input ended before all readings were given; nothing was written", code="calibration")
        reading = f"{busy} {answer.strip()}"
        try:
            parse_readings([reading], "standard input")
        except InputError as error:
            slip = f"{answer.strip()[:60]!r} is not a number of watts; allowed: above 0 and below 100000, with a point for decimals"
            if n_slips == _MAX_SLIPS:
                raise InputError(
                    f"{slip}; {n_slips + 1} answers were not; nothing was written, start again", code="calibration"
                ) from error
            n_slips += 1
            sys.stderr.write(f"{slip}; once more\n")
        else:
            return reading


def _bench(options: argparse.Namespace, settings: Settings, as_json: bool) -> int:
    import time

    from rag.embed.tuning import choose, sweep

    if not options.max_latency_ms > 0:
        raise InputError(f"--max-latency-ms is {options.max_latency_ms:g}; allowed: more than 0", code="usage")
    if not 1 <= options.rounds <= 100:
        raise InputError(f"--rounds is {options.rounds}; allowed: 1 to 100", code="usage")
    model = _model(settings, "rag energy bench measures")
    power = open_power(settings.energy, settings.data_dir)
    began_ns = time.monotonic_ns()
    trials = sweep(
        model,
        threads=_counts(options.threads, "--threads", 1),
        batches=_counts(options.batch, "--batch", 1),
        rounds=options.rounds,
        progress=_tell_step,
    )
    chosen = choose(trials, options.max_latency_ms)
    price = power.price(began_ns)  # only now have the counters seen the work
    energies = [_active(price, trial.cpu_ms_per_query / 1000) for trial in trials]
    if as_json:
        rows = [{"j_per_query": figure_json(energy), **asdict(trial)} for trial, energy in zip(trials, energies, strict=True)]
        _print_json({"trials": rows, "chosen": asdict(chosen), "price": _price_json(price), "notes": list(power.notes)})
        return 0
    line(f"{'threads':>7} {'batch':>5} {'CPU-ms':>8} {'p50 ms':>8} {'p95 ms':>8} {'cosine':>8}   active energy of a query")
    for trial, energy in zip(trials, energies, strict=True):
        mark = "*" if trial == chosen.trial else " "
        line(
            f"{trial.threads:>7} {trial.batch:>5} {trial.cpu_ms_per_query:8.2f} {trial.wall_p50_ms:8.1f} {trial.wall_p95_ms:8.1f} "
            f"{trial.min_cosine:8.5f} {mark} {said(energy)}"
        )
    line(f"chosen: {chosen.trial.threads} threads, batch {chosen.trial.batch}: {chosen.reason}")
    line(f"to use it, write into ragwatt.toml under [embedder]: threads = {chosen.trial.threads}")
    for note in power.notes:
        faint(f"note: {note}")
    return 0


def _active(price: Price, cpu_s: float) -> Figure:
    """Active joules of CPU seconds."""
    band = price.active_w.times(cpu_s)
    return Figure(
        band.value, band.lo, band.hi, "J", price.method, price.source, price.boundary, window_s=price.window_s, year=price.year
    )


def _tell_step(n_done: int, n_runs: int) -> None:
    sys.stderr.write(f"run {n_done} of {n_runs}\n")


def _model(settings: Settings, purpose: str) -> Model:
    from rag.models.registry import find_model

    if settings.embedder.kind != "onnx":
        raise ConfigError(f"{purpose} a model in this process; set embedder.kind to onnx, it is {settings.embedder.kind}")
    return find_model(settings.embedder.model, settings.data_dir / "models")


def _counts(given: str | None, option: str, least: int) -> list[int]:
    """Whole numbers separated by commas, in the order given; empty when nothing was."""
    if given is None:
        return []
    try:
        counts = [int(part) for part in given.split(",")]
    except ValueError as error:
        raise InputError(f"{option} {given!r} is not a list of whole numbers; for example {option} 1,2,4", code="usage") from error
    if any(count < least for count in counts):
        raise InputError(f"{option} {given!r} has a number below {least}", code="usage")
    return counts


def _print_json(value: Json) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
