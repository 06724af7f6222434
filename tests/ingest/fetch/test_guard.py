"""Addresses that must not be asked, however they are written."""

from __future__ import annotations

import ipaddress

import pytest

from ingest.fetch.guard import Guard, is_public, normalised
from rag.errors import InputError

PUBLIC = "93.184.215.14"


def guard_for(*ips: str, allow_http: bool = False) -> Guard:
    return Guard(allow_http=allow_http, resolve=lambda _host, _port: list(ips))


@pytest.mark.parametrize(
    "ip",
    """127.0.0.1 10.1.2.3 172.16.0.1 192.168.0.1 169.254.169.254 100.64.0.1 0.0.0.0 255.255.255.255 224.0.0.1 192.0.0.8 198.18.0.1
    :: ::1 fe80::1 fc00::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1 64:ff9b:1::a00:1 2002:7f00:1:: 2002:a00:1::
    2001:0:4136:e378:8000:63bf:80ff:fffe ::127.0.0.1 fd00:ec2::254""".split(),
)
def test_an_address_outside_the_public_internet_is_refused(ip: str) -> None:
    assert not is_public(ipaddress.ip_address(ip))
    with pytest.raises(InputError, match="no public address") as caught:
        guard_for(ip).check("https://example.org/")
    assert caught.value.code == "refused_address"


@pytest.mark.parametrize("ip", [PUBLIC, "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_a_public_address_may_be_asked(ip: str) -> None:
    assert guard_for(ip).check("https://example.org/a?b=c#d").ip == ip


def test_one_forbidden_address_among_public_ones_refuses_the_name() -> None:
    with pytest.raises(InputError):
        guard_for(PUBLIC, "127.0.0.1").check("https://example.org/")


@pytest.mark.parametrize(
    "host", ["0x7f.1", "2130706433", "0177.0.0.1", "127.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "127.0.0.1"]
)
def test_other_spellings_of_loopback_are_resolved_before_they_are_judged(host: str) -> None:
    with pytest.raises(InputError) as caught:
        Guard().check(f"https://{host}/")
    assert caught.value.code == "refused_address"


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.org/a", "gopher://example.org/", "data:text/html,x", "javascript:alert(1)"]
)
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(InputError) as caught:
        guard_for(PUBLIC).check(url)
    assert caught.value.code in ("refused_address", "bad_address")


def test_http_needs_to_be_allowed() -> None:
    with pytest.raises(InputError, match=r"web\.allow_http"):
        guard_for(PUBLIC).check("http://example.org/")
    assert guard_for(PUBLIC, allow_http=True).check("http://example.org/").port == 80


def test_a_user_name_in_an_address_is_refused_and_its_password_not_shown() -> None:
    with pytest.raises(InputError) as caught:
        guard_for(PUBLIC).check("https://ann:secret@example.org/")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "https:///a",
        "https://exa mple.org/",
        "https://example.org:0/",
        "https://example.org:99999/",
        "https://[::1/",
        "https://e.org/\n",
        "https://" + "a" * 3000,
    ],
)
def test_what_is_no_address_is_said_to_be_none(url: str) -> None:
    with pytest.raises(InputError) as caught:
        guard_for(PUBLIC).check(url)
    assert caught.value.code == "bad_address"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("HTTPS://Example.ORG", "https://example.org/"),
        ("https://example.org:443/a#part", "https://example.org/a"),
        ("https://example.org:8443/a", "https://example.org:8443/a"),
        ("https://bücher.example/ü?q=ä b".replace(" ", "+"), "https://xn--bcher-kva.example/%C3%BC?q=%C3%A4+b"),
        ("https://example.org/a%20b", "https://example.org/a%20b"),
    ],
)
def test_spellings_of_one_address_are_one(written: str, meant: str) -> None:
    assert normalised(written).geturl() == meant


def test_a_name_without_address_is_said_to_be_unknown() -> None:
    def none(host: str, port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    with pytest.raises(InputError) as caught:
        Guard(resolve=none).check("https://nowhere.example/")
    assert caught.value.code == "unknown_host"
