"""What of a page a browser does not show, as far as attributes and simple style rules say it.

Looked at: the attribute ``hidden``, inline styles, the colours of old attributes, and rules of ``<style>`` whose selector is one tag, class
or id. External sheets, scripts and combined selectors are not: text that they hide counts as shown. ``aria-hidden`` hides nothing from
eyes, so it does not count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from selectolax.lexbor import LexborHTMLParser, LexborNode

# Letters smaller than this, in CSS pixels, are a line of dust on any screen.
_MIN_FONT_PX = 3.0
_MIN_FONT_SHARE = 0.2
# Text shifted further out than this is on no screen.
_OFF_SCREEN_PX = -500.0
_MIN_OPACITY = 0.06
# Colours whose parts differ by no more than this of 255 are told apart by nobody.
_MAX_COLOUR_DIFFERENCE = 8
# Longer sheets are of designs, not of hiding; the rest of them is passed over.
_MAX_SHEET_CHARS = 500_000

_SIMPLE_SELECTOR = re.compile(r"[.#]?[a-z][\w-]*|[a-z]+[.#][a-z_][\w-]*|[.#][\w-]+", re.IGNORECASE)
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_LENGTH = re.compile(r"(-?\d*\.?\d+)\s*(px|pt|em|rem|%|vw|vh|)")
_RGB = re.compile(r"rgba?\(\s*(\d+)[\s,]+(\d+)[\s,]+(\d+)(?:[\s,/]+([\d.]+)%?)?\s*\)")
_CLIPPED = re.compile(
    r"rect\(\s*[01](?:px)?[\s,]+[01](?:px)?[\s,]+[01](?:px)?[\s,]+[01](?:px)?\s*\)|inset\(\s*(?:50|100)%|circle\(\s*0"
)
_NAMED = {"white": (255, 255, 255), "black": (0, 0, 0), "snow": (255, 250, 250), "ivory": (255, 255, 240), "red": (255, 0, 0)} | {
    "green": (0, 128, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0), "gray": (128, 128, 128), "silver": (192, 192, 192), "navy": (0, 0, 128),
    "whitesmoke": (245, 245, 245), "ghostwhite": (248, 248, 255),
}  # fmt: skip

Colour = tuple[int, int, int]
Declarations = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ink:
    """What an element inherits that decides whether its text is seen.

    Attributes:
        colour: Of the letters, where it is known.
        ground: Of what is behind them; None where a picture, or a sheet that is not read, may have painted it.
    """

    colour: Colour | None = None
    ground: Colour | None = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Styles:
    """The style rules of a page.

    Attributes:
        rules: Declarations by simple selector.
        has_external: Whether a sheet is linked, which may paint whatever has a class or an id.
    """

    rules: Mapping[str, Declarations]
    has_external: bool

    @classmethod
    def of(cls, tree: LexborHTMLParser) -> Styles:
        """Read the style elements of a page.

        Args:
            tree: The parsed page.

        Returns:
            Their rules that can hide text; later ones win.
        """
        rules: dict[str, dict[str, str]] = {}
        for node in tree.css("style"):
            for selector, declared in _sheet((node.text() or "")[:_MAX_SHEET_CHARS]):
                rules.setdefault(selector, {}).update(declared)
        links = (link.attributes.get("rel") or "" for link in tree.css("link"))
        return cls(rules, any("stylesheet" in rel.lower() for rel in links))

    def ink(self, node: LexborNode, inherited: Ink) -> Ink | None:
        """Tell whether an element is shown, and in which colours.

        Args:
            node: The element.
            inherited: From the element around it.

        Returns:
            What its children inherit, or None if it is not shown.
        """
        attributes = node.attributes
        if not attributes and not self.rules:
            return inherited
        if "hidden" in attributes:
            return None
        declared = self._declared(node.tag or "", attributes)
        is_named = "class" in attributes or "id" in attributes
        if not declared and not (is_named and self.has_external):
            return inherited
        if _is_hidden(declared):
            return None
        ink = inherited
        ground = declared.get("background-color") or declared.get("background")
        if ground is not None:
            ink = replace(ink, ground=_colour(ground) if ground not in ("transparent", "none", "inherit") else ink.ground)
        elif declared.get("background-image") or (is_named and self.has_external and node.tag != "body"):
            ink = replace(ink, ground=None)
        if "color" in declared:
            ink = replace(ink, colour=_colour(declared["color"]))
            if ink.colour is not None and ink.ground is not None and _is_same(ink.colour, ink.ground):
                return None
        return ink

    def _declared(self, tag: str, attributes: Mapping[str, str | None]) -> dict[str, str]:
        declared: dict[str, str] = {}
        if self.rules:
            names = [f".{name}" for name in (attributes.get("class") or "").lower().split()]
            names += [f"#{attributes['id']}".lower()] if attributes.get("id") else []
            for selector in (tag, *names, *(tag + name for name in names)):
                declared.update(self.rules.get(selector, {}))
        if tag == "font" and attributes.get("color"):
            declared["color"] = (attributes["color"] or "").strip().lower()
        if attributes.get("bgcolor"):
            declared["background-color"] = (attributes["bgcolor"] or "").strip().lower()
        if style := attributes.get("style"):
            declared.update(_declarations(style))
        return declared


def _sheet(css: str) -> list[tuple[str, dict[str, str]]]:
    """Rules of simple selectors outside of conditions such as ``@media``."""
    found: list[tuple[str, dict[str, str]]] = []
    depth = begin = 0
    selectors = ""
    css = _COMMENT.sub(" ", css)
    for brace in re.finditer(r"[{}]", css):
        if brace[0] == "{":
            depth += 1
            selectors = css[begin : brace.start()] if depth == 1 else selectors
        else:
            depth = max(depth - 1, 0)
            if depth == 0 and "@" not in selectors:
                declared = _declarations(css[begin : brace.start()])
                names = [name.strip() for name in selectors.split(",")]
                found += [(name.lower(), declared) for name in names if declared and _SIMPLE_SELECTOR.fullmatch(name)]
            selectors = "" if depth == 0 else selectors
        begin = brace.end()
    return found


def _declarations(style: str) -> dict[str, str]:
    pairs = (part.partition(":") for part in style.lower().split(";"))
    return {name.strip(): value.replace("!important", "").strip() for name, colon, value in pairs if colon}


def _is_hidden(declared: Declarations) -> bool:
    get = declared.get
    if get("display") == "none" or get("visibility") in ("hidden", "collapse") or get("content-visibility") == "hidden":
        return True
    if _is_below(get("opacity", ""), _MIN_OPACITY) or _is_tiny(get("font-size", "")):
        return True
    is_placed = get("position") in ("absolute", "fixed")
    places = [get("text-indent", ""), *([get("left", ""), get("top", ""), get("right", "")] if is_placed else [])]
    if any(_is_below(place, _OFF_SCREEN_PX) for place in places):
        return True
    if is_placed and (_CLIPPED.match(get("clip", "")) or _CLIPPED.match(get("clip-path", ""))):
        return True
    sizes = [get(side, "") for side in ("height", "max-height", "width", "max-width")]
    return get("overflow", "").startswith(("hidden", "clip")) and any(_is_below(size, 1.5) for size in sizes)


def _is_below(value: str, limit: float) -> bool:
    found = _LENGTH.fullmatch(value)
    if found is None:
        return False
    scale = 16.0 if found[2] in ("em", "rem") else 0.01 if found[2] == "%" and limit == _MIN_OPACITY else 1.0
    return float(found[1]) * scale < limit


def _is_tiny(value: str) -> bool:
    found = _LENGTH.fullmatch(value)
    if found is None:
        return False
    size = float(found[1])
    match found[2]:
        case "em" | "rem":
            return size < _MIN_FONT_SHARE
        case "%":
            return size < 100 * _MIN_FONT_SHARE
        case "px" | "pt":
            return size < _MIN_FONT_PX
        case _:
            return size == 0


def _colour(value: str) -> Colour | None:
    """The colour that a value names; None where it is not known. A transparent one is that of no letter, so it is not known either."""
    word = value.split()[0] if value and not value.startswith("rgb") else value
    if word in _NAMED:
        return _NAMED[word]
    if re.fullmatch(r"#(?:[0-9a-f]{3,4}|[0-9a-f]{6}(?:[0-9a-f]{2})?)", word):
        digits = word[1:]
        digits = "".join(2 * digit for digit in digits) if len(digits) < 6 else digits
        return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)
    found = _RGB.fullmatch(value)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _is_same(one: Colour, other: Colour) -> bool:
    return max(abs(left - right) for left, right in zip(one, other, strict=True)) <= _MAX_COLOUR_DIFFERENCE
