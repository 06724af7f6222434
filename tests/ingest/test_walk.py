"""Folders to files."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.read import Failure
from ingest.walk import FoundFile, walk
from rag.errors import InputError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("text")
    return root


def ids(found: Iterable[FoundFile | Failure]) -> list[str]:
    return [item.doc_id if isinstance(item, FoundFile) else f"!{item.code}" for item in found]


def test_files_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    tree(tmp_path, "b.md", "a/z.md", "a.md", "a/b/c.md", "ä.md", "a-b.md", "B.md")

    assert ids(walk([tmp_path])) == sorted(["b.md", "a/z.md", "a.md", "a/b/c.md", "ä.md", "a-b.md", "B.md"], key=str.encode)


@settings(max_examples=25)
@given(names=st.sets(st.sampled_from(["a", "b", "a.b", "a-", "é", "a/b", "b/a", "a.b/c", "c/d/e", "c/d.e"]), max_size=6))
def test_order_is_that_of_the_bytes_for_any_tree(tmp_path_factory: pytest.TempPathFactory, names: set[str]) -> None:
    root = tmp_path_factory.mktemp("tree")
    names = {name for name in names if not any(other.startswith(f"{name}/") for other in names)}
    tree(root, *names)

    assert ids(walk([root])) == sorted(names, key=str.encode)


def test_found_file_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "docs/a/x.md")
    monkeypatch.chdir(tmp_path)

    assert list(walk([Path("docs")])) == [FoundFile(Path("docs/a/x.md"), Path("docs"), "a/x.md", "docs/a/x.md")]


def test_prefix_begins_every_id(tmp_path: Path) -> None:
    tree(tmp_path, "a/x.md", "y.md")

    assert ids(walk([tmp_path / "a", tmp_path / "y.md"], prefix="team/")) == ["team/x.md", "team/y.md"]


def test_roots_come_in_the_order_given_and_a_file_once(tmp_path: Path) -> None:
    tree(tmp_path, "b/x.md", "a/y.md")

    assert ids(walk([tmp_path / "b", tmp_path, tmp_path / "a" / "y.md"])) == ["x.md", "a/y.md"]


def test_two_files_of_one_id_are_not_mixed_up(tmp_path: Path) -> None:
    tree(tmp_path, "a/x.md", "b/x.md")

    assert ids(walk([tmp_path / "a", tmp_path / "b"])) == ["x.md", "!duplicate_id"]


def test_hidden_names_are_passed_over(tmp_path: Path) -> None:
    tree(tmp_path, ".git/config", ".env", "a/.b.md", "x.md")

    assert ids(walk([tmp_path])) == ["x.md"]


def test_named_file_is_taken_whatever_its_name(tmp_path: Path) -> None:
    tree(tmp_path, ".hidden.md")

    assert ids(walk([tmp_path / ".hidden.md"], include=["*.txt"], exclude=["*.md"])) == [".hidden.md"]


def test_named_folder_may_be_hidden(tmp_path: Path) -> None:
    tree(tmp_path, ".notes/x.md")

    assert ids(walk([tmp_path / ".notes"])) == ["x.md"]


def test_include_takes_matching_files_only(tmp_path: Path) -> None:
    tree(tmp_path, "a/x.md", "a/x.py", "docs/y.rst", "z.md")

    assert ids(walk([tmp_path], include=["*.md", "docs/"])) == ["a/x.md", "docs/y.rst", "z.md"]


def test_exclude_wins_over_include(tmp_path: Path) -> None:
    tree(tmp_path, "a/x.md", "drafts/y.md", "a/drafts/z.md")

    assert ids(walk([tmp_path], include=["*.md"], exclude=["/drafts/"])) == ["a/drafts/z.md", "a/x.md"]


def test_malformed_glob_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        walk([tmp_path], exclude=["!"])

    assert caught.value.code == "bad_glob"


def test_ignore_file_is_relative_to_its_folder(tmp_path: Path) -> None:
    tree(tmp_path, "a/x.md", "a/b/x.md", "x.md", "a/y.md")
    (tmp_path / "a" / ".ragignore").write_text("# mine\n/x.md\n")

    assert ids(walk([tmp_path])) == ["a/b/x.md", "a/y.md", "x.md"]


def test_deeper_ignore_file_overrides(tmp_path: Path) -> None:
    tree(tmp_path, "x.log", "a/x.log", "a/y.log")
    (tmp_path / ".ragignore").write_text("*.log\n")
    (tmp_path / "a" / ".ragignore").write_text("!y.log\n")

    assert ids(walk([tmp_path])) == ["a/y.log"]


def test_ignored_folder_is_not_entered(tmp_path: Path) -> None:
    tree(tmp_path, "build/x.md", "a/build/y.md", "z.md")
    (tmp_path / ".ragignore").write_text("build/\n")

    assert ids(walk([tmp_path])) == ["z.md"]


def test_folder_is_left_out_when_its_ignore_file_cannot_be_understood(tmp_path: Path) -> None:
    tree(tmp_path, "a/private.md", "x.md")
    (tmp_path / "a" / ".ragignore").write_bytes(b"private\xff")

    assert ids(walk([tmp_path])) == ["!bad_ignore_file", "x.md"]


def test_link_inside_the_folder_is_followed_and_a_file_given_once(tmp_path: Path) -> None:
    tree(tmp_path, ".store/x.md", "b.md")
    (tmp_path / "a").symlink_to(tmp_path / ".store")
    (tmp_path / "c.md").symlink_to("b.md")

    assert ids(walk([tmp_path])) == ["a/x.md", "b.md"]


def test_link_to_a_parent_does_not_loop(tmp_path: Path) -> None:
    tree(tmp_path, "a/x.md")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "self").symlink_to("self")

    assert ids(walk([tmp_path])) == ["!broken_link", "a/x.md"]


def test_links_between_folders_do_not_multiply(tmp_path: Path) -> None:
    names = "abcdefgh"
    for name in names:
        tree(tmp_path, f"{name}/x.md")
    for name in names:
        for other in names:
            (tmp_path / name / f"to-{other}").symlink_to(f"../{other}")

    assert len(ids(walk([tmp_path]))) == len(names)


def test_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    tree(tmp_path, "root/x.md", "root-secret/y.md")
    (tmp_path / "root" / "dir").symlink_to(tmp_path / "root-secret")
    (tmp_path / "root" / "file.md").symlink_to(tmp_path / "root-secret" / "y.md")

    assert ids(walk([tmp_path / "root"])) == ["!outside_root", "!outside_root", "x.md"]


def test_link_to_nothing_is_reported(tmp_path: Path) -> None:
    tree(tmp_path, "x.md")
    (tmp_path / "a").symlink_to("gone")

    assert ids(walk([tmp_path])) == ["!broken_link", "x.md"]


def test_pipe_is_reported_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert ids(walk([tmp_path])) == ["!not_a_file"]
    assert ids(walk([tmp_path / "pipe"])) == ["!not_a_file"]


def test_socket_that_is_excluded_is_not_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.sock")

        assert ids(walk([Path()], exclude=["*.sock"])) == []


def test_name_that_is_not_utf8_is_reported_in_printable_form(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.md")).write_text("x")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xff")).mkdir()
    first, second = walk([tmp_path])

    assert isinstance(first, Failure)
    assert isinstance(second, Failure)
    assert (first.code, second.code) == ("bad_name", "bad_name")
    assert first.path.endswith("caf\\xe9.md")


def test_folder_that_may_not_be_listed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "a/x.md", "b.md")
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if path.name == "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)

    assert ids(walk([tmp_path])) == ["!permission", "b.md"]


def test_data_directory_is_never_entered(tmp_path: Path) -> None:
    tree(tmp_path, "data/catalog.sqlite", "data/snapshots/x.md", "y.md")

    assert ids(walk([tmp_path])) == ["y.md"]


def test_data_directory_that_was_named_is_reported(tmp_path: Path) -> None:
    tree(tmp_path, "catalog.sqlite", "x.md")

    assert ids(walk([tmp_path])) == ["!data_dir"]


def test_missing_path_is_refused_before_anything_is_given(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        walk([tmp_path, tmp_path / "gone"])

    assert caught.value.code == "not_found"
    assert "gone" in str(caught.value)


def test_deep_tree_is_walked(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 300)
    deep.mkdir(parents=True)
    tree(deep, "x.md")

    assert len(ids(walk([tmp_path]))) == 1


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="this system has no /proc")
@pytest.mark.parametrize("path", ["/proc", "/proc/self", "/proc/self/environ", "/sys", "/dev", "/dev/zero", "/dev/fd"])
def test_what_the_kernel_makes_up_is_reported_and_not_entered(path: str) -> None:
    assert ids(walk([Path(path)])) == ["!not_a_file"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="this system has no /proc")
def test_walk_from_the_top_passes_the_kernel_by() -> None:
    found = list(walk([Path("/")], exclude=["/*", "!/proc", "!/sys"]))
    assert [(item.path, item.code) for item in found if isinstance(item, Failure)] == [
        ("/proc", "not_a_file"), ("/sys", "not_a_file"),
    ]  # fmt: skip


def test_root_of_a_named_link_is_where_its_target_lies(tmp_path: Path) -> None:
    tree(tmp_path, "far/x.md", "near/y.md")
    (tmp_path / "near" / "link.md").symlink_to(tmp_path / "far" / "x.md")

    (item,) = walk([tmp_path / "near" / "link.md"])

    assert isinstance(item, FoundFile)
    assert (item.root, item.doc_id) == (tmp_path / "far", "link.md")
