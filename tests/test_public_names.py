from __future__ import annotations

import subprocess
import sys

import pytest

import rag
from rag.errors import RagError

PUBLIC = [
    "Answer",
    "Citation",
    "ConfigError",
    "Engine",
    "InputError",
    "MissingExtraError",
    "ModelError",
    "OverloadedError",
    "PowerError",
    "Query",
    "RagError",
    "Settings",
    "SnapshotError",
    "load_settings",
    "open_engine",
]
HEAVY = ["numpy", "onnxruntime", "faiss", "tantivy", "tokenizers", "rich", "tiktoken", "sqlite3", "torch"]


def test_public_names_are_these_in_this_order() -> None:
    assert rag.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_is_what_its_home_defines(name: str) -> None:
    value = getattr(rag, name)
    assert (getattr(value, "__name__", ""), str(getattr(value, "__module__", "")).split(".")[0]) == (name, "rag")


def test_all_errors_are_public() -> None:
    # Those of the core; a service has more, such as refusals by key.
    every: list[type[RagError]] = [RagError, *RagError.__subclasses__()]
    kinds = [kind for kind in every if kind.__module__.startswith("rag.")]
    assert {kind.__name__ for kind in kinds} <= set(PUBLIC)
    assert len(kinds) > 5


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rag' has no attribute 'nothing'"):
        _ = rag.nothing


def test_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert rag.__version__ == version("ragwatt")


@pytest.mark.parametrize("module", ["rag", "rag.__main__", "ingest", "eval", "rag.settings", "rag.types", "rag.errors"])
def test_import_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
