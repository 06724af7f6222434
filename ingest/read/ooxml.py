"""The package of Office Open XML (DOCX, PPTX, XLSX): parts of a ZIP file that point to one another, and the core properties.

References:
    ECMA-376 part 2, Open Packaging Conventions.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from ingest.read.xml_events import Attributes, parse
from ingest.read.zipped import member, open_zip
from rag.errors import InputError

# What older Office programs wrote, and what newer ones wrap a document with a password in.
_COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")
_CORE_KEYS = {
    "initial-creator": "author", "creator": "author", "title": "title", "subject": "subject", "keywords": "keywords",
    "description": "description",
}  # fmt: skip
_CORE_DATES = ("created", "modified")
# What programs write there by themselves.
_NO_TITLES = frozenset(("PowerPoint Presentation", "Word Document", "Slide 1"))


@dataclass(frozen=True, slots=True)
class Relation:
    """One part pointing to another: the last word of the kind of relation, and the name of the target part."""

    kind: str
    target: str


class Package:
    """Parts by name.

    Args:
        data: The whole file.

    Raises:
        InputError: With code ``encrypted``, ``zip_bomb`` or ``unreadable``.
    """

    def __init__(self, data: bytes) -> None:
        if data.startswith(_COMPOUND_FILE):
            if _ENCRYPTED_STREAM in data:
                raise InputError("is protected by a password; remove the password", code="encrypted")
            raise InputError(
                "is of an older binary format than its name says; save it in the format of its name", code="unreadable"
            )
        self.archive: zipfile.ZipFile = open_zip(data)
        self._names = frozenset(self.archive.namelist())

    def part(self, name: str) -> bytes:
        """Content of a part; raises `InputError` with code ``encrypted``, ``too_large`` or ``unreadable``."""
        return member(self.archive, name)

    def has(self, name: str) -> bool:
        """Whether there is a part of that name."""
        return name in self._names

    def relations(self, part: str) -> dict[str, Relation]:
        """Where a part points to.

        Args:
            part: Its name; empty for the package itself.

        Returns:
            Relations to parts of the package by their ids, in order; empty where there are none.
        """
        folder, name = posixpath.split(part)
        source = posixpath.join(folder, "_rels", f"{name}.rels")
        found = _Relations(folder)
        if self.has(source):
            parse(self.part(source), found, source)
        return {key: relation for key, relation in found.relations.items() if self.has(relation.target)}

    def targets(self, part: str, kind: str) -> Iterator[str]:
        """Names of the parts that a part points to with one kind of relation, in order."""
        return (relation.target for relation in self.relations(part).values() if relation.kind == kind)

    def main_part(self, content: str) -> str:
        """Name of the main part.

        Args:
            content: Folder in which such documents have it, which tells them from others: ``word``, ``ppt`` or ``xl``.

        Returns:
            The name.

        Raises:
            InputError: With code ``unreadable``, if this is no such document.
        """
        for target in self.targets("", "officeDocument"):
            if target.startswith(content + "/"):
                return target
        raise InputError(
            f"holds no main part in {content!r}, so it is no file of the format its name says; rename it", code="unreadable"
        )

    def properties(self) -> dict[str, str]:
        """Metadata from the core properties: title, author, date (of the last change), subject, keywords, description, if given."""
        found = Properties()
        for target in self.targets("", "core-properties"):
            parse(self.part(target), found, target)
        return found.metadata()


@dataclass(slots=True)
class Properties:
    """Collects Dublin Core elements, the way that all office formats write their properties."""

    _values: dict[str, str] = field(default_factory=dict)
    _pieces: list[str] = field(default_factory=list)

    def start(self, name: str, attributes: Attributes) -> None:
        """Forget the text before."""
        self._pieces.clear()

    def text(self, data: str) -> None:
        """Take text."""
        self._pieces.append(data)

    def end(self, name: str) -> None:
        """Keep the text of the first element of a name."""
        self._values.setdefault(name, "".join(self._pieces).strip())
        self._pieces.clear()

    def metadata(self) -> dict[str, str]:
        """The properties that are given and mean something."""
        found = {key: self._values[name] for name, key in _CORE_KEYS.items() if self._values.get(name)}
        if found.get("title") in _NO_TITLES:
            del found["title"]
        dates = [self._values[name] for name in (*_CORE_DATES, "date") if self._values.get(name)]
        return found | ({"date": dates[-1]} if dates else {})


class _Relations:
    def __init__(self, folder: str) -> None:
        self.relations: dict[str, Relation] = {}
        self._folder = folder

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "Relationship" and attributes.get("TargetMode") != "External":
            target = posixpath.normpath(posixpath.join("/", self._folder, attributes.get("Target", ""))).lstrip("/")
            self.relations[attributes.get("Id", "")] = Relation(attributes.get("Type", "").rpartition("/")[2], target)

    def end(self, name: str) -> None:
        """Nothing follows from it."""

    def text(self, data: str) -> None:
        """There is none."""
