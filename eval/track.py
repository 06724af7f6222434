"""Results in an MLflow tracking store: one MLflow run for each pipeline on each data set, with the result file beside it.

MLflow itself would tell its makers that it is used; that is switched off before anything is logged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from eval.record import Estimate, Result, RunRecord
from rag.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# Costs whose name here is not their name in a result: a mean an answer is called so, with the ends of its band at the end.
_NAMES = {
    "energy_j": "energy_j_per_answer",
    "energy_lo_j": "energy_j_per_answer_lo",
    "energy_hi_j": "energy_j_per_answer_hi",
    "cpu_s": "cpu_s_per_answer",
    "carbon_g": "carbon_g_per_answer",
}
# Limits of MLflow: parameters in a batch, and characters of a parameter or tag in its databases.
_MAX_PARAMS = 100
_MAX_TEXT = 5000


def metric_name(name: str) -> str:
    """The name in MLflow of a metric or cost of a result.

    Args:
        name: As in the result.

    Returns:
        A name without ``@``, which MLflow refuses.

    Example:
        >>> metric_name("ndcg@10"), metric_name("energy_lo_j")
        ('ndcg_at_10', 'energy_j_per_answer_lo')
    """
    return _NAMES.get(name, name.replace("@", "_at_"))


def log_result(result: Result, experiment: str, tracking_uri: str, artifacts: Sequence[Path]) -> tuple[str, ...]:
    """Log every run of a result.

    Metrics are the quality metrics (with ``_lo`` and ``_hi`` where there is an interval, ``_n`` and ``_unscored``) and the costs; what
    was not measured is not logged as a number but named in the tag ``ragwatt.not_measured``. Settings are parameters.

    Args:
        result: The result.
        experiment: Name of the experiment; it is made where there is none.
        tracking_uri: A database such as ``sqlite:///mlflow.db``, or the address of a tracking server.
        artifacts: Files that every run gets, such as the result file.

    Returns:
        Identifiers of the MLflow runs, in the order of the result. A run that could not be finished stays in the state ``RUNNING``.

    Raises:
        InputError: If the store cannot be opened or refuses what is logged, or a file is missing.
        MissingExtraError: If the extra [mlflow] is not installed.
    """
    try:
        from mlflow import MlflowClient
        from mlflow.environment_variables import MLFLOW_DISABLE_TELEMETRY
        from mlflow.exceptions import MlflowException
        from mlflow.telemetry import set_telemetry_client
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError as error:
        raise MissingExtraError("logging to MLflow", "mlflow") from error
    MLFLOW_DISABLE_TELEMETRY.set(True)
    set_telemetry_client()  # takes back the one that the import made
    for path in artifacts:
        if not path.is_file():
            raise InputError(f"artifact {path} is not a file; give the result file that was logged", code="mlflow")
    try:
        client = MlflowClient(tracking_uri=tracking_uri)
        known = client.get_experiment_by_name(experiment)
        experiment_id = known.experiment_id if known else client.create_experiment(experiment)
        return tuple(_log_run(client, experiment_id, result, run, artifacts) for run in result.runs)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"MLflow at {tracking_uri} failed: {reason}; check the tracking URI and the experiment's name", code="mlflow"
        ) from error


def _log_run(client: MlflowClient, experiment_id: str, result: Result, run: RunRecord, artifacts: Sequence[Path]) -> str:
    from mlflow.entities import Metric, Param, RunTag

    started_ms = _milliseconds(result.effort.started_at)
    made = client.create_run(experiment_id, start_time=started_ms, run_name=f"{run.data} {run.pipeline}")
    run_id: str = made.info.run_id
    metrics: list[Metric] = [Metric(name, value, started_ms, 0) for name, value in _metrics(run)]
    params = [Param(key, value[:_MAX_TEXT]) for key, value in _params(result, run).items()]
    tags = [RunTag(key, value[:_MAX_TEXT]) for key, value in _tags(result, run).items() if value]
    client.log_batch(run_id, metrics=metrics, tags=tags)
    for start in range(0, len(params), _MAX_PARAMS):
        client.log_batch(run_id, params=params[start : start + _MAX_PARAMS])
    for path in artifacts:
        client.log_artifact(run_id, str(path))
    client.set_terminated(run_id)
    return run_id


def _milliseconds(time: str) -> int:
    try:
        return int(datetime.fromisoformat(time).timestamp() * 1000)
    except ValueError as error:
        raise InputError(
            f"the result started at {time!r}; allowed: a time in ISO 8601; run 'rag eval run' again", code="mlflow"
        ) from error


def _metrics(run: RunRecord) -> Iterator[tuple[str, float]]:
    for name, estimate in _known(run.cost).items():
        yield metric_name(name), estimate.value or 0.0
    for name, estimate in run.quality.items():
        title = metric_name(name)
        for ending, value in (("", estimate.value), ("_lo", estimate.lo), ("_hi", estimate.hi)):
            if value is not None and math.isfinite(value):
                yield f"{title}{ending}", value
        yield f"{title}_n", float(estimate.n)
        yield f"{title}_unscored", float(estimate.n_unscored)


def _known(estimates: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {name: one for name, one in estimates.items() if one.value is not None and math.isfinite(one.value)}


def _params(result: Result, run: RunRecord) -> dict[str, str]:
    return {"suite": result.suite, "seed": str(result.seed), "data": run.data, "pipeline": run.pipeline, **run.settings}


def _tags(result: Result, run: RunRecord) -> dict[str, str]:
    data = next((data for data in result.data if data.name == run.data), None)
    estimates = {**run.quality, **run.cost}
    return {
        "energy.method": run.method or "not measured",
        "energy.boundary": run.boundary or "not measured",
        "ragwatt.version": result.version,
        "ragwatt.suite_checksum": result.suite_checksum,
        "ragwatt.scorer": result.scorer,
        "ragwatt.judge": result.judge,
        "ragwatt.machine": result.machine,
        "ragwatt.data_checksum": data.checksum if data else "",
        "ragwatt.data_licence": data.licence if data else "",
        "ragwatt.not_measured": ", ".join(metric_name(name) for name in estimates if name not in _known(estimates)),
        "mlflow.note.content": "\n".join(run.notes),
    }
