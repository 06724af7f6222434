"""What the system is asked to refuse a process that reads files: memory, CPU time, large files, core dumps and the network.

References:
    seccomp(2), prctl(2), unshare(2), setrlimit(2); linux/audit.h, linux/bpf_common.h and linux/seccomp.h for the numbers.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
from contextlib import suppress
from typing import Literal

Isolation = Literal["seccomp", "namespace", "none"]

# OCR writes the picture of a page beside its text.
_MAX_WRITTEN_BYTES = 64_000_000
_MAX_OPEN_FILES = 256
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_SECCOMP_MODE_FILTER = 2
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
# Architecture as the kernel tells it, and the numbers of socket and io_uring_setup, by which sockets can be made too.
_CALLS = {"x86_64": (0xC000003E, 41, 425), "aarch64": (0xC00000B7, 198, 425)}
_X32 = 0x40000000  # the same calls by other numbers
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | 13, 0x80000000  # 13: EACCES


def limit_process(memory_bytes: int) -> None:
    """Limit this process and all it starts; what the system already limits further stays.

    The number of processes cannot be limited: for the superuser it is not, and for others it counts all that they run.

    Args:
        memory_bytes: Address space.
    """
    _lower(resource.RLIMIT_AS, memory_bytes)
    _lower(resource.RLIMIT_FSIZE, _MAX_WRITTEN_BYTES)
    _lower(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    with suppress(ValueError, OSError):  # macOS has no limit of address space; the clocks hold there too
        resource.setrlimit(kind, (limit, limit))


def allow_cpu(seconds: int) -> None:
    """Let this process use some more CPU seconds, after which SIGXCPU ends it.

    Args:
        seconds: From now on, at least 1.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def die_with_parent(parent: int) -> None:
    """End when the thread that started this process ends, however it does. Linux only; elsewhere the closed socket ends us.

    Args:
        parent: Process id of the parent; where it is gone already, this process ends now.

    Raises:
        SystemExit: If the parent is gone.
    """
    with suppress(OSError, AttributeError):
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(0)


def block_network() -> Isolation:
    """Take the network from this process and all it starts.

    Sockets of every family are refused, local ones too: what listens there is no business of a reader. Pairs of sockets, which
    programs use to talk to themselves, are not.

    Returns:
        How: ``seccomp`` refuses the call, ``namespace`` leaves a network without a way out, ``none`` says that the system has neither.
    """
    with suppress(OSError, AttributeError, KeyError):
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _filter_calls(*_CALLS[os.uname().machine])
        return "seccomp"
    return leave_network()


def leave_network() -> Isolation:
    """Go where there is no network; the second best of `block_network`, because it takes the rights to make namespaces."""
    with suppress(OSError, AttributeError):
        _checked(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNET))
        return "namespace"
    return "none"


def _filter_calls(architecture: int, *refused: int) -> None:
    """Have the kernel refuse calls by number; a program of another architecture, whose numbers differ, is killed."""
    n = len(refused)
    program = [
        (_LOAD, 0, 0, 4),  # offsets in struct seccomp_data: 4 the architecture, 0 the number of the call
        (_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        (_IF_AT_LEAST, n + 1, 0, _X32),
        *((_IF_EQUAL, n - i, 0, number) for i, number in enumerate(refused)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    handle = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(handle))


def _prctl(option: int, *values: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _checked(ctypes.CDLL(None, use_errno=True).prctl(option, *padded))


def _checked(status: int) -> None:
    if status:
        raise OSError(ctypes.get_errno(), "refused")
