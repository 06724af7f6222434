"""The card of a model: what its folder says of itself, as frozen values and as ``card.json``.

Reading is strict in both directions: a missing key, an unknown key and a value of another type are each a ModelError,
because a card that is half understood yields vectors that do not belong together.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

from rag.errors import ModelError

CARD_NAME = "card.json"
# Raised when a key is added, removed or changes its meaning.
CARD_FORMAT = 1
# Hexadecimal digits of the fingerprint that an embedder id carries: 48 bits, ample against chance among one user's
# models.
FINGERPRINT_DIGITS = 12

Pooling = Literal["mean", "cls"]
_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class Canonical:
    """A text with the beginning of its vector: golden data that shows whether a machine computes what was measured.

    Attributes:
        text: Embedded as it stands, without a role prompt.
        values: The first components of its unit vector.
    """

    text: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Quality:
    """Retrieval quality before and after quantisation on one data set.

    Attributes:
        data: Name of the data set.
        n_documents: Documents searched, exactly, by cosine.
        n_queries: Queries with at least one judgement.
        ndcg10_fp32: Mean nDCG@10 of the fp32 graph, 0 to 1.
        ndcg10_int8: Mean nDCG@10 of the int8 graph, 0 to 1.
    """

    data: str
    n_documents: int
    n_queries: int
    ndcg10_fp32: float
    ndcg10_int8: float


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU milliseconds of one forward pass with tokenisation, batch 1, one thread: medians of interleaved runs.

    Attributes:
        machine: Processor on which it was measured; the figures hold for that one.
        document_tokens: Mean tokens of the documents timed.
        query_tokens: Mean tokens of the queries timed.
        document_fp32_ms: A document through the fp32 graph.
        document_int8_ms: A document through the int8 graph.
        query_fp32_ms: A query through the fp32 graph.
        query_int8_ms: A query through the int8 graph.
    """

    machine: str
    document_tokens: float
    query_tokens: float
    document_fp32_ms: float
    document_int8_ms: float
    query_fp32_ms: float
    query_int8_ms: float


@dataclass(frozen=True, slots=True)
class Parity:
    """What export and quantisation changed, measured against the fp32 original in its own framework.

    Attributes:
        n_texts: Texts embedded by both.
        cosine_mean: Mean cosine of the int8 vectors to the original ones.
        cosine_min: The smallest of them.
        quality: One entry a data set; empty means not measured.
        cost: CPU time before and after.
    """

    n_texts: int
    cosine_mean: float
    cosine_min: float
    quality: tuple[Quality, ...]
    cost: Cost


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Everything that a program must know of a model folder.

    Attributes:
        format: Version of this layout, `CARD_FORMAT`.
        name: Name of the folder and of the model on the command line.
        source: Where the weights come from, for people: upstream name, never a path.
        revision: Identity of the original weights: ``sha256:`` and their digest.
        licence: SPDX name, or ``unknown``.
        notice: Attribution that goes with every copy.
        model_sha256: Of ``model.onnx``, 64 hexadecimal digits.
        tokenizer_sha256: Of ``tokenizer.json``.
        dim: Length of a vector.
        max_tokens: Tokens that the model reads, special tokens included.
        document_prompt: Set before a text that is looked in.
        query_prompt: Set before a text that is looked for.
        pooling: How token vectors become one; it is part of the graph.
        recipe: How the graph was made.
        recipe_version: Raised when the same source would give another graph.
        parity: What was lost and gained by it.
        canonical: Texts with the beginning of their vectors.
        canonical_tolerance: Largest difference of a component that is still the same model.
    """

    format: int
    name: str
    source: str
    revision: str
    licence: str
    notice: str
    model_sha256: str
    tokenizer_sha256: str
    dim: int
    max_tokens: int
    document_prompt: str
    query_prompt: str
    pooling: Pooling
    recipe: str
    recipe_version: int
    parity: Parity
    canonical: tuple[Canonical, ...]
    canonical_tolerance: float

    @property
    def id(self) -> str:
        """Name and fingerprint of all that decides a vector: graph, tokenizer, truncation and prompts."""
        decisive = [self.model_sha256, self.tokenizer_sha256, self.max_tokens, self.document_prompt, self.query_prompt]
        digest = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()
        return f"{self.name}@{digest[:FINGERPRINT_DIGITS]}"


def read_card(path: Path) -> ModelCard:
    """Read ``card.json``.

    Args:
        path: The file.

    Returns:
        The card, every key present and of its type.

    Raises:
        ModelError: If the file cannot be read, is not JSON, or is not a card of this format.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"model card {path} cannot be read: {error.strerror}; add the model again") from error
    except ValueError as error:
        raise ModelError(f"model card {path} is not JSON: {error}; add the model again") from error
    if not isinstance(tree, dict) or tree.get("format") != CARD_FORMAT:
        found = tree.get("format") if isinstance(tree, dict) else type(tree).__name__
        raise ModelError(f"model card {path} has format {found!r}; this version reads {CARD_FORMAT}: add the model again")
    stated = tree.pop("id", None)
    card = _read_part(ModelCard, tree, str(path))
    if stated != card.id:
        raise ModelError(
            f"model card {path} says id {stated!r} but its contents make {card.id}: it was edited; add the model again"
        )
    return card


def write_card(card: ModelCard, path: Path) -> None:
    """Write ``card.json``, with the id on top for people.

    Args:
        card: The card.
        path: The file, overwritten when it exists.
    """
    path.write_text(json.dumps({"id": card.id} | dataclasses.asdict(card), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_part(part: type[_Part], tree: Mapping[str, object], where: str) -> _Part:
    """A frozen value from a JSON object whose keys are exactly its fields."""
    kinds = get_type_hints(part)
    if wrong := sorted(kinds.keys() ^ tree.keys()):
        raise ModelError(f"model card {where} lacks or does not know {', '.join(wrong)}; add the model again")
    return part(**{name: _read_value(kind, tree[name], f"{where}, {name}") for name, kind in kinds.items()})


def _read_value(kind: object, value: object, where: str) -> object:
    """A JSON value as the annotated type of its field."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        return _read_part(kind, value, where)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_read_value(get_args(kind)[0], item, where) for item in value)
    if get_origin(kind) is Literal and value in get_args(kind):
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind in (int, str) and type(value) is kind:
        return value
    raise ModelError(f"model card {where} is {value!r:.60}, expected {getattr(kind, '__name__', kind)}; add the model again")
