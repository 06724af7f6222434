"""Mail."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import pytest

from ingest.read.eml import read_eml
from ingest.read.origin import Origin
from rag.errors import InputError
from rag.types import Document

HTML = "<h1>Offer</h1><p>Rich <b>text</b></p>"


def read(mail: EmailMessage | bytes) -> Document:
    data = mail if isinstance(mail, bytes) else mail.as_bytes()
    return read_eml(data, Origin(Path("mail/offer.eml"), "d", "u", None))


def mail(text: str = "Plain text\n\nSecond") -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "Grüße"
    message["From"] = "Jörg <j@example.org>"
    message["To"] = "a@example.org, b@example.org"
    message["Date"] = "Mon, 02 Jan 2023 10:00:00 +0100"
    message["Message-ID"] = "<1@example.org>"
    message.set_content(text)
    return message


def test_headers_are_title_and_metadata() -> None:
    document = read(mail())

    assert document.title == "Grüße"
    assert dict(document.metadata) == {
        "from": "Jörg <j@example.org>",
        "to": "a@example.org, b@example.org",
        "date": "2023-01-02T10:00:00+01:00",
        "message_id": "<1@example.org>",
    }


def test_headers_are_not_in_the_text() -> None:
    document = read(mail())

    assert document.text == "Plain text\n\nSecond"
    assert [section.line for section in document.sections] == [None, None]


def test_plain_alternative_is_preferred() -> None:
    message = mail()
    message.add_alternative(HTML, subtype="html")

    assert read(message).text == "Plain text\n\nSecond"


def test_blank_plain_alternative_gives_way_to_html() -> None:
    message = mail("\n")
    message.add_alternative(HTML, subtype="html")

    assert read(message).text == "Offer\n\nRich text"


def test_html_mail_is_read_as_its_text() -> None:
    message = EmailMessage()
    message.set_content(HTML, subtype="html")
    document = read(message)

    assert document.text == "Offer\n\nRich text"
    assert document.sections[1].headings == ("Offer",)


def test_attachments_are_named_and_not_read() -> None:
    message = mail()
    message.add_attachment("secret", filename="notes.txt")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="Angebot ü.pdf")
    message.add_attachment(mail("inner"))
    document = read(message)

    assert document.metadata["attachments"] == "notes.txt, Angebot ü.pdf, message/rfc822"
    assert document.text == "Plain text\n\nSecond"


def test_every_shown_part_of_a_mixed_mail_is_read() -> None:
    raw = b"Content-Type: multipart/mixed; boundary=B\n\n--B\n\none\n--B\nContent-Type: text/html\n\n<h2>H</h2>two\n--B--\n"
    document = read(raw)

    assert [(document.text[s.start : s.end], s.headings) for s in document.sections] == [
        ("one", ()),
        ("H", ("H",)),
        ("two", ("H",)),
    ]


@pytest.mark.parametrize("charset", [b"iso-8859-1", b"no-such-charset"])
def test_body_in_another_encoding_is_read(charset: bytes) -> None:
    assert read(b"Content-Type: text/plain; charset=" + charset + b"\n\ncaf\xe9 ol\xe9").text == "café olé"


def test_date_that_is_none_is_kept_as_it_stands() -> None:
    assert read(b"Date: soon\n\ntext").metadata["date"] == "soon"


@pytest.mark.parametrize("number", ["4294967296", "9223372036854775808"])
def test_date_with_a_number_beyond_the_machine_is_kept_as_it_stands(number: str) -> None:
    date = f"Mon, 2 Jan 2023 {number}:00:00 +0000"
    assert read(f"Date: {date}\n\ntext".encode()).metadata["date"] == date


def test_file_name_is_the_title_of_a_mail_without_subject() -> None:
    assert read(b"From: a@b\n\ntext").title == "offer"


def test_mail_of_attachments_only_is_empty() -> None:
    with pytest.raises(InputError) as caught:
        read(b"Content-Type: image/png\n\nx")

    assert caught.value.code == "empty"


def test_endless_nesting_is_refused() -> None:
    parts = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(3000))
    with pytest.raises(InputError) as caught:
        read(parts.encode())

    assert caught.value.code == "too_deep"


def test_byte_order_marks_before_the_body_are_dropped() -> None:
    assert read(b"\n\xef\xbb\xbf\r\n\xef\xbb\xbf\n\nx").text == "x"
