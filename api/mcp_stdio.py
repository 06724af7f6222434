"""`rag mcp`: the tools of `api.mcp_tools` over standard input and output, for a client that starts this process.

Standard output carries the protocol and nothing else; the log goes to standard error. The parts are those of the service, so that its
time limits, degradation and cache apply, but no port is opened and no key is asked for: who may start the process may read the data.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rag.errors import MissingExtraError
from rag.settings import Settings
from rag.usage import Parser

if TYPE_CHECKING:
    from api.keys import Caller
    from api.mcp_tools import Desk
    from api.schemas import Json
    from api.service import Service
    from api.work import Done, Work


def main(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag mcp`.

    Args:
        argv: Arguments behind the command.
        settings: Of the core and the service.
        as_json: Has no meaning here: the protocol is JSON.

    Returns:
        0 when the client has closed standard input.

    Raises:
        MissingExtraError: If the SDK is not installed.
    """
    del as_json
    parser = Parser(prog="rag mcp", description="Answer one AI client over standard input and output, until it closes them.")
    parser.add_argument("--collection", metavar="C", help=f"only this one (default: all, and {settings.collection} unless told)")
    only: str | None = parser.parse_args(argv).collection
    try:
        import api.mcp_tools  # noqa: F401 - whether it is there
        from api.keys import Caller
    except ImportError as error:
        raise MissingExtraError("'rag mcp'", "mcp") from error
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a thread that reads standard input would keep the process until that is closed
    who = Caller("local", "local", frozenset({"query"}), frozenset({only}) if only else None)
    asyncio.run(_serve(replace(settings, collection=only or settings.collection), who))
    return 0


async def _serve(settings: Settings, who: Caller) -> None:
    from mcp.server.stdio import stdio_server

    from api.app import look_around
    from api.log import open_log
    from api.mcp_tools import open_server
    from api.service import open_service

    service = open_service(settings, settings.api, open_log(sys.stderr))
    looking = asyncio.ensure_future(look_around(service))
    try:
        server = open_server(partial(_desk, service, who))
        async with stdio_server() as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())
    finally:
        looking.cancel()
        service.admission.close()
        service.engines.close()
        service.power.close()


@contextmanager
def _desk(service: Service, who: Caller) -> Iterator[Desk]:
    """A call from its beginning to its line in the log."""
    from api.mcp_tools import Desk
    from api.ticket import new_ticket
    from api.work import perform

    ticket = new_ticket("")

    async def done(work: Work[Json]) -> Done[Json]:
        found = await perform(service, ticket, work)
        ticket.facts |= {"collection": found.result["collection"], "version": found.result["version"]}
        return found

    try:
        yield Desk(service, who, ticket, done)
    finally:
        ms = round((time.monotonic() - ticket.began) * 1000, 1)
        service.log.info("request", request_id=ticket.request_id, route="mcp", ms=ms, **ticket.facts)
