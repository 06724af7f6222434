"""A child process whose reader does what the file says: the ways in which a real reader may go wrong."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ingest.read import Failure, Kind, Origin, read
from ingest.sandbox import child
from rag.types import Document

_CONNECT = "import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM)"


def allocate(argument: str) -> str:
    return str(len(bytearray(10_000_000_000)))


def map_memory(argument: str) -> str:
    """As a library does that aborts when there is none."""
    try:
        return str(len(mmap.mmap(-1, 10_000_000_000)))
    except OSError:
        os.write(2, b"memory allocation of 10000000000 bytes failed\n")
        os.abort()


def fill(argument: str) -> str:
    """As a library does that ends itself without a word."""
    held = b"x" * int(argument)
    os.kill(os.getpid(), signal.SIGTRAP)
    return held.decode()


def spin(argument: str) -> str:
    while True:
        pass


def sleep(argument: str) -> str:
    time.sleep(float(argument))
    return "awake"


def die(argument: str) -> str:
    os.kill(os.getpid(), signal.Signals[argument])
    time.sleep(60)
    return "alive"


def leave(argument: str) -> str:
    os._exit(int(argument))


def fault(argument: str) -> str:
    return str(ctypes.string_at(0))


def fork(argument: str) -> str:
    """Leave a process behind, tell its number, and hang."""
    pid = os.fork()
    if not pid:
        time.sleep(600)
        os._exit(0)
    Path(argument).write_text(f"{pid}\n", encoding="ascii")
    time.sleep(600)
    return "alive"


def connect(argument: str) -> str:
    try:
        socket.socket(socket.AddressFamily[argument]).close()
    except OSError as error:
        return f"refused: {error.strerror}"
    return "connected"


def connect_below(argument: str) -> str:
    done = subprocess.run([sys.executable, "-I", "-S", "-c", _CONNECT], capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else "connected"


def pair(argument: str) -> str:
    left, right = socket.socketpair()
    left.close()
    right.close()
    return "paired"


def write(argument: str) -> str:
    with open("large", "wb") as stream:
        for _ in range(200):
            stream.write(bytes(1_000_000))
    return "written"


def environment(argument: str) -> str:
    return " ".join(sorted(os.environ))


def folder(argument: str) -> str:
    Path("left-behind").write_text("x", encoding="ascii")
    return str(Path.cwd())


def number(argument: str) -> str:
    return str(os.getpid())


def fail(argument: str) -> str:
    raise RuntimeError(argument)


def repeat(argument: str) -> str:
    return "x" * int(argument)


def swell(argument: str) -> str:
    """Keep memory, as a cache does that nobody empties."""
    _KEPT.append(b"x" * int(argument))
    return "kept"


_KEPT: list[bytes] = []
_ACTS: dict[str, Callable[[str], str]] = {
    act.__name__: act
    for act in (
        allocate, map_memory, fill, spin, sleep, die, leave, fault, fork, connect, connect_below, pair, write, environment, folder, number,
        fail, repeat, swell,
    )
}  # fmt: skip


def hostile_read(data: bytes, origin: Origin, kind: Kind | None) -> Iterator[Document | Failure]:
    """One document a line with what the named act gave; a file without acts is read as ever."""
    lines = data.decode("utf-8", "replace").splitlines()
    if not lines or lines[0].split(" ")[0] not in _ACTS:
        yield from read(data, origin, kind)
        return
    for i, line in enumerate(lines):
        act, _, argument = line.partition(" ")
        yield Document(f"{origin.doc_id}:{i}", origin.uri, "", _ACTS[act](argument), (), {}, "text", origin.mtime)


def main() -> None:
    child.main(hostile_read)
