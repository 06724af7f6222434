from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.process_tree import Watch, rss_bytes

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
# Ends with the pipe that it inherits, whatever becomes of the process between.
FILL = "import sys; held = b'x' * 100_000_000; print(flush=True); sys.stdin.read()"


def test_memory_of_a_process_that_a_child_started_is_seen() -> None:
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {FILL!r}])"
    command, pipe = [sys.executable, "-c", starter], subprocess.PIPE
    with Watch(os.getpid(), 0.01) as watch, subprocess.Popen(command, stdin=pipe, stdout=pipe) as child:
        assert child.stdout
        child.stdout.readline()
        until = time.monotonic() + 60
        while watch.peak_child_bytes < 100_000_000:
            assert child.poll() is None
            assert time.monotonic() < until, "it was not seen"
            time.sleep(0.01)
        child.kill()
    assert child.pid in watch.children
    assert watch.peak_sum_bytes >= watch.peak_own_bytes > 0


def test_process_that_is_gone_has_no_memory() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert rss_bytes(child.pid) == 0
