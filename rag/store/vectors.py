"""Vectors by digest of the text that they stand for: kept outside of versions, so that no text is embedded twice.

Stored as int8 with one float32 scale a row: a quarter of the size of float32, and cosine to it above 0.9999 for unit vectors of 384
dimensions.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence

import numpy as np

from rag.errors import SnapshotError
from rag.types import Vector, Vectors

# SQLite's default limit on bound variables is 32,766.
MAX_VARIABLES = 30_000


def text_digest(text: str) -> bytes:
    """Digest of an indexed text.

    Args:
        text: What is embedded.

    Returns:
        16 bytes of BLAKE2b: the key of its vector.
    """
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class VectorTable:
    """The vectors of one embedder in a catalog.

    Args:
        db: Connection of the catalog.
        embedder: Id of the embedder.
    """

    def __init__(self, db: sqlite3.Connection, embedder: str) -> None:
        self._db = db
        self._embedder = embedder

    def put(self, digests: Sequence[bytes], vectors: Vectors) -> None:
        """Keep vectors, at once and whatever becomes of the run; those that are known already stay as they are."""
        self._db.executemany(
            "INSERT OR IGNORE INTO vector VALUES (?, ?, ?)",
            [(self._embedder, digest, _packed(vector)) for digest, vector in zip(digests, vectors, strict=True)],
        )

    def missing(self, digests: Iterable[bytes]) -> set[bytes]:
        """Digests that have no vector yet."""
        known = self._db.execute("SELECT digest FROM vector WHERE embedder = ?", (self._embedder,))
        return set(digests).difference(digest for (digest,) in known)

    def get(self, digests: Sequence[bytes]) -> Vectors:
        """Vectors by digest.

        Args:
            digests: Keys, all of them known; at least one.

        Returns:
            float32 of shape (len(digests), dim), rows of unit length, in the order of the digests.

        Raises:
            SnapshotError: If one is not there.
        """
        found: dict[bytes, bytes] = {}
        for at in range(0, len(digests), MAX_VARIABLES):
            part = digests[at : at + MAX_VARIABLES]
            marks = ",".join("?" * len(part))
            sql = f"SELECT digest, data FROM vector WHERE embedder = ? AND digest IN ({marks})"
            found |= dict(self._db.execute(sql, (self._embedder, *part)).fetchall())
        n_absent = sum(digest not in found for digest in digests)
        if n_absent:
            raise SnapshotError(
                f"{n_absent} of {len(digests)} vectors are not in the catalog; "
                "restore it from a backup, or ingest again into a new --data-dir",
                code="missing_vectors",
            )
        return _unpacked([found[digest] for digest in digests])


def _packed(vector: Vector) -> bytes:
    """A float32 scale, then one int8 a component."""
    scale = np.float32(np.abs(vector).max() / 127) or np.float32(1)
    return scale.tobytes() + np.round(vector / scale).astype(np.int8).tobytes()


def _unpacked(rows: Sequence[bytes]) -> Vectors:
    raw = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), -1)
    vectors = raw[:, 4:].view(np.int8).astype(np.float32) * raw[:, :4].copy().view(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
