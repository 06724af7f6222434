from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fakes import HashEmbedder

# The machines that run this are slow and shared: no example has a deadline, and a run of `make test` tries what the run before it tried,
# so that a failure means a change. `make test-slow` draws other examples every time.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None, derandomize=False)
settings.load_profile("repeatable")

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
def llama_runtime() -> None:
    """Skips where llama.cpp is not installed or lacks a library of the system."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("the extra [local] is not installed")
    # In a process of its own: loaded here, OpenMP would be there before a test can set how its idle threads wait.
    done = subprocess.run([sys.executable, "-P", "-c", "import xllamacpp"], capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.splitlines() or [f"exit status {done.returncode}"])[-1]
        pytest.skip(f"llama.cpp cannot be loaded: {why}; on Debian the system package libgomp1 is needed")


@pytest.fixture(scope="session")
def gguf_path(llama_runtime: None) -> Path:
    """A small language model: RAGWATT_TEST_GGUF, else the one that `make test` fetches; skips where it or llama.cpp is missing."""
    path = Path(os.environ.get("RAGWATT_TEST_GGUF") or Path(__file__).parents[1] / ".cache" / "models" / GGUF_NAME)
    if not path.is_file():
        pytest.skip(f"no model in {path}; run make test, or set RAGWATT_TEST_GGUF to SmolLM2-135M-Instruct in GGUF format")
    return path
