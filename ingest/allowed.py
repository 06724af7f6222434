"""What may be asked of an ingest run: names of collections and sizes of chunks."""

from __future__ import annotations

from rag.embed import Embedder
from rag.errors import InputError
from rag.settings import IngestSettings


def check_collection_name(name: str) -> None:
    """Refuse names that do not make a folder name everywhere.

    Args:
        name: Wanted name.

    Raises:
        InputError: If it is not 1 to 64 letters, digits, ``-``, ``_`` or ``.``, beginning with a letter or digit.
    """
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    if not 1 <= len(name) <= 64 or not set(name) <= allowed or not name[0].isalnum():
        raise InputError(
            f"collection name {name[:80]!r} is not allowed; use 1 to 64 letters, digits, '-', '_' or '.', beginning with a letter or digit",
            code="bad_name",
        )


def chunk_limit(settings: IngestSettings, embedder: Embedder) -> int:
    """Tokens of a chunk at most.

    Args:
        settings: The wanted limit, 0 for the embedder's.
        embedder: Whose input is limited.

    Returns:
        The limit, 128 or more.

    Raises:
        InputError: If the wanted limit is more than the embedder reads, or too little to hold a context line and text.
    """
    limit = settings.max_chunk_tokens or embedder.max_tokens
    if not 128 <= limit <= embedder.max_tokens:
        raise InputError(
            f"ingest.max_chunk_tokens is {limit}; allowed: 128 to {embedder.max_tokens}, which is what {embedder.id} reads",
            code="chunk_limit",
        )
    return limit
