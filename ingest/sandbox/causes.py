"""Why a file was given up: code and message of its failure, for every limit and every death of a process."""

from __future__ import annotations

import signal
from typing import NamedTuple

from rag.settings import IngestSettings

# What libraries say before they abort for want of memory: Rust, C++, Python, the system.
_MEMORY_WORDS = (b"memory allocation of", b"bad_alloc", b"MemoryError", b"ut of memory", b"Cannot allocate memory")


class Cause(NamedTuple):
    """Code and message of a failure."""

    code: str
    message: str


def too_large(limits: IngestSettings) -> Cause:
    """More came of a file than may."""
    allowed = limits.max_output_bytes
    return Cause(
        "too_large", f"more than {allowed} bytes came of it; ingest.max_output_bytes allows no more: split it or raise the limit"
    )


def out_of_memory(limits: IngestSettings) -> Cause:
    """An allocation failed."""
    allowed = limits.file_memory_bytes
    return Cause(
        "out_of_memory",
        f"takes more than {allowed} bytes to read; ingest.file_memory_bytes allows no more: split it or raise the limit",
    )


def timed_out(limits: IngestSettings, n_shares: int) -> Cause:
    """The clock on the wall ran out; ``n_shares`` is how many times the limit the file was allowed."""
    allowed = limits.file_timeout_s * n_shares
    return Cause(
        "timeout",
        f"not read after {allowed:g} s; ingest.file_timeout_s allows a file of its size no more: raise it or exclude the file",
    )


def died(limits: IngestSettings, n_shares: int, status: int, said: bytes, peak_bytes: int = 0) -> Cause:
    """Tell why a process ended that nobody killed on purpose.

    Args:
        limits: It had.
        n_shares: How many times the limit of CPU time the file was allowed.
        status: Its exit status, negative for a signal.
        said: The end of what it wrote to standard error.
        peak_bytes: Its most resident memory; 0 where that is not known.

    Returns:
        ``cpu_limit``, ``out_of_memory`` or ``crashed`` with the name of the signal.
    """
    if status == -signal.SIGXCPU:
        allowed = limits.file_cpu_s * n_shares
        return Cause(
            "cpu_limit",
            f"not read in {allowed} CPU seconds; ingest.file_cpu_s allows a file of its size no more: raise it or exclude the file",
        )
    # PDFium ends itself without a word when it can have no more memory, most often as it asks for as much again as it has.
    is_full = status < 0 and peak_bytes > limits.file_memory_bytes / 2
    if is_full or any(words in said for words in _MEMORY_WORDS):
        return out_of_memory(limits)
    if status == -signal.SIGKILL:
        return Cause(
            "out_of_memory", "the system killed the process that read it, most often for want of memory; lower ingest.workers"
        )
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"exit status {status}"
    return Cause("crashed", f"the process that read it died ({name}); see whether the file opens elsewhere, and report it")
