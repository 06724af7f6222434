"""What is asked of the pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from ingest.read import Kind, Origin

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Work:
    """A file to be read.

    Attributes:
        file: Its descriptor, open for reading; the pool closes it.
        n_bytes: Its size.
        origin: What its documents are called.
        kind: Format family, or None for that of the name.
        salt: Hashed before the bytes.
        cut: Whether its documents are wanted with their chunks.
    """

    file: int
    n_bytes: int
    origin: Origin
    kind: Kind | None = None
    salt: str = ""
    cut: bool = True


@dataclass(frozen=True, slots=True)
class Job(Generic[K]):
    """Something in a row of which some is to be read: ``work`` is None where nothing is; ``key`` is the caller's."""

    key: K
    work: Work | None = None
