"""Calls that a judge has answered, one small file each, so that nothing is paid for twice."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rag.errors import InputError


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An answered call.

    Attributes:
        judge: Id of the judge.
        seed: As it was sent.
        text: What the judge wrote, word for word.
        finish: Why it ended, as the server says it.
        n_prompt: Tokens read.
        n_completion: Tokens written.
    """

    judge: str
    seed: int
    text: str
    finish: str
    n_prompt: int
    n_completion: int


def make_folder(folder: Path) -> None:
    """Make the cache.

    Args:
        folder: Where.

    Raises:
        InputError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"judge's cache {folder} cannot be made: {error.strerror}; give another folder", code="judge_cache"
        ) from error


def load_call(folder: Path, key: str) -> Kept | None:
    """Look a call up.

    Args:
        folder: The cache.
        key: Hash of all that decides the call.

    Returns:
        The call; None where it has not been answered.

    Raises:
        InputError: If its file is damaged.
    """
    path = _file(folder, key)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeError) as error:
        raise InputError(f"judge's cache {path} is damaged: {error}; delete that file", code="judge_cache") from error


def save_call(folder: Path, key: str, kept: Kept) -> None:
    """Keep a call; a reader sees the whole file or none.

    Args:
        folder: The cache.
        key: Hash of all that decides the call.
        kept: The call.

    Raises:
        InputError: If it cannot be written.
    """
    path = _file(folder, key)
    beside = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(msgspec.json.encode(kept))
        beside.replace(path)
    except OSError as error:
        raise InputError(
            f"judge's cache {path} cannot be written: {error.strerror}; give another folder", code="judge_cache"
        ) from error


def _file(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.json"
