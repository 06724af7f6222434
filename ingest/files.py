"""Opening a file for reading: inside the folder that was named, an ordinary file, not too large, and never through a link."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ingest.walk import FoundFile
from rag.errors import InputError

# A pipe that took the place of a file must not keep us waiting.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An open file; who has it closes ``handle``.

    Attributes:
        handle: Descriptor.
        path: Where it lies, without links.
        n_bytes: Its size.
        mtime: Modification time, seconds since the epoch.
    """

    handle: int
    path: str
    n_bytes: int
    mtime: float

    def digest(self, salt: str) -> str:
        """SHA-256 of a salt and all bytes, as hexadecimal digits; OSError if it cannot be read to the end."""
        begun = hashlib.sha256(salt.encode("utf-8", "surrogatepass"))
        with open(self.handle, "rb", buffering=0, closefd=False) as stream:
            return hashlib.file_digest(stream, lambda: begun).hexdigest()


def open_file(found: FoundFile, max_bytes: int) -> OpenFile:
    """Open a file that was found.

    Links were followed when it was found. What is opened now is where they led, name by name from the root, so that a folder or file
    that was put in its place since then leads nowhere else.

    Args:
        found: The file and its root.
        max_bytes: Largest size.

    Returns:
        The open file.

    Raises:
        InputError: With code ``unreadable``, ``outside_root``, ``not_a_file`` or ``too_large``.
    """
    path, root = Path(os.path.realpath(found.path)), Path(os.path.realpath(found.root))
    if not path.is_relative_to(root):
        raise InputError("leads out of the folder, which is not followed; name its target instead", code="outside_root")
    try:
        handle = _opened(root, path)
    except OSError as error:
        raise InputError(f"{error.strerror}; check its permissions", code="unreadable") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise InputError("is a pipe, socket or device, which cannot be read; exclude it", code="not_a_file")
        if status.st_size > max_bytes:
            raise InputError(f"{status.st_size} bytes; ingest.max_file_bytes allows {max_bytes}", code="too_large")
    except BaseException:
        os.close(handle)
        raise
    return OpenFile(handle, str(path), status.st_size, status.st_mtime)


def _opened(root: Path, path: Path) -> int:
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    *folders, name = path.relative_to(root).parts
    try:
        for part in folders:
            inner = os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(name, _FLAGS, dir_fd=folder)
    finally:
        os.close(folder)
