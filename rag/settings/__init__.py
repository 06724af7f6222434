"""One frozen settings tree: defaults, then `ragwatt.toml`, then RAG_* environment variables, then the command line.

This is the only file that reads the environment; the tree itself is in `rag.settings.tree`. A key ``name`` of table ``[section]`` is the
variable ``RAG_SECTION_NAME``; a key outside a table is ``RAG_NAME``. Unknown keys are refused. A variable that looks like a misspelt key
is refused too; any other RAG_* variable is left alone, because an orchestrator may set its own (a Kubernetes service called "rag" sets
RAG_SERVICE_HOST).
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

from rag.errors import ConfigError
from rag.settings.tree import (
    AnswerSettings,
    CacheSettings,
    ContextSettings,
    EmbedderSettings,
    EnergySettings,
    EvalSettings,
    GeneratorName,
    IngestSettings,
    LanguageModelSettings,
    SearchSettings,
    ServiceSettings,
    Settings,
    WebSettings,
)

__all__ = [
    "GeneratorName",
    "AnswerSettings",
    "CacheSettings",
    "ContextSettings",
    "EmbedderSettings",
    "EnergySettings",
    "EvalSettings",
    "IngestSettings",
    "LanguageModelSettings",
    "SearchSettings",
    "ServiceSettings",
    "Settings",
    "WebSettings",
    "changed",
    "load_settings",
    "openmp_wait_policy",
]

CONFIG_NAME = "ragwatt.toml"
_Tree = TypeVar("_Tree")


# How the environment spells what TOML writes as true and false.
_TRUTHS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
# Inclusive ranges; a key that is not here takes any value of its type.
_RANGES: dict[str, tuple[float, float]] = {
    "embedder.timeout_s": (0.1, 3600),
    "embedder.max_tokens": (16, 131_072),
    "embedder.threads": (1, 64),
    "ingest.max_chunk_tokens": (0, 131_072),
    "ingest.near_duplicate": (0.5, 1.0),
    "ingest.max_file_bytes": (1, 2**40),
    "ingest.max_output_bytes": (1, 2**40),
    "ingest.file_timeout_s": (0.1, 86_400.0),
    "ingest.file_cpu_s": (1, 86_400),
    "ingest.file_memory_bytes": (256_000_000, 2**40),
    "ingest.workers": (0, 1024),
    "ingest.boilerplate_share": (0.05, 1.0),
    "web.max_pages": (1, 1_000_000),
    "web.max_depth": (0, 100),
    "web.max_page_bytes": (1, 2**40),
    "web.timeout_s": (0.1, 3600.0),
    "ingest.keep_versions": (1, 1000),
    "search.k": (1, 1000),
    "search.depth": (1, 10_000),
    "search.dense_weight": (0.0, 1.0),
    "search.max_query_chars": (1, 1_000_000),
    "context.max_tokens": (16, 1_000_000),
    "answer.max_sentences": (1, 10),
    "answer.max_prompt_tokens": (0, 1_000_000),
    "answer.max_completion_tokens": (8, 8192),
    "answer.max_energy_j": (0.0, 1e9),
    "language_model.timeout_s": (0.1, 3600),
    "language_model.window": (256, 1_000_000),
    "language_model.threads": (1, 64),
    "language_model.pid": (0, 2**31),
    "larger_model.timeout_s": (0.1, 3600),
    "larger_model.window": (256, 1_000_000),
    "larger_model.threads": (1, 64),
    "larger_model.pid": (0, 2**31),
    "judge.timeout_s": (0.1, 3600),
    "judge.window": (256, 1_000_000),
    "judge.threads": (1, 64),
    "judge.pid": (0, 2**31),
    "cache.ttl_s": (1.0, 31_536_000.0),
    "cache.max_entries": (1, 1_000_000),
    "api.port": (0, 65_535),
    "api.max_query_bytes": (1_000, 100_000_000),
    "api.max_upload_bytes": (1_000, 2_000_000_000),
    "api.workers": (0, 256),
    "api.queue": (0, 100_000),
    "api.timeout_s": (0.1, 3600),
    "api.embed_timeout_s": (0.01, 3600),
    "api.search_timeout_s": (0.01, 3600),
    "api.generate_timeout_s": (0.01, 3600),
    "api.drain_s": (0, 3600),
    "api.poll_s": (0.01, 3600),
    "api.idle_unload_s": (0, 31_536_000),
    "api.max_batch": (1, 100_000),
    "api.max_texts": (1, 10_000),
    "api.keep_jobs_s": (60, 31_536_000),
    "energy.pue": (1.0, 3.0),
    "energy.reserved_threads": (0, 4096),
    "energy.embodied_g_per_thread_s": (0.0, 1.0),
}


def load_settings(overrides: Mapping[str, object] | None = None, config: Path | None = None) -> Settings:
    """Read the settings tree once.

    Args:
        overrides: Values by dotted key (``search.k``), strongest of all; None values are ignored.
        config: The TOML file; by default the variable RAG_CONFIG, then ``ragwatt.toml`` in the working directory if there is one.

    Returns:
        The tree, every value checked.

    Raises:
        ConfigError: If the file cannot be read, a key is unknown or a value has the wrong type or range.
    """
    keys = _keys(Settings)
    values: dict[str, object] = {}
    for origin, table in (_file_values(config), _environment_values(keys)):
        for key, value in table.items():
            values[key] = _checked(key, value, keys, origin)
    for key, value in (overrides or {}).items():
        if value is not None:
            values[key] = _checked(key, value, keys, "the command line")
    return _build(Settings, values, "")


def changed(settings: Settings, values: Mapping[str, object], origin: str) -> Settings:
    """Put values over those of a tree.

    Args:
        settings: The tree; it stays as it is.
        values: By dotted key.
        origin: Where they come from, for messages.

    Returns:
        The new tree, every new value checked.

    Raises:
        ConfigError: If a key is unknown or a value has the wrong type or range.
    """
    keys = _keys(Settings)
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        new = {name: _checked(key, value, keys, origin)}
        if section:
            new = {section: dataclasses.replace(getattr(settings, section), **new)}
        settings = dataclasses.replace(settings, **new)  # type: ignore[arg-type]  # checked by key above
    return settings


def openmp_wait_policy() -> str:
    """What the environment of the start tells OpenMP that its idle threads shall do, such as ``PASSIVE``; empty when nothing."""
    return os.environ.get("OMP_WAIT_POLICY", "")


def _keys(tree: type, prefix: str = "") -> dict[str, object]:
    """Annotated type by dotted key."""
    found: dict[str, object] = {}
    for name, kind in get_type_hints(tree).items():
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            found |= _keys(kind, f"{prefix}{name}.")
        else:
            found[prefix + name] = kind
    return found


def _build(tree: type[_Tree], values: Mapping[str, object], prefix: str) -> _Tree:
    arguments: dict[str, object] = {}
    for name, kind in get_type_hints(tree).items():
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            arguments[name] = _build(kind, values, f"{prefix}{name}.")
        elif prefix + name in values:
            arguments[name] = values[prefix + name]
    return tree(**arguments)


def _file_values(config: Path | None) -> tuple[str, dict[str, object]]:
    named = config or (Path(os.environ["RAG_CONFIG"]) if os.environ.get("RAG_CONFIG") else None)
    path = named or Path(CONFIG_NAME)
    if named is None and not path.exists():
        return "", {}
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"settings file {path} cannot be read: {error.strerror}; name another with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"settings file {path} is not valid TOML: {error}; correct that line") from error
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            flat[key] = value
    return str(path), flat


def _environment_values(keys: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    by_variable = {"RAG_" + key.upper().replace(".", "_"): key for key in keys}
    found: dict[str, object] = {}
    for variable, value in os.environ.items():
        if not variable.startswith("RAG_") or variable == "RAG_CONFIG":
            continue
        if variable in by_variable:
            found[by_variable[variable]] = value
        elif near := difflib.get_close_matches(variable, by_variable, n=1, cutoff=0.9):
            raise ConfigError(f"environment variable {variable} is not a setting; did you mean {near[0]}?")
    tiktoken_cache = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    if tiktoken_cache:
        found.setdefault("context.tiktoken_cache_dir", tiktoken_cache)
    return "the environment", found


def _checked(key: str, value: object, keys: Mapping[str, object], origin: str) -> object:
    """The value as its annotated type, or a ConfigError that names key, value, origin and what is allowed."""
    if key not in keys:
        near = difflib.get_close_matches(key, keys, n=1)
        hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(sorted(keys))}"
        raise ConfigError(f"unknown setting {key!r} in {origin}; {hint}")
    kind = keys[key]
    shown = "(secret)" if key.endswith("api_key") else repr(value)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{key} in {origin} is {shown}; allowed: {', '.join(map(str, get_args(kind)))}")
        return value
    converted = _converted(value, kind)
    if converted is None:
        expected = "true or false" if kind is bool else getattr(kind, "__name__", kind)
        raise ConfigError(f"{key} in {origin} is {shown}; expected {expected}")
    low, high = _RANGES.get(key, (float("-inf"), float("inf")))
    if isinstance(converted, int | float) and not low <= converted <= high:
        raise ConfigError(f"{key} in {origin} is {shown}; allowed: {low:g} to {high:g}")
    return converted


def _converted(value: object, kind: object) -> object | None:
    """Text becomes the number, path or truth it spells; a bool is not a number; None when it does not fit."""
    if kind is str:
        return value if isinstance(value, str) else None
    if kind is Path:
        return Path(value).expanduser() if isinstance(value, str | Path) and str(value) and "\0" not in str(value) else None
    if kind is bool:
        return value if isinstance(value, bool) else _TRUTHS.get(str(value).strip().lower()) if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        if kind is int:
            return int(value) if isinstance(value, str) or float(value).is_integer() else None
        return float(value)
    except (ValueError, OverflowError):
        return None
