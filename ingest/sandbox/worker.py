"""The parent's end of one reading process: start it, give it a file, take what it says, end it, and tell what it died of."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress

from ingest.sandbox import frames

# The module search path is that of the parent, so that a child is the same program; nothing else of the environment is.
_BOOT = "import sys, importlib; sys.path[:] = sys.argv[4:]; importlib.import_module(sys.argv[1]).main()"
# Tesseract lies there. No key, token or address of the parent is passed on. One thread a library: the pool has a process a core, and
# every thread takes address space.
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin",
    "LANG": "C.UTF-8",
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "OMP_THREAD_LIMIT": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKIO_WORKER_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_PIECE_BYTES = 1 << 20
_TOLD_BYTES = 4096
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # of getrusage


class Worker:
    """One process.

    Args:
        module: Whose ``main`` it runs.
        start: Its first frame.
    """

    def __init__(self, module: str, start: bytes) -> None:
        self.isolation = ""  # how it is kept from the network; empty until it says so
        self.n_files = 0
        self.peak_bytes = 0  # its most resident memory, known after `end`
        self._inbox = bytearray()
        self._folder = tempfile.mkdtemp(prefix="ragwatt-read-")
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process lives
        # Between fork and exec a process has the memory of its parent, which Linux counts into its peak.
        self._inherited = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._socket, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-I", "-S", "-c", _BOOT, module, str(theirs.fileno()), str(os.getpid())]
            self._process = subprocess.Popen(
                command + [os.path.abspath(path) for path in sys.path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=(theirs.fileno(),),
                cwd=self._folder,
                env=_ENVIRONMENT | {"HOME": self._folder, "TMPDIR": self._folder},
                start_new_session=True,  # so that what it starts can be ended with it, and a Ctrl-C is the parent's alone
            )
        self._socket.sendall(start)

    def fileno(self) -> int:
        """For `select.poll`."""
        return self._socket.fileno()

    def give(self, task: bytes, file: int) -> None:
        """Send a task; OSError when the process has ended."""
        # The process waits for it, so the buffer is empty: the header goes with the descriptor, the rest behind.
        socket.send_fds(self._socket, [task[: frames.HEADER.size]], [file])
        self._socket.sendall(task[frames.HEADER.size :])

    def take(self, max_bytes: int) -> list[tuple[bytes, bytes]] | None:
        """Frames that have come whole, without waiting.

        Args:
            max_bytes: Longest frame.

        Returns:
            Kinds and bodies; None when the process has ended.

        Raises:
            ValueError: If a longer one is coming.
        """
        try:
            data = self._socket.recv(_PIECE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        self._inbox += data
        found = []
        while len(self._inbox) >= frames.HEADER.size:
            length, tag = frames.HEADER.unpack_from(self._inbox)
            if length > max_bytes:
                raise ValueError(f"a frame of {length} bytes")
            end = frames.HEADER.size + length
            if len(self._inbox) < end:
                break
            found.append((tag, bytes(memoryview(self._inbox)[frames.HEADER.size : end])))
            del self._inbox[:end]
        return found

    @property
    def n_waiting_bytes(self) -> int:
        """Bytes of a frame that has not come whole."""
        return len(self._inbox)

    def end(self) -> tuple[int, int]:
        """Kill the process and all it started, if it still runs, and clean up behind it.

        Returns:
            How it ended, negative for a signal, and its CPU nanoseconds with those of what it waited for.
        """
        # The group first: a process that was waited for has given its number, and so that of the group, away.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        _, status, used = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.peak_bytes = used.ru_maxrss * _PEAK_UNIT if used.ru_maxrss > self._inherited else 0
        self._socket.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        return self._process.returncode, round((used.ru_utime + used.ru_stime) * 1e9)

    def last_words(self) -> bytes:
        """The end of what it wrote to standard error; to be asked once, after `end`."""
        with self._said:
            self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _TOLD_BYTES))
            return self._said.read()
