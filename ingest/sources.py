"""Where files come from besides folders, and which of those that a collection was made from are gone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest.read import Failure
from ingest.report import IngestRequest, Progress
from ingest.walk import FoundFile
from rag.meter import Meter
from rag.settings import Settings


@dataclass(frozen=True, slots=True)
class Site:
    """A site to be fetched: the folder of its kept pages, and its files, which are fetched as they are asked for."""

    folder: Path
    files: Iterator[FoundFile | Failure]


def sites_of(request: IngestRequest, settings: Settings) -> list[Site]:
    """Open the sites that a request names; nothing is fetched or made.

    Args:
        request: What is to be ingested.
        settings: Data directory, and what may be fetched.

    Returns:
        Sites in the order given.

    Raises:
        InputError: If an address is malformed or refused, or fetching is off.
        MissingExtraError: Without the extra ``[web]``.
        SnapshotError: If the list of kept pages of one is damaged.
    """
    if not request.urls:
        return []
    from ingest.fetch import crawl  # with clients and parsers that most runs do not need

    return [Site(*crawl(url, settings, request.prefix)) for url in dict.fromkeys(request.urls)]


def fetched(sites: Sequence[Site], progress: Progress, meter: Meter) -> list[FoundFile | Failure]:
    """Fetch sites, one after the other.

    Args:
        sites: To be fetched.
        progress: Told of the stage ``fetch``, whose steps are pages.
        meter: Charged with it.

    Returns:
        Kept pages and failures, in the order of the crawls.
    """
    found: list[FoundFile | Failure] = []
    if sites:
        progress.begin("fetch", None)
        with meter.stage("fetch"):
            for site in sites:
                for page in site.files:
                    found.append(page)
                    progress.advance()
    return found


def gone_paths(
    unseen: Iterable[str], paths: Sequence[Path], sites: Sequence[Path], failed: Sequence[Failure], data_dir: Path
) -> list[str]:
    """Tell which files are gone.

    Args:
        unseen: Known files that were not found this time, without links.
        paths: Folders and files that were asked for.
        sites: Folders of kept pages whose sites were asked for.
        failed: What could not be looked at, which is not gone: a file, a whole folder, or the ignore file of one.
        data_dir: Holds the pages of all sites: none of them is gone because the folder around it was asked for.

    Returns:
        Files in ascending order.
    """
    roots, mirrors = [path.resolve() for path in paths], [path.resolve() for path in sites]
    pages = data_dir.resolve() / "web"
    places = [os.path.dirname(failure.path) if failure.code == "bad_ignore_file" else failure.path for failure in failed]
    unknown = {Path(shape(place)) for place in places for shape in (os.path.abspath, os.path.realpath)}
    found = []
    for path in sorted(unseen):
        below = Path(path).is_relative_to
        if any(map(below, mirrors if below(pages) else roots)) and not any(map(below, unknown)):
            found.append(path)
    return found
