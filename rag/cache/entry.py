"""What the cache keeps of an answer, and the key under which: values and their JSON."""

from __future__ import annotations

import hashlib
import json
import re
import types
import typing
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Protocol

from rag.cost import Figure, Measurement, TokenCounts
from rag.text import normalise
from rag.types import Answer, Filters

# In capitals they are names of departments, countries and gates, in small letters words of every question.
_CAPITALS = re.compile(r"\b(?:AM|AN|AND|AS|AT|BE|BY|DO|HE|IF|IN|IS|IT|ME|NO|NOT|OF|ON|OR|SO|TO|UP|US|WE|WHO)\b")


class Edition(Protocol):
    """The state of a collection that a question is asked of; an open `rag.store.Store` is one."""

    @property
    def version(self) -> int:
        """Its version."""
        ...

    def fingerprints(self, doc_ids: Sequence[str]) -> Mapping[str, str]:
        """Digest of all that is kept of each document, by id; ids that this version lacks are missing."""
        ...


@dataclass(frozen=True, slots=True)
class Key:
    """Everything that decides an answer besides the question and the documents.

    Attributes:
        collection: Name of the collection.
        embedder: Id of the embedder: vectors of different ones are not compared.
        template: Id and content hash of the prompt template; "" without one.
        generator: Stable name of generator and model.
        mode: How evidence is searched for and the answer is made.
        filters: As in the query.
        scope: Whose questions share answers: a tenant or key; "" where everybody does.
        settings: Fingerprint of all other settings that matter (k, weights, budgets, thresholds) and of the program's version.
    """

    collection: str
    embedder: str
    template: str
    generator: str
    mode: str
    filters: Filters
    scope: str
    settings: str

    def digest(self) -> str:
        """SHA-256 of all of it, hexadecimal; the order of filters does not matter."""
        values = {
            name: getattr(self, name) for name in ("collection", "embedder", "template", "generator", "mode", "scope", "settings")
        }
        values["filters"] = {key: sorted(allowed) for key, allowed in self.filters.items()}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer that was given before and still holds.

    Attributes:
        kind: ``exact``: the same question but for case, white space and how accents are encoded. ``semantic``: a paraphrase.
        question: As it was asked then.
        cosine: Of the two questions; 1.0 for an exact hit.
        version: Version of the collection that it was made from.
        created: When, in seconds since the epoch.
        cpu_s: CPU seconds that the answer took then. What this lookup takes is not subtracted.
        energy: Joules that it took then; None without a power model.
        answer: As it was given, with an empty measurement: that of the question that hit belongs there.
    """

    kind: Literal["exact", "semantic"]
    question: str
    cosine: float
    version: int
    created: float
    cpu_s: float
    energy: Figure | None
    answer: Answer


def fold(text: str) -> str:
    """Fold case, but not where capitals make another word.

    Args:
        text: Any text.

    Returns:
        The text in small letters, but for words such as "IT" and "US" unless all of it is in capitals.

    Example:
        >>> fold("Who leads IT in Bonn?")
        'who leads IT in bonn?'
    """
    if text.isupper() and " " in text:
        return text.casefold()
    kept = _CAPITALS.split(text)
    found = [*_CAPITALS.findall(text), ""]
    return "".join(part.casefold() + name for part, name in zip(kept, found, strict=True))


def canonical(question: str) -> str:
    """What exact hits have in common: case, white space and encoding of accents do not count; every word does.

    Args:
        question: As asked.

    Returns:
        The question, folded.

    Example:
        >>> canonical("  Who  wrote\\nHamlet? ")
        'who wrote hamlet?'
    """
    return " ".join(fold(unicodedata.normalize("NFC", normalise(question))).split())


def cited_documents(answer: Answer) -> tuple[str, ...]:
    """Documents that an answer rests on, sorted: those cited, and those named as holding the same text."""
    return tuple(sorted({doc_id for c in answer.citations for doc_id in (c.doc_id, *c.source.also_in)}))


def payload_of(answer: Answer) -> str:
    """An answer as JSON, without its measurement.

    Args:
        answer: Any.

    Returns:
        ASCII text from which `answer_from` makes an equal answer.
    """
    shown = {field.name: getattr(answer, field.name) for field in fields(answer) if field.name != "measurement"}
    return json.dumps(shown, default=asdict)


def answer_from(payload: str) -> Answer:
    """Read an answer back.

    Args:
        payload: As `payload_of` made it.

    Returns:
        An answer equal to the one written, but for the measurement, which is empty.

    Raises:
        ValueError: If it is damaged, or of a version of the program whose answers have other fields.
    """
    values = json.loads(payload)
    try:
        parts = {name: _rebuilt(kind, values[name]) for name, kind in _kinds(Answer).items() if name != "measurement"}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an answer: {error!r}") from error
    return Answer(**parts, measurement=Measurement(0.0, 0.0, None, TokenCounts(), (), "hit", 0))


@cache
def _kinds(of: type) -> dict[str, Any]:
    return typing.get_type_hints(of)


def _rebuilt(kind: Any, value: Any) -> Any:  # noqa: ANN401 - whatever the fields of an answer are
    """JSON gives lists for tuples and mappings for dataclasses; everything else comes back as it was."""
    if isinstance(kind, types.UnionType):
        kind = next((one for one in typing.get_args(kind) if is_dataclass(one) and value is not None), None)
    if is_dataclass(kind) and isinstance(kind, type):
        return kind(**{name: _rebuilt(inner, value[name]) for name, inner in _kinds(kind).items()})
    if hasattr(kind, "_fields"):  # a named tuple of plain values
        return kind(*value)
    if typing.get_origin(kind) is tuple:
        return tuple(_rebuilt(typing.get_args(kind)[0], item) for item in value)
    return value
