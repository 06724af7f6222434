"""LangChain's two plugs: a retriever over a collection, in this process or behind the service, and the embedder.

The one file that needs the extra [langchain]; nothing in this package imports it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import finalize

from rag.embed import Embedder, open_embedder
from rag.engine import Engine, open_engine
from rag.errors import InputError, MissingExtraError, ModelError
from rag.http import JsonServer
from rag.settings import load_settings
from rag.types import Query, SearchMode
from rag.wire import Json, search_json

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from pydantic import Field, PrivateAttr, SecretStr
except ImportError as error:
    raise MissingExtraError("rag.langchain", "langchain") from error


class _Held:
    """The engine of a retriever and its copies, opened with the first question, closed when they are gone or told to let it go."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._engine: Engine | None = None
        self._closing: finalize[[], _Held] | None = None

    def engine(self, data_dir: Path | None, collection: str) -> Engine:
        with self._lock:
            if self._engine is None:
                settings = load_settings({"data_dir": None if data_dir is None else str(data_dir)})
                self._engine = open_engine(settings, collection)
                self._closing = finalize(self, self._engine.close)
            return self._engine

    def close(self) -> None:
        with self._lock:
            if self._closing is not None:
                self._closing()
            self._engine = self._closing = None


class RagRetriever(BaseRetriever):
    """Finds chunks of a collection; safe to share between threads.

    It looks in ``url``, ``engine`` or ``data_dir``, of which one may be given. `invoke` takes ``k``, ``mode`` and ``filters`` too, for
    one call. Errors are those of `rag.errors`.

    Attributes:
        data_dir: A data directory; None means that of the settings (`rag.settings.load_settings`), which also name the embedder.
        engine: An open engine, whatever its collection; it stays the caller's to close.
        url: Base URL of a service, such as ``http://127.0.0.1:8000``.
        api_key: Sent to the service as a bearer token when not empty; never printed.
        collection: Name of the collection.
        k: Documents wanted, 1 to 1,000.
        mode: Which index or indexes to ask.
        filters: Allowed values by metadata key: a document must match one value of every key.
        timeout_s: Longest wait for an answer of the service, further tries included.
    """

    data_dir: Path | None = None
    engine: Engine | None = Field(default=None, repr=False, exclude=True)
    url: str = ""
    api_key: SecretStr = SecretStr("")
    collection: str = "default"
    k: int = 10
    mode: SearchMode = "hybrid"
    filters: Mapping[str, Sequence[str]] = Field(default_factory=dict)
    timeout_s: float = 30.0
    _held: _Held = PrivateAttr(default_factory=_Held)
    _server: JsonServer | None = None

    def model_post_init(self, context: Any, /) -> None:  # noqa: ANN401 - as pydantic has it
        """Check what was given; nothing is opened or sent.

        Args:
            context: Of pydantic, not used.

        Raises:
            InputError: If more than one place to look in was given; code ``usage``.
            ConfigError: If the URL or the key cannot be used.
        """
        given = [name for name in ("data_dir", "engine", "url") if getattr(self, name) not in (None, "")]
        if len(given) > 1:
            raise InputError(f"RagRetriever was given {' and '.join(given)}; allowed: one of them", code="usage")
        if self.url:
            key = self.api_key.get_secret_value()
            self._server = JsonServer("RagRetriever", "k", f"{self.url.rstrip('/')}/v1", self.collection, key)

    def close(self) -> None:
        """Let the version go that was opened from ``data_dir``, while no call runs; the next one opens that which is current then."""
        self._held.close()

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        mode: SearchMode | None = None,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> list[Document]:
        """Find chunks, best first; equal scores in the order of (doc_id, place). What is None is as the retriever was made."""
        k, mode = self.k if k is None else k, mode or self.mode
        wanted = {key: frozenset(values) for key, values in (self.filters if filters is None else filters).items()}
        asked = Query(query, k, mode, wanted)
        if self._server is not None:
            return _documents(self._asked(self._server, asked))
        engine = self.engine or self._held.engine(self.data_dir, self.collection)
        return _documents(search_json(engine.search(asked)))

    def _asked(self, server: JsonServer, query: Query) -> Json:
        """What the service finds."""
        request = {"query": query.text, "collection": self.collection, "k": query.k, "mode": query.mode}
        filters = {key: sorted(values) for key, values in query.filters.items()}
        try:
            reply = server.post(
                "/search", request | {"filters": filters}, self.timeout_s, deadline=time.monotonic() + self.timeout_s
            )
        except ModelError as error:
            if error.code != "model_unknown":
                raise
            raise InputError(
                f"{self.url} has no collection {self.collection!r} for this key, or is no ragwatt service; check url, collection and "
                "api_key",
                code="unknown_collection",
            ) from error
        try:
            found = json.loads(reply.body)
        except ValueError as error:
            raise ModelError(f"{self.url} answered something that is not JSON: {error}; check url", code="bad_answer") from error
        if not isinstance(found, dict) or not isinstance(found.get("hits"), list):
            raise ModelError(f"{self.url} answered without hits; is that a ragwatt service of this version?", code="bad_answer")
        return found


class RagEmbeddings(Embeddings):
    """Turns texts into unit vectors with an embedder of `rag.embed`; safe to share between threads.

    Args:
        embedder: An open embedder; None opens that of the settings, which is the shipped one where they name none.
        data_dir: Where models were added (`rag models add`); None means that of the settings.

    Raises:
        ModelError: If the embedder cannot be opened, or fails later.
        ConfigError: If a setting cannot be used.
    """

    def __init__(self, embedder: Embedder | None = None, data_dir: Path | None = None) -> None:
        if embedder is None:
            settings = load_settings({"data_dir": None if data_dir is None else str(data_dir)})
            embedder = open_embedder(settings.embedder, settings.data_dir / "models")
        self._embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts that are looked in.

        Args:
            texts: Any number, also none.

        Returns:
            A vector a text, in their order.
        """
        vectors: list[list[float]] = self._embedder.embed(texts, "document").tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Embed a text that is looked for.

        Args:
            text: The question.

        Returns:
            Its vector.
        """
        vector: list[float] = self._embedder.embed([text], "query")[0].tolist()
        return vector


def _documents(found: Json) -> list[Document]:
    """Hits as LangChain has them; ``document_text[start_char:end_char] == page_content``."""
    place = {"version": found.get("version"), "collection": found.get("collection")}
    try:
        return [Document(hit["text"], id=hit["chunk_id"], metadata=_metadata(hit) | place) for hit in found["hits"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"a hit of the service cannot be read: {error}; is it of this version?", code="bad_answer") from error


def _metadata(hit: Json) -> Json:
    source = {name: hit["source"][name] for name in ("uri", "title", "headings", "page", "line", "start_char", "end_char", "place")}
    # In this process a tuple, over HTTP a list.
    source |= {name: list(hit["source"][name]) for name in ("headings", "flags")}
    return {"doc_id": hit["doc_id"], **source, **{name: hit[name] for name in ("score", "bm25", "cosine")}}
