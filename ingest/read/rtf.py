"""RTF: headings, paragraphs, lists, code, table rows, notes, headers and footers.

Read here, not with kreuzberg, which knows no headings of RTF, drops hidden text and spaces, and found a third of the paragraphs
(measured with kreuzberg 4.10.4, `bench/formats.py`).

References:
    Microsoft, Rich Text Format Specification 1.9.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from ingest.read.flow import Placed
from ingest.read.rtf_look import LOOKS, PLAIN, Colours, Look
from ingest.read.rtf_page import Page, Paragraph
from ingest.read.styles import heading_of, is_code_style, list_level_of
from rag.errors import InputError

_TOKEN = re.compile(r"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\(.)|([{}])|[\r\n\0]+|([^\\{}\r\n\0]+)", re.DOTALL)
_MAX_DEPTH = 1_000
# Groups that hold no text of the page, and parts of it that are there a second time.
_SKIPPED = frozenset(
    """pict objdata fldinst listtext pntext nonshppict nonesttables bkmkstart bkmkend themedata colorschememapping datastore
    xmlnstbl latentstyles filetbl revtbl rsidtbl listtable listoverridetable generator sn sv shppict upr atnid atnauthor annotation
    tc xe rxe txe ftnsep ftnsepc aftnsep aftnsepc falt panose template""".split()
)
_TARGETS = {
    **dict.fromkeys(_SKIPPED, "nothing"),
    **dict.fromkeys("header headerl headerr headerf footer footerl footerr footerf".split(), "margin"),
    "stylesheet": "styles", "fonttbl": "fonts", "colortbl": "colours", "info": "info",
}  # fmt: skip
_INFO = {"title": "title", "author": "author", "subject": "subject", "keywords": "keywords", "doccomm": "description"}
# Groups that readers may leave out, and that we do not.
_STARRED = frozenset(("shpinst", "shptxt", "do", "dptxbxtext"))
_BOXES = ("shptxt", "dptxbxtext")
_CHARACTERS = {
    "emdash": "—", "endash": "–", "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "bullet": "•", "tab": " ",
    "emspace": " ", "enspace": " ", "qmspace": " ", "nestcell": " ", "~": "\xa0", "_": "-", "\\": "\\", "{": "{", "}": "}",
}  # fmt: skip
# Code pages of the character sets of fonts that differ from the code page of the document.
_CHARSETS = {
    77: "mac_roman", 128: "cp932", 129: "cp949", 134: "gbk", 136: "big5", 161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255",
    178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250",
}  # fmt: skip
# Titles and names of styles are shorter; it bounds the work of putting them together.
_MAX_NAME_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class Story:
    """Blocks in reading order, headers and footers first, and the metadata."""

    blocks: list[Placed]
    metadata: dict[str, str]


def rtf_story(data: bytes) -> Story:
    """Read a document.

    Args:
        data: The whole file.

    Returns:
        Its text, and title, author, subject, keywords and description, if given. Paragraphs and rows with text that is hidden, white
        text and text below 1 point are flagged.

    Raises:
        InputError: With code ``unreadable`` for another format or a cut file, ``too_deep`` for more than 1,000 nested groups.
    """
    source = data.decode("latin-1")
    if not source.startswith("{\\rtf"):
        raise InputError("does not begin with '{\\rtf', so it is no RTF; rename it by its format", code="unreadable")
    reader = _Reader()
    at = 0
    while at < len(source) and (found := _TOKEN.match(source, at)):
        at = found.end() + reader.token(found)
    if at < len(source) or reader.depth:
        raise InputError(f"ends within {reader.depth} open groups, as a cut file does; get it again", code="unreadable")
    return Story(reader.blocks(), {key: text.strip() for key, text in reader.info.items()})


@dataclass(frozen=True, slots=True)
class _Group:
    """What holds up to the end of a group: where its text goes, its encoding, and how many characters stand in for a Unicode one."""

    target: str = "text"
    encoding: str = "cp1252"
    n_stand_ins: int = 1
    look: Look = PLAIN
    is_note: bool = False


@dataclass(slots=True)
class _Sheet:
    """Style sheet and font table, and the entry of either that is being read."""

    styles: dict[int, Paragraph] = field(default_factory=dict)
    fonts: dict[int, str] = field(default_factory=dict)
    number: int = 0
    outline: int = 0
    name: str = ""


class _Reader:
    """Tokens to a flow for the text and one for headers and footers."""

    def __init__(self) -> None:
        self.info: dict[str, str] = {}
        self._flows = {"text": Page(), "margin": Page()}
        self._group = _Group()
        self._outer: list[_Group] = []
        self._sheet = _Sheet()
        self._colours = Colours()
        self._encoding = "cp1252"
        self._is_first = self._is_starred = False
        self._to_skip = 0
        self._bytes = bytearray()

    @property
    def depth(self) -> int:
        """Groups that are open."""
        return len(self._outer)

    def blocks(self) -> list[Placed]:
        """Headers and footers that say something, each once, then the text."""
        margins: dict[str, Placed] = {}
        for placed in self._flows["margin"].blocks():
            if any(char.isalpha() for char in placed.block.text):
                margins.setdefault(
                    placed.block.text, replace(placed, block=replace(placed.block, headings=(), kind="prose", group=0))
                )
        return [*margins.values(), *self._flows["text"].blocks()]

    def token(self, found: re.Match[str]) -> int:
        """Take one token; returns how many characters of binary data follow it."""
        word, number, byte, symbol, brace, text = found.groups()
        if byte:
            self._take_byte(int(byte, 16))
            return 0
        if brace or word:
            self._flush()
        if brace == "{":
            self._open_group()
        elif brace:
            self._close_group()
        elif word:
            return self._word(word, int(number) if number else None)
        elif symbol == "*":
            self._is_starred = True
            return 0
        elif symbol and symbol in "\r\n":
            self._word("par", None)
        elif symbol:
            self._take(_CHARACTERS.get(symbol, ""))
        elif text:
            self._take_source(text)
        return 0

    def _open_group(self) -> None:
        if len(self._outer) >= _MAX_DEPTH:
            raise InputError(f"nests more than {_MAX_DEPTH:,} groups; repair the file", code="too_deep")
        self._outer.append(self._group)
        self._is_first, self._is_starred, self._to_skip = True, False, 0

    def _close_group(self) -> None:
        if not self._outer:
            return
        ended, self._group = self._group, self._outer.pop()
        self._to_skip = 0
        if ended.is_note and not self._group.is_note:
            self._page.flow.close_paragraph()
        elif ended.target == "margin" and self._group.target != "margin":
            self._flows["margin"].end_paragraph()
        if ended.target == "styles":
            self._end_style()

    def _end_style(self) -> None:
        sheet, name = self._sheet, self._sheet.name.strip().rstrip(";").strip()
        if name:
            sheet.styles[sheet.number] = Paragraph(sheet.outline or heading_of(name), list_level_of(name), is_code_style(name))
        sheet.number, sheet.outline, sheet.name = 0, 0, ""

    @property
    def _page(self) -> Page:
        return self._flows["margin" if self._group.target == "margin" else "text"]

    @property
    def _is_hidden(self) -> bool:
        """Whether text that comes now is not seen; white text on a table's own colour is how its headings look."""
        look = self._group.look
        if look is PLAIN:
            return False
        at = self._page.paragraph
        return look.is_hidden(on_ground=at.in_table or at.is_shaded)

    def _word(self, word: str, number: int | None) -> int:
        is_first, self._is_first = self._is_first, False
        is_starred, self._is_starred = self._is_starred, False
        if word == "bin":
            return max(number or 0, 0)
        if self._group.target == "nothing" or (is_first and self._enter(word, is_starred)):
            return 0
        if word == "u" and number is not None:
            self._take(chr(number % 65536))
            self._to_skip = self._group.n_stand_ins
        elif word == "uc":
            self._group = replace(self._group, n_stand_ins=min(max(number or 0, 0), 16))
        elif word == "ansicpg":
            self._encoding = _known(f"cp{number}")
            self._group = replace(self._group, encoding=self._encoding)
        elif self._group.target in ("styles", "fonts"):
            self._sheet_word(word, number or 0)
        elif self._group.target == "colours":
            self._colours.word(word, number or 0)
        elif word in _CHARACTERS:
            self._take(_CHARACTERS[word])
        elif self._group.target in ("text", "margin"):
            self._text_word(word, number)
        return 0

    def _enter(self, word: str, is_starred: bool) -> bool:
        """Whether a word at the begin of a group says where its text goes."""
        target = self._group.target
        if target == "info":
            target = _INFO.get(word, "nothing")
        elif word in _TARGETS:
            target = _TARGETS[word]
        elif word == "footnote" and target in ("text", "margin"):
            self._page.open(self._is_hidden)
            self._page.flow.open_paragraph()
            self._group = replace(self._group, is_note=True)
        elif is_starred and word not in _STARRED:
            target = "nothing"
        elif word in _BOXES:
            self._group = replace(self._group, look=replace(self._group.look, is_boxed=True))
        elif not is_starred:
            return False
        self._group = replace(self._group, target=target)
        return True

    def _sheet_word(self, word: str, number: int) -> None:
        if word == "s":
            self._sheet.number = number
        elif word == "outlinelevel" and 0 <= number < 9:
            self._sheet.outline = number + 1
        elif word == "f" and self._group.target == "fonts":
            self._sheet.number = number
        elif word == "fcharset" and number in _CHARSETS:
            self._sheet.fonts[self._sheet.number] = _CHARSETS[number]

    def _text_word(self, word: str, number: int | None) -> None:
        page = self._page
        if word in LOOKS:
            look = self._group.look.after(word, number, self._colours)
            encoding = self._encoding if word == "plain" else self._group.encoding
            if look is not self._group.look or encoding != self._group.encoding:
                self._group = replace(self._group, look=look, encoding=encoding)
        elif word == "f":
            self._group = replace(self._group, encoding=self._sheet.fonts.get(number or 0, self._encoding))
        elif word == "s":
            style = self._sheet.styles.get(number or 0, Paragraph())
            page.paragraph = replace(style, in_table=page.paragraph.in_table, is_shaded=page.paragraph.is_shaded)
        elif word in ("cbpat", "shading"):
            page.paragraph = replace(page.paragraph, is_shaded=self._colours.is_shade(word, number))
        elif word in ("par", "sect", "page") and self._group.is_note:
            page.flow.text(" ")
        else:
            page.word(word, number)

    def _take_byte(self, byte: int) -> None:
        if self._to_skip:
            self._to_skip -= 1
        else:
            self._bytes.append(byte)

    def _take_source(self, text: str) -> None:
        n_skipped = min(self._to_skip, len(text))
        self._to_skip -= n_skipped
        # Bytes above 127 are as good as escaped ones.
        self._bytes += text[n_skipped:].encode("latin-1")

    def _flush(self) -> None:
        if self._bytes:
            text, self._bytes = self._bytes.decode(self._group.encoding, "replace"), bytearray()
            self._take(text)

    def _take(self, text: str) -> None:
        if self._bytes:
            self._flush()
        self._is_first = False
        match self._group.target:
            case "nothing" | "fonts" | "info":
                return
            case "styles":
                self._sheet.name = (self._sheet.name + text)[:_MAX_NAME_CHARS]
            case "text" | "margin":
                self._page.take(text, self._is_hidden)
            case "colours":
                self._colours.text(text)
            case key:
                self.info[key] = (self.info.get(key, "") + text)[:_MAX_NAME_CHARS]


def _known(encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError:
        return "cp1252"
    return encoding
