"""Small files that unpack to much, claim much, or nest deep: each is cheap to make and meant to be dear to read.

Sizes are for a ``scale`` of 1.0; a tenth of it is quick to make and still beyond what a reader should do for nothing.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.made import pdf
from tests.made.families import png_bytes
from tests.made.office import changed_zip, docx_bytes, epub_bytes, made_text, xlsx_bytes, zip_bytes

Bomb = Callable[[float], bytes]

_PIECE = bytes(1_000_000)
_ENTITIES = b'<!DOCTYPE x [<!ENTITY a "ha ha ha ha ha ">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(10)
) + b"]>"  # fmt: skip
_ENTITY = b"&k;"
_W = b'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_S = b'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def bombs(folder: Path, scale: float = 1.0) -> Iterator[Path]:
    """Make the files, one after the other.

    Args:
        folder: Where they are put; their name says what they are.
        scale: Of their sizes.

    Yields:
        The path of each when it is there.
    """
    for name, make in BOMBS.items():
        path = folder / name
        path.write_bytes(make(scale))
        yield path


def _n(scale: float, most: int) -> int:
    return int(scale * most)


def _deflated(pieces: Iterable[bytes], *, wbits: int = zlib.MAX_WBITS) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return b"".join(map(packer.compress, pieces)) + packer.flush()


def _pieces(scale: float, megabytes: int, piece: bytes = _PIECE) -> Iterator[bytes]:
    return (piece for _ in range(_n(scale, megabytes)))


def _docx() -> bytes:
    return docx_bytes(made_text("plain", n_chapters=1), "plain")


def _docx_with(part: bytes) -> bytes:
    return changed_zip(_docx(), {"word/document.xml": part})


def _zip_docx(scale: float) -> bytes:
    stream = io.BytesIO(_docx_with(b""))
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("word/more.xml", "w") as member:
        for piece in _pieces(scale, 600, b"<w:t> </w:t>" * 80_000):
            member.write(piece)
    return stream.getvalue()


def _liar_docx(scale: float) -> bytes:
    """The directory says that the text is short."""
    data = _docx_with(b"<w:document " + _W + b"><w:body>" + b"<w:p/>" * _n(scale, 20_000_000) + b"</w:body></w:document>")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = archive.getinfo("word/document.xml").file_size
    return data.replace(struct.pack("<I", size), struct.pack("<I", 4_000))


def _nested_zip(scale: float) -> bytes:
    data = zip_bytes({f"{i}.txt": bytes(_n(scale, 10_000_000)) for i in range(2)})
    for _ in range(5):
        data = zip_bytes({f"{i:02}.zip": data for i in range(16)})
    return data


def _wide_zip(scale: float) -> bytes:
    """Text that is honest in size and ratio, but is read as 9,999 files."""
    return zip_bytes({f"{i}.txt": f"File {i}" for i in range(_n(scale, 100_000))})


def _entity_docx(scale: float) -> bytes:
    body = b"<w:body><w:p><w:r><w:t>%s</w:t></w:r></w:p></w:body>" % _ENTITY
    return _docx_with(_ENTITIES + b"<w:document %s>%s</w:document>" % (_W, body))


def _entity_xlsx(scale: float) -> bytes:
    sheet = b'<worksheet %s><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>%s</t></is></c></row></sheetData></worksheet>'
    return changed_zip(xlsx_bytes({"S": [["a"]]}), {"xl/worksheets/sheet1.xml": _ENTITIES + sheet % (_S, _ENTITY)})


def _entity_epub(scale: float) -> bytes:
    page = b"<html><body><p>Read</p><svg><text>%s</text></svg><p>%s</p></body></html>" % (_ENTITY, _ENTITY)
    return changed_zip(epub_bytes(made_text("plain", n_chapters=1)), {"OEBPS/page 1.xhtml": _ENTITIES + page})


def _deep_docx(scale: float) -> bytes:
    n = _n(scale, 1_000_000)
    return _docx_with(b"<w:document %s>%s%s</w:document>" % (_W, b"<w:tbl>" * n, b"</w:tbl>" * n))


def _wide_xlsx(row: Callable[[int], bytes]) -> Bomb:
    def make(scale: float) -> bytes:
        cells = b"".join(row(i) for i in range(_n(scale, 1_000_000)))
        sheet = b'<worksheet %s><sheetData><row r="1">%s</row></sheetData></worksheet>' % (_S, cells)
        return changed_zip(xlsx_bytes({"S": [["a"]]}), {"xl/worksheets/sheet1.xml": sheet})

    return make


def _pdf(objects: list[bytes]) -> bytes:
    """A file of objects, numbered from 1, the first of them the catalog."""
    pieces = [b"%PDF-1.7\n"]
    places, at = [], len(pieces[0])
    for number, content in enumerate(objects, start=1):
        places.append(at)
        pieces.append(b"%d 0 obj\n%b\nendobj\n" % (number, content))
        at += len(pieces[-1])
    pieces.append(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    pieces += [b"%010d 00000 n \n" % place for place in places]
    pieces.append(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, at))
    return b"".join(pieces)


_CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
_PAGE = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 %b >> >> /Contents 4 0 R >>" % _FONT


def _stream_pdf(content: Iterable[bytes]) -> bytes:
    """One page whose content is packed."""
    body = _deflated(content)
    stream = b"<< /Length %d /Filter /FlateDecode >>\nstream\n%b\nendstream" % (len(body), body)
    return _pdf([_CATALOG, b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", _PAGE, stream])


def _deep_pdf(scale: float) -> bytes:
    n = _n(scale, 100_000)
    nodes = [b"<< /Type /Pages /Parent %d 0 R /Kids [%d 0 R] /Count 1 >>" % (i + 1, i + 3) for i in range(n)]
    return _pdf([_CATALOG, *nodes, _PAGE])


def _pages_pdf(scale: float, n_most: int = 100_000) -> bytes:
    n = _n(scale, n_most)
    kids = b" ".join(b"%d 0 R" % (i + 3) for i in range(n))
    return _pdf([_CATALOG, b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, n), *([_PAGE.replace(b"/Contents 4 0 R", b"")] * n)])


def _objects_pdf(scale: float) -> bytes:
    content = pdf.content_of([pdf.Shown(72, 700, "Text")])
    stream = b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content)
    head = [_CATALOG, b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", _PAGE, stream]
    return _pdf(head + [b"<< /Next %d 0 R >>" % (i + 6) for i in range(_n(scale, 1_000_000))])


def _deep_mail(scale: float) -> bytes:
    n = _n(scale, 10_000)
    heads = (b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (i, i) for i in range(n))
    return b"Subject: deep\n" + b"".join(heads) + b"Content-Type: text/plain\n\ninner\n"


def _forwarded_mail(scale: float) -> bytes:
    return b"Subject: forwarded\nContent-Type: message/rfc822\n\n" * _n(scale, 100_000) + b"Subject: last\n\ninner\n"


def _many_parts(scale: float) -> bytes:
    part = b"--b\nContent-Type: text/plain\n\nx\n"
    return b'Content-Type: multipart/mixed; boundary="b"\n\n' + part * _n(scale, 100_000) + b"--b--\n"


def _sparse_tar(scale: float) -> bytes:
    """An old GNU header that claims eight terabytes of which none is there."""
    info = tarfile.TarInfo("sparse.txt")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:410] = b"%011o\0%011o\0" % (0, 0)
    header[483:495] = b"\x80" + (8 << 40).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


def _claiming_tar(scale: float) -> bytes:
    info = tarfile.TarInfo("large.txt")
    info.size = 1 << 50
    return info.tobuf(tarfile.GNU_FORMAT) + b"text" + bytes(1020)


def _packed_tar(scale: float) -> bytes:
    info = tarfile.TarInfo("large.txt")
    info.size = _n(scale, 1_000) * len(_PIECE)
    return _deflated((info.tobuf(tarfile.GNU_FORMAT), *_pieces(scale, 1_000), bytes(1024)), wbits=31)


def _png(scale: float) -> bytes:
    side = _n(scale**0.5, 50_000)
    return png_bytes(side, side, _deflated(bytes(1 + side // 8) for _ in range(side)), bits=1)


def _repeated(unit: bytes, n: int, before: bytes = b"", after: bytes = b"") -> Bomb:
    return lambda scale: before + unit * _n(scale, n) + after


def _gzip(megabytes: int, unit: bytes) -> Bomb:
    return lambda scale: _deflated(_pieces(scale, megabytes, unit), wbits=31)


BOMBS: dict[str, Bomb] = {
    "zip.docx": _zip_docx,
    "liar.docx": _liar_docx,
    "entity.docx": _entity_docx,
    "entity.xlsx": _entity_xlsx,
    "entity.epub": _entity_epub,
    "deep.docx": _deep_docx,
    "nested.zip": _nested_zip,
    "wide.zip": _wide_zip,
    "stream.pdf": lambda scale: _stream_pdf(_pieces(scale, 1_000, b" " * 1_000_000)),
    "operators.pdf": lambda scale: _stream_pdf(_pieces(scale, 200, b"1 0 0 1 0 0 cm " * 66_000)),
    "letters.pdf": lambda scale: _stream_pdf(_pieces(scale, 100, b"BT /F1 9 Tf 7 7 Td (a) Tj ET\n" * 33_000)),
    "deep.pdf": _deep_pdf,
    "pages.pdf": _pages_pdf,
    "objects.pdf": _objects_pdf,
    "arrays.pdf": lambda scale: _pdf([_CATALOG, b"<< /Kids %b >>" % (b"[" * _n(scale, 1_000_000))]),
    "columns.csv": lambda scale: b"\n".join(b",".join(b"c%d" % i for i in range(_n(scale, 1_000_000))) for _ in range(3)),
    "empty-columns.csv": lambda scale: (b"," * _n(scale, 1_000_000) + b"x\n") * 8,
    "columns.xlsx": _wide_xlsx(lambda i: b"<c><v>%d</v></c>" % i),
    "named-columns.xlsx": _wide_xlsx(
        lambda i: b'<c r="%c%c%c1"><v>1</v></c>' % (65 + i // 676 % 26, 65 + i // 26 % 26, 65 + i % 26)
    ),
    "deep.html": _repeated(b"<div>", 1_000_000, after=b"text"),
    "unclosed.html": _repeated(b"<p><b><i><font color=1><a href=x>", 200_000, after=b"text"),
    "table.html": _repeated(b"<table><tr><td>", 300_000, after=b"text"),
    "angles.html": _repeated(b"<", 8_000_000, b"<p>text</p>"),
    "deep.jsonl": _repeated(b"[", 4_000_000, b'{"text": ', b"]}"),
    "deep.ipynb": _repeated(b'{"a":', 1_000_000, b'{"cells": '),
    "deep.rtf": _repeated(b"{", 4_000_000, b"{\\rtf1 ", b"text}"),
    "tables.rtf": _repeated(b"\\trowd\\intbl a\\cell", 400_000, b"{\\rtf1 ", b"\\row}"),
    "deep.eml": _deep_mail,
    "forwarded.eml": _forwarded_mail,
    "parts.eml": _many_parts,
    "quotes.md": _repeated(b"> ", 4_000_000, after=b"text"),
    "brackets.md": _repeated(b"[![", 2_000_000, after=b"text"),
    "list.md": lambda scale: b"".join(b" " * i + b"- item\n" for i in range(_n(scale, 4_000))),
    "stars.md": _repeated(b"**a *b ", 1_000_000),
    "line.txt": _repeated(b"x", 8_000_000),
    "words.txt": _repeated(b"word ", 1_600_000),
    "stops.txt": _repeated(b"a. ", 2_600_000),
    "spaces.txt": _repeated(b" ", 8_000_000, b"a", b"b"),
    "quote.csv": _repeated(b"a,b\n", 2_000_000, b'x,"'),
    "line.html": _repeated(b"word ", 1_600_000, b"<p>"),
    "line.py": _repeated(b"(", 8_000_000),
    "bomb.jsonl.gz": _gzip(2_500, b" " * 999_999 + b"\n"),
    "line.jsonl.gz": _gzip(2_500, b" " * 1_000_000),
    "bomb.tar.gz": _packed_tar,
    "sparse.tar": _sparse_tar,
    "claiming.tar": _claiming_tar,
    "picture.png": _png,
}
"""Makers by name of the file; the suffix decides who reads it."""
