from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from eval.datasets import load
from eval.run import RunOptions, open_target
from eval.suite import PipelineSpec, load_suite
from eval.target import Target
from ingest.progress import LineProgress
from rag.cost import Figure
from rag.errors import InputError
from rag.power.figure import rounded
from rag.settings import Settings, changed
from tests.eval.small import PAGES, write_suite

QUESTION = "Who built the boiler?"


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    suite = load_suite(write_suite(tmp_path))
    values = {"data_dir": str(tmp_path / "data"), "search.max_query_chars": 30, "energy.powercap_root": str(tmp_path / "none")}
    options = RunOptions(changed(Settings(), values, "test"), beside=tmp_path)
    dataset = load(suite.data[0], (tmp_path,), suite.seed)
    found, n_documents, _ = open_target(PipelineSpec("a"), dataset, options, LineProgress())
    assert n_documents == len(PAGES)
    yield found
    found.close()


def test_joules_and_grams_in_this_process_keep_all_their_digits(target: Target) -> None:
    measurement = target.answer(QUESTION)["measurement"]
    figures = [Figure(**measurement[name]) for name in ("energy_j", "carbon_g")]
    assert all(rounded(figure).value != figure.value for figure in figures)
    energy = figures[0]
    stages = [stage["energy_j"] / stage["cpu_s"] for stage in measurement["stages"] if stage["cpu_s"]]
    assert stages == pytest.approx([stages[0]] * len(stages))
    assert energy.lo <= energy.value <= energy.hi


def test_what_a_failed_answer_spent_is_known(target: Target) -> None:
    assert target.spent is None
    answered = target.answer(QUESTION)
    assert target.spent == answered["measurement"]
    with pytest.raises(InputError):
        target.answer("x " * 40)
    assert target.spent is not None
    assert target.spent["wall_s"] > 0
    assert target.spent != answered["measurement"]
    assert target.spent["energy_j"]["method"] == answered["measurement"]["energy_j"]["method"]


def test_snapshot_of_the_same_documents_is_the_same(target: Target) -> None:
    assert target.snapshot.n_documents == len(PAGES)
    assert target.snapshot.name.partition("#")[0].startswith("handbook-")
