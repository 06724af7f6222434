"""A service as a process of its own, and the questions it is asked."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.load import Reply, Target, closed_loop

_MODEL = "ragwatt-standard"
_PATIENCE_S = 60.0


class Server:
    """A service that runs as a process of its own.

    Args:
        process: The process.
        address: Base URL.
    """

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self._process = process
        self.address = address

    @property
    def cpu_s(self) -> float:
        """CPU seconds so far, all threads, user and system; resolution 10 ms."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss_mb(self) -> float:
        """Resident megabytes now."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels."""
        (reply,) = self.closed([Target(self.address, "/metrics").get()])
        values = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", reply.body.decode(), re.MULTILINE)
        return sum(map(float, values))

    def closed(self, requests: Sequence[bytes], n_connections: int = 1) -> list[Reply]:
        """See `bench.load.closed_loop`."""
        return asyncio.run(closed_loop(self.address, requests, n_connections))


@contextmanager
def serving(data_dir: Path, **settings: str) -> Iterator[Server]:
    """Run `rag serve` until the block ends.

    Args:
        data_dir: Data directory.
        **settings: Of the service by name, ``poll_s``.

    Yields:
        The service, which listens.

    Raises:
        SystemExit: If it does not start.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAG_", "PYTHON"))}
    environment |= {f"RAG_API_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-P", "-m", "rag", "serve", "--port", "0", "--data-dir", str(data_dir.resolve()), "--json"]
    with TemporaryDirectory() as folder, Path(folder, "log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder, env=environment)
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                log.seek(0)
                raise SystemExit(f"rag serve did not start: {log.read()[-400:]}")
            yield Server(process, json.loads(line)["address"])
        finally:
            process.terminate()
            process.wait(_PATIENCE_S)


class Bodies:
    """Requests without end, no two alike: the questions of a data set with a running number."""

    def __init__(self, questions: Sequence[str]) -> None:
        self._questions = questions
        self._numbers = itertools.count()

    def question(self) -> str:
        """The next question."""
        number = next(self._numbers)
        return f"{self._questions[number % len(self._questions)]} {number}"

    def take(self, address: str, path: str, n: int) -> list[bytes]:
        """So many requests."""
        target = Target(address, path)
        return [target.post(body_of(path, self.question())) for _ in range(n)]

    def all(self, address: str, path: str) -> Iterator[bytes]:
        """One request after the other."""
        target = Target(address, path)
        while True:
            yield target.post(body_of(path, self.question()))


def body_of(path: str, question: str) -> object:
    """The JSON of a question to a path; a chat is a stream."""
    if path == "/v1/chat/completions":
        return {"model": _MODEL, "stream": True, "messages": [{"role": "user", "content": question}]}
    return {"query": question}
