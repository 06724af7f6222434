"""Mailboxes."""

from __future__ import annotations

import mailbox
from email.message import EmailMessage
from pathlib import Path

from ingest.read import Failure, Origin, read
from rag.types import Document

FROM = b"From a@example.org Mon Jan  2 10:00:00 2023\n"


def outcomes(data: bytes) -> list[Document | Failure]:
    return list(read(data, Origin(Path("mail/in.mbox"), "in.mbox", "mail/in.mbox", 2.0)))


def test_every_mail_is_a_document_with_a_number() -> None:
    found = outcomes(FROM + b"Subject: One\n\nFirst.\n\n" + FROM + b"Subject: Two\n\nSecond.\n")
    assert [(d.doc_id, d.uri, d.title, d.text, d.kind) for d in found if isinstance(d, Document)] == [
        ("in.mbox/000001", "mail/in.mbox#1", "One", "First.", "mbox"),
        ("in.mbox/000002", "mail/in.mbox#2", "Two", "Second.", "mbox"),
    ]


def test_sentence_that_begins_with_from_stays_in_its_mail() -> None:
    (document,) = outcomes(FROM + b"Subject: One\n\nFirst.\n\nFrom then on it rained.\n")
    assert isinstance(document, Document)
    assert document.text == "First.\n\nFrom then on it rained."


def test_quoted_line_is_restored() -> None:
    (document,) = outcomes(FROM + b"\nFirst.\n>From here.\n>>From there.\n")
    assert isinstance(document, Document)
    assert document.text == "First.\nFrom here.\n>From there."


def test_bad_mail_is_a_failure_and_the_others_are_read() -> None:
    found = outcomes(FROM + b"\nOne.\n\n" + FROM + b"Subject: empty\n\n\n\n" + FROM + b"\nThree.\n")
    assert [(item.path, item.code) if isinstance(item, Failure) else item.text for item in found] == [
        "One.",
        ("mail/in.mbox/000002", "empty"),
        "Three.",
    ]


def test_mails_with_dos_line_ends_are_told_apart() -> None:
    data = (FROM + b"\nOne.\n\n" + FROM + b"\nTwo.\n").replace(b"\n", b"\r\n")
    assert [item.text for item in outcomes(data) if isinstance(item, Document)] == ["One.", "Two."]


def test_mailbox_of_the_standard_library_is_read(tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "x.mbox")
    for n in range(12):
        mail = EmailMessage()
        mail["Subject"] = f"Number {n}"
        mail.set_content(f"Text {n}.\n\nFrom me to you.\n")
        box.add(mail)
    box.close()
    found = outcomes((tmp_path / "x.mbox").read_bytes())
    assert [(item.title, item.text) for item in found if isinstance(item, Document)] == [
        (f"Number {n}", f"Text {n}.\n\nFrom me to you.") for n in range(12)
    ]


def test_text_without_a_from_line_is_no_mailbox() -> None:
    (failure,) = outcomes(b"Subject: a mail\n\nText\n\n" + FROM + b"\nTwo.\n")
    assert isinstance(failure, Failure)
    assert failure.code == "unreadable"


def test_blank_file_is_empty() -> None:
    (failure,) = outcomes(b"\n\n")
    assert isinstance(failure, Failure)
    assert failure.code == "empty"
