"""ZIP files within limits: what it would unpack to is judged before anything is, and no member gives more than it declares.

Office files, EPUB and archives share this. The directory of a ZIP file is a claim; `member` stops where the claim ends, and
overlapping members (one piece of data claimed thousands of times) are refused with the others.
"""

from __future__ import annotations

import io
import zipfile
import zlib

from rag.errors import InputError

_MAX_MEMBERS = 10_000
_MAX_TOTAL_BYTES = 512 * 2**20
_MAX_RATIO = 100
# Small members may be of any ratio: blank pages and empty sheets of real files are 200 times smaller in the ZIP file.
_MIN_SUSPECT_BYTES = 8 * 2**20
_ENCRYPTED = 0x1
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    MemoryError,
)


def check_zip(data: bytes) -> None:
    """Refuse a ZIP file that unpacks to too much, without unpacking it.

    Args:
        data: The whole file.

    Raises:
        InputError: With code ``zip_bomb`` for more than 10,000 members, 512 MiB in all, a member of more than 8 MiB above 100 times its
            packed size, or members that share data; ``unreadable`` for what is no ZIP file.
    """
    open_zip(data).close()


def open_zip(data: bytes) -> zipfile.ZipFile:
    """Open a ZIP file that `check_zip` lets through.

    Args:
        data: The whole file.

    Returns:
        The open archive; read its members with `member` only.

    Raises:
        InputError: As `check_zip` does.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _DAMAGED as error:
        raise InputError(f"is no readable ZIP file ({_reason(error)}); make it again", code="unreadable") from error
    infos = archive.infolist()
    total = sum(info.file_size for info in infos)
    suspect = next((info for info in infos if _is_bomb(info)), None)
    if len(infos) > _MAX_MEMBERS:
        why = f"holds {len(infos):,} members, allowed are {_MAX_MEMBERS:,}"
    elif total > _MAX_TOTAL_BYTES:
        why = f"unpacks to {total:,} bytes, allowed are {_MAX_TOTAL_BYTES:,}"
    elif suspect is not None:
        why = f"holds a member of {suspect.file_size:,} bytes in {suspect.compress_size:,}, allowed is a ratio of {_MAX_RATIO}"
    elif sum(info.compress_size for info in infos) > len(data):
        why = "holds members that share their data, allowed are separate ones"
    else:
        return archive
    archive.close()
    raise InputError(f"{why}; unpack it by hand if you trust it", code="zip_bomb")


def member(archive: zipfile.ZipFile, info: zipfile.ZipInfo | str, max_bytes: int = _MAX_TOTAL_BYTES) -> bytes:
    """Read one member.

    Args:
        archive: From `open_zip`.
        info: The member, or its name.
        max_bytes: Longest content allowed, in bytes.

    Returns:
        Its content, at most the bytes that the directory declares.

    Raises:
        InputError: With code ``encrypted``, ``too_large``, or ``unreadable`` for a missing or damaged member.
    """
    try:
        found = archive.getinfo(info) if isinstance(info, str) else info
        if found.flag_bits & _ENCRYPTED:
            raise InputError(f"holds {found.filename!r} with a password; remove the password", code="encrypted")
        if found.file_size > max_bytes:
            raise InputError(
                f"holds {found.filename!r} of {found.file_size:,} bytes, allowed are {max_bytes:,}; split it", code="too_large"
            )
        with archive.open(found) as stream:
            return stream.read(found.file_size)
    except (KeyError, *_DAMAGED) as error:
        name = info if isinstance(info, str) else info.filename
        raise InputError(f"holds no readable {name!r} ({_reason(error)}); make the file again", code="unreadable") from error


def _is_bomb(info: zipfile.ZipInfo) -> bool:
    return info.file_size > _MIN_SUSPECT_BYTES and info.file_size > _MAX_RATIO * info.compress_size


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
