"""One small made file of every family that readers know, and seeded damage to it.

Files of ZIP members are damaged from outside, where most damage ends at the directory or a checksum, and from inside: a member is
damaged and everything is packed again, so that the damage reaches the parser behind it. The same holds for files packed by gzip.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from tests.made import pdf
from tests.made.office import (
    Cell,
    can_convert,
    converted,
    docx_bytes,
    epub_bytes,
    html_bytes,
    made_text,
    pptx_bytes,
    xlsx_bytes,
    zip_bytes,
)

_NUMBER = re.compile(rb"\d+")
# Sizes, counts and indexes that a parser did not expect: none, negative, one too many for 16, 31, 32 and 63 bits.
_ODD_NUMBERS = (b"0", b"-1", b"65536", b"2147483648", b"4294967296", b"9223372036854775808", b"1e308", b"99999")
_PLAIN = {
    "notes.txt": b"The pump is started in October.\n\nIt runs until April, and costs 12.50 a day.\n" * 20,
    "guide.md": b"---\nteam: heat\n---\n# Pump\n\nText with *stars*, `code` and <b>tags</b>.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
    b"## Parts\n\n- one\n  - two\n\n```python\nprint(1)\n```\n" * 6,
    "table.csv": b"year,city,kWh\n" + b"".join(b'%d,"Oslo, N",%d.5\n' % (1990 + i % 30, i) for i in range(60)),
    "records.jsonl": b"".join(b'{"_id": "r%d", "title": "Pump %d", "text": "Valve %d is open.", "n": %d}\n' % (i, i, i, i) for i in range(40)),
    "pump.py": b'"""Pump."""\n\n\ndef start(n: int) -> int:\n    """Start it."""\n    return n + 1\n\n\nclass Valve:\n    size = 4\n' * 8,
}  # fmt: skip
_MAIL = (
    b"From: Ann <ann@example.org>\nTo: bob@example.org\nSubject: =?utf-8?q?Pump_=C3=A9?=\nDate: Mon, 2 Jan 2023 10:00:00 +0000\n"
    b'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b1"\n\n--b1\nContent-Type: text/plain; charset=utf-8\n'
    b"Content-Transfer-Encoding: quoted-printable\n\nThe pump is =C3=A9lectric.\n--b1\nContent-Type: text/html\n\n"
    b"<p>Valve <b>four</b></p>\n--b1\nContent-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: base64\n\nJVBERi0=\n--b1--\n"
)


def families(folder: Path | None = None) -> dict[str, bytes]:
    """Files by name.

    Args:
        folder: For LibreOffice and TeX, whose files are added where they are installed; None adds none.

    Returns:
        Their contents, some kilobytes each.
    """
    made = made_text("plain", n_chapters=1)
    rows: list[list[Cell]] = [["year", "city", "kWh"]]
    rows += [[1990 + i, "Oslo", i / 4] for i in range(40)]
    word, book = docx_bytes(made, "other"), xlsx_bytes({"Heat": rows, "Cold": rows[:9]})
    pages = [pdf.content_of([pdf.Shown(72, 800 - 20 * i, f"Line {i} of the report") for i in range(20)])] * 3
    found = _PLAIN | {
        "page.html": html_bytes(made),
        "mail.eml": _MAIL,
        "box.mbox": b"".join(b"From a@example.org Mon Jan  2 10:00:00 2023\n" + _MAIL + b"\n" for _ in range(4)),
        "notebook.ipynb": _notebook(),
        "records.jsonl.gz": gzip.compress(_PLAIN["records.jsonl"], mtime=0),
        "plain.pdf": pdf.small_pdf(pages),
        "packed.pdf": pdf.small_pdf(pages, is_packed=True, info="/Title (Pump)"),
        "report.docx": word,
        "book.epub": epub_bytes(made),
        "slides.pptx": pptx_bytes(made),
        "sheet.xlsx": book,
        "files.zip": zip_bytes(_PLAIN | {"inner.zip": zip_bytes(_PLAIN), "page.html": html_bytes(made)}),
        "files.tar.gz": tar_bytes(_PLAIN, "w:gz"),
    }
    if folder and can_convert():
        found |= {f"report.{kind}": converted(word, "docx", kind, folder) for kind in ("odt", "rtf")}
        found |= {f"sheet.{kind}": converted(book, "xlsx", kind, folder) for kind in ("ods", "xls")}
    if folder and pdf.program("tex"):
        found["tex.pdf"] = pdf.printed("tex", "plain", 1, 1, folder)
    return found


def _notebook() -> bytes:
    cells = [
        {"cell_type": "markdown", "source": ["# Pump\n", "Text of the pump."]},
        {"cell_type": "code", "source": "print(1)", "outputs": [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}]},
    ]
    language = {"language_info": {"name": "python"}}
    return json.dumps({"cells": cells * 6, "metadata": language, "nbformat": 4, "nbformat_minor": 5}).encode()


def tar_bytes(members: dict[str, bytes], mode: str = "w") -> bytes:
    """A TAR file of members, compressed as the mode of `tarfile` says."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def png_bytes(width: int, height: int, packed: bytes, bits: int = 8) -> bytes:
    """A grey picture.

    Args:
        width: Pixels.
        height: Pixels.
        packed: Its rows, each after a zero byte, compressed by zlib.
        bits: Of a pixel.

    Returns:
        The file.
    """

    def chunk(tag: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def picture() -> bytes:
    """A picture of three lines of text."""
    import pypdfium2

    shown = [pdf.Shown(20, 800 - 20 * i, f"Pump number {i} is open", 14) for i in range(3)]
    document = pypdfium2.PdfDocument(pdf.small_pdf([pdf.content_of(shown)]))
    bitmap = document[0].render(scale=2, grayscale=True, crop=(0, 730, 350, 0))
    pixels = memoryview(bitmap.buffer).cast("B")
    rows = b"".join(b"\0" + bytes(pixels[y * bitmap.stride :][: bitmap.width]) for y in range(bitmap.height))
    return png_bytes(bitmap.width, bitmap.height, zlib.compress(rows))


def mutant(data: bytes, seed: int) -> bytes:
    """Damage a file, the same for the same seed.

    Args:
        data: The file; one of ZIP members or gzip is damaged inside in two of three cases.
        seed: Of what is done where.

    Returns:
        The damaged file, at most some times as large.
    """
    luck = random.Random(seed)
    if luck.random() < 2 / 3:
        if data.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
            name = luck.choice([name for name, content in members.items() if content])
            return zip_bytes(members | {name: _damaged(members[name], luck)})
        if data.startswith(b"\x1f\x8b"):
            return gzip.compress(_damaged(gzip.decompress(data), luck), mtime=0)
    return _damaged(data, luck)


def _damaged(data: bytes, luck: random.Random) -> bytes:
    for _ in range(luck.choice((1, 1, 2, 4))):
        data = luck.choice(_ACTS)(bytearray(data or b"\0"), luck)
    return data


def _flip(data: bytearray, luck: random.Random) -> bytes:
    for _ in range(luck.choice((1, 8, 64))):
        data[luck.randrange(len(data))] ^= 1 << luck.randrange(8)
    return bytes(data)


def _range(data: bytearray, luck: random.Random) -> slice:
    start = luck.randrange(len(data))
    return slice(start, start + luck.randint(1, luck.choice((4, 64, len(data)))))


def _truncate(data: bytearray, luck: random.Random) -> bytes:
    return bytes(data[: luck.randrange(len(data))])


def _zero(data: bytearray, luck: random.Random) -> bytes:
    where = _range(data, luck)
    data[where] = bytes(len(data[where]))
    return bytes(data)


def _cut(data: bytearray, luck: random.Random) -> bytes:
    del data[_range(data, luck)]
    return bytes(data)


def _repeat(data: bytearray, luck: random.Random) -> bytes:
    where = _range(data, luck)
    data[where] = data[where] * luck.choice((2, 3))
    return bytes(data)


def _splice(data: bytearray, luck: random.Random) -> bytes:
    data[_range(data, luck)] = data[_range(data, luck)]
    return bytes(data)


def _renumber(data: bytearray, luck: random.Random) -> bytes:
    places = [match.span() for match in _NUMBER.finditer(data)]
    for start, end in sorted(luck.sample(places, min(len(places), luck.choice((1, 1, 3)))), reverse=True):
        data[start:end] = luck.choice(_ODD_NUMBERS)
    return bytes(data)


_ACTS: tuple[Callable[[bytearray, random.Random], bytes], ...] = (_flip, _truncate, _zero, _cut, _repeat, _splice, _renumber)
