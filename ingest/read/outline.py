"""The heading path of formats that have headings."""

from __future__ import annotations

# A heading goes into the context line of every chunk below it; a longer one is a paragraph in disguise.
_MAX_HEADING_CHARS = 200


class Outline:
    """Keeps the path from the outermost heading to the current one."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    @property
    def path(self) -> tuple[str, ...]:
        """Titles from the outermost to the innermost heading."""
        return tuple(title for _, title in self._open)

    def enter(self, level: int, title: str) -> tuple[str, ...]:
        """Begin the part below a heading; headings of the same or a deeper level end.

        Args:
            level: 1 is the outermost.
            title: Text of the heading, on one line; an empty one only ends the others.

        Returns:
            The new path, the heading included.
        """
        while self._open and self._open[-1][0] >= level:
            self._open.pop()
        if title:
            self._open.append((level, title[:_MAX_HEADING_CHARS].rstrip()))
        return self.path
