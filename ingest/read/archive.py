"""ZIP and TAR archives: every member read as the file that it is, within limits that are counted while unpacking.

Nothing is written to disk. Names that would lead out of a folder, links and devices are failures; hidden names are passed over, as in
folders. An archive in an archive is read too, to a depth of three.
"""

from __future__ import annotations

import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipInfo

from ingest.read.origin import Failure, Origin, one_line
from ingest.read.zipped import member, open_zip
from rag.errors import InputError
from rag.types import Document

Reader = Callable[[bytes, Origin, None], Iterator[Document | Failure]]

_MAX_MEMBERS = 10_000
_MAX_TOTAL_BYTES = 512 * 2**20
_MAX_RATIO = 100
# Ratios mean nothing on small outputs, where repetitive data reaches hundreds honestly.
_MIN_SUSPECT_BYTES = 8 * 2**20
_MAX_DEPTH = 3
_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# Members by which documents that are ZIP files are known; read as archives they would give hundreds of pieces of markup.
_DOCUMENT_PARTS = frozenset({"[Content_Types].xml", "META-INF/container.xml", "META-INF/manifest.xml"})
# Stands between an archive and its member in a URI.
_INSIDE = "!/"
_MAX_NAME_CHARS = 1_000
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_DAMAGED = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError, MemoryError)
_BAD_PART = re.compile(r"\A\.\.?\Z")
_BAD_CHARS = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]|\A/|\A[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class _Member:
    """A file of an archive: its name, modification time, what it is if no file, and how to get its bytes."""

    name: str
    mtime: float | None
    oddity: str
    open: Callable[[], bytes]


@dataclass(slots=True)
class _Budget:
    """What an archive and all archives in it may still give."""

    n_members: int = _MAX_MEMBERS
    n_bytes: int = _MAX_TOTAL_BYTES

    def spend(self, n_bytes: int) -> None:
        self.n_members -= 1
        self.n_bytes -= n_bytes
        if self.n_members < 0 or self.n_bytes < 0:
            raise InputError(
                f"unpacks to more than {_MAX_MEMBERS:,} members or {_MAX_TOTAL_BYTES:,} bytes with the archives in it, and the rest is not "
                "read; unpack it by hand if you trust it",
                code="zip_bomb",
            )


def read_archive(data: bytes, origin: Origin, read: Reader) -> Iterator[Document | Failure]:
    """Read the members of an archive.

    Args:
        data: Content of the file.
        origin: Where it comes from; ``doc_id/member`` are the ids of what is in it, ``uri!/member`` the addresses.
        read: Reads one member by its name, as `ingest.read.read` does.

    Yields:
        What the members give, in the order of their names; failures are named ``archive!/member`` and have, besides those of readers,
        the codes ``bad_member encrypted duplicate_id too_large unreadable``.

    Raises:
        InputError: With code ``unreadable`` for what is no archive; ``zip_bomb`` for one that unpacks to too much: 10,000 members,
            512 MiB, or 100 times its size above 8 MiB; ``too_deep`` for the fourth archive in archives; ``empty`` for no member.
    """
    yield from _read(data, origin, read, _Budget(), depth=1)


def _read(data: bytes, origin: Origin, read: Reader, budget: _Budget, depth: int) -> Iterator[Document | Failure]:
    if depth > _MAX_DEPTH:
        raise InputError(f"lies in {_MAX_DEPTH} archives, allowed are fewer; unpack the outer ones", code="too_deep")
    members = _zip_members(data) if data.startswith(_ZIP_MAGIC) else _tar_members(data)
    if not members:
        raise InputError("holds no files; nothing to index", code="empty")
    if any(item.name in _DOCUMENT_PARTS for item in members):
        raise InputError(
            "is no archive of files but an Office, OpenDocument or EPUB document; name it after its format", code="unreadable"
        )
    seen: set[str] = set()
    for item in sorted(members, key=lambda found: found.name.encode("utf-8", "surrogateescape")):
        name = item.name.removeprefix("./")
        shown = f"{origin.path}{_INSIDE}{one_line(name.encode('utf-8', 'backslashreplace').decode(), 200)}"
        trouble = _trouble(name, item.oddity, seen)
        if trouble is not None:
            yield replace(trouble, path=shown)
        elif not any(part.startswith(".") for part in name.split("/")):
            seen.add(name)
            try:
                content = item.open()
            except InputError as error:
                yield Failure(shown, error.code, str(error))
                continue
            here = replace(
                origin, path=Path(name), doc_id=f"{origin.doc_id}/{name}", uri=f"{origin.uri}{_INSIDE}{name}", mtime=item.mtime
            )
            budget.spend(len(content))
            for outcome in _outcomes(content, here, read, budget, depth):
                yield replace(outcome, path=f"{origin.path}{_INSIDE}{outcome.path}") if isinstance(outcome, Failure) else outcome


def _outcomes(content: bytes, here: Origin, read: Reader, budget: _Budget, depth: int) -> Iterator[Document | Failure]:
    """What a member gives; an archive shares the budget of the one around it, and only if that is spent do both end."""
    if not here.path.name.lower().endswith(_SUFFIXES):
        yield from read(content, here, None)
        return
    try:
        yield from _read(content, here, read, budget, depth + 1)
    except InputError as error:
        if min(budget.n_members, budget.n_bytes) < 0:
            raise
        yield Failure(str(here.path), error.code, str(error))


def _trouble(name: str, oddity: str, seen: set[str]) -> Failure | None:
    """Why a member is not read, besides being hidden."""
    if _BAD_CHARS.search(name) or any(_BAD_PART.match(part) or not part for part in name.split("/")) or len(name) > _MAX_NAME_CHARS:
        return Failure(
            "",
            "bad_member",
            "has a name that could lead out of a folder or cannot be stored, so it is not read; rename and pack it again",
        )
    if oddity:
        return Failure("", "bad_member", f"is {oddity}, so it is not read; pack the file itself")
    if name in seen:
        return Failure("", "duplicate_id", "has the name of another member; names must differ, the first is kept")
    return None


def _zip_members(data: bytes) -> list[_Member]:
    archive = open_zip(data)

    def opener(info: ZipInfo) -> Callable[[], bytes]:
        return lambda: member(archive, info)

    # The name as it stands: the library cuts it at NUL and turns backslashes on Windows.
    return [
        _Member(
            info.orig_filename, _zip_time(info), "a link" if info.external_attr >> 16 & 0o170000 == 0o120000 else "", opener(info)
        )
        for info in archive.infolist()
        if not info.is_dir()
    ]


def _zip_time(info: ZipInfo) -> float | None:
    try:
        return datetime(*info.date_time, tzinfo=UTC).timestamp()  # without a zone in the format; UTC, to be the same everywhere
    except ValueError:
        return None


class _Limited(io.RawIOBase):
    """A decompressed stream that ends in an error once it has given too much."""

    def __init__(self, source: io.BufferedIOBase, limit: int) -> None:
        self._source = source
        self._left = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        piece = self._source.read(min(len(buffer), 1 << 20))
        self._left -= len(piece)
        if self._left < 0:
            raise InputError(
                f"unpacks to more than {_MAX_TOTAL_BYTES:,} bytes or {_MAX_RATIO} times its size; unpack it by hand if you trust it",
                code="zip_bomb",
            )
        buffer[: len(piece)] = piece
        return len(piece)


def _tar_members(data: bytes) -> list[_Member]:
    """All at once: a compressed TAR cannot be read in the order of names without unpacking it again for each."""
    limit = min(_MAX_TOTAL_BYTES, max(_MIN_SUSPECT_BYTES, _MAX_RATIO * len(data)))
    found: list[_Member] = []
    try:
        with tarfile.open(fileobj=io.BufferedReader(_Limited(_decompressed(data), limit)), mode="r|") as archive:
            for info in archive:
                if len(found) >= _MAX_MEMBERS:
                    raise InputError(
                        f"holds more than {_MAX_MEMBERS:,} members; unpack it by hand if you trust it", code="zip_bomb"
                    )
                if not info.isdir():
                    found.append(_tar_member(archive, info))
    except _DAMAGED as error:
        raise InputError(f"is no readable archive ({one_line(str(error), 200)}); pack it again", code="unreadable") from error
    return found


def _decompressed(data: bytes) -> io.BufferedIOBase:
    import bz2
    import gzip

    raw = io.BytesIO(data)
    if data.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    if data.startswith(b"BZh"):
        return bz2.BZ2File(raw)
    return lzma.LZMAFile(raw) if data.startswith(b"\xfd7zXZ\x00") else raw


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    if not info.isreg():
        return _Member(info.name, None, "a link" if info.issym() or info.islnk() else "a device or pipe", lambda: b"")
    if info.issparse():  # holes cost nothing in the archive and everything in memory
        return _Member(info.name, None, "a file with holes", lambda: b"")
    stream = archive.extractfile(info)
    content = stream.read() if stream is not None else b""
    if len(content) < info.size:
        raise EOFError(f"{info.name} ends after {len(content):,} of {info.size:,} bytes")
    return _Member(info.name, float(info.mtime), "", lambda: content)
