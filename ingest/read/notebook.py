"""Jupyter notebooks: Markdown cells with their headings, code cells as code, and the text that code printed.

A notebook becomes one Markdown text, its code in fences, which the Markdown reader reads: so headings reach over cells. Pictures and
interactive output are dropped: what they say is not in their text. Long output is cut, and says so.

References:
    https://nbformat.readthedocs.io/en/latest/format_description.html, versions 3 and 4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ingest.read.decode import decode
from ingest.read.markdown import read_markdown
from ingest.read.origin import Origin
from rag.errors import InputError
from rag.types import Document

# What a person scrolls through; a longer output is a log or a dump.
_MAX_OUTPUT_CHARS = 4_000
_TERMINAL_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def read_notebook(data: bytes, origin: Origin) -> Document:
    """Read a notebook.

    Args:
        data: Content of the file.
        origin: Where it comes from.

    Returns:
        One document of the cells in order, without line numbers; its title is the first main heading, else the name of the file;
        ``language`` is in the metadata where the notebook says it.

    Raises:
        InputError: With code ``binary``, ``encoding``, ``unreadable`` or ``empty``.
    """
    try:
        notebook = json.loads(decode(data)) if data.strip() else {"cells": []}
    except (ValueError, RecursionError) as error:
        raise InputError(f"is no valid JSON, so no notebook: {error}; save it again in Jupyter", code="unreadable") from error
    pieces = [piece for cell in _cells(notebook) for piece in _pieces(cell) if piece.strip()]
    found = read_markdown("\n\n".join(pieces).encode("utf-8", "replace"), origin)
    language = _language(notebook)
    return replace(
        found,
        kind="notebook",
        sections=tuple(replace(section, line=None) for section in found.sections),
        metadata={**found.metadata, **({"language": language} if language else {})},
    )


def _cells(notebook: object) -> list[Mapping[str, object]]:
    """The cells of version 4, or those of all worksheets of version 3."""
    if isinstance(notebook, dict):
        sheets = notebook.get("worksheets")
        holders = [sheet for sheet in sheets if isinstance(sheet, dict)] if isinstance(sheets, list) else [notebook]
        found = [holder["cells"] for holder in holders if isinstance(holder.get("cells"), list)]
        if found:
            return [cell for cells in found for cell in cells if isinstance(cell, dict)]
    raise InputError("has no list of cells, so it is no notebook of version 3 or 4; save it again in Jupyter", code="unreadable")


def _pieces(cell: Mapping[str, object]) -> Iterator[str]:
    """What a cell says, as Markdown."""
    source = _joined(cell.get("source", cell.get("input")))
    match cell.get("cell_type"):
        case "markdown":
            # A comment that is not closed would swallow the cells below.
            yield f"{source}\n-->" if source.rfind("<!--") > source.rfind("-->") else source
        case "heading":
            level = cell.get("level")
            yield f"{'#' * (level if isinstance(level, int) and 1 <= level <= 6 else 1)} {' '.join(source.split())}"
        case "code":
            yield _fenced(source)
            outputs = cell.get("outputs")
            for output in outputs if isinstance(outputs, list) else ():
                if isinstance(output, dict):
                    yield _fenced(_short(_output(output)))


def _fenced(source: str) -> str:
    """Source between fences longer than any in it; empty if it is blank."""
    fence = "~" * max(8, 1 + max(map(len, re.findall("~+", source)), default=0))
    return f"{fence}\n{source}\n{fence}" if source.strip() else ""


def _output(output: Mapping[str, object]) -> str:
    """The text of an output: printed, a result as plain text, or the message of an error."""
    match output.get("output_type"):
        case "stream":
            return _joined(output.get("text"))
        case "error" | "pyerr":
            return f"{_joined(output.get('ename'))}: {_joined(output.get('evalue'))}"
        case _:
            data = output.get("data")
            return _joined(data.get("text/plain") if isinstance(data, dict) else output.get("text"))


def _short(text: str) -> str:
    text = _TERMINAL_COLOUR.sub("", text)
    if len(text) <= _MAX_OUTPUT_CHARS:
        return text
    return f"{text[:_MAX_OUTPUT_CHARS]}\n[output cut: {len(text) - _MAX_OUTPUT_CHARS:,} of {len(text):,} characters left out]"


def _joined(source: object) -> str:
    """A string, or a list of lines as the format has them."""
    if isinstance(source, list):
        return "".join(part for part in source if isinstance(part, str))
    return source if isinstance(source, str) else ""


def _language(notebook: Mapping[str, object]) -> str:
    metadata = notebook.get("metadata")
    for key, name in (("language_info", "name"), ("kernelspec", "language")):
        info = metadata.get(key) if isinstance(metadata, dict) else None
        if isinstance(info, dict) and isinstance(info.get(name), str):
            return str(info[name])
    return ""
