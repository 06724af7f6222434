"""ZIP files within limits."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest

from ingest.read.zipped import check_zip, member, open_zip
from rag.errors import InputError
from tests.made.office import zip_bytes


def failure_code(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        check_zip(data)
    return caught.value.code


def test_member_is_read() -> None:
    assert member(open_zip(zip_bytes({"a": "text"})), "a") == b"text"


def test_small_members_may_have_any_ratio() -> None:
    check_zip(zip_bytes({"a": bytes(1_000_000)}))


def test_large_member_of_a_high_ratio_is_a_bomb() -> None:
    assert failure_code(zip_bytes({"a": bytes(10_000_000)})) == "zip_bomb"


def test_too_many_members_are_a_bomb() -> None:
    assert failure_code(zip_bytes({str(number): "" for number in range(10_001)})) == "zip_bomb"


def test_too_much_in_all_is_a_bomb() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in "abc":
            archive.writestr(name, "x")
            archive.getinfo(name).file_size = 200_000_000

    assert failure_code(stream.getvalue()) == "zip_bomb"


def test_members_that_share_data_are_a_bomb() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", bytes(10_000))
        for name in "bcd":
            archive.filelist.append(archive.filelist[0])
            archive.NameToInfo[name] = archive.filelist[0]

    assert failure_code(stream.getvalue()) == "zip_bomb"


def test_member_gives_no_more_than_it_declares() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(5_000_000))
        archive.filelist[0].file_size = 10
    with pytest.raises(InputError) as caught:
        member(open_zip(stream.getvalue()), "a")

    assert caught.value.code == "unreadable"


def test_missing_member_is_reported() -> None:
    with pytest.raises(InputError) as caught:
        member(open_zip(zip_bytes({"a": "x"})), "b")

    assert caught.value.code == "unreadable"


def test_member_above_the_limit_is_reported() -> None:
    with pytest.raises(InputError) as caught:
        member(open_zip(zip_bytes({"a": "xyz"})), "a", max_bytes=2)

    assert caught.value.code == "too_large"


def test_member_with_a_password_is_reported() -> None:
    data = bytearray(zip_bytes({"a": "x"}))
    at = data.index(b"PK\x01\x02") + 8
    data[at : at + 2] = struct.pack("<H", 1)
    with pytest.raises(InputError) as caught:
        member(open_zip(bytes(data)), "a")

    assert caught.value.code == "encrypted"


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(17), b"text"])
def test_no_zip_file_is_reported(data: bytes) -> None:
    assert failure_code(data) == "unreadable"
