"""One page: what comes back, and what a site cannot make us do."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ingest.fetch.client import Client, Validators
from ingest.fetch.guard import Guard, IpAddress
from rag.errors import InputError
from rag.settings import WebSettings
from tests.ingest.fetch.site import Resource, Site, serving

SETTINGS = WebSettings(enabled=True, timeout_s=5.0)
HERE = ipaddress.ip_address("127.0.0.1")


def only_here(ip: IpAddress) -> bool:
    """Stands for the public Internet: the site is there, 127.0.0.2 is the network inside."""
    return ip == HERE


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


def client(settings: WebSettings = SETTINGS) -> Client:
    return Client(settings, Guard(allow_http=True, is_allowed=only_here))


def code_of(url: str, settings: WebSettings = SETTINGS) -> str:
    with pytest.raises(InputError) as caught:
        client(settings).fetch(url)
    return caught.value.code


def test_a_page_comes_with_its_type_and_validators(site: Site) -> None:
    site.pages["/a"] = Resource(
        b"<p>Hello", headers={"Content-Type": "Text/HTML; charset=utf-8", "Last-Modified": "then"}, etag='"1"'
    )
    reply = client().fetch(f"{site.address}/a")
    assert (reply.state, reply.body, reply.content_type) == ("page", b"<p>Hello", "text/html")
    assert reply.validators == Validators('"1"', "then")


def test_a_page_that_did_not_change_is_not_sent_again(site: Site) -> None:
    site.pages["/a"] = Resource(b"x", etag='"1"')
    assert client().fetch(f"{site.address}/a", Validators('"1"')).state == "unchanged"


@pytest.mark.parametrize("status", [404, 410])
def test_a_page_that_is_gone_is_said_to_be(site: Site, status: int) -> None:
    site.pages["/a"] = Resource(b"", status)
    assert client().fetch(f"{site.address}/a").state == "gone"


def test_a_redirect_is_followed(site: Site) -> None:
    site.pages["/a"] = Resource(b"", 301, {"Location": "/b"})
    site.page("/b", "there")
    assert client().fetch(f"{site.address}/a").url == f"{site.address}/b"


def test_a_redirect_into_the_network_inside_is_refused_before_it_is_asked(site: Site) -> None:
    with serving("127.0.0.2") as inside:
        inside.page("/secret", "keys")
        site.pages["/a"] = Resource(b"", 302, {"Location": f"{inside.address}/secret"})
        assert code_of(f"{site.address}/a") == "refused_address"
        assert inside.asked == []


@pytest.mark.parametrize("target", ["file:///etc/passwd", "http://[::ffff:127.0.0.2]/", "http://0x7f.2/"])
def test_a_redirect_to_what_is_not_allowed_is_refused(site: Site, target: str) -> None:
    site.pages["/a"] = Resource(b"", 302, {"Location": target})
    assert code_of(f"{site.address}/a") == "refused_address"


def test_a_loop_of_redirects_ends(site: Site) -> None:
    site.pages["/a"] = Resource(b"", 302, {"Location": "/a"})
    assert code_of(f"{site.address}/a") == "fetch_failed"
    assert len(site.asked) == 4


def test_a_name_that_resolves_otherwise_the_second_time_gains_nothing(site: Site) -> None:
    """DNS rebinding: the connection goes to the address that was judged."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    site.page("/a", "public")
    port = site.address.rpartition(":")[2]
    rebound = Client(SETTINGS, Guard(allow_http=True, is_allowed=only_here, resolve=lambda _host, _port: next(answers)))
    reply = rebound.fetch(f"http://rebinding.example:{port}/a")
    assert reply.body == b"public"
    assert site.asked[0][1]["host"] == f"rebinding.example:{port}"
    with pytest.raises(InputError) as caught:
        rebound.fetch(f"http://rebinding.example:{port}/a")
    assert caught.value.code == "refused_address"


def test_a_page_above_the_limit_is_not_taken(site: Site) -> None:
    site.pages["/a"] = Resource(b"x" * 2_000)
    assert code_of(f"{site.address}/a", replace(SETTINGS, max_page_bytes=1_999)) == "too_large"


def test_a_compressed_bomb_is_stopped_at_the_limit(site: Site) -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 50_000_000))
    site.pages["/a"] = Resource(gzip.decompress(bomb), headers={"Content-Type": "text/html", "Content-Encoding": "gzip"})
    assert code_of(f"{site.address}/a", replace(SETTINGS, max_page_bytes=1_000_000)) == "too_large"


def test_broken_compression_is_a_failure(site: Site) -> None:
    site.pages["/a"] = Resource(b"no gzip", headers={"Content-Encoding": "gzip"})
    assert code_of(f"{site.address}/a") == "fetch_failed"


def test_an_error_of_the_site_is_said_with_the_time_to_wait(site: Site) -> None:
    site.pages["/a"] = Resource(b"", 429, {"Retry-After": "7"})
    with pytest.raises(InputError, match=r"HTTP 429.* 7 s"):
        client().fetch(f"{site.address}/a")


def test_a_site_that_drips_is_left_at_the_time_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        leave = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not leave.wait(0.02):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert code_of(f"http://127.0.0.1:{server.getsockname()[1]}/", replace(SETTINGS, timeout_s=0.3)) == "timeout"
        finally:
            leave.set()
            thread.join()


def test_a_site_that_is_down_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert code_of(f"http://127.0.0.1:{port}/") == "fetch_failed"


def test_no_proxy_variable_and_no_key_reaches_the_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.2:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.2:9")
    site.page("/a", "x")
    client().fetch(f"{site.address}/a")
    assert set(site.asked[0][1]) == {"host", "user-agent", "accept", "accept-encoding"}
