"""What parent and child say to each other: frames of a length, a letter for the kind, and JSON. Never pickle: a child may be hostile.

The parent sends ``start`` once, then one ``task`` a file, with the descriptor of the open file beside it. The child answers ``start``
with ``ready``, and a task with any number of ``document`` and ``failure`` and one ``end``.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from ingest.read import Failure, Kind, Origin
from rag.settings import EmbedderSettings, IngestSettings
from rag.types import Document, Section, Span

Tag = Literal[b"S", b"T", b"R", b"D", b"F", b"E"]
"""start, task; ready, document, failure, end."""

HEADER = struct.Struct(">Ic")
# Names of files may be any bytes; JSON of a whole UTF-8 text is half as long without escapes.
_ODD_BYTES = "surrogatepass"
_SECTION = tuple(field.name for field in fields(Section))
_SPAN = tuple(field.name for field in fields(Span))


@dataclass(frozen=True, slots=True)
class Start:
    """What a child must know before the first file.

    Attributes:
        ingest: Limits, and what readers may ask.
        embedder: How to open the tokenizer that documents are cut with; None where only the parent has it.
        models_dir: Folder of added models.
        max_tokens: Of a chunk.
    """

    ingest: IngestSettings
    embedder: EmbedderSettings | None
    models_dir: Path
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Task:
    """One file to read.

    Attributes:
        origin: What its documents are called.
        kind: Format family, or None for that of the name.
        salt: Hashed before the bytes.
        cut: Whether documents are wanted with their chunks.
        n_shares: How many times the limits of time this file may take.
    """

    origin: Origin
    kind: Kind | None
    salt: str
    cut: bool
    n_shares: int


@dataclass(frozen=True, slots=True)
class Cut:
    """A document that was read, and the spans of its chunks unless they are left to the parent."""

    document: Document
    spans: Sequence[Span] | None


@dataclass(frozen=True, slots=True)
class End:
    """The last word about a file.

    Attributes:
        digest: SHA-256 of salt and bytes, as read.
        is_whole: Whether the reader came to its end.
        rss_bytes: Resident memory of the child.
    """

    digest: str
    is_whole: bool
    rss_bytes: int


def frame(tag: Tag, body: object) -> bytes:
    """Make a frame of a value that JSON knows."""
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", _ODD_BYTES)
    return HEADER.pack(len(data), tag) + data


def loads(body: bytes) -> Any:  # noqa: ANN401 - JSON
    """The value of a frame; ValueError or RecursionError when it is none."""
    return json.loads(body.decode("utf-8", _ODD_BYTES))


def receive(sock: socket.socket) -> tuple[bytes, bytes, int | None] | None:
    """Wait for a whole frame and the descriptor that comes with it.

    Args:
        sock: Blocking.

    Returns:
        Kind, body and descriptor; None when the other side has closed.
    """
    head, handles, _, _ = socket.recv_fds(sock, HEADER.size, 1)
    if not head:
        return None
    length, tag = HEADER.unpack(head + _exactly(sock, HEADER.size - len(head)))
    return tag, _exactly(sock, length), handles[0] if handles else None


def _exactly(sock: socket.socket, n_bytes: int) -> bytes:
    data = bytearray()
    while len(data) < n_bytes:
        piece = sock.recv(n_bytes - len(data))
        if not piece:
            raise EOFError("the other side closed in the middle of a frame")
        data += piece
    return bytes(data)


def start_frame(start: Start) -> bytes:
    """Without the key of a server, which no reader needs."""
    embedder = asdict(start.embedder) | {"api_key": ""} if start.embedder else None
    return frame(b"S", [asdict(start.ingest), embedder, str(start.models_dir), start.max_tokens])


def parse_start(body: bytes) -> Start:
    """The value of `start_frame`."""
    ingest, embedder, models_dir, max_tokens = loads(body)
    return Start(IngestSettings(**ingest), EmbedderSettings(**embedder) if embedder else None, Path(models_dir), max_tokens)


def task_frame(task: Task) -> bytes:
    """To be sent with the descriptor of the file."""
    origin = task.origin
    named = [str(origin.path), origin.doc_id, origin.uri, origin.mtime]
    return frame(b"T", [named, task.kind, task.salt, task.cut, task.n_shares])


def parse_task(body: bytes) -> Task:
    """The value of `task_frame`."""
    (path, doc_id, uri, mtime), kind, salt, cut, n_shares = loads(body)
    return Task(Origin(Path(path), doc_id, uri, mtime), kind, salt, cut, n_shares)


def document_frame(cut: Cut) -> bytes:
    """A document; sections and spans are rows of their fields."""
    doc = cut.document
    sections = list(map(attrgetter(*_SECTION), doc.sections))
    spans = None if cut.spans is None else list(map(attrgetter(*_SPAN), cut.spans))
    return frame(b"D", [doc.doc_id, doc.uri, doc.title, doc.text, sections, dict(doc.metadata), doc.kind, doc.mtime, spans])


def parse_document(body: bytes) -> Cut:
    """The value of `document_frame`; ValueError, TypeError or RecursionError when it is none."""
    doc_id, uri, title, text, sections, metadata, kind, mtime, spans = loads(body)
    parts = tuple(Section(*map(_frozen, row)) for row in sections)
    document = Document(doc_id, uri, title, text, parts, metadata, kind, mtime)
    return Cut(document, None if spans is None else [Span(*map(_frozen, row)) for row in spans])


def _frozen(value: Any) -> Any:  # noqa: ANN401 - JSON
    return tuple(value) if isinstance(value, list) else value


def failure_frame(failure: Failure) -> bytes:
    """A failure."""
    return frame(b"F", [failure.path, failure.code, failure.message])


def parse_failure(body: bytes) -> Failure:
    """The value of `failure_frame`."""
    path, code, message = loads(body)
    return Failure(path, code, message)


def end_frame(end: End) -> bytes:
    """The end of a file."""
    return frame(b"E", [end.digest, end.is_whole, end.rss_bytes])


def parse_end(body: bytes) -> End:
    """The value of `end_frame`."""
    digest, is_whole, rss_bytes = loads(body)
    return End(str(digest), bool(is_whole), int(rss_bytes))
