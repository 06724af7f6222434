"""Fetched web pages: the main text by trafilatura, without navigation and advertising, in the blocks of our HTML reader.

Files of HTML that somebody keeps are read whole (`ingest.read.html`): there the filter lost headings that people meant to keep.
"""

from __future__ import annotations

from ingest.read.html import decoded, extract
from ingest.read.origin import Origin, document
from rag.errors import MissingExtraError
from rag.types import Document


def read_web(data: bytes, origin: Origin) -> Document:
    """Read a fetched page; raises `InputError` with code ``binary encoding too_deep unreadable`` or ``empty``.

    Args:
        data: HTML as the site sent it.
        origin: Where it comes from.

    Returns:
        One document of the main text. Where the filter finds none, as on a page of nothing but a list or a table, it is the whole text
        of the page, and the metadata ``main_text`` says ``whole page``.

    Raises:
        MissingExtraError: Without the extra ``[web]``.
    """
    try:
        import trafilatura
    except ImportError as error:
        raise MissingExtraError("reading web pages", "web") from error
    markup = decoded(data)
    whole = extract(markup)  # refuses what nests too deep before another parser sees it
    # Its dates are guesses where the page names none, so metadata is what the page itself says.
    main = trafilatura.extract(markup, output_format="html", include_comments=False, include_tables=True, favor_recall=True)
    page = extract(main) if main else whole
    metadata = dict(whole.metadata)
    if not page.sections:
        page, metadata["main_text"] = whole, "whole page"
    elif not main:
        metadata["main_text"] = "whole page"
    return document(origin, "web", whole.title or origin.path.stem, page.text, page.sections, metadata)
