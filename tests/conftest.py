from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fakes import HashEmbedder


@pytest.fixture
def hash_embedder() -> HashEmbedder:
    """A small real embedder without a model file."""
    return HashEmbedder()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of data sets: RAGWATT_TEST_DATA, else ../shared/data beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("RAGWATT_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}; set RAGWATT_TEST_DATA to a folder of BEIR data sets")
    return folder
