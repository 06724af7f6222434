"""Web pages to files: which addresses may be asked (`guard`), one page (`client`), a site (`crawl`), what is kept of it (`mirror`).

A fetched page becomes a file of the mirror below the data directory; from there on it goes the way of every other file, so what did
not change is neither fetched nor read nor embedded again.

References:
    RFC 9309 (robots.txt), https://www.sitemaps.org/protocol.html, RFC 9110 section 13 (conditional requests).
"""

from __future__ import annotations

from ingest.fetch.crawl import crawl, is_address

__all__ = ["crawl", "is_address"]
