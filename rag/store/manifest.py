"""The manifest of a snapshot: what the folder is, and size and SHA-256 of every other file in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rag.errors import SnapshotError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_OWN_DIGEST = "manifest_sha256"
_WAY_OUT = "run 'rag repair'"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and SHA-256 (hex) of one file of a snapshot."""

    n_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot says of itself.

    Attributes:
        format_version: Layout of the folder.
        collection: Its collection.
        version: From 1, rising by one with every publication.
        embedder: Id of the embedder that made the vectors.
        dim: Length of a vector.
        analyser: Id of the analyser of the lexical index.
        n_documents: Documents.
        n_chunks: Chunks, collapsed duplicates included.
        n_rows: Chunks in the indexes.
        content_sha256: Digest of the documents: the same content gives the same digest, however it came about.
        lexical_input: Digest of what the lexical index is made from.
        dense_input: Digest of what the dense index is made from.
        files: By path below the folder, in order of path.
    """

    format_version: int
    collection: str
    version: int
    embedder: str
    dim: int
    analyser: str
    n_documents: int
    n_chunks: int
    n_rows: int
    content_sha256: str
    lexical_input: str
    dense_input: str
    files: dict[str, FileEntry]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a snapshot, with a checksum of its own.

    Args:
        folder: Folder of the version.
        manifest: What it holds.
    """
    fields = asdict(manifest)
    text = json.dumps({**fields, _OWN_DIGEST: _digest(fields)}, indent=1)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a snapshot; the other files are not looked at.

    Args:
        folder: Folder of one version.

    Returns:
        Its manifest.

    Raises:
        SnapshotError: If it is missing, altered, of a newer format or that of another version.
    """
    try:
        raw = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if raw["format_version"] > FORMAT_VERSION:
            raise SnapshotError(
                f"snapshot {folder} has format {raw['format_version']}; this version reads {FORMAT_VERSION} and older: upgrade ragwatt",
                code="newer_format",
            )
        own_digest = raw.pop(_OWN_DIGEST, None)  # snapshots made before it was introduced have none
        if own_digest is not None and own_digest != _digest(raw):
            raise ValueError("its own checksum does not match")
        manifest = Manifest(**{**raw, "files": {name: FileEntry(**entry) for name, entry in raw["files"].items()}})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SnapshotError(
            f"snapshot manifest {folder / MANIFEST} is missing or damaged: {error}; {_WAY_OUT}", code="damaged"
        ) from error
    if (manifest.collection, str(manifest.version)) != (folder.parent.name, folder.name):
        raise SnapshotError(
            f"snapshot manifest {folder / MANIFEST} is that of version {manifest.version} of {manifest.collection!r}; {_WAY_OUT}",
            code="damaged",
        )
    return manifest


def verify(folder: Path) -> Manifest:
    """Check a snapshot folder against its manifest.

    Args:
        folder: Folder of one version.

    Returns:
        Its manifest.

    Raises:
        SnapshotError: If the manifest or a file is missing, altered or of a newer format; the message names the file.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise SnapshotError(f"snapshot file {path} is missing; {_WAY_OUT}", code="damaged")
        found = entry_of(path)
        if found != expected:
            raise SnapshotError(
                f"snapshot file {path} is damaged: {found.n_bytes} bytes with SHA-256 {found.sha256[:12]}, "
                f"expected {expected.n_bytes} with {expected.sha256[:12]}; {_WAY_OUT}",
                code="damaged",
            )
    return manifest


def entry_of(path: Path) -> FileEntry:
    """Size and digest of a file as it is now."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return FileEntry(path.stat().st_size, digest.hexdigest())


def _digest(fields: dict[str, Any]) -> str:
    """SHA-256 (hex) of what a manifest says, but for this digest: nothing else vouches for that file."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
