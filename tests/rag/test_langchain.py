from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("langchain_core", reason="the extra [langchain] is not installed")
pytest.importorskip("langchain_tests", reason="LangChain's standard tests are not installed")

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import EmbeddingsIntegrationTests, RetrieversIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests
from pydantic import SecretStr

from rag.engine import Engine
from rag.errors import ConfigError, InputError, ModelError, RagError, SnapshotError
from rag.langchain import RagEmbeddings, RagRetriever
from rag.types import Query
from tests.answer_server import AnswerServer, running_answer_server
from tests.corpus import COLLECTION, ingest_into, open_library, write_documents
from tests.fakes import CountingEmbedder, HashEmbedder
from tests.loopback import JsonExchange, serving

QUESTION = "how hot is the oven for a loaf"
KEY = "rag_0123456789abcdef_secret"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the library, embedded by hashes."""
    base = tmp_path_factory.mktemp("langchain")
    ingest_into(base / "data", write_documents(base / "docs"))
    return base / "data"


@pytest.fixture(scope="module")
def engine(data_dir: Path) -> Iterator[Engine]:
    with open_library(data_dir) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(engine: Engine) -> Iterator[AnswerServer]:
    with running_answer_server(engine, broken=frozenset({"broken"})) as running:
        yield running


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


# LangChain's own standard tests. The mark runs those that are coroutines.


@pytest.mark.anyio
class TestRetrieverWithEngine(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _place(self, engine: Engine) -> None:
        self.params: dict[str, Any] = {"engine": engine}

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return RagRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return self.params

    @property
    def retriever_query_example(self) -> str:
        return QUESTION


class TestRetrieverWithDataDir(TestRetrieverWithEngine):
    @pytest.fixture(autouse=True)
    def _place(self, data_dir: Path) -> None:
        # By words: the settings name the shipped embedder, and these vectors are of another.
        self.params = {"data_dir": data_dir, "collection": COLLECTION, "mode": "bm25"}

    @property
    def retriever_query_example(self) -> str:
        return "the oven and the moon and the red signal"


class TestRetrieverWithUrl(TestRetrieverWithEngine):
    @pytest.fixture(autouse=True)
    def _place(self, server: AnswerServer) -> None:
        self.params = {"url": server.url, "collection": COLLECTION}


@pytest.mark.anyio
class TestEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return RagEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"embedder": HashEmbedder()}


class TestShippedEmbeddings(TestEmbeddings):
    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {}


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return RagEmbeddings


# Retriever


def test_document_is_the_hit_with_all_that_is_known_of_it(engine: Engine) -> None:
    (hit,) = engine.search(Query(QUESTION, k=1)).hits
    source = hit.chunk.source
    assert RagRetriever(engine=engine, k=1).invoke(QUESTION) == [
        Document(
            hit.chunk.text,
            id=hit.chunk.chunk_id,
            metadata={
                "doc_id": "bread.md",
                "uri": source.uri,
                "title": "Bread",
                "headings": ["Bread", "Oven"],
                "page": None,
                "line": source.line,
                "start_char": source.start_char,
                "end_char": source.end_char,
                "place": "",
                "flags": [],
                "score": hit.score,
                "bm25": hit.bm25,
                "cosine": hit.cosine,
                "version": 1,
                "collection": COLLECTION,
            },
        )
    ]


def test_page_content_lies_where_its_metadata_say(engine: Engine) -> None:
    for document in RagRetriever(engine=engine).invoke(QUESTION):
        text = engine.document_text(document.metadata["doc_id"])
        assert text[document.metadata["start_char"] : document.metadata["end_char"]] == document.page_content


def test_service_gives_the_same_documents_as_this_process(engine: Engine, server: AnswerServer) -> None:
    near, far = RagRetriever(engine=engine), RagRetriever(url=server.url, collection=COLLECTION)
    assert far.invoke(QUESTION) == near.invoke(QUESTION)


def test_data_dir_gives_the_same_documents_as_an_engine(engine: Engine, data_dir: Path) -> None:
    near = RagRetriever(engine=engine, mode="bm25")
    assert RagRetriever(data_dir=data_dir, collection=COLLECTION, mode="bm25").invoke(QUESTION) == near.invoke(QUESTION)


def test_one_call_may_choose_otherwise(engine: Engine) -> None:
    retriever = RagRetriever(engine=engine, k=5, filters={"lang": ["en"]})
    found = retriever.invoke(QUESTION, k=2, mode="bm25", filters={"lang": ["de"]})
    assert [document.metadata["doc_id"] for document in found] == [
        hit.chunk.doc_id for hit in engine.search(Query(QUESTION, 2, "bm25", {"lang": frozenset({"de"})})).hits
    ]
    assert {document.metadata["doc_id"] for document in retriever.invoke(QUESTION)} == {"bread.md", "bees.md", "glass.md"}


def test_one_call_may_leave_the_filters_out(engine: Engine) -> None:
    retriever = RagRetriever(engine=engine, filters={"lang": ["de"]})
    assert len(retriever.invoke(QUESTION, filters={})) > len(retriever.invoke(QUESTION)) == 1


@pytest.mark.parametrize(("k", "code"), [(0, "k"), (1001, "k")])
def test_errors_of_the_engine_come_unchanged(engine: Engine, k: int, code: str) -> None:
    with pytest.raises(InputError) as caught:
        RagRetriever(engine=engine, k=k).invoke(QUESTION)
    assert caught.value.code == code


def test_missing_data_is_told(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="no catalog"):
        RagRetriever(data_dir=tmp_path).invoke(QUESTION)


def test_unknown_collection_is_told(data_dir: Path) -> None:
    with pytest.raises(InputError) as caught:
        RagRetriever(data_dir=data_dir, collection="nothing").invoke(QUESTION)
    assert caught.value.code == "unknown_collection"


def test_two_places_at_once_are_refused(data_dir: Path) -> None:
    with pytest.raises(InputError, match="was given data_dir and url; allowed: one of them"):
        RagRetriever(data_dir=data_dir, url="http://127.0.0.1:1")


def test_version_is_kept_until_it_is_let_go(tmp_path: Path) -> None:
    docs = write_documents(tmp_path / "docs", ["bread.md"])
    ingest_into(tmp_path / "data", docs)
    retriever = RagRetriever(data_dir=tmp_path / "data", collection=COLLECTION, mode="bm25")
    assert [document.metadata["version"] for document in retriever.invoke("bake a loaf")] == [1, 1]
    write_documents(docs, ["rust.md"])
    ingest_into(tmp_path / "data", docs)
    assert retriever.invoke("iron") == []
    retriever.close()
    assert [document.metadata["version"] for document in retriever.invoke("iron")] == [2]
    retriever.close()


def test_copy_outlives_its_original(data_dir: Path) -> None:
    retriever = RagRetriever(data_dir=data_dir, collection=COLLECTION, mode="bm25")
    found = retriever.invoke(QUESTION)
    copy = retriever.model_copy(update={"k": 1})
    del retriever
    gc.collect()
    assert copy.invoke(QUESTION) == found[:1]


def test_engine_that_was_given_stays_open(engine: Engine) -> None:
    retriever = RagRetriever(engine=engine)
    retriever.close()
    assert retriever.invoke(QUESTION)


def test_retriever_is_a_runnable(engine: Engine) -> None:
    chain = RagRetriever(engine=engine, k=1) | (lambda documents: documents[0].page_content)
    assert "230 degrees" in chain.invoke(QUESTION)
    assert len(RagRetriever(engine=engine, k=1).batch([QUESTION, "when do bees swarm"])) == 2


# Retriever of a service


@dataclass
class Scripted:
    """What a server was asked, and what it says."""

    reply: object = None
    status: int = 200
    seen: list[tuple[str, str | None, dict[str, Any]]] = field(default_factory=list)


class _Scripted(JsonExchange):
    state: Scripted

    def receive(self, body: dict[str, Any]) -> None:
        self.state.seen.append((self.path, self.headers["Authorization"], body))
        self.send_json(self.state.reply, self.state.status)


@pytest.fixture
def scripted() -> Scripted:
    return Scripted({"hits": [], "collection": "c", "version": 3})


@pytest.fixture
def url(scripted: Scripted) -> Iterator[str]:
    with serving(_Scripted, scripted) as port:
        yield f"http://127.0.0.1:{port}"


def test_service_is_asked_for_what_was_said(scripted: Scripted, url: str) -> None:
    retriever = RagRetriever(
        url=f"{url}/", api_key=SecretStr(KEY), collection="c", k=3, mode="dense", filters={"lang": ["en", "de"]}
    )
    assert retriever.invoke("why?") == []
    body = {"query": "why?", "collection": "c", "k": 3, "mode": "dense", "filters": {"lang": ["de", "en"]}}
    assert scripted.seen == [("/v1/search", f"Bearer {KEY}", body)]


def test_no_key_is_sent_where_there_is_none(scripted: Scripted, url: str) -> None:
    RagRetriever(url=url).invoke("why?")
    assert scripted.seen[0][1] is None


def test_key_is_never_shown(scripted: Scripted, url: str) -> None:
    retriever = RagRetriever(url=url, api_key=SecretStr(KEY))
    scripted.reply, scripted.status = {"detail": f"bad key {KEY}"}, 403
    with pytest.raises(ModelError) as caught:
        retriever.invoke("why?")
    assert KEY not in f"{caught.value} {retriever!r} {retriever} {retriever.model_dump()}"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, ModelError, "unauthorised"),
        (403, ModelError, "unauthorised"),
        (404, InputError, "unknown_collection"),
        (400, ModelError, "http_400"),
    ],
)
def test_refusal_of_a_service_is_an_error(scripted: Scripted, url: str, status: int, kind: type[RagError], code: str) -> None:
    scripted.reply, scripted.status = {"detail": "no", "code": "no"}, status
    with pytest.raises(kind) as caught:
        RagRetriever(url=url).invoke("why?")
    assert caught.value.code == code


def test_words_of_the_service_are_told(server: AnswerServer) -> None:
    with pytest.raises(ModelError, match="broken on purpose"):
        RagRetriever(url=server.url, collection=COLLECTION).invoke("broken")


@pytest.mark.parametrize(
    "reply",
    [
        [],
        {},
        {"hits": None},
        {"hits": [{}]},
        {"hits": ["a"]},
        {"hits": [{"text": "a", "chunk_id": "c", "doc_id": "d", "source": {}}]},
    ],
)
def test_answer_of_something_else_is_an_error_and_no_empty_result(scripted: Scripted, url: str, reply: object) -> None:
    scripted.reply = reply
    with pytest.raises(ModelError) as caught:
        RagRetriever(url=url).invoke("why?")
    assert caught.value.code == "bad_answer"


def test_service_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rag.http._FIRST_PAUSE_S", 0.0)
    with pytest.raises(ModelError) as caught:
        RagRetriever(url="http://127.0.0.1:9", timeout_s=5.0).invoke("why?")
    assert caught.value.code == "RagRetriever_unavailable"


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://a", "http://user:word@a", "http://a:b"])
def test_wrong_address_is_refused_before_anything_is_asked(url: str) -> None:
    with pytest.raises(ConfigError, match=r"RagRetriever\.url"):
        RagRetriever(url=url)


# Embeddings


def test_vectors_are_those_of_the_embedder() -> None:
    embedder = HashEmbedder()
    embeddings = RagEmbeddings(embedder)
    assert np.array_equal(np.array(embeddings.embed_documents(["a", "b c"]), np.float32), embedder.embed(["a", "b c"]))
    assert np.array_equal(np.array(embeddings.embed_query("d"), np.float32), embedder.embed(["d"], "query")[0])


def test_no_texts_have_no_vectors() -> None:
    embedder = CountingEmbedder()
    assert RagEmbeddings(embedder).embed_documents([]) == []


def test_unknown_model_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_EMBEDDER_MODEL", "nothing")
    with pytest.raises(ModelError, match="nothing"):
        RagEmbeddings(data_dir=tmp_path)


# The extra


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_rest_of_rag_does_not_load_langchain() -> None:
    code = (
        "import sys, rag.__main__, rag.engine, rag.cli, api.keys_cli; print([name for name in sys.modules if 'langchain' in name])"
    )
    assert run_python(code) == "[]"


def test_missing_extra_is_told_in_one_line() -> None:
    code = (
        "import json, sys\nsys.modules['langchain_core'] = None\nfrom rag.errors import MissingExtraError\n"
        "try:\n    import rag.langchain\nexcept MissingExtraError as error:\n    print(json.dumps([error.code, error.extra, str(error)]))"
    )
    code_name, extra, message = json.loads(run_python(code))
    assert (code_name, extra) == ("missing_extra", "langchain")
    assert "pip install 'ragwatt[langchain]'" in message
