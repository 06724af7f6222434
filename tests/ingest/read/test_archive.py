"""Archives."""

from __future__ import annotations

import io
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest

from ingest.read import Failure, Origin, read
from rag.types import Document

Files = list[tuple[str, bytes]]


def zipped(files: Files) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in files:
            archive.writestr(name, content)
    return target.getvalue()


def tarred(files: Files, mode: str = "w") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def outcomes(data: bytes, name: str = "k.zip") -> list[Document | Failure]:
    return list(read(data, Origin(Path("docs") / name, name, f"docs/{name}", None)))


def codes(found: list[Document | Failure]) -> list[tuple[str, str]]:
    return [(item.path, item.code) for item in found if isinstance(item, Failure)]


def ids(found: list[Document | Failure]) -> list[str]:
    return [item.doc_id for item in found if isinstance(item, Document)]


def test_members_are_read_in_the_order_of_their_names_by_their_own_readers() -> None:
    found = outcomes(zipped([("b.md", b"# Title\n\nText"), ("a/x.txt", b"First")]))
    assert [(d.doc_id, d.uri, d.kind) for d in found if isinstance(d, Document)] == [
        ("k.zip/a/x.txt", "docs/k.zip!/a/x.txt", "text"),
        ("k.zip/b.md", "docs/k.zip!/b.md", "markdown"),
    ]


@pytest.mark.parametrize(
    ("mode", "name"), [("w", "k.tar"), ("w:gz", "k.tar.gz"), ("w:gz", "k.tgz"), ("w:bz2", "k.tar.bz2"), ("w:xz", "k.tar.xz")]
)
def test_tar_is_read_however_it_is_compressed(mode: str, name: str) -> None:
    found = outcomes(tarred([("b.txt", b"Two"), ("a.txt", b"One")], mode), name)
    assert ids(found) == [f"{name}/a.txt", f"{name}/b.txt"]


def test_modification_time_is_that_of_the_member() -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        info = tarfile.TarInfo("a.txt")
        info.size, info.mtime = 3, 1_600_000_000
        archive.addfile(info, io.BytesIO(b"One"))
    (document,) = outcomes(target.getvalue(), "k.tar")
    assert isinstance(document, Document)
    assert document.mtime == 1_600_000_000.0


def test_scan_in_an_archive_is_left_alone_where_scans_are_not_read() -> None:
    found = read(zipped([("a.png", b"\x89PNG")]), Origin(Path("k.zip"), "k.zip", "k.zip", None, ocr_languages=""))
    assert [(item.code, "ocr_languages" in item.message) for item in found if isinstance(item, Failure)] == [("no_text", True)]


@pytest.mark.parametrize(
    "name", ["../a.txt", "x/../../a.txt", "/etc/a.txt", "C:\\a.txt", "C:a.txt", "a\\b.txt", "a//b.txt", "a\x01.txt"]
)
def test_name_that_leads_out_or_cannot_be_stored_is_refused(name: str) -> None:
    for data, kind in (
        (zipped([(name, b"x"), ("ok.txt", b"Fine")]), "k.zip"),
        (tarred([(name, b"x"), ("ok.txt", b"Fine")]), "k.tar"),
    ):
        found = outcomes(data, kind)
        assert [code for _, code in codes(found)] == ["bad_member"]
        assert ids(found) == [f"{kind}/ok.txt"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        info = tarfile.TarInfo("odd.txt")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    assert codes(outcomes(target.getvalue(), "k.tar")) == [("docs/k.tar!/odd.txt", "bad_member")]


def test_link_in_a_zip_is_refused() -> None:
    info = zipfile.ZipInfo("odd.txt")
    info.external_attr = 0o120777 << 16
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert codes(outcomes(target.getvalue())) == [("docs/k.zip!/odd.txt", "bad_member")]


def test_hidden_names_are_passed_over() -> None:
    found = outcomes(zipped([(".git/config.txt", b"x"), ("a/.b.txt", b"x"), ("c.txt", b"Seen")]))
    assert [item.doc_id if isinstance(item, Document) else item for item in found] == ["k.zip/c.txt"]


def test_second_member_of_a_name_is_a_failure() -> None:
    found = outcomes(zipped([("a.txt", b"One"), ("a.txt", b"Two")]))
    assert codes(found) == [("docs/k.zip!/a.txt", "duplicate_id")]
    assert [d.text for d in found if isinstance(d, Document)] == ["One"]


def test_failure_of_a_member_names_the_archive_and_the_member() -> None:
    assert codes(outcomes(zipped([("a.txt", b"\x00\x01"), ("b.txt", b"  ")]))) == [
        ("docs/k.zip!/a.txt", "binary"),
        ("docs/k.zip!/b.txt", "empty"),
    ]


def test_archives_in_archives_are_read_to_a_depth_of_three() -> None:
    data = zipped([("deep.txt", b"Here")])
    for n in (3, 2):
        data = zipped([(f"in{n}.zip", data)])
    assert ids(outcomes(data)) == ["k.zip/in2.zip/in3.zip/deep.txt"]
    assert codes(outcomes(zipped([("in1.zip", data)]))) == [("docs/k.zip!/in1.zip!/in2.zip!/in3.zip", "too_deep")]


def test_member_with_a_password_is_a_failure() -> None:
    data = bytearray(zipped([("a.txt", b"Secret")]))
    for at in (data.find(b"PK\x03\x04") + 6, data.find(b"PK\x01\x02") + 8):
        data[at] |= 1
    assert codes(outcomes(bytes(data))) == [("docs/k.zip!/a.txt", "encrypted")]


@pytest.mark.parametrize(("mode", "name"), [("w:gz", "k.tar.gz"), ("w:bz2", "k.tar.bz2"), ("w:xz", "k.tar.xz")])
def test_tar_that_grows_beyond_the_ratio_is_a_bomb(mode: str, name: str) -> None:
    assert codes(outcomes(tarred([("a.txt", b"\n" * 12_000_000)], mode), name)) == [(f"docs/{name}", "zip_bomb")]


def test_zip_that_grows_beyond_the_ratio_is_a_bomb() -> None:
    assert codes(outcomes(zipped([("a.txt", b"\n" * 12_000_000)]))) == [("docs/k.zip", "zip_bomb")]


def test_archives_in_an_archive_share_its_number_of_members() -> None:
    inner = zipped([(f".{n}", b"") for n in range(10)] + [(f"{n}.txt", b"x") for n in range(1_100)])
    found = outcomes(zipped([(f"{n}.zip", inner) for n in range(10)]))
    assert codes(found)[-1] == ("docs/k.zip", "zip_bomb")
    assert len(ids(found)) < 10_000


@pytest.mark.parametrize("name", ["k.zip", "k.tar", "k.tar.gz", "k.tar.xz"])
@pytest.mark.parametrize("data", [b"nothing of the kind " * 100, b"\x1f\x8b\x08broken", b"PK\x03\x04broken"])
def test_what_is_no_archive_is_unreadable(name: str, data: bytes) -> None:
    assert codes(outcomes(data, name)) == [(f"docs/{name}", "unreadable")]


def test_truncated_tar_is_unreadable() -> None:
    data = tarred([("a.txt", b"x" * 5_000), ("b.txt", b"y" * 5_000)])
    assert codes(outcomes(data[:3_000], "k.tar")) == [("docs/k.tar", "unreadable")]


def test_archive_without_files_is_empty() -> None:
    assert codes(outcomes(zipped([]))) == [("docs/k.zip", "empty")]


@pytest.mark.parametrize("part", ["[Content_Types].xml", "META-INF/container.xml", "META-INF/manifest.xml"])
def test_document_that_is_a_zip_file_under_the_name_of_an_archive_is_refused_with_what_to_do(part: str) -> None:
    (failure,) = outcomes(zipped([(part, b"<x/>"), ("styles.xml", b"<x>noise</x>")]))
    assert isinstance(failure, Failure)
    assert failure.code == "unreadable"
    assert "name it after its format" in failure.message
