"""The engines of a process: one for each collection and way of writing answers, all over the same models.

A version that was open when a request began stays open until it ends, so no answer is mixed of two. New versions are opened beside the
old one and then take its place. Models are loaded by the first request that needs them, and let go when there was none for a while.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from api.auth import no_collection
from rag.embed import Embedder, open_embedder
from rag.engine import Engine
from rag.errors import InputError, RagError, SnapshotError
from rag.generate import Generator, open_generator
from rag.power import Power
from rag.settings import GeneratorName, Settings
from rag.store import Store, open_store
from rag.store.catalog import Catalog
from rag.store.manifest import MANIFEST
from rag.store.snapshot import folder_of

if TYPE_CHECKING:
    from rag.cache import AnswerCache

# How long a collection that is deleted waits for requests that read it.
_MAX_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Reload:
    """A collection whose version was looked at; 0 stands for none. ``error`` says why a new version could not be opened."""

    collection: str
    before: int
    after: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class OpenVersion:
    """A version that is open; ``published`` is in seconds since the epoch."""

    collection: str
    version: int
    n_chunks: int
    published: float


@dataclass(slots=True)
class _Held:
    """One open version, its engines by generator, and how many requests use it."""

    store: Store
    published: float
    n_users: int = 0
    is_retired: bool = False
    engines: dict[GeneratorName, Engine] = field(default_factory=dict)


class Engines:
    """Lends engines to requests; safe to share between threads.

    Args:
        settings: Data directory, models and everything else.
        power: Prices queries that bring no meter.
        on_reload: Told of every look that found another version, or failed.
    """

    def __init__(self, settings: Settings, power: Power, on_reload: Callable[[Reload], None]) -> None:
        self._settings = settings
        self._power = power
        self._on_reload = on_reload
        self._lock = threading.RLock()
        self._opening = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._embedder: Embedder | None = None
        self._generators: dict[GeneratorName, Generator] = {}
        self._cache: AnswerCache | None = None
        self._n_users = 0
        self._used = time.monotonic()

    @property
    def settings(self) -> Settings:
        """Those of the process."""
        return self._settings

    @contextmanager
    def engine(self, collection: str, generator: GeneratorName) -> Iterator[Engine]:
        """Use the current version of a collection.

        Args:
            collection: Its name.
            generator: Who writes answers.

        Yields:
            An engine; its version stays open for as long as the block runs.

        Raises:
            InputError: If there is no such collection; the message names no other.
            SnapshotError: If its data is missing, damaged or of a newer format.
            ConfigError: ``no_model`` if no language model is configured.
            ModelError: If a model cannot be opened.
        """
        held = self._borrow(collection)
        try:
            yield self._engine_of(held, generator)
        finally:
            self._give_back(held)

    @contextmanager
    def embedder(self) -> Iterator[Embedder]:
        """Use the embedder, which is opened if it is not.

        Yields:
            The one that all engines share; it stays open for as long as the block runs.
        """
        with self._lock:
            if self._embedder is None:
                self._embedder = open_embedder(self._settings.embedder, self._settings.data_dir / "models")
            embedder = self._embedder
            self._n_users += 1
        try:
            yield embedder
        finally:
            with self._lock:
                self._n_users -= 1
                self._used = time.monotonic()

    def open_versions(self) -> list[OpenVersion]:
        """What is open, by collection."""
        with self._lock:
            held = sorted(self._held.items())
        return [OpenVersion(name, one.store.version, one.store.n_rows, one.published) for name, one in held]

    def collections(self) -> list[str]:
        """Names of the published collections, whether open or not, in order."""
        return sorted(self._published())

    def version(self, collection: str) -> int:
        """The version that requests read now; 0 when the collection is not open."""
        with self._lock:
            held = self._held.get(collection)
            return held.store.version if held else 0

    def refresh(self, only: str | None = None, *, open_new: bool = False) -> list[Reload]:
        """Look for new versions, and let them take the place of the old ones.

        Args:
            only: Name of a collection; None means all that are open.
            open_new: Open collections too that nobody has asked for yet.

        Returns:
            One for each collection looked at, by name. A version that cannot be opened leaves the old one in place.
        """
        current = self._published()
        with self._lock:
            before = {name: held.store.version for name, held in self._held.items()}
        names = set(before) | (set(current) if open_new else set())
        found = []
        for name in sorted(names if only is None else names & {only} | ({only} if open_new else set())):
            reload = self._refreshed(name, before.get(name, 0), current.get(name, 0))
            found.append(reload)
            if reload.before != reload.after or reload.error:
                self._on_reload(reload)
        return found

    def retire(self, collection: str) -> None:
        """Lend a collection no more, and wait a moment for those who read it."""
        with self._lock:
            held = self._held.pop(collection, None)
        if held is None:
            return
        until = time.monotonic() + _MAX_WAIT_S
        while held.n_users and time.monotonic() < until:
            time.sleep(0.01)
        self._retire(held)

    def unload_idle(self, idle_s: float) -> bool:
        """Let all models and versions go if there was no request for a while; the next one loads what it needs.

        Args:
            idle_s: How long.

        Returns:
            Whether anything was let go.
        """
        with self._lock:
            is_loaded = self._embedder is not None or self._held or self._generators
            if not is_loaded or self._n_users or time.monotonic() - self._used < idle_s:
                return False
            self._let_go()
        gc.collect()
        if sys.platform == "linux":  # else freed memory stays with the process: 115 MB become 100 without it, 67 with it
            with suppress(OSError, AttributeError):
                ctypes.CDLL(None).malloc_trim(0)
        return True

    def close(self) -> None:
        """Let everything go."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        for held in self._held.values():
            self._retire(held)
        for generator in self._generators.values():
            generator.close()
        if self._cache is not None:
            self._cache.close()
        self._held, self._generators, self._embedder, self._cache = {}, {}, None, None

    def _borrow(self, collection: str) -> _Held:
        while True:
            with self._lock:
                held = self._held.get(collection)
                if held is not None:
                    held.n_users += 1
                    self._n_users += 1
                    return held
            with self._opening:  # one thread opens, the others find it open
                if self.version(collection) == 0:
                    opened = self._open(collection)
                    with self._lock:
                        self._held[collection] = opened
                    self._on_reload(Reload(collection, 0, opened.store.version))

    def _give_back(self, held: _Held) -> None:
        with self._lock:
            held.n_users -= 1
            self._n_users -= 1
            self._used = time.monotonic()
            if held.is_retired and not held.n_users:
                held.store.close()

    def _retire(self, held: _Held) -> None:
        with self._lock:
            held.is_retired = True
            if not held.n_users:
                held.store.close()

    def _open(self, collection: str) -> _Held:
        try:
            store = open_store(self._settings.data_dir, collection)
        except (InputError, SnapshotError) as error:
            if error.code in ("unknown_collection", "no_data"):
                raise no_collection(collection) from error
            raise
        manifest = folder_of(self._settings.data_dir, collection, store.version) / MANIFEST
        return _Held(store, manifest.stat().st_mtime)

    def _engine_of(self, held: _Held, generator: GeneratorName) -> Engine:
        engine = held.engines.get(generator)
        if engine is None:
            with self.embedder() as embedder, self._lock:
                engine = held.engines[generator] = self._made(held.store, embedder, generator)
        return engine

    def _made(self, store: Store, embedder: Embedder, generator: GeneratorName) -> Engine:
        settings = replace(self._settings, answer=replace(self._settings.answer, generator=generator))
        if generator not in self._generators:
            self._generators[generator] = open_generator(settings)
        if self._cache is None and settings.cache.mode != "off":
            from rag.cache import AnswerCache

            self._cache = AnswerCache(settings.data_dir, max_entries=settings.cache.max_entries, ttl_s=settings.cache.ttl_s)
        # Never closed as a whole: it shares all but its store, and that has its own end.
        return Engine(store, embedder, self._generators[generator], settings, self._power, self._cache)

    def _published(self) -> dict[str, int]:
        """Current versions by collection; none where there is no catalog yet."""
        try:
            catalog = Catalog(self._settings.data_dir)
        except SnapshotError as error:
            if error.code == "no_data":
                return {}
            raise
        try:
            return {row.name: row.version for row in catalog.collections() if row.version}
        finally:
            catalog.close()

    def _refreshed(self, name: str, before: int, current: int) -> Reload:
        if before == current:
            return Reload(name, before, before)
        opened = None
        if current:
            try:
                with self._opening:
                    opened = self._open(name)
            except RagError as error:
                return Reload(name, before, before, str(error))
        with self._lock:
            old = self._held.pop(name, None)
            if opened is not None:
                self._held[name] = opened
        if old is not None:
            self._retire(old)
        return Reload(name, before, opened.store.version if opened else 0)
