"""Logging to MLflow, into a real database in a temporary folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from eval.record import Estimate, save_result
from eval.track import log_result, metric_name
from rag.errors import InputError
from tests.eval.report.maker import result, run

if TYPE_CHECKING:
    from mlflow.entities import Run

# Of the database library, at what MLflow does with it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

UNMEASURED = run("eco", share=0.7, joules=None)
RESULT = result(run("no-model", share=0.6, joules=0.5), UNMEASURED)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def logged(store: str, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    mlflow = pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("artifacts")
    save_result(RESULT, folder / "result.json.gz")
    client = mlflow.MlflowClient(tracking_uri=store)
    client.create_experiment("release", artifact_location=folder.as_uri())
    return [client.get_run(run_id) for run_id in log_result(RESULT, "release", store, [folder / "result.json.gz"])]


def test_every_run_of_a_result_is_a_finished_run_of_its_own(logged: list[Run]) -> None:
    assert [one.info.run_name for one in logged] == ["town no-model", "town eco"]
    assert {one.info.status for one in logged} == {"FINISHED"}


def test_costs_have_the_agreed_names(logged: list[Run]) -> None:
    metrics = logged[0].data.metrics
    assert metrics["energy_j_per_answer"] == 0.5
    assert metrics["energy_j_per_answer_lo"] == 0.25
    assert metrics["energy_j_per_answer_hi"] == 1.5
    assert metrics["cpu_s_per_answer"] == pytest.approx(0.025)


def test_what_was_not_measured_is_named_and_not_a_number(logged: list[Run]) -> None:
    assert "energy_j_per_answer" not in logged[1].data.metrics
    assert logged[1].data.tags["energy.method"] == "not measured"


def test_a_metric_without_any_score_is_named(store: str, logged: list[Run]) -> None:
    import mlflow
    import msgspec

    empty = msgspec.structs.replace(UNMEASURED, quality={"ndcg@10": Estimate(None, n_unscored=3), "mrr@10": Estimate(float("nan"))})
    (run_id,) = log_result(result(empty), "release", store, [])
    data = mlflow.MlflowClient(tracking_uri=store).get_run(run_id).data
    assert data.tags["ragwatt.not_measured"] == "ndcg_at_10, mrr_at_10"
    assert data.metrics["ndcg_at_10_unscored"] == 3
    assert "ndcg_at_10" not in data.metrics
    assert "mrr_at_10" not in data.metrics


def test_quality_has_its_interval_and_its_counts(logged: list[Run]) -> None:
    metrics, quality = logged[0].data.metrics, RESULT.runs[0].quality["groundedness"]
    assert metrics["groundedness"] == quality.value
    assert (metrics["groundedness_lo"], metrics["groundedness_hi"]) == (quality.lo, quality.hi)
    assert (metrics["groundedness_n"], metrics["groundedness_unscored"]) == (quality.n, quality.n_unscored)


def test_settings_are_parameters_and_method_and_boundary_are_tags(logged: list[Run]) -> None:
    assert logged[0].data.params == {
        "suite": "release",
        "seed": "7",
        "data": "town",
        "pipeline": "no-model",
        "answer.generator": "extractive",
    }
    assert logged[0].data.tags["energy.method"] == "modelled"
    assert logged[0].data.tags["energy.boundary"] == "server_wall"


def test_the_result_file_is_an_artifact_of_every_run(store: str, logged: list[Run]) -> None:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=store)
    for one in logged:
        assert [file.path for file in client.list_artifacts(one.info.run_id)] == ["result.json.gz"]


def test_a_name_has_no_at_sign() -> None:
    assert metric_name("recall@100") == "recall_at_100"


def test_a_missing_artifact_is_refused_before_anything_is_logged(store: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"artifact .*gone\.json is not a file") as caught:
        log_result(RESULT, "not made", store, [tmp_path / "gone.json"])
    assert caught.value.code == "mlflow"
    import mlflow

    assert mlflow.MlflowClient(tracking_uri=store).get_experiment_by_name("not made") is None


def test_a_store_that_mlflow_refuses_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"MLflow at nosuch://x failed: .*; check the tracking URI"):
        log_result(RESULT, "release", "nosuch://x", [])


_IN_A_PROCESS = """
import sys
sys.addaudithook(lambda event, seen: print(event, seen) if event in ("socket.connect", "socket.getaddrinfo") else None)
{before}
from eval.track import log_result
from rag.errors import MissingExtraError
from tests.eval.report.maker import result, run
try:
    log_result(result(run("no-model", share=0.6, joules=0.5, n=2)), "release", sys.argv[1], [])
    import threading
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(0.5)
    print("logged")
except MissingExtraError as error:
    print(error)
"""


def _in_a_process(folder: Path, before: str = "") -> str:
    # MLflow keeps silent by itself under CI and pytest: here it must not know.
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
    script = _IN_A_PROCESS.format(before=before)
    done = subprocess.run(
        [sys.executable, "-c", script, f"sqlite:///{folder / 'm.db'}"],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nobody_is_told_that_mlflow_is_used(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    assert _in_a_process(tmp_path) == "logged"


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    said = _in_a_process(tmp_path, before="sys.modules['mlflow'] = None")
    assert (
        said == "logging to MLflow needs the optional dependencies [mlflow], which are not installed: pip install 'ragwatt[mlflow]'"
    )
