from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from rag.errors import ModelError
from rag.generate.memory import available_bytes, check_memory, needed_bytes
from rag.models.gguf import GgufModel
from rag.models.gguf_header import GgufHeader

# 30 layers, 3 heads, keys and values 64 wide.
HEADER = GgufHeader("", "llama", 134_515_008, 8192, 30 * 3 * 2 * 64, "Q4_1", "unknown", "")
MODEL = GgufModel("small", "small.gguf", "0" * 64, 98_000_000, HEADER, Path("small.gguf"))


def test_every_token_of_the_window_takes_two_bytes_a_key_or_value() -> None:
    assert needed_bytes(MODEL, 1001) - needed_bytes(MODEL, 1) == 1000 * 30 * 3 * 64 * 2 * 2


def test_every_byte_of_the_file_counts() -> None:
    assert needed_bytes(replace(MODEL, size_bytes=MODEL.size_bytes + 7), 512) == needed_bytes(MODEL, 512) + 7


def test_model_that_fits_passes() -> None:
    check_memory(replace(MODEL, size_bytes=0), 1)


def test_model_larger_than_memory_is_refused_with_both_numbers() -> None:
    with pytest.raises(ModelError) as caught:
        check_memory(replace(MODEL, size_bytes=1 << 42, header=replace(HEADER, n_kv_values=0)), 512)
    assert caught.value.code == "model_too_large"
    assert re.search(r"small\.gguf needs about 4,194,368 MiB with a window of 512; [\d,]+ MiB are free", str(caught.value))


def test_window_larger_than_memory_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        check_memory(MODEL, 10**9)
    assert caught.value.code == "model_too_large"


def fake_root(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    meminfo = "MemTotal:       2000000 kB\nMemAvailable:   1000000 kB\nHugePages_Total:       0\n"
    for name, text in {"proc/meminfo": meminfo, "proc/self/cgroup": cgroup, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_a_limit_the_system_tells(tmp_path: Path) -> None:
    root = fake_root(tmp_path, "0::/\n", {"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "5\n"})
    assert available_bytes(root) == 1_024_000_000


@pytest.mark.parametrize("group", ["", "/pod/box", "/pod"])
def test_limit_of_any_group_above_the_process_counts_less_what_is_used_but_for_the_page_cache(tmp_path: Path, group: str) -> None:
    folder = f"sys/fs/cgroup{group}"
    files = {
        "memory.max": "700000\n",
        "memory.current": "500000\n",
        "memory.stat": "anon 1\ninactive_file 90000\nactive_file 10000\n",
    }
    root = fake_root(tmp_path, "0::/pod/box\n", {f"{folder}/{name}": text for name, text in files.items()})
    assert available_bytes(root) == 300_000


def test_groups_of_version_1_count(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/memory/box"
    files = {"memory.limit_in_bytes": "700000\n", "memory.usage_in_bytes": "600000\n", "memory.stat": "inactive_file 1000\n"}
    root = fake_root(tmp_path, "4:memory:/box\n0::/\n", {f"{folder}/{name}": text for name, text in files.items()})
    assert available_bytes(root) == 101_000


def test_a_system_that_tells_nothing_is_not_guessed(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) is None
