from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.read import Failure, Origin
from ingest.sandbox import frames
from rag.settings import EmbedderSettings, IngestSettings
from rag.types import Document, Section, Span, TrustFlag

TEXT = st.text(max_size=40)
NAME = st.text(st.characters(), max_size=20)  # lone surrogates too: they stand for bytes of names that are not UTF-8
PLACE = st.integers(0, 1 << 30)
HEADINGS = st.lists(TEXT, max_size=3).map(tuple)
NUMBER = st.none() | PLACE
FLAGS: st.SearchStrategy[tuple[TrustFlag, ...]] = st.sampled_from([(), ("hidden",), ("hidden", "instructions")])
SECTIONS = st.lists(
    st.builds(Section, PLACE, PLACE, st.sampled_from(["prose", "table"]), HEADINGS, NUMBER, NUMBER, FLAGS), max_size=4
)
SPANS = st.lists(st.builds(Span, PLACE, PLACE, HEADINGS, NUMBER, NUMBER, PLACE, TEXT, FLAGS), max_size=4)
METADATA = st.dictionaries(TEXT, TEXT, max_size=3)
MTIME = st.none() | st.floats(allow_nan=False, allow_infinity=False)
DOCUMENTS = st.builds(Document, NAME, NAME, TEXT, TEXT, SECTIONS.map(tuple), METADATA, TEXT, MTIME)


def body(frame: bytes) -> bytes:
    length, _ = frames.HEADER.unpack_from(frame)
    assert len(frame) == frames.HEADER.size + length
    return frame[frames.HEADER.size :]


@given(DOCUMENTS, st.none() | SPANS)
def test_document_comes_as_it_was_sent(document: Document, spans: list[Span] | None) -> None:
    cut = frames.Cut(document, spans)
    assert frames.parse_document(body(frames.document_frame(cut))) == cut


@given(NAME, TEXT, TEXT)
def test_failure_comes_as_it_was_sent(path: str, code: str, message: str) -> None:
    failure = Failure(path, code, message)
    assert frames.parse_failure(body(frames.failure_frame(failure))) == failure


@given(NAME, MTIME)
def test_task_comes_as_it_was_sent(name: str, mtime: float | None) -> None:
    origin = Origin(Path(f"/{name}"), name, name, mtime)
    task = frames.Task(origin, "web", f"salt {name}", cut=True, n_shares=3)
    assert frames.parse_task(body(frames.task_frame(task))) == task


def test_start_comes_without_the_key_of_the_server() -> None:
    embedder = EmbedderSettings(kind="http", url="http://localhost/v1", api_key="secret")
    start = frames.Start(IngestSettings(workers=3), embedder, Path("/models"), 256)
    sent = frames.start_frame(start)
    assert b"secret" not in sent
    found = frames.parse_start(body(sent))
    assert (found.ingest, found.models_dir, found.max_tokens) == (start.ingest, start.models_dir, 256)
    assert found.embedder == EmbedderSettings(kind="http", url="http://localhost/v1")


def test_receiving_waits_for_the_whole_frame_and_takes_the_descriptor(tmp_path: Path) -> None:
    frame = frames.frame(b"T", ["x" * 1000])
    left, right = socket.socketpair()
    with left, right, (tmp_path / "a").open("wb") as stream:
        socket.send_fds(left, [frame[:3]], [stream.fileno()])
        left.sendall(frame[3:])
        left.shutdown(socket.SHUT_WR)
        message = frames.receive(right)
        assert message is not None
        tag, found, handle = message
        assert (tag, frames.loads(found)) == (b"T", ["x" * 1000])
        assert handle is not None
        assert frames.receive(right) is None
    with open(handle, "wb") as again:
        again.write(b"the same file")
    assert (tmp_path / "a").read_bytes() == b"the same file"


def test_frame_that_breaks_off_is_an_error() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(frames.frame(b"T", "long enough")[:-1])
        left.shutdown(socket.SHUT_WR)
        with pytest.raises(EOFError):
            frames.receive(right)


@pytest.mark.parametrize(
    "sent", [b"", b"{", b"[]", b"[1]", b'["a","b","c","d",[[1]],{},"text",null,null]', b"[" * 100_000, b"\xff"]
)
def test_what_is_no_document_is_refused(sent: bytes) -> None:
    with pytest.raises((ValueError, TypeError, RecursionError)):
        frames.parse_document(sent)
