"""Which addresses may be asked: those of the public Internet, so that a link cannot make this machine ask its own network.

A name is resolved once, every address that it has is judged, and the connection goes to the address that was judged: a name server
that answers otherwise the second time gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from rag.errors import InputError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_PORTS = {"https": 443, "http": 80}
# What browsers can show; a longer address is an attack or an accident.
MAX_ADDRESS_CHARS = 2_000
# What RFC 3986 lets stand in a path or query; the rest is percent-encoded, as browsers do.
_URL_CHARS = "/%:@!$&'()*+,;=~-._?"
# Set aside for protocols (RFC 6890); Python before 3.11.10 takes most of it for public.
_PROTOCOLS = ipaddress.ip_network("192.0.0.0/24")
# Well-known prefixes of NAT64 (RFC 6052, RFC 8215): an IPv4 address is the last four bytes.
_NAT64 = tuple(ipaddress.ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48"))


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes.

    Attributes:
        url: The address, normalised: scheme and host in lower case, the host as ASCII, a path, no fragment.
        scheme: ``https`` or ``http``.
        host: Name or literal, for certificate and ``Host``.
        port: The port.
        ip: The address to connect to.
        path: Path and query.
    """

    url: str
    scheme: str
    host: str
    port: int
    ip: str
    path: str


def is_public(ip: IpAddress) -> bool:
    """Whether an address belongs to the public Internet, also after every known way of hiding an IPv4 address in an IPv6 one.

    Args:
        ip: The address.

    Returns:
        False for loopback, private, link-local (and so the metadata services of clouds), multicast, reserved and unspecified ones.
    """
    hidden: list[IpAddress] = []
    if isinstance(ip, ipaddress.IPv6Address):
        hidden = [inner for inner in (ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())) if inner is not None]
        if any(ip in net for net in _NAT64) or int(ip) >> 32 == 0:
            hidden.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return ip.is_global and not ip.is_multicast and ip not in _PROTOCOLS and all(map(is_public, hidden))


def resolve(host: str, port: int) -> list[str]:
    """Every address of a host, in the order of the resolver.

    Args:
        host: Name or literal.
        port: The port.

    Returns:
        At least one address.

    Raises:
        OSError: If it has none.
    """
    return list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


@dataclass(frozen=True, slots=True)
class Guard:
    """Judges addresses.

    Attributes:
        allow_http: Also without encryption.
        is_allowed: Judges one IP address.
        resolve: Finds the IP addresses of a host.
    """

    allow_http: bool = False
    is_allowed: Callable[[IpAddress], bool] = is_public
    resolve: Callable[[str, int], list[str]] = resolve

    def check(self, url: str) -> Target:
        """Judge an address.

        Args:
            url: As written, absolute.

        Returns:
            Where the request may go.

        Raises:
            InputError: With code ``bad_address`` for what is no address of a page, ``refused_address`` for a scheme, port or network
                that is not allowed, ``unknown_host`` for a name that has no address.
        """
        parts = normalised(url)
        shown, scheme = urlunsplit(parts), parts.scheme
        if scheme == "http" and not self.allow_http:
            raise InputError(f"{shown} is not encrypted; give its https address, or set web.allow_http", code="refused_address")
        host = parts.hostname or ""
        port = parts.port or _PORTS[scheme]
        try:
            found = self.resolve(host, port)
        except OSError as error:
            raise InputError(f"{shown}: host {host!r} has no address: {error}; check the name", code="unknown_host") from error
        for text in found:
            # One forbidden address among several is how a name is made to pass; a zone belongs to a link-local address.
            if not self.is_allowed(ipaddress.ip_address(text.partition("%")[0])):
                raise InputError(
                    f"{shown} leads to {text}, which is no public address; web.allow_private allows the pages of one's own network",
                    code="refused_address",
                )
        path = urlunsplit(("", "", parts.path, parts.query, ""))
        return Target(shown, scheme, host, port, found[0], path)


def normalised(url: str) -> SplitResult:
    """An address in the form by which pages are compared.

    Args:
        url: As written, absolute.

    Returns:
        Its parts: scheme and host in lower case, no fragment, no default port, at least ``/`` as path.

    Raises:
        InputError: With code ``bad_address``, or ``refused_address`` for another scheme than HTTP and for a user name in it.
    """
    shown = url[:200]
    if len(url) > MAX_ADDRESS_CHARS or any(char.isspace() or not char.isprintable() for char in url):
        raise InputError(
            f"{shown!r} is no address of a page: it is too long or has white space; give https://host/path", code="bad_address"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode() if not _is_literal(parts.hostname) else str(parts.hostname)
    except ValueError as error:  # UnicodeError is one
        raise InputError(f"{shown!r} is no address of a page: {error}; give https://host/path", code="bad_address") from error
    if parts.scheme not in _PORTS:
        raise InputError(
            f"{shown!r} has the scheme {parts.scheme!r}; allowed: https, and http by web.allow_http", code="refused_address"
        )
    if not host or port == 0:
        raise InputError(f"{shown!r} names no host; give https://host/path", code="bad_address")
    if parts.username is not None or parts.password is not None:
        raise InputError(
            f"{shown.rpartition('@')[2]!r}: an address with a user name is not fetched; leave it out", code="refused_address"
        )
    netloc = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS[parts.scheme]:
        netloc += f":{port}"
    path, query = (quote(part, safe=_URL_CHARS) for part in (parts.path or "/", parts.query))
    return SplitResult(parts.scheme, netloc, path, query, "")


def _is_literal(host: str | None) -> bool:
    try:
        ipaddress.ip_address((host or "").partition("%")[0])
    except ValueError:
        return False
    return True
