"""Bytes to text, or a reason why not."""

from __future__ import annotations

import codecs

import pytest

from ingest.read.decode import decode, decode_as
from rag.errors import InputError


def refusal(data: bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        decode(data)
    return caught.value


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_mark_decides(encoding: str) -> None:
    assert decode("Grüße 漢字".encode(encoding)) == "Grüße 漢字"


def test_big_endian_mark_is_understood() -> None:
    assert decode(codecs.BOM_UTF16_BE + "ä".encode("utf-16-be")) == "ä"


def test_content_that_contradicts_its_mark_is_refused() -> None:
    assert refusal(codecs.BOM_UTF8 + b"caf\xe9").code == "encoding"


def test_utf8_without_mark_is_understood() -> None:
    assert decode("naïve".encode()) == "naïve"


def test_windows_1252_is_understood_where_it_is_plausible() -> None:
    assert decode("“Café” – 5 €".encode("cp1252")) == "“Café” – 5 €"


def test_byte_without_meaning_in_windows_1252_is_refused() -> None:
    assert refusal(b"caf\xe9 \x81").code == "encoding"


@pytest.mark.parametrize(("text", "encoding"), [("Привет, мир", "cp1251"), ("検索エンジン", "shift_jis"), ("数据检索", "gbk")])
def test_other_scripts_are_refused_instead_of_read_as_mojibake(text: str, encoding: str) -> None:
    assert refusal(text.encode(encoding)).code == "encoding"


def test_damaged_utf8_is_refused_and_the_place_is_named() -> None:
    error = refusal("fine\nGrüße".encode() + b"\xc3")

    assert error.code == "encoding"
    assert "on line 2" in str(error)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"PK\x03\x04\x14\x00ppt/slides", "PPTX"),
        (b"PK\x03\x04\x14\x00mimetypeapplication/epub+zip", "EPUB"),
        (b"PK\x03\x04\x14\x00a.txt", "ZIP"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x7fELF\x02", "ELF"),
        (b"GIF89a\x00", "GIF"),
        (b"{\\rtf1 Hello}", "RTF"),
    ],
)
def test_binary_content_is_named_and_the_way_out_is_told(data: bytes, name: str) -> None:
    error = refusal(data)

    assert error.code == "binary"
    assert name in str(error)
    assert "rename it after its format" in str(error)


def test_nul_bytes_are_binary() -> None:
    assert refusal(b"a\x00b").code == "binary"


def test_text_that_begins_like_a_printable_signature_is_text() -> None:
    assert decode(b"MZ is how Windows programs begin") == "MZ is how Windows programs begin"


def test_latin_1_means_windows_1252_as_in_browsers() -> None:
    assert decode_as(b"\x93x\x94", "ISO-8859-1") == "“x”"


@pytest.mark.parametrize("label", ["idna", "unicode_escape", "rot13", "no-such", "", "utf-8\x00"])
def test_names_that_are_no_document_encoding_are_unknown(label: str) -> None:
    assert decode_as(b"a", label) is None
