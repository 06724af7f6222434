"""`rag keys create | list | revoke`: who may use the service."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from api.keys import SCOPES, Key, KeyStore, time_text
from api.limits import Limits
from rag.console import emphasised, faint, line
from rag.errors import InputError
from rag.settings import Settings
from rag.usage import Parser
from rag.wire import Json

_DAYS = re.compile(r"(\d{1,5})d")


def main(argv: Sequence[str], settings: Settings, as_json: bool) -> int:
    """Run `rag keys`.

    Args:
        argv: Arguments behind the command.
        settings: The data directory, where the keys are.
        as_json: Print JSON.

    Returns:
        Exit status.
    """
    options = _parser().parse_args(argv)
    store = KeyStore(settings.data_dir)
    try:
        match options.command:
            case "create":
                return _create(options, store, as_json)
            case "list":
                return _list(store, as_json)
            case _:
                return _revoke(options.id, store, as_json)
    finally:
        store.close()


def _parser() -> Parser:
    parser = Parser(
        prog="rag keys",
        description="Who may use the service. A running service knows of every change with the next request.",
        epilog="Every command also takes --data-dir DIR, --config FILE and --json.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="create|list|revoke")
    create = commands.add_parser("create", help="make a key and print its secret, once", allow_abbrev=False)
    create.add_argument(
        "--scope",
        action="append",
        choices=SCOPES,
        help="what it may do, also several: search and ask, change documents, or all (default: query)",
    )
    create.add_argument("--collection", action="append", metavar="C", help="what it may use, also several (default: all)")
    create.add_argument(
        "--tenant", default="", metavar="T", help="keys of one tenant share jobs and cached answers (default: one of its own)"
    )
    create.add_argument("--expires", metavar="90d|DATE", help="in days, or when a day begins in UTC (default: never)")
    for unit in ("requests", "tokens"):
        create.add_argument(f"--{unit}-per-minute", type=int, default=0, metavar="N", help="0 for no limit (default: %(default)s)")
    commands.add_parser("list", help="list keys, without their secrets", allow_abbrev=False)
    revoke = commands.add_parser("revoke", help="refuse a key from now on", allow_abbrev=False)
    revoke.add_argument("id", metavar="ID", help="as listed")
    return parser


def _create(options: argparse.Namespace, store: KeyStore, as_json: bool) -> int:
    is_first = store.is_empty()
    expires = None if options.expires is None else _expiry(options.expires)
    limits = Limits(options.requests_per_minute, options.tokens_per_minute)
    key, secret = store.create(options.scope or ("query",), options.collection, options.tenant, expires, limits)
    if as_json:
        _print_json({"key": _key_json(key), "secret": secret})
        return 0
    line(_key_line(key))
    emphasised(secret, "")
    line("this is the only time that the secret is shown; keep it like a password, and send it as 'Authorization: Bearer SECRET'")
    if is_first:
        line("it is the first key: from now on the service refuses requests without one, on this machine too")
    return 0


def _list(store: KeyStore, as_json: bool) -> int:
    keys = store.list()
    if as_json:
        _print_json({"keys": [_key_json(key) for key in keys]})
        return 0
    for key in keys:
        line(_key_line(key))
    if not keys:
        faint("no keys yet: the service takes requests of this machine only; 'rag keys create' makes one")
    return 0


def _revoke(key_id: str, store: KeyStore, as_json: bool) -> int:
    key = store.revoke(key_id)
    if as_json:
        _print_json({"key": _key_json(key)})
    else:
        line(f"{key.caller.key_id} is refused since {time_text(key.revoked)}")
    return 0


def _expiry(given: str) -> float:
    """Seconds since the epoch of a number of days from now, or of a date, which begins in UTC unless it says otherwise."""
    if days := _DAYS.fullmatch(given):
        return time.time() + timedelta(days=int(days[1])).total_seconds()
    try:
        moment = datetime.fromisoformat(given)
    except ValueError as error:
        raise InputError(f"--expires {given!r} is neither days nor a date; for example 90d or 2030-12-31", code="usage") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _key_line(key: Key) -> str:
    caller, limits = key.caller, key.caller.limits
    allowed = "all" if caller.collections is None else ",".join(sorted(caller.collections))
    counts = ((limits.requests_per_minute, "requests"), (limits.tokens_per_minute, "tokens"))
    limited = ", ".join(f"{count} {name} a minute" for count, name in counts if count) or "none"
    return (
        f"{caller.key_id}  {key.state(time.time())}  scopes {','.join(sorted(caller.scopes))}  collections {allowed}  "
        f"tenant {caller.tenant}  limits {limited}  expires {time_text(key.expires)}  used {time_text(key.used)}"
    )


def _key_json(key: Key) -> Json:
    caller = key.caller
    times = {"created": key.created, "expires": key.expires, "revoked": key.revoked, "used": key.used}
    return {
        "id": caller.key_id,
        "state": key.state(time.time()),
        "scopes": sorted(caller.scopes),
        "collections": None if caller.collections is None else sorted(caller.collections),
        "tenant": caller.tenant,
        "requests_per_minute": caller.limits.requests_per_minute,
        "tokens_per_minute": caller.limits.tokens_per_minute,
        **{name: None if when is None else datetime.fromtimestamp(when, UTC).isoformat() for name, when in times.items()},
    }


def _print_json(value: Json) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
