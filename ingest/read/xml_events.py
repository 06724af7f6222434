"""XML of untrusted files as events: no entities, no external parts, bounded depth, one pass.

A document type declaration is refused as a whole: office formats have none, and entities can only be declared there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from xml.parsers import expat

from rag.errors import InputError

Attributes = dict[str, str]

# Text boxes in tables in groups in real files nest below 60 elements.
_MAX_DEPTH = 256
# The one name that two vocabularies share within one element (a slide has an `id` and a relation's `id`).
_RELATIONS = "/relationships"


class Handler(Protocol):
    """Takes the events of one part, in order; names are without namespace, a relation's attributes begin with ``r:``."""

    def start(self, name: str, attributes: Attributes) -> None:
        """Take the begin of an element."""

    def end(self, name: str) -> None:
        """Take the end of an element."""

    def text(self, data: str) -> None:
        """Take text, in as few pieces as there are."""


def parse(data: bytes, handler: Handler, part: str) -> None:
    """Send one XML part to a handler.

    Args:
        data: The whole part.
        handler: Takes its events; what it raises ends the parsing.
        part: Its name, for messages.

    Raises:
        InputError: With code ``unreadable`` for malformed XML or a document type declaration, ``too_deep`` beyond 256 levels.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    names: dict[str, str] = {}
    keys: dict[str, str] = {}
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise InputError(f"nests more than {_MAX_DEPTH} elements in {part!r}; repair the file", code="too_deep")
        local = names.get(name) or names.setdefault(name, name.rpartition(" ")[2])
        handler.start(local, {keys.get(key) or _add_key(keys, key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        handler.end(names[name])

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = handler.text
    parser.StartDoctypeDeclHandler = _refuser(part)
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise InputError(f"holds no readable XML in {part!r}: {error}; save the file again", code="unreadable") from error


def _add_key(keys: dict[str, str], key: str) -> str:
    space, _, local = key.rpartition(" ")
    return keys.setdefault(key, f"r:{local}" if space.endswith(_RELATIONS) else local)


def _refuser(part: str) -> Callable[..., None]:
    def refuse(*declared: object) -> None:
        raise InputError(
            f"declares a document type ({declared[0]!s:.40}) in {part!r}, which could define entities; save the file again",
            code="unreadable",
        )

    return refuse
