"""Run a command as a new process, several times, and print what each run used: one JSON line of CPU seconds and peak memory.

    python -m bench.child N COMMAND...

A process of its own, with the standard library only: Linux counts the memory of the parent that forked into the peak of a child, so
the parent must be small.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds (user and system) and highest resident memory of one process that has ended."""

    cpu_s: float
    peak_rss_bytes: int


def usages(command: Sequence[str], n: int, folder: Path) -> list[Usage]:
    """Run a command from a small parent, once to warm up and then ``n`` times.

    Args:
        command: Program and arguments; its output is dropped.
        n: Runs counted, at least 1.
        folder: Where it runs; nothing that is set there or in the environment as RAG_* or PYTHON* must change its behaviour.

    Returns:
        One usage a run, in order.

    Raises:
        SystemExit: If a run fails.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAG_", "PYTHON"))}
    parent = [sys.executable, "-P", str(Path(__file__).resolve()), str(n + 1), *command]
    done = subprocess.run(parent, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:2])} failed: {done.stderr.strip()[-400:]}")
    return [Usage(**entry) for entry in json.loads(done.stdout)][1:]


def _run(command: Sequence[str]) -> Usage:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"exit status {child.returncode}")
    scale = 1 if sys.platform == "darwin" else 1024  # getrusage counts KiB on Linux, bytes on macOS
    return Usage(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale)


if __name__ == "__main__":
    print(json.dumps([asdict(_run(sys.argv[2:])) for _ in range(int(sys.argv[1]))]))
