"""Whether a GGUF model fits into memory, told before it is loaded: what does not fit is killed without a word, or swaps."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rag.errors import ModelError
from rag.models.gguf import GgufModel

_MIB = 1 << 20
_BYTES_PER_VALUE = 2  # llama.cpp keeps keys and values as fp16
# What llama.cpp holds besides weights and window: 193 MiB resident with a file of 94 and a window of 45.
_WORKSPACE_BYTES = 64 * _MIB
# Where control groups of version 2 and 1 are mounted, and the names of limit and use.
_GROUPS = (
    ("sys/fs/cgroup", "memory.max", "memory.current"),
    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def check_memory(model: GgufModel, window: int) -> None:
    """Refuse a model that does not fit into memory.

    Args:
        model: The model.
        window: Tokens whose keys and values it keeps.

    Raises:
        ModelError: ``model_too_large`` if it needs more than there is.
    """
    needed, available = needed_bytes(model, window), available_bytes()
    if available is not None and needed > available:
        raise ModelError(
            f"model {model.path} needs about {needed // _MIB:,} MiB with a window of {window}; {available // _MIB:,} MiB are "
            "free: use a smaller model or window, or free memory",
            code="model_too_large",
        )


def needed_bytes(model: GgufModel, window: int) -> int:
    """Estimate the memory of a model with a window of so many tokens, bytes."""
    return model.size_bytes + model.header.n_kv_values * _BYTES_PER_VALUE * window + _WORKSPACE_BYTES


def available_bytes(root: Path = Path("/")) -> int | None:
    """Memory that the system and the control groups of this process can still give, page cache included.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.

    Returns:
        The smallest of what they tell, bytes; None when nothing tells.
    """
    found = []
    with suppress(OSError, LookupError, ValueError):
        found.append(_fields(root / "proc/meminfo")["MemAvailable:"] * 1024)
    paths = []
    with suppress(OSError):
        paths = [line.split(":", 2)[2].strip("/") for line in (root / "proc/self/cgroup").read_text().splitlines()]
    for mount, limit_name, use_name in _GROUPS:
        # In a container the group may be mounted in the place of the root.
        for group in {group for path in paths for group in (Path(path), *Path(path).parents)}:
            folder = root / mount / group
            with suppress(OSError, ValueError):  # no such group, or the limit "max"
                limit = int((folder / limit_name).read_text())
                cache = _fields(folder / "memory.stat")
                reclaimable = cache.get("inactive_file", 0) + cache.get("active_file", 0)
                found.append(limit - int((folder / use_name).read_text()) + reclaimable)
    return max(min(found), 0) if found else None


def _fields(path: Path) -> dict[str, int]:
    return {words[0]: int(words[1]) for words in map(str.split, path.read_text().splitlines())}
