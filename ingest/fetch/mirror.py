"""What is kept of a site: the pages as files, and a list of what each was when it was fetched."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from ingest.fetch.client import Reply, Validators
from rag.errors import SnapshotError

_LIST_NAME = "pages.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Page:
    """One kept page.

    Attributes:
        url: Its address, as it was asked for.
        file: Name of the file in the folder of the mirror.
        content_type: As the site said, in lower case, without parameters.
        etag: Validator, empty without one.
        last_modified: Validator, empty without one.
        links: Addresses of pages that it names, in their order.
    """

    url: str
    file: str
    content_type: str
    etag: str = ""
    last_modified: str = ""
    links: tuple[str, ...] = ()

    @property
    def validators(self) -> Validators:
        """For a conditional request."""
        return Validators(self.etag, self.last_modified)


class Mirror:
    """The kept pages of one address that was given; not for two writers at once.

    Args:
        folder: Where; made when the first page is kept.

    Raises:
        SnapshotError: If its list is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pages: dict[str, Page] = {}
        try:
            stored = json.loads((folder / _LIST_NAME).read_bytes())
            if stored["format"] != _FORMAT:
                raise ValueError(f"format {stored['format']}, known is {_FORMAT}")
            for row in stored["pages"]:
                page = Page(**row | {"links": tuple(row["links"])})
                # A name is never trusted as a path.
                if page.file == _file_name(page.url) and (folder / page.file).is_file():
                    self.pages[page.url] = page
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SnapshotError(
                f"the list of fetched pages {folder / _LIST_NAME} cannot be used: {error}; remove its folder to fetch the pages anew",
                code="mirror",
            ) from error

    def path(self, page: Page) -> Path:
        """The file of a page."""
        return self.folder / page.file

    def keep(self, url: str, reply: Reply, links: tuple[str, ...]) -> Page:
        """Keep a page; the file and then the list are replaced as a whole, so a crash leaves the old or the new one.

        Args:
            url: As it was asked for.
            reply: What came.
            links: Addresses that it names.

        Returns:
            The kept page.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        page = Page(url, _file_name(url), reply.content_type, reply.validators.etag, reply.validators.last_modified, links)
        _replace(self.path(page), reply.body)
        self.pages[url] = page
        return page

    def forget(self, url: str) -> None:
        """Remove a page that is gone; one that is not kept is no error."""
        page = self.pages.pop(url, None)
        if page is not None:
            self.path(page).unlink(missing_ok=True)

    def save(self) -> None:
        """Write the list."""
        if self.pages or self.folder.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            rows = [asdict(page) for _, page in sorted(self.pages.items())]
            _replace(self.folder / _LIST_NAME, json.dumps({"format": _FORMAT, "pages": rows}, indent=1).encode())


def _file_name(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:32]


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
