"""`rag serve`: the application behind uvicorn, until a signal; what is in flight then is finished."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import FrameType

import uvicorn

from api.app import create_app
from api.auth import is_loopback
from api.door import Door
from api.keys import KeyStore
from api.log import open_log, pass_on_libraries
from rag.errors import ConfigError, InputError
from rag.settings import ServiceSettings, Settings
from rag.usage import Parser

# Python's 5 ms would let the event loop, which needs the interpreter for 0.1 ms at a time, wait 5 ms for every worker at each of its
# system calls.
_SWITCH_S = 0.0005
_MAX_PORT = 65_535
# M_ARENA_MAX of glibc's malloc.h. With one pool of memory instead of one a thread the service holds 193 MB of SciFact, not 200.
_ARENAS = -8


def main(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag serve`.

    Args:
        argv: Arguments behind the command.
        settings: Of the core.
        as_json: Print the address as JSON.

    Returns:
        0 after a signal to end.

    Raises:
        ConfigError: If the service would be open to other machines without a key.
        InputError: If the port is taken or not allowed.
    """
    defaults = settings.api
    parser = Parser(prog="rag serve", description="Answer over HTTP, until SIGTERM or Ctrl-C.", allow_abbrev=False)
    parser.add_argument("--host", default=defaults.host, help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=defaults.port, help="port; 0 takes a free one (default: %(default)s)")
    given = parser.parse_args(argv)
    return run(settings, replace(defaults, host=given.host, port=given.port), as_json=as_json)


def run(settings: Settings, options: ServiceSettings, *, as_json: bool = False) -> int:
    """Serve until a signal.

    Args:
        settings: Of the core.
        options: Of the service.
        as_json: Print the address as JSON.

    Returns:
        0.

    Raises:
        ConfigError: If the service would be open to other machines without a key.
        InputError: If the address cannot be listened on.
    """
    if not 0 <= options.port <= _MAX_PORT:
        raise InputError(f"port is {options.port}; allowed: 0 to {_MAX_PORT}", code="usage")
    keys = KeyStore(settings.data_dir)
    has_keys = not keys.is_empty()
    keys.close()
    if not has_keys and not is_loopback(options.host):
        raise ConfigError(
            f"host is {options.host}, which other machines can reach, and there is no API key; make one with 'rag keys create', "
            "or listen on 127.0.0.1",
            code="no_keys",
        )
    log = open_log(sys.stderr)
    pass_on_libraries(log)
    sys.setswitchinterval(_SWITCH_S)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_ARENAS, 1)
    config = uvicorn.Config(
        create_app(settings, options, log),
        host=options.host,
        port=options.port,
        http=Door,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(options.drain_s) or None,
    )
    server = Server(config, as_json=as_json, has_keys=has_keys)
    try:
        server.run()
    except SystemExit as error:  # uvicorn has said why in its own log, which nobody reads
        raise InputError(
            f"cannot listen on {options.host}:{options.port}; is the port taken? choose another with --port", code="port"
        ) from error
    return 0


class Server(uvicorn.Server):
    """uvicorn, but it says where it listens, and a signal is an end like any other.

    Args:
        config: Of uvicorn.
        as_json: Print the address as JSON.
        has_keys: Whether a key is needed, which is said too.
    """

    def __init__(self, config: uvicorn.Config, *, as_json: bool = False, has_keys: bool = False) -> None:
        super().__init__(config)
        self._as_json = as_json
        self._has_keys = has_keys

    @property
    def address(self) -> str:
        """Base URL, once it listens."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Listen, and say where."""
        await super().startup()
        who = "an API key is needed" if self._has_keys else "no API key exists: requests from this machine are answered without one"
        if self._as_json:
            sys.stdout.write(f'{{"address": "{self.address}", "needs_key": {str(self._has_keys).lower()}}}\n')
        else:
            sys.stdout.write(f"serving on {self.address} ({who}); Ctrl-C ends it\n")
        sys.stdout.flush()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Be unready from this moment on; then end as uvicorn does."""
        self.config.app.state.service.admission.is_draining = True  # type: ignore[union-attr]
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, without raising the signal again at the end: a drain is a success."""
        before = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)
