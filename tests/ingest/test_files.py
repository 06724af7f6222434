from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from ingest.files import open_file
from ingest.walk import FoundFile
from rag.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a.txt").write_text("inside", encoding="ascii")
    (tmp_path / "secret.txt").write_text("outside", encoding="ascii")
    return folder


def found(root: Path, name: str) -> FoundFile:
    return FoundFile(root / name, root, name, name)


def refused(root: Path, name: str, max_bytes: int = 100) -> str:
    with pytest.raises(InputError) as caught:
        open_file(found(root, name), max_bytes)
    return caught.value.code


def test_file_is_opened_with_its_size_and_time(root: Path) -> None:
    os.utime(root / "inner" / "a.txt", (5, 7.5))
    file = open_file(found(root, "inner/a.txt"), 100)
    assert (file.path, file.n_bytes, file.mtime) == (str(root / "inner" / "a.txt"), 6, 7.5)
    assert os.read(file.handle, 100) == b"inside"
    os.close(file.handle)


def test_digest_is_that_of_salt_and_content(root: Path) -> None:
    file = open_file(found(root, "inner/a.txt"), 100)
    assert file.digest("salt") == hashlib.sha256(b"saltinside").hexdigest()
    os.close(file.handle)


def test_link_within_the_root_is_opened(root: Path) -> None:
    (root / "link.txt").symlink_to("inner/a.txt")
    (root / "folder").symlink_to("inner")
    for name in ("link.txt", "folder/a.txt"):
        file = open_file(found(root, name), 100)
        assert file.path == str(root / "inner" / "a.txt")
        os.close(file.handle)


def test_root_behind_a_link_is_opened(root: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(root)
    file = open_file(found(tmp_path / "way", "inner/a.txt"), 100)
    os.close(file.handle)
    assert file.path == str(root / "inner" / "a.txt")


@pytest.mark.parametrize("target", ["../secret.txt", "/etc/passwd", "/proc/self/environ"])
def test_link_that_came_to_lead_out_is_refused(root: Path, target: str) -> None:
    (root / "a.txt").symlink_to(target)
    assert refused(root, "a.txt") == "outside_root"


def test_folder_that_became_a_link_out_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("outside", encoding="ascii")
    (root / "inner" / "a.txt").unlink()
    (root / "inner").rmdir()
    (root / "inner").symlink_to(tmp_path / "other")
    assert refused(root, "inner/a.txt") == "outside_root"


def test_parent_folder_in_the_name_is_refused(root: Path) -> None:
    assert refused(root, "inner/../../secret.txt") == "outside_root"


def test_pipe_that_took_the_place_of_a_file_is_refused_without_waiting(root: Path) -> None:
    os.mkfifo(root / "pipe")
    assert refused(root, "pipe") == "not_a_file"


def test_folder_is_refused(root: Path) -> None:
    assert refused(root, "inner") == "not_a_file"


def test_file_that_is_gone_is_unreadable(root: Path) -> None:
    assert refused(root, "nothing.txt") == "unreadable"


def test_large_file_is_refused_before_it_is_read(root: Path) -> None:
    with (root / "large").open("wb") as stream:
        stream.truncate(1 << 40)
    assert refused(root, "large", 1 << 30) == "too_large"


def test_refusal_leaves_no_file_open(root: Path) -> None:
    os.mkfifo(root / "pipe")
    before = os.listdir("/proc/self/fd")
    for name in ("pipe", "inner", "inner/a.txt"):
        refused(root, name, 1)
    assert os.listdir("/proc/self/fd") == before
