"""What can be known to fail before an ingest begins, for a run that waits first: it must not wait for hours to refuse a wrong path.

Nothing is made: no data directory, no catalog. What is only known by reading, and what changes meanwhile, still fails in the run.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ingest.allowed import check_collection_name, chunk_limit
from ingest.report import IngestRequest
from ingest.sources import sites_of
from ingest.walk import FoundFile, walk
from rag.embed import Embedder
from rag.errors import InputError, SnapshotError
from rag.settings import Settings
from rag.store.catalog import Catalog
from rag.store.schema import FILE_NAME


def check_request(request: IngestRequest, settings: Settings, embedder: Embedder) -> None:
    """Refuse what `ingest` would refuse, as far as it can be seen without reading a file.

    Args:
        request: What is to be ingested.
        settings: Data directory and limits.
        embedder: That of the run.

    Raises:
        InputError: If a path does not exist, a name or glob is not allowed, an ``--include`` matches no file, or the limit of a chunk
            does not suit the embedder; if an address is malformed or refused, or fetching is off.
        MissingExtraError: If an address is given without the extra ``[web]``.
        SnapshotError: If the data directory can neither be written nor made, or its catalog is damaged or newer.
    """
    check_collection_name(request.collection)
    chunk_limit(settings.ingest, embedder)
    sites_of(request, settings)
    found = walk(request.paths, request.include, request.exclude, request.prefix)
    if request.include and not request.urls and not any(isinstance(item, FoundFile) for item in found):
        raise InputError(
            f"--include {', '.join(request.include)} matches no file; write globs as in .gitignore, for example '*.md'",
            code="bad_glob",
        )
    _check_writable(settings.data_dir)
    catalog = settings.data_dir / FILE_NAME
    if catalog.exists() and catalog.stat().st_size:  # an empty one is filled by the run
        Catalog(settings.data_dir).close()
        if not os.access(catalog, os.W_OK):
            raise SnapshotError(
                f"catalog {catalog} cannot be written; make it writable, or use another --data-dir", code="data_dir"
            )


def _check_writable(data_dir: Path) -> None:
    """Try a file without a name in the folder, or in the nearest one above it that exists; asking for the permission is not enough."""
    place = data_dir.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise SnapshotError(
            f"data directory {data_dir} cannot be written or made: {place}: {error.strerror}; name another with --data-dir",
            code="data_dir",
        ) from error
