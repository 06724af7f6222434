from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONNECT = """
def outcome():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        try:
            sock.connect(("127.0.0.1", port))
        except OSError as error:
            return type(error).__name__
    return "connected"
"""


def run(script: str, *arguments: str) -> object:
    """What a script prints in a process of its own, which its limits end with."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_limits_hold_in_the_process_and_those_below() -> None:
    script = (
        "import json, os, resource as r\nfrom ingest.sandbox.limits import limit_process\nlimit_process(700_000_000)\n"
        "kinds = [r.RLIMIT_AS, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE, r.RLIMIT_CORE]\n"
        "print(json.dumps([r.getrlimit(kind) for kind in kinds]))"
    )
    limits = [(700_000_000, 64_000_000, 256, 0)[i] for i in range(4)]
    assert run(script) == [[limit, limit] for limit in limits]


def test_lower_limit_of_the_system_stays() -> None:
    script = (
        "import json, resource as r\nfrom ingest.sandbox.limits import limit_process\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (100, 100))\nlimit_process(700_000_000)\nprint(json.dumps(r.getrlimit(r.RLIMIT_NOFILE)))"
    )
    assert run(script) == [100, 100]


def test_cpu_time_is_allowed_from_now_on() -> None:
    script = (
        "import json, resource as r, time\nfrom ingest.sandbox.limits import allow_cpu\n"
        "while time.process_time() < 1.1: pass\nallow_cpu(5)\nprint(json.dumps(r.getrlimit(r.RLIMIT_CPU)[0]))"
    )
    limit = run(script)
    assert isinstance(limit, int)
    assert limit >= 7


@pytest.mark.skipif(
    os.uname().machine not in ("x86_64", "aarch64") or sys.platform != "linux", reason="the filter knows two machines"
)
def test_network_is_blocked_by_a_filter_of_calls() -> None:
    script = (
        "import json, socket\nfrom ingest.sandbox.limits import block_network\nhow = block_network()\n"
        "try:\n    socket.socket()\nexcept OSError as error:\n    print(json.dumps([how, error.errno]))"
    )
    assert run(script) == ["seccomp", 13]


def test_network_that_was_left_leads_nowhere() -> None:
    script = (
        "import json, socket\nfrom ingest.sandbox.limits import leave_network\n"
        "server = socket.create_server(('127.0.0.1', 0))\nport = server.getsockname()[1]\n"
        f"{CONNECT}\nbefore = outcome()\nprint(json.dumps([leave_network(), before, outcome()]))"
    )
    found = run(script)
    assert isinstance(found, list)
    if found[0] == "none":
        pytest.skip("this system lets us make no namespaces")
    assert found == ["namespace", "connected", "OSError"]


def test_limits_of_this_process_are_as_they_were() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 64_000_000


def test_process_whose_parent_is_gone_ends_at_once() -> None:
    script = (
        "import json\nfrom ingest.sandbox.limits import die_with_parent\nprint(json.dumps('begun'), flush=True)\n"
        "die_with_parent(1 << 22)\nprint('not reached')"
    )
    assert run(script) == "begun"
