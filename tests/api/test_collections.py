"""Collections, documents and jobs from outside."""

from __future__ import annotations

import base64
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.jobs import FILE_NAME
from api.keys import KeyStore
from rag.settings import AnswerSettings, CacheSettings, ServiceSettings, Settings
from rag.store.snapshot import writer_lock
from tests.api.conftest import fill
from tests.api.running import Running, eventually, problem, running, settings_of
from tests.corpus import DOCUMENTS, QUESTIONS, write_documents
from tests.embedding_server import Exchange, running_server

PLACE = "/v1/collections/library"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path / "data", answer=AnswerSettings(abstain_below=0.3))


@pytest.fixture
def empty(settings: Settings) -> Iterator[Running]:
    """A service without any collection."""
    with running(settings) as found:
        yield found


@pytest.fixture
def filled(settings: Settings, library: Settings) -> Iterator[Running]:
    """A service with the twelve documents, which the test may change."""
    shutil.copytree(library.data_dir, settings.data_dir)
    with running(settings) as found:
        yield found


def uploaded(service: Running, *documents: dict[str, Any], place: str = PLACE, **headers: str) -> dict[str, Any]:
    """The job of an upload, once it is over."""
    response = service.post(f"{place}/documents", {"documents": list(documents)}, **headers)
    assert response.status_code == 202, response.text
    return service.job(response.headers["location"])


def ids(service: Running) -> list[str]:
    return [row["doc_id"] for row in service.client.get(f"{PLACE}/documents").json()["data"]]


def test_text_is_uploaded_in_a_job_and_found_when_the_job_is_over(empty: Running) -> None:
    job = uploaded(empty, {"id": "tides", "title": "Tides", "text": "The moon pulls the water.", "metadata": {"team": "sea"}})
    assert (job["state"], job["result"]["n_added"], job["result"]["version"]) == ("succeeded", 1, 1)
    assert job["result"]["documents"] == [{"name": "tides", "status": "ok", "error": None}]
    found = empty.good("/v1/search", {"query": "moon", "filters": {"team": "sea"}})
    assert (found["hits"][0]["doc_id"], found["version"]) == ("tides", 1)


def test_document_of_the_same_id_is_replaced(empty: Running) -> None:
    uploaded(empty, {"id": "a", "text": "The moon pulls the water."}, {"id": "b", "text": "Iron rusts in water."})
    job = uploaded(empty, {"id": "a", "text": "A knight jumps over pieces."})
    assert (job["result"]["n_updated"], job["result"]["n_unchanged"], job["result"]["version"]) == (1, 0, 2)
    assert ids(empty) == ["a", "b"]
    assert empty.good("/v1/search", {"query": "moon", "mode": "bm25"})["hits"] == []


def test_files_are_uploaded_and_what_cannot_be_read_is_told(empty: Running) -> None:
    files = [
        ("file", ("bread.md", DOCUMENTS["bread.md"].encode())),
        ("file", ("picture.png", b"\x89PNG\r\n\x1a\n\0\0")),
    ]
    response = empty.client.post(f"{PLACE}/documents", files=files)
    job = empty.job(response.headers["location"])
    assert job["state"] == "succeeded"
    told = {one["name"]: one["status"] for one in job["result"]["documents"]}
    assert told == {"bread.md": "ok", "picture.png": "failed"}
    assert ids(empty) == ["bread.md"]


def test_sources_of_uploads_do_not_tell_where_this_machine_keeps_them(empty: Running, settings: Settings) -> None:
    empty.job(
        empty.client.post(f"{PLACE}/documents", files=[("file", ("tide.md", b"The moon pulls the tide."))]).headers["location"]
    )
    uploaded(empty, {"id": "knight", "text": "A knight jumps over the tide."})
    found = empty.good("/v1/search", {"query": "tide", "mode": "bm25"})
    uris = sorted(hit["source"]["uri"] for hit in found["hits"])
    assert uris[0] == "files/tide.md"
    assert uris[1].startswith("records/")
    assert str(settings.data_dir) not in empty.client.get(f"{PLACE}/documents").text


def test_upload_of_which_nothing_can_be_read_fails_without_telling_where_it_is_kept(empty: Running, settings: Settings) -> None:
    response = empty.client.post(f"{PLACE}/documents", files=[("file", ("picture.png", b"\x89PNG\r\n\x1a\n\0\0"))])
    job = empty.job(response.headers["location"])
    assert (job["state"], job["error"]["code"]) == ("failed", "nothing_to_ingest")
    assert str(settings.data_dir) not in job["error"]["message"]


def test_cost_of_an_upload_counts_the_threads_that_embed(empty: Running) -> None:
    job = uploaded(empty, *({"id": str(i), "text": f"{text} {i}"} for i, text in enumerate(DOCUMENTS.values())))
    stages = {stage["name"]: stage["cpu_s"] for stage in job["result"]["measurement"]["stages"]}
    assert stages["embed"] > 0.005 * len(DOCUMENTS) / 10
    account = empty.service.ledger.account()
    assert account.attributed_s + account.framework_s + account.in_flight_s + account.unattributed_s == pytest.approx(
        account.process_s
    )


@pytest.mark.parametrize(
    ("name", "status"), [("../x.md", 400), (".hidden", 400), ("a/b.md", 400), ("x" * 201, 400), ("nul\0.md", 400)]
)
def test_file_name_that_leads_elsewhere_is_refused(empty: Running, name: str, status: int) -> None:
    boundary = b"frontier"
    part = f'Content-Disposition: form-data; name="file"; filename="{name}"'.encode()
    body = b"--" + boundary + b"\r\n" + part + b"\r\n\r\nwords\r\n--" + boundary + b"--\r\n"
    headers = {"content-type": f"multipart/form-data; boundary={boundary.decode()}"}
    assert problem(empty.client.post(f"{PLACE}/documents", content=body, headers=headers))[0] == status


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"documents": []}, 422, "invalid_request"),
        ({"documents": [{"id": "", "text": "x"}]}, 422, "invalid_request"),
        ({"documents": [{"id": "a", "text": "x", "colour": "red"}]}, 422, "unknown_field"),
        ({"documents": [{"id": "a", "text": "x", "metadata": {"text": "y"}}]}, 400, "meta"),
    ],
)
def test_bad_upload_is_refused(empty: Running, body: object, status: int, code: str) -> None:
    assert empty.refused(f"{PLACE}/documents", body) == (status, code)


def test_upload_of_another_kind_or_none_is_refused(empty: Running) -> None:
    response = empty.client.post(f"{PLACE}/documents", content=b"x", headers={"content-type": "text/plain"})
    assert problem(response) == (415, "media_type")
    response = empty.client.post(f"{PLACE}/documents", content=b"{", headers={"content-type": "application/json"})
    assert problem(response) == (400, "malformed_json")


def test_upload_beyond_the_limit_is_refused(settings: Settings) -> None:
    with running(settings, ServiceSettings(max_upload_bytes=2000)) as small:
        assert small.refused(f"{PLACE}/documents", {"documents": [{"id": "a", "text": "x" * 2000}]}) == (413, "too_large")


def test_collection_is_made_empty_shown_and_deleted(empty: Running) -> None:
    made = empty.post("/v1/collections", {"name": "games"})
    assert (made.status_code, made.headers["location"], made.json()["n_documents"]) == (201, "/v1/collections/games", 0)
    assert empty.refused("/v1/collections", {"name": "games"}) == (409, "collection_exists")
    assert empty.good("/v1/search", {"query": "chess", "collection": "games"})["hits"] == []
    uploaded(empty, {"id": "chess", "text": "The bishop moves along diagonals."}, place="/v1/collections/games")
    assert empty.good("/v1/search", {"query": "bishop", "collection": "games"})["version"] == 2
    assert [row["name"] for row in empty.client.get("/v1/collections").json()["data"]] == ["games"]
    assert empty.client.delete("/v1/collections/games").status_code == 200
    assert empty.refused("/v1/search", {"query": "bishop", "collection": "games"}) == (404, "unknown_collection")
    assert problem(empty.client.delete("/v1/collections/games")) == (404, "unknown_collection")


def test_collection_of_a_deleted_name_begins_anew(empty: Running) -> None:
    uploaded(empty, {"id": "a", "text": "The bishop moves along diagonals."})
    empty.client.delete(PLACE)
    job = uploaded(empty, {"id": "b", "text": "The knight jumps over pieces."})
    assert (job["result"]["version"], job["result"]["n_chunks"]) == (1, 1)
    assert ids(empty) == ["b"]
    assert empty.good("/v1/search", {"query": "bishop", "mode": "bm25"})["hits"] == []


@pytest.mark.parametrize("name", ["", "../x", "a b", ".x", "x" * 65, 5])
def test_collection_name_that_is_no_folder_name_is_refused(empty: Running, name: object) -> None:
    assert empty.refused("/v1/collections", {"name": name}) == (422, "invalid_request")


def test_deleted_document_is_gone_from_the_version_that_is_told(filled: Running) -> None:
    found = filled.client.delete(f"{PLACE}/documents/trains/signals.txt").json()
    assert (found["deleted"], found["version"]) == ("trains/signals.txt", 2)
    assert "trains/signals.txt" not in ids(filled)
    hits = filled.good("/v1/search", {"query": QUESTIONS[2], "k": 12})
    assert hits["version"] == 2
    assert "trains/signals.txt" not in {hit["doc_id"] for hit in hits["hits"]}


def test_document_that_stood_for_a_duplicate_leaves_the_duplicate(empty: Running) -> None:
    text = "The moon pulls the water of the oceans twice a day, and so the tide comes and goes."
    job = uploaded(empty, {"id": "a", "text": text}, {"id": "b", "text": text})
    assert job["result"]["n_duplicates"] == 1
    empty.client.delete(f"{PLACE}/documents/a")
    found = empty.good("/v1/search", {"query": "tide moon", "mode": "dense"})
    assert [hit["doc_id"] for hit in found["hits"]] == ["b"]


def test_deleted_upload_leaves_no_file_and_no_cached_answer(settings: Settings) -> None:
    with running(replace(settings, cache=CacheSettings("exact"))) as service:
        uploaded(service, {"id": "a", "text": "The secret garage costs 80 euros."}, {"id": "b", "text": "Iron rusts."})
        service.good("/v1/answer", {"query": "What does the garage cost?"})
        service.client.delete(f"{PLACE}/documents/a")
        assert not service.good("/v1/answer", {"query": "What does the garage cost?"})["citations"]
    kept = [path for path in settings.data_dir.rglob("*") if path.is_file() and b"garage" in path.read_bytes()]
    assert [path.name for path in kept if path.suffix == ".jsonl"] == []


def test_document_that_is_not_there_cannot_be_deleted(filled: Running) -> None:
    assert problem(filled.client.delete(f"{PLACE}/documents/nothing.md")) == (404, "unknown_document")
    assert problem(filled.client.delete("/v1/collections/nowhere/documents/x")) == (404, "unknown_collection")


def test_pages_of_documents_make_the_whole_list(filled: Running) -> None:
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = filled.client.get(f"{PLACE}/documents", params={"limit": 5, "cursor": cursor}).json()
        assert len(page["data"]) <= 5
        seen += [row["doc_id"] for row in page["data"]]
        cursor = page["next_cursor"]
    assert seen == sorted(DOCUMENTS)


HALF_PAIR = base64.urlsafe_b64encode(rb'[1, "\ud800"]').decode()


@pytest.mark.parametrize("cursor", ["x", "%%%", "bm90IGpzb24", base64.urlsafe_b64encode(b"[2, 5]").decode(), "ö", HALF_PAIR])
def test_cursor_that_is_none_of_ours_is_refused(filled: Running, cursor: str) -> None:
    assert problem(filled.client.get(f"{PLACE}/documents", params={"cursor": cursor})) == (400, "bad_cursor")


@pytest.mark.parametrize("limit", ["0", "1001", "x"])
def test_page_of_another_size_is_refused(filled: Running, limit: str) -> None:
    assert problem(filled.client.get(f"{PLACE}/documents", params={"limit": limit})) == (422, "invalid_request")


def test_same_idempotency_key_is_the_same_job_and_another_body_is_refused(empty: Running) -> None:
    body = {"documents": [{"id": "a", "text": "The moon pulls the water."}]}
    first, again = (empty.post(f"{PLACE}/documents", body, Idempotency_Key="k1") for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert again.status_code == 202
    other = {"documents": [{"id": "a", "text": "Another text."}]}
    assert problem(empty.post(f"{PLACE}/documents", other, Idempotency_Key="k1")) == (422, "idempotency_key")
    assert empty.post(f"{PLACE}/documents", other, Idempotency_Key="k2").json()["id"] != first.json()["id"]


def test_unknown_job_is_not_found(empty: Running) -> None:
    assert problem(empty.client.get("/v1/jobs/nothing")) == (404, "unknown_job")
    assert problem(empty.client.delete("/v1/jobs/nothing")) == (404, "unknown_job")


def test_job_that_is_over_cannot_be_cancelled(empty: Running) -> None:
    job = uploaded(empty, {"id": "a", "text": "The moon."})
    assert problem(empty.client.delete(f"/v1/jobs/{job['id']}")) == (409, "job_over")


def test_job_that_another_process_did_not_finish_is_interrupted(settings: Settings) -> None:
    with running(settings) as before:
        job = uploaded(before, {"id": "a", "text": "The moon."})
    with sqlite3.connect(settings.data_dir / FILE_NAME) as db:
        db.execute("UPDATE job SET state = 'running'")
    db.close()
    with running(settings) as after:
        assert after.client.get(f"/v1/jobs/{job['id']}").json()["state"] == "interrupted"


def test_running_upload_that_is_cancelled_publishes_nothing(settings: Settings) -> None:
    with running_server() as embedding:
        served = replace(settings, embedder=embedding.settings(timeout_s=60.0))
        embedding.next_answers.append(Exchange.answer_well)  # tells how long a vector is, before there is anything to embed
        with running(served) as service, embedding.holding(50) as release:
            documents = [{"id": str(i), "text": f"Number {i} of many texts about {i * 7}."} for i in range(200)]
            location = service.post(f"{PLACE}/documents", {"documents": documents}).headers["location"]
            eventually(lambda: service.client.get(location).json()["progress"].get("stage") == "embed")
            assert service.client.delete(location).json()["state"] == "running"
            release.set()
            assert service.job(location)["state"] == "cancelled"
            assert service.refused("/v1/search", {"query": "x"}) == (404, "unknown_collection")


def test_waiting_job_that_is_cancelled_never_runs(settings: Settings) -> None:
    with running(settings) as service:
        settings.data_dir.mkdir(exist_ok=True)
        with writer_lock(settings.data_dir):  # another process writes: the first job waits for it, the second for the first
            first = service.post(f"{PLACE}/documents", {"documents": [{"id": "a", "text": "The moon."}]}).headers["location"]
            second = service.post(f"{PLACE}/documents", {"documents": [{"id": "b", "text": "The sun."}]}).headers["location"]
            assert service.client.delete(second).json()["state"] == "cancelled"
        assert service.job(first)["state"] == "succeeded"
        assert ids(service) == ["a"]


def test_batch_answers_every_question_in_order_and_tells_failures_one_by_one(filled: Running) -> None:
    questions = [{"id": i, "query": question} for i, question in enumerate(QUESTIONS)] + [{"id": "bad", "query": " "}]
    response = filled.post("/v1/batches", {"questions": questions})
    job = filled.job(response.headers["location"])
    result = job["result"]
    assert [one["id"] for one in result["results"]] == [*range(len(QUESTIONS)), "bad"]
    assert (result["n_failed"], result["version"], result["results"][-1]["error"]["code"]) == (1, 1, "query_empty")
    single = filled.good("/v1/answer", {"query": QUESTIONS[0]})
    assert result["results"][0]["answer"] == single["answer"]
    assert result["measurement"]["cpu_s"] >= sum(one["measurement"]["cpu_s"] for one in result["results"][:-1])


def test_batch_beyond_the_limit_is_refused(settings: Settings, tmp_path: Path) -> None:
    fill(settings, write_documents(tmp_path / "documents", ["bread.md"]))
    with running(settings, ServiceSettings(max_batch=2)) as small:
        body = {"questions": [{"id": i, "query": "x"} for i in range(3)]}
        assert small.refused("/v1/batches", body) == (413, "too_many")


def test_tenants_do_not_see_each_other(settings: Settings, tmp_path: Path) -> None:
    fill(settings, write_documents(tmp_path / "documents", ["bread.md"]))
    keys = KeyStore(settings.data_dir)
    secrets = [keys.create(["ingest", "query"], [name])[1] for name in ("library", "games")]
    keys.close()
    owner, stranger = ({"authorization": f"Bearer {secret}"} for secret in secrets)
    with running(settings) as service:
        body = {"documents": [{"id": "a", "text": "The moon."}]}
        location = service.client.post(f"{PLACE}/documents", json=body, headers=owner).headers["location"]
        assert service.client.get(location, headers=owner).status_code == 200
        for method, path in [
            ("GET", location),
            ("DELETE", location),
            ("GET", PLACE),
            ("GET", f"{PLACE}/documents"),
            ("DELETE", f"{PLACE}/documents/bread.md"),
            ("POST", f"{PLACE}/documents"),
        ]:
            response = service.client.request(method, path, headers=stranger, json=body if method == "POST" else None)
            assert problem(response)[0] == 404, (method, path)
        assert service.client.get("/v1/collections", headers=stranger).json()["data"] == []
        assert problem(service.client.get("/v1/collections")) == (401, "no_api_key")
        assert problem(service.client.delete(PLACE, headers=owner)) == (403, "scope")
