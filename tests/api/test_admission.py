"""What is refused, given up, shared and left out under load."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from api.admission import Admission, Flights, GoneError
from api.patience import LateError, Patience, StoppedError
from api.work import Way, degraded
from ingest.pipeline import IngestRequest, ingest
from rag.errors import OverloadedError
from rag.meter import Meter
from rag.settings import AnswerSettings, ServiceSettings, Settings
from tests.api.running import Running, eventually, problem, running, settings_of
from tests.chat_server import Exchange as ChatExchange
from tests.chat_server import running_server as running_chat_server
from tests.corpus import write_documents
from tests.embedding_server import EmbeddingServer, running_server
from tests.embedding_server import Exchange as EmbeddingExchange
from tests.fakes import HashEmbedder, SilentProgress

QUESTION = "how hot is the oven for a loaf"
SLOW_S = 1.5
# An embedder that a test holds back is waited for.
PATIENT = ServiceSettings(embed_timeout_s=60.0)
# Limits of a fraction of a second race with the machine: on one that is busy with other work they end what should have been done.
in_time = pytest.mark.slow


def slowly(exchange: EmbeddingExchange | ChatExchange) -> None:
    time.sleep(SLOW_S)
    exchange.answer_well()


@pytest.fixture
def embedding() -> Iterator[EmbeddingServer]:
    with running_server() as found:
        yield found


@pytest.fixture
def settings(tmp_path: Path, embedding: EmbeddingServer) -> Settings:
    """Settings of a small collection whose embedder is a server that a test can slow down."""
    found = settings_of(tmp_path / "data", embedder=embedding.settings(timeout_s=60.0), answer=AnswerSettings(abstain_below=0.1))
    folder = write_documents(tmp_path / "documents", ["bread.md", "tides.txt"])

    class Served(HashEmbedder):
        @property
        def id(self) -> str:
            return "http:hash"

    ingest(IngestRequest((folder,), "library"), found, Served(), SilentProgress(), Meter())
    return found


def in_flight(service: Running, n: int) -> None:
    eventually(lambda: service.service.admission.n_running == n)


def test_request_beyond_the_queue_is_refused_and_probes_are_not(settings: Settings, embedding: EmbeddingServer) -> None:
    options = replace(PATIENT, workers=1, queue=1)
    with running(settings, options) as service, ThreadPoolExecutor(2) as clients, embedding.holding(2) as release:
        waiting = [clients.submit(service.good, "/v1/search", {"query": f"oven {i}"}) for i in range(2)]
        eventually(lambda: service.service.admission.n_in == 2)
        response = service.post("/v1/search", {"query": "tide"})
        assert problem(response) == (503, "overloaded")
        assert int(response.headers["retry-after"]) >= 1
        for probe in ("/livez", "/readyz", "/healthz", "/version", "/metrics"):
            assert service.client.get(probe).status_code == 200
        assert "rag_queue_length 1.0" in service.client.get("/metrics").text
        assert 'rag_rejected_total{reason="overloaded"} 1.0' in service.client.get("/metrics").text
        release.set()
        assert [len(one.result()["hits"]) > 0 for one in waiting] == [True, True]
        assert service.good("/v1/search", {"query": "tide"})["hits"]


@in_time
def test_vector_that_does_not_come_leaves_search_by_words(settings: Settings, embedding: EmbeddingServer) -> None:
    embedding.next_answers.append(slowly)
    with running(settings, ServiceSettings(embed_timeout_s=0.1)) as service:
        response = service.post("/v1/search", {"query": QUESTION})
        found = response.json()
        assert found["degraded"] == ["bm25"]
        assert found["hits"][0]["doc_id"] == "bread.md"
        assert found["hits"][0]["cosine"] is None
        assert response.headers["x-rag-degraded"] == "bm25"
        assert 'rag_degraded_total{to="bm25"} 1.0' in service.client.get("/metrics").text


@in_time
def test_mode_that_was_asked_for_by_name_is_not_left_out(settings: Settings, embedding: EmbeddingServer) -> None:
    embedding.next_answers.append(slowly)
    with running(settings, ServiceSettings(embed_timeout_s=0.1)) as service:
        assert service.refused("/v1/search", {"query": QUESTION, "mode": "dense"}) == (504, "timeout")


@in_time
def test_language_model_that_does_not_come_leaves_extraction(settings: Settings) -> None:
    with running_chat_server() as model:
        model.next_answers.append(slowly)
        settings = replace(settings, language_model=model.settings())
        with running(settings, ServiceSettings(generate_timeout_s=0.2)) as service:
            found = service.good("/v1/answer", {"query": QUESTION, "mode": "generative"})
    assert (found["degraded"], found["generator"]) == (["extractive"], "extractive")
    assert "230 degrees" in found["answer"]


@in_time
def test_both_are_left_out_one_after_the_other(settings: Settings, embedding: EmbeddingServer) -> None:
    with running_chat_server() as model:
        model.next_answers.append(slowly)
        embedding.next_answers.append(slowly)
        settings = replace(settings, language_model=model.settings())
        with running(settings, ServiceSettings(embed_timeout_s=0.1, generate_timeout_s=0.2)) as service:
            found = service.good("/v1/answer", {"query": QUESTION, "mode": "generative"})
    assert found["degraded"] == ["bm25", "extractive"]


@in_time
def test_whole_answer_has_a_limit_too(settings: Settings, embedding: EmbeddingServer) -> None:
    embedding.next_answers.append(slowly)
    with running(settings, ServiceSettings(timeout_s=0.2)) as service:
        assert service.refused("/v1/search", {"query": QUESTION}) == (504, "timeout")


@in_time
def test_place_of_abandoned_work_is_free_again(settings: Settings, embedding: EmbeddingServer) -> None:
    embedding.next_answers.append(slowly)
    with running(settings, ServiceSettings(workers=1, queue=0, timeout_s=0.5)) as service:
        service.refused("/v1/search", {"query": QUESTION})
        assert service.good("/v1/search", {"query": "tide", "mode": "bm25"})["hits"]


@pytest.mark.parametrize("stream", [False, True])
def test_work_ends_and_its_place_is_free_when_the_client_leaves(
    settings: Settings, embedding: EmbeddingServer, stream: bool
) -> None:
    with running(settings, replace(PATIENT, workers=1, queue=0)) as service, embedding.holding(1):
        body = (
            f'{{"model": "ragwatt-standard", "stream": {str(stream).lower()}, "messages": [{{"role": "user", "content": "oven"}}]}}'
        )
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
            client.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
            in_flight(service, 1)
        eventually(lambda: service.service.admission.n_in == 0)
        assert "rag_cancelled_total 1.0" in service.client.get("/metrics").text
        assert service.good("/v1/search", {"query": "tide", "mode": "bm25"})["hits"]


def test_call_of_a_language_model_ends_when_the_client_leaves(settings: Settings) -> None:
    hung_up, release = threading.Event(), threading.Event()

    def never(exchange: ChatExchange) -> None:
        if exchange.connection.recv(1) == b"":  # nothing more is sent: this returns when the service hangs up
            hung_up.set()
        release.wait(20)

    with running_chat_server() as chat:
        chat.next_answers.append(never)
        with running(
            replace(settings, language_model=chat.settings(timeout_s=60.0)), ServiceSettings(workers=1, queue=0)
        ) as service:
            body = f'{{"query": "{QUESTION}", "mode": "generative"}}'
            host, port = service.url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as client:
                head = f"POST /v1/answer HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
                client.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
                eventually(lambda: len(chat.requests) == 1)
            try:
                assert hung_up.wait(10)
            finally:
                release.set()


def test_identical_requests_in_flight_are_one_piece_of_work(settings: Settings, embedding: EmbeddingServer) -> None:
    with running(settings, PATIENT) as service, ThreadPoolExecutor(4) as clients, embedding.holding(1) as release:
        found = [clients.submit(service.post, "/v1/search", {"query": QUESTION}) for _ in range(4)]
        eventually(lambda: service.service.flights.n_waiting == 4)
        assert service.service.admission.n_in == 1
        release.set()
        answers = [one.result() for one in found]
    assert len(embedding.requests) == 1
    assert sorted(one.json()["shared"] for one in answers) == [False, True, True, True]
    assert sum(float(one.headers["x-rag-cpu-ms"]) > 0 for one in answers) == 1
    assert len({one.json()["request_id"] for one in answers}) == 4


# The parts by themselves


def future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


def patience(**limits: float) -> Patience:
    options = replace(ServiceSettings(), **limits)  # type: ignore[arg-type]  # numbers all
    return Patience(options, time.monotonic() + options.timeout_s)


def test_abandoned_thread_is_replaced_and_ends() -> None:
    release = threading.Event()

    async def scenario() -> tuple[str, int]:
        admission = Admission(ServiceSettings(workers=1, queue=0))
        gone = future()
        lost = asyncio.ensure_future(admission.run(lambda: release.wait(20), patience(), gone))
        while not admission.n_running:
            await asyncio.sleep(0.005)
        gone.set_result(None)
        with pytest.raises(GoneError):
            await lost
        result = await admission.run(lambda: "next", patience(), future())
        release.set()
        admission.close()
        return result, admission.n_in

    assert asyncio.run(scenario()) == ("next", 0)


def test_work_that_waits_is_dropped_when_its_client_leaves() -> None:
    release = threading.Event()
    ran = []

    async def scenario() -> None:
        admission = Admission(ServiceSettings(workers=1, queue=1))
        first = asyncio.ensure_future(admission.run(lambda: release.wait(20), patience(), future()))
        gone = future()
        second = asyncio.ensure_future(admission.run(lambda: ran.append(1), patience(), gone))
        while not admission.n_running or admission.n_waiting != 1:
            await asyncio.sleep(0.005)
        gone.set_result(None)
        with pytest.raises(GoneError):
            await second
        assert admission.n_in == 1
        release.set()
        await first
        await admission.run(lambda: None, patience(), future())
        admission.close()

    asyncio.run(scenario())
    assert ran == []


def test_error_of_work_is_raised_where_it_is_waited_for() -> None:
    async def scenario() -> None:
        admission = Admission(ServiceSettings(workers=1))
        with pytest.raises(ZeroDivisionError):
            await admission.run(lambda: 1 / 0, patience(), future())
        assert (admission.n_in, admission.n_running) == (0, 0)
        admission.close()

    asyncio.run(scenario())


def test_draining_refuses() -> None:
    async def scenario() -> None:
        admission = Admission(ServiceSettings())
        admission.is_draining = True
        with pytest.raises(OverloadedError) as caught:
            await admission.run(lambda: None, patience(), future())
        assert caught.value.code == "draining"

    asyncio.run(scenario())


def test_flight_goes_on_while_one_waits_and_ends_with_the_last() -> None:
    async def scenario() -> None:
        flights = Flights()
        finish = future()
        ended: list[bool] = []

        async def start(nobody: asyncio.Future[None]) -> str:
            await asyncio.wait({finish, nobody}, return_when=asyncio.FIRST_COMPLETED)
            ended.append(nobody.done())
            return "done"

        leaves, stays = future(), future()
        one = asyncio.ensure_future(flights.join("key", start, leaves))
        two = asyncio.ensure_future(flights.join("key", start, stays))
        await asyncio.sleep(0)
        leaves.set_result(None)
        with pytest.raises(GoneError):
            await one
        finish.set_result(None)
        assert await two == ("done", True)
        assert ended == [False]
        alone = future()
        three = asyncio.ensure_future(flights.join("other", lambda nobody: asyncio.wait_for(nobody, 20), alone))
        await asyncio.sleep(0)
        alone.set_result(None)
        with pytest.raises(GoneError):
            await three
        assert flights.n_waiting == 0

    asyncio.run(scenario())


def test_stage_is_late_after_its_own_limit() -> None:
    one = patience(embed_timeout_s=0.01, search_timeout_s=3600.0)
    one.begin("embed")
    late = eventually(one.late)
    assert isinstance(late, LateError)
    assert (late.stage, late.limit_s) == ("embed", 0.01)
    one.begin("bm25")
    assert one.late() is None


def test_stopped_work_begins_no_stage() -> None:
    one = patience()
    one.begin("embed")
    one.stop()
    with pytest.raises(StoppedError):
        one.begin("bm25")


def test_order_of_degradation() -> None:
    way = Way("hybrid", "model")
    by_words = degraded(way, "embed")
    assert by_words == (Way("bm25", "model"), "bm25")
    assert degraded(Way("bm25", "model"), "model") == (Way("bm25", "extractive"), "extractive")
    assert degraded(Way("bm25", "extractive"), "bm25") is None
    assert degraded(Way("dense"), "embed") is None
    assert degraded(way, "total") is None
