from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tests.fakes import HashEmbedder

GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


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


@pytest.fixture(scope="session")
def gguf_path() -> Path:
    """A small language model: RAGWATT_TEST_GGUF, else the one that `make test` fetches; skips where it or the extra is missing."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("the extra [local] is not installed")
    path = Path(os.environ.get("RAGWATT_TEST_GGUF") or Path(__file__).parents[1] / ".cache" / "models" / GGUF_NAME)
    if not path.is_file():
        pytest.skip(f"no model in {path}; run make test, or set RAGWATT_TEST_GGUF to SmolLM2-135M-Instruct in GGUF format")
    return path
