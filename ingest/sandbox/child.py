"""The process that reads: bytes from a descriptor in, documents and failures out, under the limits of the system.

It is started by `ingest.sandbox.worker`, takes one file after the other and ends when the parent does. Little is imported before the
first file, for every start is paid for.
"""

from __future__ import annotations

import hashlib
import os
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ingest.read import Failure, Kind, Origin, read
from ingest.sandbox import frames
from ingest.sandbox.causes import out_of_memory, too_large
from ingest.sandbox.limits import allow_cpu, block_network, die_with_parent, limit_process
from rag.types import Document

if TYPE_CHECKING:
    from ingest.chunk import Tokenizer

Reader = Callable[[bytes, Origin, Kind | None], Iterator[Document | Failure]]


class _OutputFullError(Exception):
    """More came of a file than may."""


def main(reader: Reader = read) -> None:
    """Read files until the parent is gone.

    Args:
        reader: Makes documents of bytes; only tests have another one.

    Raises:
        EOFError: If the parent sends what is no task, which it never does.
    """
    handle, parent = map(int, sys.argv[2:4])
    die_with_parent(parent)
    sock = socket.socket(fileno=handle)
    message = frames.receive(sock)
    if message is None:
        return
    start = frames.parse_start(message[1])
    limit_process(start.ingest.file_memory_bytes)
    isolation = block_network()
    child = _Child(sock, start, reader)
    sock.sendall(frames.frame(b"R", isolation))
    while (message := frames.receive(sock)) is not None:
        _, body, file = message
        if file is None:
            raise EOFError("a task came without its file")
        child.answer(frames.parse_task(body), file)


class _Child:
    """Answers tasks."""

    def __init__(self, sock: socket.socket, start: frames.Start, reader: Reader) -> None:
        self._sock = sock
        self._start = start
        self._reader = reader
        self._n_sent = 0
        self._tokenizer = _open_tokenizer(start) if start.embedder else None

    def answer(self, task: frames.Task, file: int) -> None:
        """Read a file and send what comes of it; every failure is an answer too."""
        limits = self._start.ingest
        allow_cpu(limits.file_cpu_s * task.n_shares)
        self._n_sent = 0
        path = str(task.origin.path)
        digest = hashlib.sha256(task.salt.encode("utf-8", "surrogatepass"))
        failure: Failure | None = None
        try:
            data = _content(file, limits.max_file_bytes)
            digest.update(data)
            self._send_documents(data, task)
        except _OutputFullError:
            failure = Failure(path, *too_large(limits))
        except MemoryError:
            failure = Failure(path, *out_of_memory(limits))
        except Exception as error:  # noqa: BLE001 - the border of the process: any fault of a reader is that of one file
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            failure = Failure(path, "crashed", f"the reader failed: {reason}; see whether the file opens elsewhere, and report it")
        if failure:
            self._sock.sendall(frames.failure_frame(failure))
        self._sock.sendall(frames.end_frame(frames.End(digest.hexdigest(), failure is None, _rss_bytes())))

    def _send_documents(self, data: bytes, task: frames.Task) -> None:
        origin = replace(task.origin, ocr_languages=self._start.ingest.ocr_languages)
        for result in self._reader(data, origin, task.kind):
            if isinstance(result, Failure):
                self._send(frames.failure_frame(result))
            else:
                self._send(frames.document_frame(self._cut(result, wanted=task.cut)))

    def _cut(self, document: Document, *, wanted: bool) -> frames.Cut:
        if not wanted or self._tokenizer is None:
            return frames.Cut(document, None)
        from ingest.chunk import chunk_document

        return frames.Cut(document, chunk_document(document, self._tokenizer, self._start.max_tokens))

    def _send(self, message: bytes) -> None:
        self._n_sent += len(message)
        if self._n_sent > self._start.ingest.max_output_bytes:
            raise _OutputFullError
        self._sock.sendall(message)


def _content(file: int, max_bytes: int) -> bytes:
    """All bytes of an open file, whose place the parent has moved; at most as many as the limit, if it grows meanwhile."""
    with open(file, "rb") as stream:
        stream.seek(0)
        return stream.read(min(os.fstat(file).st_size, max_bytes))


def _open_tokenizer(start: frames.Start) -> Tokenizer:
    from rag.embed import open_embedder

    if start.embedder is None:
        raise ValueError("no embedder was named; this is a bug")
    embedder = open_embedder(start.embedder, start.models_dir)
    embedder.count_tokens("")  # loads it, so that what is wrong with it is not the fault of a file
    return embedder


def _rss_bytes() -> int:
    """Resident memory now; where the system does not tell, the most there was."""
    try:
        with open("/proc/self/statm", encoding="ascii") as counts:
            return int(counts.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
