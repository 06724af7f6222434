"""MBOX: one document a mail. A bad mail is a failure of that mail only.

A mail begins at a ``From `` line at the begin of the file or after a blank line, with an address and a year as mail programs write it;
quoted ``>From `` lines of bodies are restored.

References:
    RFC 4155; the quoting is that of ``mboxrd``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ingest.read.decode import refuse_binary
from ingest.read.eml import read_eml
from ingest.read.origin import Failure, Origin
from rag.errors import InputError
from rag.types import Document

# A sender and a date that ends in a year: "From " alone also begins sentences.
_FROM = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From [^\n]{0,400}?\b(?:19|20)\d\d\b[^\n]{0,60}\r?\n")
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
_SNIFFED_BYTES = 8192


def read_mbox(data: bytes, origin: Origin) -> Iterator[Document | Failure]:
    """Read the mails of a mailbox.

    Args:
        data: Content of the file.
        origin: Where it comes from; the n-th mail, from 1, has the id ``doc_id/n`` in six digits.

    Yields:
        A document or failure for every mail, in the order of the file; the codes are those of `ingest.read.eml.read_eml`.

    Raises:
        InputError: With code ``binary``; ``unreadable`` where the file does not begin with a ``From `` line; ``empty`` for no mail.
    """
    if not data.strip():
        raise InputError("holds no mail; nothing to index", code="empty")
    refuse_binary(data[:_SNIFFED_BYTES])
    data = data.lstrip(b"\xef\xbb\xbf\r\n")
    mail_no = 0
    before: re.Match[bytes] | None = None
    for begin in _FROM.finditer(data):
        if before is None and begin.start() > 0:
            break
        if before is not None:
            mail_no += 1
            yield _mail(data[before.end() : begin.start()], mail_no, origin)
        before = begin
    if before is None:
        raise InputError(
            "does not begin with a line such as 'From a@example.org Mon Jan  2 10:00:00 2023'; name a single mail .eml",
            code="unreadable",
        )
    yield _mail(data[before.end() :], mail_no + 1, origin)


def _mail(data: bytes, mail_no: int, origin: Origin) -> Document | Failure:
    number = f"{mail_no:06d}"
    here = replace(origin, path=Path(f"mail {mail_no}"), doc_id=f"{origin.doc_id}/{number}", uri=f"{origin.uri}#{mail_no}")
    try:
        return replace(read_eml(_QUOTED.sub(rb"\1", data), here), kind="mbox")
    except InputError as error:
        return Failure(f"{origin.path}/{number}", error.code, str(error))
