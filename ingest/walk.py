"""Folders to files, in an order that does not depend on the file system, and never outside of the folder that was named.

Hidden names and what `.ragignore` files (in the syntax of .gitignore) name are passed over, and so is a data directory of Ragwatt.
Everything else that cannot be taken is reported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from pathspec import GitIgnoreSpec

from ingest.read import Failure, Kind
from rag.errors import InputError

IGNORE_NAME = ".ragignore"
# The one file by which a data directory is known; ingesting it would feed answers back.
_CATALOG_NAME = "catalog.sqlite"
_KERNEL = ("/proc/", "/sys/", "/dev/")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to be read.

    Attributes:
        path: Where it can be opened.
        root: The folder that was named, or that in which a file that was named lies.
        doc_id: Path below the root with forward slashes, after the prefix if there is one.
        uri: The path as a person would write it, or the address of a page.
        kind: Its format family where something else than its name says it, such as the content type of a fetched page.
    """

    path: Path
    root: Path
    doc_id: str
    uri: str
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class _Rules:
    """Patterns and the folder, as a path below the root that is empty or ends in a slash, to which they are relative."""

    base: str
    spec: GitIgnoreSpec


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to be listed: its path below the root, empty or with a slash at the end, and the rules from its parents."""

    rel: str
    rules: tuple[_Rules, ...]


@dataclass(slots=True)
class _Seen:
    """What all roots together have given, by real path, and under which ids."""

    real_paths: set[str] = field(default_factory=set)
    doc_ids: dict[str, str] = field(default_factory=dict)


def walk(
    paths: Sequence[Path], include: Sequence[str] = (), exclude: Sequence[str] = (), prefix: str = ""
) -> Iterator[FoundFile | Failure]:
    """Find the files to read.

    Args:
        paths: Folders, and files, which are taken whatever their name is.
        include: Globs in the syntax of .gitignore, relative to each folder; when given, only files that match one are taken.
        exclude: Globs of files and folders to leave out; they win over ``include``.
        prefix: Put before every document id, with a slash between.

    Returns:
        Files and, in their place, failures with the code ``outside_root broken_link not_a_file permission unreadable bad_name
        bad_ignore_file data_dir duplicate_id``: roots in the order given, within one by the bytes of the document id. A file that
        is reached twice is given once, under the first of its ids.

    Raises:
        InputError: With code ``not_found``, if a path does not exist, before anything is given; ``bad_glob`` for a malformed glob.
    """
    for path in paths:
        if not os.path.exists(path):
            link = "is a link to nothing" if os.path.islink(path) else "does not exist or may not be seen"
            raise InputError(
                f"{_shown(path)} {link}; give a path that does; to remove what was read there, ingest the folder above it",
                code="not_found",
            )
    front = prefix.strip("/") + "/" if prefix.strip("/") else ""
    return _walk(paths, _spec(include, "include"), _spec(exclude, "exclude"), front)


def _walk(
    paths: Sequence[Path], include: GitIgnoreSpec | None, exclude: GitIgnoreSpec | None, prefix: str
) -> Iterator[FoundFile | Failure]:
    seen = _Seen()
    for path in paths:
        if _is_of_kernel(os.path.realpath(path)):
            yield _of_kernel(path)
        elif path.is_dir():
            yield from _Root(path, include, exclude, prefix, seen).files()
        elif path.is_file():
            # Who names a link means what it leads to.
            yield from _given(path, FoundFile(path, path.resolve().parent, prefix + path.name, path.as_posix()), seen)
        else:
            yield Failure(_shown(path), "not_a_file", "is a pipe, socket or device; give a file or folder")


def _is_of_kernel(real: str) -> bool:
    """Whether files are made up by the kernel there: endless, secret, or doing something when they are read."""
    return f"{real}/".startswith(_KERNEL) and not f"{real}/".startswith("/dev/shm/")


def _of_kernel(path: Path) -> Failure:
    return Failure(_shown(path), "not_a_file", "belongs to the kernel, not to documents; exclude it")


def _spec(globs: Sequence[str], option: str) -> GitIgnoreSpec | None:
    try:
        return GitIgnoreSpec.from_lines(globs, backend="simple") if globs else None
    except ValueError as error:
        raise InputError(f"--{option} {list(globs)}: {error}; write globs as in .gitignore", code="bad_glob") from error


def _shown(path: Path) -> str:
    """A path that can be printed and stored, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _given(path: Path, found: FoundFile, seen: _Seen) -> Iterator[FoundFile | Failure]:
    """The file, unless it was given before or its name or id cannot be used."""
    real = os.path.realpath(path)
    if real in seen.real_paths:
        return
    seen.real_paths.add(real)
    shown = _shown(path)
    if not _is_utf8(found.doc_id):
        yield Failure(shown, "bad_name", "has a name that is not UTF-8; rename it")
    elif found.doc_id in seen.doc_ids:
        other = seen.doc_ids[found.doc_id]
        yield Failure(
            shown,
            "duplicate_id",
            f"would have the id {found.doc_id!r} of {other}; ingest a folder that holds both, or each with its own prefix",
        )
    else:
        seen.doc_ids[found.doc_id] = shown
        yield found


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Root:
    """One folder that was named, and everything below it."""

    def __init__(self, path: Path, include: GitIgnoreSpec | None, exclude: GitIgnoreSpec | None, prefix: str, seen: _Seen) -> None:
        self._path = path
        self._real = os.path.realpath(path)
        self._include = include
        self._exclude = exclude
        self._prefix = prefix
        self._seen = seen
        # Folders entered through a link: each once, so that links cannot multiply or loop.
        self._followed: set[str] = set()

    def files(self) -> Iterator[FoundFile | Failure]:
        """Files and failures by the bytes of their path below the root."""
        todo: list[_Folder | str | Failure] = [_Folder("", ())]
        while todo:
            item = todo.pop()
            match item:
                case Failure():
                    yield item
                case str():
                    yield from self._file(item)
                case _Folder():
                    todo.extend(reversed(self._listed(item)))
                case never:
                    assert_never(never)

    def _file(self, rel: str) -> Iterator[FoundFile | Failure]:
        path = self._path / rel
        yield from _given(path, FoundFile(path, self._path, self._prefix + rel, path.as_posix()), self._seen)

    def _listed(self, folder: _Folder) -> list[_Folder | str | Failure]:
        """What a folder holds, in order."""
        path = self._path / folder.rel
        try:
            with os.scandir(path) as scan:
                entries = list(scan)
        except PermissionError:
            return [Failure(_shown(path), "permission", "may not be listed by this user; change its permissions or exclude it")]
        except OSError as error:
            return [Failure(_shown(path), "unreadable", f"cannot be listed: {error.strerror}; see whether the disk is well")]
        names = {entry.name for entry in entries}
        if _CATALOG_NAME in names:
            own = Failure(
                _shown(path), "data_dir", f"holds {_CATALOG_NAME}, so it is a data directory of Ragwatt; give another folder"
            )
            return [] if folder.rel else [own]
        rules = folder.rules
        if IGNORE_NAME in names:
            own_rules = self._rules(folder)
            if isinstance(own_rules, Failure):
                return [own_rules]
            rules = (*rules, own_rules)
        found = [
            (os.fsencode(entry.name) + (b"/" if isinstance(item, _Folder) else b""), item)
            for entry in entries
            if (item := self._item(entry, folder.rel, rules)) is not None
        ]
        return [item for _, item in sorted(found, key=lambda pair: pair[0])]

    def _rules(self, folder: _Folder) -> _Rules | Failure:
        """The rules of a folder's own file; where they cannot be understood, nothing below is taken, for it may be private."""
        path = self._path / folder.rel / IGNORE_NAME
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            return _Rules(folder.rel, GitIgnoreSpec.from_lines(lines, backend="simple"))
        except (OSError, ValueError) as error:
            return Failure(_shown(path), "bad_ignore_file", f"cannot be used, so its folder is left out: {error}; correct the file")

    def _item(self, entry: os.DirEntry[str], base: str, rules: tuple[_Rules, ...]) -> _Folder | str | Failure | None:
        """What becomes of a name: None if it is passed over."""
        rel = base + entry.name
        path = self._path / rel
        if entry.name.startswith("."):
            return None
        if entry.is_symlink():
            return self._link(rel, rules)
        if entry.is_dir(follow_symlinks=False):
            return self._folder(rel, rules)
        if not self._is_wanted(rel, rules):
            return None
        if not entry.is_file(follow_symlinks=False):
            return Failure(_shown(path), "not_a_file", "is a pipe, socket or device, which cannot be read; exclude it")
        return rel

    def _folder(self, rel: str, rules: tuple[_Rules, ...]) -> _Folder | Failure | None:
        if self._is_ignored(rel + "/", rules):
            return None
        if not _is_utf8(rel):
            return Failure(_shown(self._path / rel), "bad_name", "has a name that is not UTF-8; rename it")
        if _is_of_kernel(os.path.join(self._real, rel)):
            return _of_kernel(self._path / rel)
        return _Folder(rel + "/", rules)

    def _link(self, rel: str, rules: tuple[_Rules, ...]) -> _Folder | str | Failure | None:
        path = self._path / rel
        if self._is_ignored(rel, rules):
            return None
        try:
            target = os.path.realpath(path, strict=True)
        except OSError as error:
            return Failure(_shown(path), "broken_link", f"is a link that leads nowhere: {error.strerror}; remove or exclude it")
        if os.path.commonpath((self._real, target)) != self._real:
            return Failure(
                _shown(path), "outside_root", "is a link out of the folder, which is not followed; name its target instead"
            )
        if not os.path.isdir(target):
            if not self._is_wanted(rel, rules):
                return None
            is_file = os.path.isfile(target)
            return rel if is_file else Failure(_shown(path), "not_a_file", "is a link to a pipe, socket or device; exclude it")
        if _is_of_kernel(target):
            return _of_kernel(path)
        is_loop = os.path.commonpath((target, os.path.realpath(path.parent))) == target
        if is_loop or target in self._followed:
            return None
        self._followed.add(target)
        return self._folder(rel, rules)

    def _is_wanted(self, rel: str, rules: tuple[_Rules, ...]) -> bool:
        return not self._is_ignored(rel, rules) and (self._include is None or self._include.match_file(rel))

    def _is_ignored(self, rel: str, rules: tuple[_Rules, ...]) -> bool:
        """By the globs of the call, else by the deepest file of rules that says anything, as git does."""
        if self._exclude is not None and self._exclude.match_file(rel):
            return True
        for rule in reversed(rules):
            verdict = rule.spec.check_file(rel.removeprefix(rule.base)).include
            if verdict is not None:
                return verdict
        return False
