"""Mail (RFC 5322 and MIME): the text that a mail program shows, its headers and the names of its attachments as metadata.

Of alternatives the plain one is read, else the HTML one as text. Attachments are named, never read and never dropped silently.
"""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from dataclasses import replace
from email.errors import MessageError
from email.message import EmailMessage
from email.utils import parsedate_to_datetime

from ingest.read.decode import decode, decode_as, refuse_binary
from ingest.read.html import extract
from ingest.read.origin import Origin, clean, document, one_line
from rag.errors import InputError
from rag.text import paragraphs
from rag.types import Document, Section

_HEADERS = {"from": "From", "to": "To", "cc": "Cc", "message_id": "Message-ID"}
# What the header parser of the standard library is known to raise on malformed headers, besides its own errors.
_HEADER_ERRORS = (MessageError, ValueError, LookupError, AttributeError, TypeError, AssertionError, RecursionError, OverflowError)
# Mail is nested by forwarding and by mailing lists, some levels at most; the parser recurses once a level.
_MAX_PARTS = 10_000


def read_eml(data: bytes, origin: Origin) -> Document:
    """Read one mail.

    Args:
        data: Content of the file.
        origin: Where it comes from.

    Returns:
        One document: its title is the subject, its text the body without headers, its metadata ``from``, ``to``, ``cc``, ``date``
        (ISO 8601 where it can be understood), ``message_id`` and ``attachments`` (names joined by ``, ``).

    Raises:
        InputError: With code ``binary``, ``encoding``, ``too_deep``, ``unreadable`` or ``empty``.
    """
    refuse_binary(data)
    try:
        message = email.message_from_bytes(data, policy=email.policy.default)
        shown, attached = _parts(message)
    except RecursionError as error:
        raise InputError("nests more parts than can be read; save the inner mail as a file of its own", code="too_deep") from error
    except _HEADER_ERRORS as error:
        raise InputError(f"is no readable mail: {one_line(str(error), 200)}; save it again as EML", code="unreadable") from error
    text, sections = _joined(_body(part) for part in shown)
    metadata = {key: _header(message, name) for key, name in _HEADERS.items()}
    metadata["date"] = _date(_header(message, "Date"))
    metadata["attachments"] = ", ".join(attached)
    return document(origin, "eml", _header(message, "Subject") or origin.path.stem, text, sections, metadata)


def _parts(message: EmailMessage) -> tuple[list[EmailMessage], list[str]]:
    """Parts whose text is shown, and names of the others, in the order of the mail."""
    shown: list[EmailMessage] = []
    attached: list[str] = []
    todo = [message]
    for _ in range(_MAX_PARTS):
        if not todo:
            return shown, attached
        part = todo.pop()
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            children = [child for child in part.iter_parts() if isinstance(child, EmailMessage)]
            if part.get_content_subtype() == "alternative":
                children = _without_alternatives(children)
            todo.extend(reversed(children))
        elif _is_shown(part):
            shown.append(part)
        else:
            attached.append(one_line(part.get_filename() or part.get_content_type()))
    raise InputError(f"has more than {_MAX_PARTS:,} parts, allowed are fewer; save the inner mails as files", code="too_deep")


def _is_shown(part: EmailMessage) -> bool:
    is_text = part.get_content_type() in ("text/plain", "text/html")
    return is_text and part.get_content_disposition() != "attachment" and not part.get_filename()


def _without_alternatives(children: list[EmailMessage]) -> list[EmailMessage]:
    """The best alternative (plain text that is not blank, else HTML, else none) and every part that is no version of the text."""
    plain = [part for part in children if _is_shown(part) and part.get_content_subtype() == "plain"]
    rich = [part for part in children if part.is_multipart() or (_is_shown(part) and part not in plain)]
    best = next((part for part in plain if _decoded(part).strip()), None) or next(iter(rich), None)
    return [part for part in children if part is best or (part not in plain and part not in rich)]


def _decoded(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return ""
    text = decode_as(payload, str(part.get_content_charset() or ""))
    return decode(payload) if text is None else text


def _body(part: EmailMessage) -> tuple[str, tuple[Section, ...]]:
    if part.get_content_subtype() == "html":
        page = extract(_decoded(part))
        return page.text, page.sections
    text = clean(_decoded(part).strip("\ufeff\r\n"))
    # Lines of the mail are counted with its headers and encoded; those of the text are others.
    return text, tuple(replace(section, line=None) for section in paragraphs(text))


def _joined(bodies: Iterator[tuple[str, tuple[Section, ...]]]) -> tuple[str, list[Section]]:
    text = ""
    sections: list[Section] = []
    for piece, found in bodies:
        if found:
            text += "\n\n" if text else ""
            sections += (replace(s, start=s.start + len(text), end=s.end + len(text)) for s in found)
            text += piece
    return text, sections


def _header(message: EmailMessage, name: str) -> str:
    """The first header of that name, decoded; as it stands where the parser fails on it."""
    try:
        value = message[name]
    except _HEADER_ERRORS:
        value = next((raw for key, raw in message.raw_items() if key.lower() == name.lower()), "")
    return one_line(str(value)) if value is not None else ""


def _date(value: str) -> str:
    try:
        return parsedate_to_datetime(value).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        return value
