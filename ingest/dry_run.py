"""`rag ingest --dry-run`: the plan, for people and as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from ingest.estimate import Estimate
from ingest.plan import Count, Plan, plan_ingest
from ingest.progress import open_progress
from ingest.read import Failure
from ingest.report import IngestRequest
from rag.console import line, show_cost
from rag.embed import open_embedder
from rag.meter import Meter
from rag.power import open_power
from rag.power.figure import Band, said
from rag.settings import Settings
from rag.wire import Json, figure_json, measurement_json

_PARTLY_FAILED = 3
# Failures beyond these are counted; --json has them all.
_MAX_SHOWN_FAILURES = 20


def dry_run(request: IngestRequest, settings: Settings, as_json: bool) -> int:
    """Print what an ingest would do.

    Args:
        request: What is to be ingested.
        settings: Data directory and limits.
        as_json: Print it as JSON.

    Returns:
        0, or 3 when something is known not to be readable.
    """
    power = open_power(settings.energy, settings.data_dir, sci_unit="g/run")
    meter = Meter(power=power, from_process_start=True)
    embedder = open_embedder(settings.embedder, settings.data_dir / "models")
    progress = open_progress()
    try:
        plan = plan_ingest(request, settings, embedder, progress, meter, power)
    finally:
        progress.close()
    if as_json:
        sys.stdout.write(json.dumps(_plan_json(plan), ensure_ascii=False) + "\n")
    else:
        _show(plan)
    return _PARTLY_FAILED if plan.failed else 0


def _plan_json(plan: Plan) -> Json:
    shown = asdict(plan) | {"dry_run": True, "measurement": measurement_json(plan.measurement)}
    if plan.estimate is not None:
        bands = ("n_chunks", "n_embedded", "cpu_s", "wall_s")
        shown["estimate"] |= {name: getattr(plan.estimate, name)._asdict() for name in bands}
        shown["estimate"] |= {name: figure_json(getattr(plan.estimate, name)) for name in ("energy_j", "carbon_g")}
    return shown


def _show(plan: Plan) -> None:
    _show_failures("not readable", plan.failed)
    for family in plan.families:
        counts = [("new", family.new), ("changed", family.changed), ("unchanged", family.unchanged), ("gone", family.gone)]
        line(f"{family.kind}: " + ", ".join(_counted(name, count) for name, count in counts if count.n_files))
    estimate = plan.estimate
    if estimate is not None:
        _show_failures("not readable in the sample", estimate.failed)
        _show_estimate(estimate)
    elif any(family.new.n_files or family.changed.n_files for family in plan.families):
        line("no estimate: no file that is to be read could be sampled")
    else:
        line("nothing is to be read")
    version = f"version {plan.version}" if plan.version else "nothing is published"
    line(f"{plan.collection}: dry run, nothing was written; {version} now")
    show_cost(plan.measurement)


def _show_failures(words: str, failed: Sequence[Failure]) -> None:
    for failure in failed[:_MAX_SHOWN_FAILURES]:
        line(f"{words}: {failure.path}: {failure.code}: {failure.message}")
    if len(failed) > _MAX_SHOWN_FAILURES:
        line(f"{words}: {len(failed) - _MAX_SHOWN_FAILURES} more; --json lists them")


def _counted(name: str, count: Count) -> str:
    return f"{count.n_files} {name}" + ("" if count.n_bytes is None else f" ({_size(count.n_bytes)})")


def _show_estimate(estimate: Estimate) -> None:
    line(
        f"to read: {estimate.n_files} files ({_size(estimate.n_bytes)}), {_number(estimate.n_chunks)} chunks, "
        f"{_number(estimate.n_embedded)} to embed"
    )
    line(
        f"about {_number(estimate.cpu_s)} CPU-s, {_number(estimate.wall_s)} s, {said(estimate.energy_j)}, {said(estimate.carbon_g)} CO2e; "
        f"estimated from {estimate.n_sampled} of {estimate.n_files} files"
    )
    if estimate.not_covered:
        line(f"not in the estimate, because no file is small enough for the sample: {', '.join(estimate.not_covered)}")


def _number(band: Band) -> str:
    """A band with two digits of its value, or whole numbers where there are more."""
    value, low, high = (f"{number:.0f}" if number >= 10 else f"{number:.2g}" for number in band)
    return value if low == high else f"{value} ({low} to {high})"


def _size(n_bytes: int) -> str:
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes} bytes"
