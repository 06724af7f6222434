from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.process_tree import Watch, rss_bytes

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
FILL = "import time; held = b'x' * 100_000_000; print(flush=True); time.sleep(5)"


def test_memory_of_a_process_that_a_child_started_is_seen() -> None:
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {FILL!r}])"
    with Watch(os.getpid(), 0.01) as watch, subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        while watch.peak_child_bytes < 100_000_000:
            assert child.poll() is None
        child.kill()
    assert child.pid in watch.children
    assert watch.peak_sum_bytes >= watch.peak_own_bytes > 0


def test_process_that_is_gone_has_no_memory() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert rss_bytes(child.pid) == 0
