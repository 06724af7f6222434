"""How the characters of an RTF file look, as far as it tells whether a reader of the page would see them."""

from __future__ import annotations

from dataclasses import dataclass, replace

_PARTS = ("red", "green", "blue")
_WHITE = dict.fromkeys(_PARTS, 255)
_UNREADABLE_HALF_POINTS = 2


class Colours:
    """The colour table of a file, from its words and signs; number 0 leaves the choice to the program that shows it."""

    def __init__(self) -> None:
        self.whites: set[int] = set()
        self._number = 0
        self._parts: dict[str, int] = {}

    def word(self, word: str, number: int) -> None:
        """Take a word of the table; others than the three say nothing here."""
        if word in _PARTS:
            self._parts[word] = number

    def text(self, text: str) -> None:
        """Take text of the table: a semicolon ends an entry."""
        for _ in range(text.count(";")):
            if self._parts == _WHITE:
                self.whites.add(self._number)
            self._number += 1
            self._parts.clear()

    def is_shade(self, word: str, number: int | None) -> bool:
        """Whether a word gives a ground that is not white: by the number of a colour, or by how dense a pattern is."""
        return bool(number) and (word in ("shading", "chshdng") or number not in self.whites)


@dataclass(frozen=True, slots=True)
class Look:
    """What holds for characters up to the end of a group.

    Attributes:
        is_vanished: Whether the file says that they are not shown.
        is_tiny: Whether they are below 1 point.
        is_white: Whether their colour is white.
        shades: Words that gave them a ground that is not white.
        is_boxed: Whether they stand in a box, whose ground is not known.
    """

    is_vanished: bool = False
    is_tiny: bool = False
    is_white: bool = False
    shades: frozenset[str] = frozenset()
    is_boxed: bool = False

    def after(self, word: str, number: int | None, colours: Colours) -> Look:
        """The look behind one of the words of `LOOKS`.

        Args:
            word: The word.
            number: What follows it, if anything.
            colours: Of the file.

        Returns:
            The new look; this one if nothing changed, as most words repeat what holds.
        """
        match word:
            case "v" | "deleted":
                return self if self.is_vanished == (number != 0) else replace(self, is_vanished=number != 0)
            case "fs":
                is_tiny = number is not None and number < _UNREADABLE_HALF_POINTS
                return self if self.is_tiny == is_tiny else replace(self, is_tiny=is_tiny)
            case "cf":
                is_white = number in colours.whites
                return self if self.is_white == is_white else replace(self, is_white=is_white)
            case "plain":
                return Look(is_boxed=True) if self.is_boxed else PLAIN
            case _:
                is_shade = colours.is_shade(word, number)
                if is_shade == (word in self.shades):
                    return self
                return replace(self, shades=self.shades | {word} if is_shade else self.shades - {word})

    def is_hidden(self, *, on_ground: bool) -> bool:
        """Whether such characters are not seen; white ones are on a ground, which the paragraph or table around may have."""
        return self.is_vanished or self.is_tiny or (self.is_white and not (self.shades or self.is_boxed or on_ground))


LOOKS = frozenset(("v", "deleted", "fs", "cf", "plain", "highlight", "chcbpat", "cb", "chshdng"))
"""Words that say how characters look."""
PLAIN = Look()
"""The look at the begin of a file."""
