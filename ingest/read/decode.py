"""Bytes to text, or a reason why not: byte order marks, strict UTF-8, then Windows-1252 where it is plausible.

A wrong guess would be indexed as mojibake that nobody finds, so what is neither is refused with the way out.
"""

from __future__ import annotations

import codecs
import re

from rag.errors import InputError

# UTF-32 before UTF-16: the mark of UTF-32-LE begins with that of UTF-16-LE.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SIGNATURES = (
    (b"%PDF-", "a PDF"),
    (b"{\\rtf", "an RTF document"),
    (b"PK\x03\x04", "a ZIP archive or Office document"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"RIFF", "a RIFF file (WebP, WAV or AVI)"),
    (b"\x1f\x8b", "gzip data"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\x00", "xz data"),
    (b"\x28\xb5\x2f\xfd", "Zstandard data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ", "a Windows program"),
    (b"\x00asm", "a WebAssembly module"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"OggS", "Ogg audio"),
    (b"fLaC", "FLAC audio"),
    (b"ID3", "MP3 audio"),
)
_OFFICE_PARTS = (
    (b"word/", "a Word document (DOCX)"),
    (b"xl/", "an Excel workbook (XLSX)"),
    (b"ppt/", "a PowerPoint presentation (PPTX)"),
    (b"mimetypeapplication/epub+zip", "an EPUB book"),
    (b"mimetypeapplication/vnd.oasis.opendocument", "an OpenDocument file"),
)
# These are printable, and yet no text that somebody wants indexed as it stands.
_ALWAYS_BINARY = ("a PDF", "an RTF document")
_READABLE = "by its name it is text: rename it after its format, save it in a format that is read, or exclude it"

_CONTROLS = re.compile(rb"[\x01-\x08\x0b\x0e-\x1f\x7f]")
_HIGH = re.compile(rb"[\x80-\xff]")
# Western European text has single accented letters; three in a row are another script or damaged UTF-8.
_HIGH_RUN = re.compile(rb"[\x80-\xff]{3,}")
_UTF8_PAIR = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
# Text encodings of the WHATWG standard, by the names that Python knows. Its others (idna, unicode_escape) are not for documents.
_KNOWN_LABEL = re.compile(
    r"""utf-?8|utf-?16(?:-?[lb]e)?|(?:us-)?ascii|iso-?8859-\d{1,2}|latin-?\d|windows-\d{3,4}|cp\d{3,4}|koi8-[rut]|gb2312|gbk|gb18030
      |big5(?:-hkscs)?|euc-(?:jp|kr)|shift[_-]?jis|sjis|iso-2022-(?:jp|kr)|macintosh|mac-?roman|tis-620""",
    re.IGNORECASE | re.VERBOSE,
)
_WESTERN_LABEL = re.compile(r"(?:us-)?ascii|iso-?8859-1|latin-?1", re.IGNORECASE)


def refuse_binary(data: bytes) -> None:
    """Let text of any encoding without NUL pass.

    Args:
        data: Content of a file without a byte order mark.

    Raises:
        InputError: With code ``binary``, if it holds NUL bytes or begins like a well-known binary format; the message says which.
    """
    looks_like = next((name for magic, name in _SIGNATURES if data.startswith(magic)), "")
    if looks_like.startswith("a ZIP"):
        looks_like = next((name for part, name in _OFFICE_PARTS if part in data), looks_like)
    has_nul = b"\0" in data
    # A signature in plain letters (GIF89a, MZ) may begin a text; one with control or high bytes may not.
    is_certain = looks_like in _ALWAYS_BINARY or _CONTROLS.search(data[:8]) or _HIGH.search(data[:8])
    if looks_like and (has_nul or is_certain):
        raise InputError(f"is {looks_like}; {_READABLE}", code="binary")
    if has_nul:
        raise InputError(f"holds NUL bytes, so it is binary or UTF-16 without a byte order mark; {_READABLE}", code="binary")


def decode(data: bytes) -> str:
    """Decode the content of a text file.

    In this order: a byte order mark decides; strict UTF-8; Windows-1252 if every byte has a meaning in it and the accented letters
    stand among others as they do in Western European text.

    Args:
        data: Content of the file.

    Returns:
        The text without byte order mark, not yet normalised.

    Raises:
        InputError: With code ``binary`` or ``encoding``.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decoded_after_mark(data, mark, encoding)
    refuse_binary(data)
    try:
        return data.decode("utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        offset = error.start
    text = decode_as(data, "windows-1252")
    in_runs = sum(len(run) for run in _HIGH_RUN.findall(data))
    in_pairs = sum(len(pair) for pair in _UTF8_PAIR.findall(data))
    n_high = len(_HIGH.findall(data))
    if text is None or _CONTROLS.search(data) or 2 * max(in_runs, in_pairs) > n_high:
        line = data.count(b"\n", 0, offset) + 1
        raise InputError(
            f"is neither UTF-8 (see byte {offset} on line {line}) nor Western European text; "
            "convert it, for example: iconv -f ENCODING -t UTF-8",
            code="encoding",
        )
    return text


def _decoded_after_mark(data: bytes, mark: bytes, encoding: str) -> str:
    try:
        return data[len(mark) :].decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(
            f"begins with the byte order mark of {encoding.upper()} but is not valid at byte {error.start}; save it as UTF-8",
            code="encoding",
        ) from error


def decode_as(data: bytes, label: str) -> str | None:
    """Decode with the encoding that the source declares.

    Args:
        data: Bytes of the text.
        label: Name of the encoding as written in HTML or mail; ASCII and Latin-1 mean Windows-1252, as in browsers.

    Returns:
        The text, or None if the name is unknown or the bytes do not fit it.

    References:
        https://encoding.spec.whatwg.org/#names-and-labels
    """
    label = label.strip()
    if not _KNOWN_LABEL.fullmatch(label):
        return None
    try:
        return data.decode("windows-1252" if _WESTERN_LABEL.fullmatch(label) else label).lstrip("\ufeff")
    except (UnicodeDecodeError, LookupError):
        return None
