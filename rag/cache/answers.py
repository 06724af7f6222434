"""The cache: one SQLite file that threads and processes share, and the vectors of its questions in memory."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Literal, TypeAlias

import numpy as np

from rag.cache.entry import Edition, Hit, Key, answer_from, canonical, cited_documents, payload_of
from rag.cache.meaning import ask_the_same, meaning_of
from rag.cache.shelf import Shelf
from rag.cost import Figure
from rag.errors import SnapshotError
from rag.settings import Settings
from rag.text import normalise
from rag.types import Answer, Vector

FILE_NAME = "cache.sqlite"
DAMAGED_NAME = "cache.sqlite.damaged"
MAX_ENTRIES = 10_000  # 15 MB of vectors and about 40 MB of answers
TTL_S = 7 * 86_400.0
# Least cosine of a paraphrase: 99 % of those that the rules let through on one half of XQuAD's articles lie above (`bench.cache`). It
# is the second wall: the rules part what the cosine cannot, and the cosine what two questions share but the words do not show.
MIN_COSINE = 0.89

_FORMAT = 1
_APPLICATION_ID = 0x52574143  # "RWAC"
# Writers hold the file for about a millisecond; who waits longer than this answers without the cache.
_BUSY_TIMEOUT_S = 0.5
# The order of last use need not be finer than this, and a hit that writes nothing costs a third.
_TOUCH_S = 60.0
# Questions above the threshold that are looked at, best first; reading one takes 50 microseconds.
_MAX_TRIED = 32
# Vectors kept in memory for all keys together, as a multiple of the entries; more are rows that others have deleted since.
_MAX_SHELVED = 2

_SCHEMA = (
    """CREATE TABLE entry (
  entry_no INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, collection TEXT NOT NULL, canonical TEXT NOT NULL,
  question TEXT NOT NULL, vector BLOB, payload TEXT NOT NULL, documents TEXT NOT NULL, version INTEGER NOT NULL, cpu_s REAL NOT NULL,
  energy TEXT, created REAL NOT NULL, used REAL NOT NULL, UNIQUE (key, canonical))""",
    "CREATE INDEX entry_by_key ON entry (key)",
    "CREATE INDEX entry_by_use ON entry (used)",
    "CREATE INDEX entry_by_age ON entry (created)",
    "CREATE INDEX entry_by_collection ON entry (collection)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_FORMAT}",
)
_Row: TypeAlias = tuple[int, str, str, str, int, float, str | None, float, float]
_COLUMNS = "entry_no, question, payload, documents, version, cpu_s, energy, created, used"


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the cache said.

    Attributes:
        hit: An answer that holds, or None.
        note: Why the cache could not be asked or written, for people; empty when it could.
    """

    hit: Hit | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Stats:
    """What the file holds: answers, of them those with a vector, and bytes of the file."""

    n_entries: int
    n_vectors: int
    n_bytes: int


class _EntryError(Exception):
    """One answer cannot be read or kept; the file is whole."""


def open_cache(settings: Settings) -> AnswerCache:
    """Open the cache of a data directory.

    Args:
        settings: Data directory, size and time to live.

    Returns:
        The cache; the file is made when the first answer is kept.
    """
    return AnswerCache(settings.data_dir, max_entries=settings.cache.max_entries, ttl_s=settings.cache.ttl_s)


class AnswerCache:
    """Answers of one data directory; safe to share between threads, and processes may share the file.

    Args:
        data_dir: The data directory; nothing is opened before the first call.
        max_entries: Answers kept, 1 or more; the one used longest ago goes first (to the minute).
        ttl_s: Seconds after which an answer is made anew, however often it is asked for.
        min_cosine: Least cosine of a paraphrase.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        max_entries: int = MAX_ENTRIES,
        ttl_s: float = TTL_S,
        min_cosine: float = MIN_COSINE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = data_dir / FILE_NAME
        self._max_entries = max_entries
        self._ttl_s = ttl_s
        self._min_cosine = min_cosine
        self._clock = clock
        self._lock = RLock()
        self._db: sqlite3.Connection | None = None
        self._shelves: dict[str, Shelf] = {}

    def exact(self, key: Key, question: str, edition: Edition) -> Lookup:
        """Look for the same question; no vector is needed.

        Args:
            key: Everything else that decides the answer.
            question: As asked.
            edition: State of the collection that an answer must hold in.

        Returns:
            A hit whose citations all hold in that edition, or none.
        """
        return self._noted(lambda: self._exact(key.digest(), canonical(question), edition))

    def similar(self, key: Key, question: str, vector: Vector, edition: Edition) -> Lookup:
        """Look for a question that asks the same in other words.

        Args:
            key: Everything else that decides the answer.
            question: As asked.
            vector: Its unit vector by the embedder of the key.
            edition: State of the collection that an answer must hold in.

        Returns:
            The hit of the highest cosine, of equals the oldest, among those that ask the same and hold; or none.
        """
        return self._noted(lambda: self._similar(key.digest(), question, vector, edition))

    def put(self, key: Key, question: str, vector: Vector | None, answer: Answer, edition: Edition) -> str:
        """Keep an answer, in place of an older one to the same question.

        Args:
            key: Everything else that decided it.
            question: As asked.
            vector: Its unit vector; None where none was made, then paraphrases do not find it.
            answer: The answer, with what it cost.
            edition: The edition that it was made from.

        Returns:
            Why it could not be kept, or an empty string.
        """
        return self._noted(lambda: self._put(key, question, vector, answer, edition)).note

    def prune(self, edition: Edition, collection: str) -> int:
        """Delete answers that no longer hold, so that nothing of a deleted document stays in the file.

        Args:
            edition: The current one, after a new version was published.
            collection: Its name.

        Returns:
            Answers deleted.

        Raises:
            SnapshotError: If the file cannot be read or written.
        """
        with self._reported(), self._lock:
            db = self._open()
            rows = db.execute("SELECT entry_no, version, documents FROM entry WHERE collection = ?", (collection,)).fetchall()
            cited = {doc_id for _, _, documents in rows for doc_id in json.loads(documents)}
            now = edition.fingerprints(sorted(cited))
            gone = [(n,) for n, version, documents in rows if not _holds(json.loads(documents), version, edition.version, now)]
            self._delete(gone)
            return len(gone)

    def clear(self, collection: str | None = None) -> int:
        """Delete all answers, or those of one collection.

        Args:
            collection: Its name; None means all.

        Returns:
            Answers deleted.

        Raises:
            SnapshotError: If the file cannot be written.
        """
        with self._reported(), self._lock:
            self._shelves.clear()
            sql = "DELETE FROM entry WHERE ?1 IS NULL OR collection = ?1"
            return self._open().execute(sql, (collection,)).rowcount

    def stats(self) -> Stats:
        """What the file holds.

        Returns:
            Counts and bytes.

        Raises:
            SnapshotError: If the file cannot be read.
        """
        with self._reported(), self._lock:
            n_entries, n_vectors = self._open().execute("SELECT count(*), count(vector) FROM entry").fetchone()
            return Stats(n_entries, n_vectors, self._path.stat().st_size)

    def close(self) -> None:
        """Let the file go; a later call opens it again."""
        with self._lock:
            self._shelves.clear()
            if self._db is not None:
                self._db.close()
                self._db = None

    def _exact(self, digest: str, text: str, edition: Edition) -> Hit | None:
        rows = self._open().execute(f"SELECT {_COLUMNS} FROM entry WHERE key = ? AND canonical = ?", (digest, text)).fetchall()
        return self._hit(rows[0], "exact", 1.0, edition) if rows else None

    def _similar(self, digest: str, question: str, vector: Vector, edition: Edition) -> Hit | None:
        db = self._open()
        if sum(len(shelf) for shelf in self._shelves.values()) > _MAX_SHELVED * self._max_entries:
            self._shelves.clear()
        shelf = self._shelves.setdefault(digest, Shelf(len(vector)))
        # By this index the rows of a key are in order of their number, so that only the new ones are read.
        sql = "SELECT entry_no, question, vector FROM entry INDEXED BY entry_by_key WHERE key = ? AND entry_no > ? AND length(vector) = ?"
        shelf.extend(db.execute(f"{sql} ORDER BY entry_no", (digest, shelf.last_no, 4 * len(vector))))
        n_tried = 0
        for place, cosine in shelf.nearest(vector, self._min_cosine):
            if n_tried == _MAX_TRIED:
                break
            if ask_the_same(meaning_of(question), meaning_of(shelf.questions[place])):
                rows = db.execute(f"SELECT {_COLUMNS} FROM entry WHERE entry_no = ?", (shelf.numbers[place],)).fetchall()
                if not rows:  # replaced, evicted or deleted, maybe by another process
                    shelf.forget(place)
                    continue
                hit = self._hit(rows[0], "semantic", cosine, edition)
                if hit:
                    return hit
            n_tried += 1
        return None

    def _hit(self, row: _Row, kind: Literal["exact", "semantic"], cosine: float, edition: Edition) -> Hit | None:
        """The entry, if it holds; one that no later question can use either is deleted."""
        entry_no, question, payload, stored, version, cpu_s, energy, created, used = row
        now = self._clock()
        try:
            documents: dict[str, str] = json.loads(stored)
            spent = Figure(*json.loads(energy)) if energy else None
            answer = answer_from(payload)
        except (ValueError, TypeError) as error:
            self._delete([(entry_no,)])
            raise _EntryError(f"an answer in {FILE_NAME} could not be read ({error}) and was deleted") from error
        is_young = 0 <= now - created <= self._ttl_s
        holds = is_young and _holds(documents, version, edition.version, edition.fingerprints(sorted(documents)))
        if not holds:
            # A reader of an older version leaves alone what was made from a newer one.
            if not is_young or version <= edition.version:
                self._delete([(entry_no,)])
            return None
        if now - used > _TOUCH_S:
            # Other questions need not wait for the order of last use.
            with suppress(sqlite3.OperationalError):
                self._open().execute("UPDATE entry SET used = ? WHERE entry_no = ?", (now, entry_no))
        return Hit(kind, question, cosine, version, created, cpu_s, spent, answer)

    def _put(self, key: Key, question: str, vector: Vector | None, answer: Answer, edition: Edition) -> None:
        doc_ids = () if answer.abstained else cited_documents(answer)
        documents = edition.fingerprints(doc_ids)
        missing = [doc_id for doc_id in doc_ids if doc_id not in documents]
        if missing:
            raise _EntryError(f"the answer was not kept: it cites {missing[0]!r}, which version {edition.version} does not hold")
        now, cost = self._clock(), answer.measurement
        values = (
            key.digest(),
            key.collection,
            canonical(question),
            normalise(question),
            None if vector is None else np.asarray(vector, "<f4").tobytes(),
            payload_of(answer),
            json.dumps({doc_id: documents[doc_id] for doc_id in doc_ids}),
            edition.version,
            cost.cpu_s,
            json.dumps(cost.energy.total) if cost.energy else None,  # a named tuple, so a list
            now,
            now,
        )
        db = self._open()
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.execute(
                "REPLACE INTO entry (key, collection, canonical, question, vector, payload, documents, version, cpu_s, energy, created, used)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            db.execute("DELETE FROM entry WHERE created < ? OR created > ?", (now - self._ttl_s, now))
            n_over = db.execute("SELECT count(*) FROM entry").fetchone()[0] - self._max_entries
            if n_over > 0:
                db.execute(
                    "DELETE FROM entry WHERE entry_no IN (SELECT entry_no FROM entry ORDER BY used, entry_no LIMIT ?)", (n_over,)
                )

    def _delete(self, numbers: list[tuple[int]]) -> None:
        db = self._open()
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("DELETE FROM entry WHERE entry_no = ?", numbers)

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = _connect(self._path)
        return self._db

    def _noted(self, work: Callable[[], Hit | None]) -> Lookup:
        """Do it; what goes wrong with the file becomes a note, and a damaged file is set aside for a new one."""
        with self._lock:
            try:
                return Lookup(work())
            except _EntryError as error:
                return Lookup(None, str(error))
            except sqlite3.OperationalError as error:  # locked, full, read-only: the file is whole
                return Lookup(None, f"the answer cache {FILE_NAME} was not used: {error}")
            except sqlite3.DatabaseError as error:
                self.close()
                return Lookup(None, f"the answer cache {FILE_NAME} cannot be read ({error}) and was {_set_aside(self._path)}")

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, json.JSONDecodeError, OSError) as error:
            raise SnapshotError(
                f"the answer cache {self._path} cannot be used: {error}; it may be deleted at any time, answers are then made anew",
                code="cache",
            ) from error


def _holds(documents: dict[str, str], made_from: int, version: int, now: Mapping[str, str]) -> bool:
    """Whether all that an answer rests on is as it was; one that rests on nothing is bound to its version."""
    if not documents:
        return made_from == version
    return all(now.get(doc_id) == fingerprint for doc_id, fingerprint in documents.items())


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file, or make it; one that is not ours, or of another format, is an error of SQLite like any damage."""
    db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
    with ExitStack() as undo:
        undo.callback(db.close)
        db.execute("PRAGMA journal_mode = WAL")
        # A power cut may lose the last answers, not the file; and what is deleted is overwritten.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA secure_delete = ON")
        if db.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
            with db:
                db.execute("BEGIN IMMEDIATE")
                if db.execute("SELECT 1 FROM sqlite_master").fetchone() is None:  # nobody else has made it meanwhile
                    for statement in _SCHEMA:
                        db.execute(statement)
        found = db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0]
        if found != (_APPLICATION_ID, _FORMAT):
            raise sqlite3.DatabaseError(f"not an answer cache of format {_FORMAT}")
        undo.pop_all()
    return db


def _set_aside(path: Path) -> str:
    """Move a file out of the way, and say so."""
    try:
        path.replace(path.with_name(DAMAGED_NAME))
        # Another file must not find this one's log.
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
    except OSError as error:
        return f"left in place: {error.strerror}"
    return f"set aside as {DAMAGED_NAME}"
