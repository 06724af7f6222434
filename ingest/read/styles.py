"""What the names of styles say, in documents of word processors: they are English whatever the language of the user."""

from __future__ import annotations

import re

_HEADING = re.compile(r"heading ([1-9])", re.IGNORECASE)
_LIST = re.compile(r"list (?:bullet|number)(?: ([1-9]))?", re.IGNORECASE)
_CODE = re.compile(r"(?:html preformatted|preformatted text|source code|macro(?: text)?|code)", re.IGNORECASE)


def heading_of(style: str) -> int:
    """Level of the heading that a style makes.

    Args:
        style: Its name.

    Returns:
        1 to 9; the title of a document is of level 1; 0 for other styles.

    Example:
        >>> heading_of("Heading 2")
        2
    """
    if found := _HEADING.fullmatch(style):
        return int(found[1])
    return int(style.lower() == "title")


def list_level_of(style: str) -> int:
    """Depth of the list that a style makes: 1 to 9, or 0 for other styles.

    Args:
        style: Its name.

    Returns:
        The depth.
    """
    found = _LIST.fullmatch(style)
    return int(found[1] or 1) if found else 0


def is_code_style(style: str) -> bool:
    """Whether a paragraph of this style is code.

    Args:
        style: Its name.

    Returns:
        True for the names that word processors and converters give to it.
    """
    return bool(_CODE.fullmatch(style))
