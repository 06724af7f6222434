"""Ragwatt core: retrieval, budgets, cited answers and their cost. Knows nothing of reading files, serving HTTP or experiments.

The names below are what other programs may rely on. They are loaded on first use, so that `rag --help` loads no native library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag.engine import Engine, open_engine
    from rag.errors import (
        ConfigError,
        InputError,
        MissingExtraError,
        ModelError,
        OverloadedError,
        PowerError,
        RagError,
        SnapshotError,
    )
    from rag.settings import Settings, load_settings
    from rag.types import Answer, Citation, Query

__version__ = "0.1.0"

_HOMES = {
    "Answer": "rag.types",
    "Citation": "rag.types",
    "ConfigError": "rag.errors",
    "Engine": "rag.engine",
    "InputError": "rag.errors",
    "MissingExtraError": "rag.errors",
    "ModelError": "rag.errors",
    "OverloadedError": "rag.errors",
    "PowerError": "rag.errors",
    "Query": "rag.types",
    "RagError": "rag.errors",
    "Settings": "rag.settings",
    "SnapshotError": "rag.errors",
    "load_settings": "rag.settings",
    "open_engine": "rag.engine",
}
__all__ = [
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


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'rag' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
