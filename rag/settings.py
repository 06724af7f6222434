"""One frozen settings tree: defaults, then `ragwatt.toml`, then RAG_* environment variables, then the command line.

This is the only file that reads the environment. A key ``name`` of table ``[section]`` is the variable ``RAG_SECTION_NAME``; a key
outside a table is ``RAG_NAME``. Unknown keys are refused. A variable that looks like a misspelt key is refused too; any other RAG_*
variable is left alone, because an orchestrator may set its own (a Kubernetes service called "rag" sets RAG_SERVICE_HOST).
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

from rag.errors import ConfigError
from rag.types import ContextStyle, SearchMode

GeneratorName = Literal["extractive", "model", "auto"]

CONFIG_NAME = "ragwatt.toml"
_Tree = TypeVar("_Tree")


@dataclass(frozen=True, slots=True)
class EmbedderSettings:
    """Which embedder turns text into vectors.

    Attributes:
        kind: ``onnx`` runs a model in this process, ``http`` asks an OpenAI-compatible server.
        model: Name of a shipped or added model (`rag models list`), or the server's name for it.
        url: Base URL of the server, up to and without ``/embeddings``.
        api_key: Sent as a bearer token when not empty; never printed.
        timeout_s: Longest wait for one request to the server.
        max_tokens: Tokens that an ``http`` model reads; an ``onnx`` model's card knows its own.
        threads: Threads that work on one text of an ``onnx`` model; more answer sooner and cost more CPU seconds.
    """

    kind: Literal["onnx", "http"] = "onnx"
    model: str = "all-minilm-l6-v2-int8"
    url: str = ""
    api_key: str = field(default="", repr=False)
    timeout_s: float = 30.0
    max_tokens: int = 256
    threads: int = 1


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """How files become chunks.

    Attributes:
        max_chunk_tokens: Upper limit of the embedded text of a chunk; 0 means as many as the embedder reads.
        near_duplicate: Estimated Jaccard similarity of word 3-shingles from which two chunks are one; 1.0 collapses exact copies
            only.
        max_file_bytes: Larger files are reported, not read.
        workers: Threads that embed; 0 means one a core.
        keep_versions: Published versions kept besides those that a reader holds open; at least 1.
    """

    max_chunk_tokens: int = 0
    near_duplicate: float = 0.85
    max_file_bytes: int = 256_000_000
    workers: int = 0
    keep_versions: int = 2


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How candidates are found and fused.

    Attributes:
        k: Hits returned.
        mode: Indexes asked.
        depth: Candidates taken from each index before fusion.
        dense_weight: Share of the cosine in the fused score; 0.65 to 0.7 is a plateau for the shipped embedder.
        max_query_chars: Longer queries are refused.
    """

    k: int = 10
    mode: SearchMode = "hybrid"
    depth: int = 100
    dense_weight: float = 0.7
    max_query_chars: int = 10_000


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """How candidates are packed into a token budget.

    Attributes:
        max_tokens: The budget.
        style: ``sentences`` keeps what answers the question, ``passages`` keeps whole chunks.
        target_model: Whose tokens are counted; empty means the shipped tokenizer with a safety margin.
        tiktoken_cache_dir: Folder with the vocabulary files of tiktoken, which are never downloaded.
    """

    max_tokens: int = 512
    style: ContextStyle = "sentences"
    target_model: str = ""
    tiktoken_cache_dir: str = ""


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """How an answer is written.

    Attributes:
        generator: Who writes it.
        abstain_below: Confidence under which the extractive generator says that it does not know; negative means never abstain.
            Calibrated on half of XQuAD, each question against the same with its paragraph removed (`bench/abstain.py`, figures in
            `bench/results/retrieval-*.json`): on the other half 0.51 keeps 90 % of the answerable questions and accepts 10 % of the
            others. Without vectors (eco) the same balance lies at 0.54.
        max_sentences: Sentences of an extractive answer.
        template: Prompt of a language model: ``few-shot``, ``chat`` or the path of a TOML file; empty takes what suits the model.
        evidence: What a language model reads: the best ``sentences``, or the five best ``passages``.
        max_prompt_tokens: Tokens of a prompt; 0 means what the model's window leaves.
        max_completion_tokens: Tokens that a language model writes for one answer.
        max_energy_j: Active joules of one answer; the mode and the length of the answer are chosen to keep it. 0 means no limit.
        unverified: What becomes of a sentence that no cited passage carries: ``drop`` it, or keep and ``flag`` it.
        rewrite: How a question that leans on a conversation is made to stand alone: by ``rule``, or by the language ``model`` where the
            rule sees that it leans; what the model writes is checked, and the rule stands in.
    """

    generator: GeneratorName = "extractive"
    abstain_below: float = 0.51
    max_sentences: int = 2
    template: str = ""
    evidence: ContextStyle = "sentences"
    max_prompt_tokens: int = 0
    max_completion_tokens: int = 96
    max_energy_j: float = 0.0
    unverified: Literal["drop", "flag"] = "drop"
    rewrite: Literal["rule", "model"] = "rule"


@dataclass(frozen=True, slots=True)
class LanguageModelSettings:
    """A language model that can write answers.

    Attributes:
        kind: ``none``, ``gguf`` in this process, or ``http`` for an OpenAI-compatible server.
        model: Of ``gguf`` the name of an added model (`rag models add FILE.gguf`) or a path; of ``http`` the server's name for it.
        url: Base URL of the server, up to and without ``/chat/completions``.
        api_key: Sent as a bearer token when not empty; never printed.
        timeout_s: Longest wait for one whole answer.
        window: Tokens of prompt and answer together.
        threads: Of a ``gguf`` model; more than one answers sooner for the same CPU.
        pid: Process of a server on this machine that works for nobody else: its CPU seconds are counted.
        provider: Name that EcoLogits has for a hosted service, for its energy.
    """

    kind: Literal["none", "gguf", "http"] = "none"
    model: str = ""
    url: str = ""
    api_key: str = field(default="", repr=False)
    timeout_s: float = 60.0
    window: int = 2048
    threads: int = 1
    pid: int = 0
    provider: str = ""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Answers that are kept.

    Attributes:
        mode: ``exact`` serves the same question again, ``semantic`` one that says the same.
        ttl_s: Longest life of an answer.
        max_entries: Answers kept; the longest unused go first.
    """

    mode: Literal["off", "exact", "semantic"] = "off"
    ttl_s: float = 604_800.0
    max_entries: int = 10_000


@dataclass(frozen=True, slots=True)
class EnergySettings:
    """How CPU seconds become joules and grams.

    Attributes:
        region: Country or grid region whose carbon intensity counts (`rag energy regions`); empty means not told: the world average.
        pue: Power usage effectiveness of the site, all its power by that of its computers; 1.0 adds nothing.
        reserved_threads: Hardware threads whose idle power the work bears; 0 means one for a command, all for a service.
        embodied_g_per_thread_s: Grams that making the hardware emitted, by hardware thread and second of its life: a server of 1000 kg,
            256 threads, five years. 0 leaves it out.
        powercap_root: Folder of the energy counters, also one that a host exports to its guest.
        calibration: File that `rag energy calibrate` wrote; empty means ``calibration.json`` in the data directory.
        gpu: ``on`` counts the GPUs of this machine through NVML.
    """

    region: str = ""
    pue: float = 1.0
    reserved_threads: int = 0
    embodied_g_per_thread_s: float = 2.5e-5
    powercap_root: Path = Path("/sys/class/powercap")
    calibration: str = ""
    gpu: Literal["off", "on"] = "off"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set.

    Attributes:
        data_dir: Catalog and snapshots.
        collection: Used when a command names none.
        embedder: See `EmbedderSettings`.
        ingest: See `IngestSettings`.
        search: See `SearchSettings`.
        context: See `ContextSettings`.
        answer: See `AnswerSettings`.
        language_model: Writes answers of mode ``generative``, and of ``auto`` where extraction is not enough.
        larger_model: Asked by ``auto`` when the answer of the first cannot be verified.
        cache: See `CacheSettings`.
        energy: See `EnergySettings`.
    """

    data_dir: Path = Path("ragwatt-data")
    collection: str = "default"
    embedder: EmbedderSettings = field(default_factory=EmbedderSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    context: ContextSettings = field(default_factory=ContextSettings)
    answer: AnswerSettings = field(default_factory=AnswerSettings)
    language_model: LanguageModelSettings = field(default_factory=LanguageModelSettings)
    larger_model: LanguageModelSettings = field(default_factory=LanguageModelSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    energy: EnergySettings = field(default_factory=EnergySettings)


# Inclusive ranges; a key that is not here takes any value of its type.
_RANGES: dict[str, tuple[float, float]] = {
    "embedder.timeout_s": (0.1, 3600),
    "embedder.max_tokens": (16, 131_072),
    "embedder.threads": (1, 64),
    "ingest.max_chunk_tokens": (0, 131_072),
    "ingest.near_duplicate": (0.5, 1.0),
    "ingest.max_file_bytes": (1, 2**40),
    "ingest.workers": (0, 1024),
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
    "cache.ttl_s": (1.0, 31_536_000.0),
    "cache.max_entries": (1, 1_000_000),
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
        raise ConfigError(f"{key} in {origin} is {shown}; expected {getattr(kind, '__name__', kind)}")
    low, high = _RANGES.get(key, (float("-inf"), float("inf")))
    if isinstance(converted, int | float) and not low <= converted <= high:
        raise ConfigError(f"{key} in {origin} is {shown}; allowed: {low:g} to {high:g}")
    return converted


def _converted(value: object, kind: object) -> object | None:
    """Text becomes the number or path it spells; a bool is not a number; None when it does not fit."""
    if kind is str:
        return value if isinstance(value, str) else None
    if kind is Path:
        return Path(value).expanduser() if isinstance(value, str | Path) and str(value) and "\0" not in str(value) else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        if kind is int:
            return int(value) if isinstance(value, str) or float(value).is_integer() else None
        return float(value)
    except (ValueError, OverflowError):
        return None
