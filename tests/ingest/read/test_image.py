"""Pictures of text, read by tesseract."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.read import Failure, read
from ingest.read.image import read_image
from ingest.read.ocr import version
from ingest.read.origin import Origin
from rag.errors import InputError
from tests.made.pdf import Shown, content_of, small_pdf

ORIGIN = Origin(Path("scans/letter.png"), "d", "u", None)
needs_tesseract = pytest.mark.skipif(not version(), reason="tesseract is not installed")


def picture_of(*texts: str) -> bytes:
    """PNM picture of lines of large text."""
    pdfium = pytest.importorskip("pypdfium2")
    shown = [Shown(60, 780 - 36 * no, text, 30) for no, text in enumerate(texts)]
    bitmap = pdfium.PdfDocument(small_pdf([content_of(shown)]))[0].render(scale=1, grayscale=True)
    rows = (bytes(bitmap.buffer[row * bitmap.stride : row * bitmap.stride + bitmap.width]) for row in range(bitmap.height))
    return b"P5 %d %d 255\n" % (bitmap.width, bitmap.height) + b"".join(rows)


def code_of(data: bytes, origin: Origin = ORIGIN) -> str:
    (failure,) = read(data, origin)
    assert isinstance(failure, Failure), failure
    return failure.code


@needs_tesseract
def test_text_of_a_picture_is_read_with_the_program_and_its_confidence() -> None:
    document = read_image(picture_of("The pump is warm", "and the con-", "denser cold."), ORIGIN)

    assert document.text.replace("\n\n", " ") == "The pump is warm and the condenser cold."
    assert {s.page for s in document.sections} == {1}
    assert (document.title, document.kind) == ("letter", "image")
    assert document.metadata["ocr"] == version()
    assert 50 <= int(document.metadata["ocr_confidence"]) <= 100


@needs_tesseract
def test_picture_without_text_is_no_text() -> None:
    assert code_of(b"P5 200 200 255\n" + b"\xff" * 40_000) == "no_text"


@needs_tesseract
@pytest.mark.parametrize("data", [b"no picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xff\xff\xff"])
def test_file_that_is_no_picture_is_unreadable(data: bytes) -> None:
    assert code_of(data) == "unreadable"


@needs_tesseract
def test_missing_language_is_named_with_what_to_install() -> None:
    with pytest.raises(InputError, match=r"'xxx'.*install tesseract") as caught:
        read_image(picture_of("pump"), Origin(Path("a.png"), "d", "u", None, ocr_languages="xxx"))

    assert caught.value.code == "no_text"


def test_no_languages_read_no_pictures() -> None:
    assert code_of(b"P5 1 1 255\n\xff", Origin(Path("a.png"), "d", "u", None, ocr_languages="")) == "no_text"


def test_file_without_bytes_is_empty() -> None:
    assert code_of(b"") == "empty"


def test_missing_program_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(InputError, match="install tesseract") as caught:
        read_image(b"P5 1 1 255\n\xff", ORIGIN)

    assert caught.value.code == "no_text"
