"""Who asks: the owner of a key, or, as long as there are no keys, whoever is on this machine."""

from __future__ import annotations

import ipaddress
import time
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from api.errors import RefusedError
from api.keys import SCOPES, Caller, KeyStore, Scope
from api.ticket import ticket_of
from rag.errors import InputError

LOCAL = Caller("local", "local", frozenset(SCOPES), None)


async def caller(request: Request) -> Caller:
    """Find out who sends a request.

    It waits for nothing, but is no plain function: those take a detour through a thread, which costs more than all it does.

    Args:
        request: With ``Authorization: Bearer`` or ``X-API-Key``, or without.

    Returns:
        The owner of the key; without a key the local caller, if the client is on this machine and no key exists.

    Raises:
        RefusedError: ``no_api_key`` if a key is needed; ``origin`` if a page of another site asks without one.
        InputError: ``key_unknown``, ``key_revoked`` or ``key_expired``.
        OverloadedError: ``rate_limit`` if the key has used up what it may use in a minute.
    """
    keys: KeyStore = request.app.state.service.keys
    secret = _secret(request)
    if secret and not keys.is_empty():
        found = keys.verify(secret, time.time())
    elif keys.is_empty() and _is_local(request):  # a key that nobody can know is as good as none: clients of OpenAI always send one
        _check_origin(request)
        found = LOCAL
    else:
        raise RefusedError(
            "an API key is needed: Authorization: Bearer KEY, or X-API-Key: KEY; 'rag keys create' makes one", code="no_api_key"
        )
    ticket = ticket_of(request)
    ticket.facts["key"] = found.key_id
    standing = request.app.state.service.limiter.admit(found.key_id, found.limits)
    ticket.headers.update(standing.headers())
    if not standing.is_admitted:
        raise standing.refusal()
    return found


AnyCaller = Annotated[Caller, Depends(caller)]


def require(who: Caller, scope: Scope) -> None:
    """Refuse who lacks a scope.

    Args:
        who: Asks.
        scope: Needed.

    Raises:
        RefusedError: ``scope``.
    """
    if not who.may(scope):
        raise RefusedError(
            f"this key may not do that: it needs the scope {scope!r}, and has {', '.join(sorted(who.scopes)) or 'none'}",
            code="scope",
        )


def check_collection(who: Caller, name: str) -> None:
    """Refuse a collection that a caller may not use as if there were none.

    Args:
        who: Asks.
        name: Of the collection.

    Raises:
        InputError: ``unknown_collection``.
    """
    if not who.sees(name):
        raise no_collection(name)


def no_collection(name: str) -> InputError:
    """What is said of a collection that is not there, to everybody in the same words."""
    return InputError(f"no collection {name[:80]!r}; GET /v1/collections lists those there are", code="unknown_collection")


def is_loopback(host: str) -> bool:
    """Whether a host, without its port, is this machine and nothing else."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _secret(request: Request) -> str:
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else request.headers.get("x-api-key", "")


def _is_local(request: Request) -> bool:
    """On this machine, and called by a name of this machine: a page of another site can make its name mean 127.0.0.1."""
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:  # half of the brackets of an address
        return False
    return request.client is not None and is_loopback(request.client.host) and is_loopback(host)


def _check_origin(request: Request) -> None:
    """Without keys, a page of another site in the user's browser must not use the service."""
    origin = request.headers.get("origin")
    if origin and origin.partition("://")[2] != request.headers.get("host"):
        raise RefusedError(f"requests from pages of {origin[:80]} are not taken without a key; make one", code="origin")
