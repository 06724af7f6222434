"""Who asks: API keys with scopes, collections, a tenant and limits, in an SQLite file that threads and processes share.

A secret is ``rag_``, the id of its key, ``_`` and 256 random bits. Only its SHA-256 is kept: a slow hash protects what people make up,
and nobody finds 256 random bits by trying, however fast the hash is. Ids are no secret; whether one exists is not told all the same.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any, Literal, cast, get_args

from api.limits import NO_LIMITS, Limits
from rag.errors import InputError, SnapshotError

Scope = Literal["query", "ingest", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
FILE_NAME = "keys.sqlite"
_LOG_NAME = f"{FILE_NAME}-wal"

_FORMAT = 1
_APPLICATION_ID = 0x52574B59  # "RWKY"
# Writers hold the file for milliseconds; `rag keys` rather waits than fails.
_BUSY_TIMEOUT_S = 5.0
# The time of last use tells which keys may go; finer than this it would be a write for every request.
_TOUCH_S = 60.0
# Longer than any key should live; keeps dates within what a calendar can show.
_MAX_LIFE_S = 100 * 365.25 * 86_400
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SECRET = re.compile(r"rag_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")
# Stands in for the hash of a key that does not exist; no secret has it.
_NO_DIGEST = bytes(32)
_COLUMNS = "key_id, digest, tenant, scopes, collections, requests_per_minute, tokens_per_minute, created, expires, revoked, used"
_SCHEMA = f"""
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE key (
  key_id TEXT PRIMARY KEY, digest BLOB NOT NULL, tenant TEXT NOT NULL, scopes TEXT NOT NULL, collections TEXT NOT NULL,
  requests_per_minute INTEGER NOT NULL, tokens_per_minute INTEGER NOT NULL, created REAL NOT NULL, expires REAL, revoked REAL,
  used REAL) STRICT;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_FORMAT};
COMMIT;
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and for what.

    Attributes:
        key_id: Id of the key.
        tenant: Whose data and cached answers are used.
        scopes: As given to the key; ask `may`.
        collections: Names that the key may use; None means all.
        limits: Of the key.
    """

    key_id: str
    tenant: str
    scopes: frozenset[Scope]
    collections: frozenset[str] | None
    limits: Limits = NO_LIMITS

    def may(self, scope: Scope) -> bool:
        """Whether a scope is granted; ``admin`` includes the others, ``ingest`` does not include ``query``."""
        return scope in self.scopes or "admin" in self.scopes

    def sees(self, collection: str) -> bool:
        """Whether a collection may be used; to a caller who may not, it does not exist."""
        return self.collections is None or collection in self.collections


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is listed, without its secret. Times are seconds since the epoch.

    Attributes:
        caller: Who uses it is this.
        created: When it was made.
        expires: From when on it is refused; None means never.
        revoked: When it was revoked, or None.
        used: Last use, to the minute, or None.
    """

    caller: Caller
    created: float
    expires: float | None
    revoked: float | None
    used: float | None

    def state(self, now: float) -> Literal["active", "expired", "revoked"]:
        """Whether the key is accepted at a time, and if not, why; one that is both is ``revoked``."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "active"


class KeyRefusedError(InputError):
    """A secret is not accepted: ``key_unknown``, ``key_revoked`` or ``key_expired``. The last two are told to who has the secret."""


class KeyStore:
    """The keys of one data directory; safe to share between threads, and processes may share the file.

    Nothing is opened before the first call, and a file that is replaced, by a backup for example, is opened anew.

    Args:
        data_dir: The data directory; it and the file, readable by its owner only, are made with the first key.
        clock: Seconds since the epoch, for the times of making and revoking.
    """

    def __init__(self, data_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = data_dir / FILE_NAME
        self._clock = clock
        self._lock = RLock()
        self._db: sqlite3.Connection | None = None
        self._opened: tuple[int, ...] = ()

    def create(
        self,
        scopes: Collection[str],
        collections: Collection[str] | None = None,
        tenant: str = "",
        expires: float | None = None,
        limits: Limits = NO_LIMITS,
    ) -> tuple[Key, str]:
        """Make a key.

        Args:
            scopes: One or more of `SCOPES`.
            collections: Names; they need not exist yet. None means all.
            tenant: Keys of one tenant share jobs and cached answers; empty means a tenant of its own, called as the key.
            expires: Seconds since the epoch, later than now and within 100 years; None means never.
            limits: What it may use in a minute.

        Returns:
            The key, and its secret, which cannot be had again.

        Raises:
            InputError: If an argument is outside what is allowed; code ``bad_key``.
            SnapshotError: If the file cannot be written.
        """
        now, key_id = self._clock(), secrets.token_hex(8)
        caller = Caller(key_id, tenant or key_id, _scopes(scopes), _names(collections), limits)
        if not _NAME.fullmatch(caller.tenant):
            raise _bad(f"tenant {tenant[:80]!r} is not allowed")
        if expires is not None and not now < expires <= now + _MAX_LIFE_S:
            raise _bad(
                f"a key that expires in {expires - now:.0f} seconds is of no use", allowed="a time in the future, within 100 years"
            )
        secret = f"rag_{key_id}_{secrets.token_urlsafe(32)}"
        row = (
            key_id,
            _digest(secret),
            caller.tenant,
            json.dumps(sorted(caller.scopes)),
            json.dumps(None if caller.collections is None else sorted(caller.collections)),
            limits.requests_per_minute,
            limits.tokens_per_minute,
            now,
            expires,
        )
        with self._file(create=True) as db:
            db.execute(f"INSERT INTO key ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)", row)
        return Key(caller, now, expires, None, None), secret

    def verify(self, secret: str, now: float) -> Caller:
        """Find out who has a secret.

        Args:
            secret: As it came, any text.
            now: Seconds since the epoch.

        Returns:
            Whose it is.

        Raises:
            KeyRefusedError: If the key is unknown, revoked or expired.
            SnapshotError: If the file cannot be read.
        """
        match = _SECRET.fullmatch(secret)
        sql = f"SELECT {_COLUMNS} FROM key WHERE key_id = ?"
        with self._file() as db:
            row = db.execute(sql, (match[1] if match else "",)).fetchone() if db else None
            # One hash and one comparison for every text that comes: the time taken does not tell which ids exist.
            is_right = hmac.compare_digest(_digest(secret), row[1] if row else _NO_DIGEST)
            if not (row and is_right):
                raise KeyRefusedError(
                    "the API key is unknown; check that it was copied whole, or make one with 'rag keys create'", code="key_unknown"
                )
            key = _key(row)
            state = key.state(now)
            if state != "active":
                since = key.expires if key.revoked is None else key.revoked
                raise KeyRefusedError(
                    f"the API key {key.caller.key_id} is {state} since {time_text(since)}; make another with 'rag keys create'",
                    code=f"key_{state}",
                )
            # A clock that was set back is no reason to keep a time of last use in the future.
            if key.used is None or abs(now - key.used) >= _TOUCH_S:
                _touch(db, key.caller.key_id, now)
        return key.caller

    def list(self) -> list[Key]:
        """All keys, also those that are revoked or expired.

        Returns:
            In the order in which they were made; of one moment by id.

        Raises:
            SnapshotError: If the file cannot be read.
        """
        with self._file() as db:
            rows = db.execute(f"SELECT {_COLUMNS} FROM key ORDER BY created, key_id").fetchall() if db else []
            return [_key(row) for row in rows]

    def revoke(self, key_id: str) -> Key:
        """Refuse a key from now on, in every process.

        Args:
            key_id: Its id, not its secret.

        Returns:
            The key; one that was revoked before keeps that time.

        Raises:
            InputError: If there is no such key; code ``no_key``.
            SnapshotError: If the file cannot be written.
        """
        sql = f"UPDATE key SET revoked = coalesce(revoked, ?) WHERE key_id = ? RETURNING {_COLUMNS}"
        with self._file() as db:
            # fetchall, as the statement is over only when its last row was asked for.
            rows = db.execute(sql, (self._clock(), key_id)).fetchall() if db and _NAME.fullmatch(key_id) else []
            if not rows:
                shown = "a secret" if _SECRET.fullmatch(key_id) else repr(key_id[:80])
                raise InputError(f"there is no key with the id {shown}; give an id that 'rag keys list' shows", code="no_key")
            return _key(rows[0])

    def is_empty(self) -> bool:
        """Whether no key was ever made; a revoked or expired key is one, so that revoking the last one opens no door.

        Returns:
            True where there is no file, or none in it.

        Raises:
            SnapshotError: If there is a file and it cannot be read: that is not empty.
        """
        with self._file() as db:
            return db is None or db.execute("SELECT 1 FROM key LIMIT 1").fetchone() is None

    def close(self) -> None:
        """Let the file go; a later call opens it again."""
        with self._lock:
            if self._db is not None:
                self._db.close()
            self._db, self._opened = None, ()

    @contextmanager
    def _file(self, *, create: bool = False) -> Iterator[Any]:
        """The connection, for one thread at a time; None where there is no file, which ``create`` makes."""
        with self._lock:
            try:
                if create and not self._path.exists():
                    _make(self._path)
                found = _identity(self._path)
                if found != self._opened:
                    self.close()
                    self._db, self._opened = (_connect(self._path) if found else None), found
                yield self._db
            # SQLite keeps no checksums: damage may show in a value only.
            except (sqlite3.Error, OSError, ValueError, TypeError, OverflowError) as error:
                self.close()
                # Without its folder, which is nothing for a client of the service to know.
                reason = error.strerror if isinstance(error, OSError) else error
                raise SnapshotError(
                    f"{FILE_NAME} of the data directory cannot be used: {reason}; check its owner and the disk, restore it from a backup, or "
                    "delete it and make all keys anew",
                    code="keys",
                ) from error


def time_text(time_s: float | None) -> str:
    """A time as people read it, to the minute; ``never`` for None."""
    return "never" if time_s is None else f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M} UTC"


def _identity(path: Path) -> tuple[int, ...]:
    """What changes when another file must be opened; empty where there is none.

    In a folder that cannot be written, SQLite cannot watch a file for changes, so it is opened anew after each.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    if os.access(path.parent, os.W_OK):
        return found.st_dev, found.st_ino
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, path.with_name(_LOG_NAME).exists()


def _make(path: Path) -> None:
    """Make an empty key file, whole from the first moment that it can be seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(".new", f"{path.name}.", path.parent)  # mode 0600, which SQLite gives the files beside it too
    os.close(handle)
    try:
        with closing(sqlite3.connect(name, isolation_level=None)) as db:
            db.executescript(_SCHEMA)
        with suppress(FileExistsError):  # another process has made it meanwhile
            os.link(name, path)
    finally:
        Path(name).unlink()


def _connect(path: Path) -> sqlite3.Connection:
    uri = path.resolve().as_uri()
    if not os.access(path.parent, os.W_OK):  # a read-only volume; while somebody else writes, the log is there and can be read
        uri += "?mode=ro" if path.with_name(_LOG_NAME).exists() else "?immutable=1"
    with ExitStack() as undo:
        db = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
        undo.callback(db.close)
        db.execute("PRAGMA synchronous = FULL")  # a key that was revoked must not come back with a power cut
        application, version = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if application != _APPLICATION_ID:
            raise ValueError("it is not a key file of Ragwatt")
        if version > _FORMAT:
            raise SnapshotError(
                f"{FILE_NAME} of the data directory has format {version}; this version reads format {_FORMAT} and older: upgrade ragwatt",
                code="newer_format",
            )
        undo.pop_all()
    return db


def _touch(db: sqlite3.Connection, key_id: str, now: float) -> None:
    """Note the last use, which is for people: no request waits or fails for it."""
    db.execute("PRAGMA busy_timeout = 0")
    with suppress(sqlite3.OperationalError):  # somebody writes, or nobody can
        db.execute("UPDATE key SET used = ? WHERE key_id = ?", (now, key_id))
    db.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_S * 1000:.0f}")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _key(row: tuple[Any, ...]) -> Key:
    key_id, _, tenant, scopes, collections, n_requests, n_tokens, created, expires, revoked, used = row
    try:
        caller = Caller(key_id, tenant, _scopes(json.loads(scopes)), _names(json.loads(collections)), Limits(n_requests, n_tokens))
    except InputError as error:
        raise ValueError(f"key {key_id} is damaged: {error}") from error
    return Key(caller, created, expires, revoked, used)


def _scopes(given: Collection[str]) -> frozenset[Scope]:
    """Scopes, each of them known and at least one."""
    unknown = sorted(set(given) - set(SCOPES))
    if unknown or not given:
        raise _bad(f"scope {unknown[0][:80]!r} is unknown" if unknown else "a key needs a scope", allowed=", ".join(SCOPES))
    return cast("frozenset[Scope]", frozenset(given))


def _names(given: Collection[str] | None) -> frozenset[str] | None:
    """Names of collections; None for all."""
    if given is None:
        return None
    wrong = sorted(name for name in given if not _NAME.fullmatch(name))
    if wrong or not given:
        raise _bad(f"collection name {wrong[0][:80]!r} is not allowed" if wrong else "a key needs a collection, or all of them")
    return frozenset(given)


def _bad(found: str, allowed: str = "1 to 64 letters, digits, '-', '_' or '.', beginning with a letter or digit") -> InputError:
    return InputError(f"{found}; allowed: {allowed}", code="bad_key")
