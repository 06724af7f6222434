"""Lines of data files, each with its place, so that whatever is wrong with one can be found."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from rag.errors import InputError


def file_content(path: Path, expected: str) -> bytes:
    """Read a file, unpacked when its name ends in ``.gz``.

    Args:
        path: The file.
        expected: What should be there, for the message.

    Returns:
        Its bytes.

    Raises:
        InputError: If it is missing or cannot be read or unpacked.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError as error:
        raise malformed(f"{path} is missing; {expected}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise malformed(f"{path} cannot be read: {error}; copy or unpack it again") from error


def placed_lines(path: Path, content: bytes) -> Iterator[tuple[str, str]]:
    r"""Cut a file into lines at ``\n``, and at nothing else that Unicode calls a line end.

    Args:
        path: The file, for places.
        content: Its bytes.

    Yields:
        Place (``file, line n``) and text of every line that is not blank.

    Raises:
        InputError: If a line is not UTF-8.
    """
    for n, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        place = f"{path}, line {n}"
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise malformed(f"{place} is not UTF-8: {error.reason} at byte {error.start}; convert the file") from error
        if text.strip():
            yield place, text.rstrip("\r")


def malformed(message: str) -> InputError:
    """An error of what stands in a data set."""
    return InputError(message, code="data_set")


def checksum(contents: Sequence[bytes]) -> str:
    """SHA-256 (hexadecimal) of files, in their order."""
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()
