"""`/v1/search`, `/v1/context` and `/v1/answer` from outside."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rag.settings import Settings
from tests.api.conftest import fill
from tests.api.running import Running, eventually, problem, running, settings_of
from tests.corpus import QUESTIONS, write_documents

QUESTION = "how hot is the oven for a loaf"


def test_search_gives_hits_with_both_scores_and_what_it_cost(service: Running) -> None:
    found = service.good("/v1/search", {"query": QUESTION, "k": 3})
    assert found["hits"][0]["doc_id"] == "bread.md"
    assert len(found["hits"]) == 3
    assert found["hits"][0]["bm25"] > 0 < found["hits"][0]["cosine"]
    assert (found["collection"], found["version"], found["shared"], found["degraded"]) == ("library", 1, False, [])
    assert found["measurement"]["cpu_s"] > 0
    assert found["measurement"]["energy_j"]["method"] in ("modelled", "assumed")


@pytest.mark.parametrize(("mode", "missing"), [("bm25", "cosine"), ("dense", "bm25")])
def test_search_by_one_index_has_no_score_of_the_other(service: Running, mode: str, missing: str) -> None:
    assert service.good("/v1/search", {"query": QUESTION, "mode": mode})["hits"][0][missing] is None


def test_filters_leave_only_documents_with_an_allowed_value(service: Running) -> None:
    body = {"query": "water", "filters": {"team": ["kitchen", "garden"], "lang": "en"}, "k": 12, "mode": "dense"}
    assert {hit["doc_id"] for hit in service.good("/v1/search", body)["hits"]} == {"bread.md", "bees.md"}


def test_every_citation_of_an_answer_quotes_its_document(service: Running) -> None:
    n_cited = 0
    for question in QUESTIONS:
        for citation in service.good("/v1/answer", {"query": question})["citations"]:
            source = citation["source"]
            with service.service.engines.engine("library", "extractive") as engine:
                text = engine.document_text(citation["doc_id"])
            assert text[source["start_char"] : source["end_char"]] == citation["quote"]
            n_cited += 1
    assert n_cited >= len(QUESTIONS) - 1


def test_claims_are_judged_on_request(service: Running) -> None:
    assert service.good("/v1/answer", {"query": QUESTION})["grounding"] is None
    found = service.good("/v1/answer", {"query": QUESTION, "verify": True})
    assert {claim["verdict"] for claim in found["grounding"]["claims"]} == {"supported"}
    assert "verify" in {stage["name"] for stage in found["measurement"]["stages"]}


def test_eco_loads_no_model(library: Settings) -> None:
    with running(library) as fresh:
        found = fresh.good("/v1/answer", {"query": QUESTION, "mode": "eco"})
    assert "230 degrees" in found["answer"]
    assert "embed" not in {stage["name"] for stage in found["measurement"]["stages"]}


def test_follow_up_is_answered_with_its_history(service: Running) -> None:
    history = [{"role": "user", "content": "Who pays the rent of the lease?"}, {"role": "assistant", "content": "The tenant."}]
    found = service.good("/v1/answer", {"query": "And how much is it?", "history": history})
    assert "900 euros" in found["answer"]
    assert "rent" in found["question"]


def test_context_stays_within_its_budget(service: Running) -> None:
    found = service.good("/v1/context", {"query": QUESTION, "max_tokens": 64, "style": "sentences"})
    assert 0 < found["n_tokens"] <= 64 == found["max_tokens"]
    assert "230 degrees" in found["text"]


def test_cost_is_in_headers_too(service: Running) -> None:
    response = service.post("/v1/answer", {"query": QUESTION})
    measurement = response.json()["measurement"]
    assert float(response.headers["x-rag-cpu-ms"]) == pytest.approx(measurement["cpu_s"] * 1000, abs=0.001)
    assert float(response.headers["x-rag-energy-j"]) == measurement["energy_j"]["value"]
    assert response.headers["x-rag-energy-method"] == measurement["energy_j"]["method"]
    assert response.headers["x-rag-version"] == "library@1"
    assert int(response.headers["x-rag-tokens"]) == measurement["tokens"]["completion"] > 0


def test_request_id_is_echoed_in_header_body_and_log(service: Running) -> None:
    response = service.post("/v1/search", {"query": "tide"}, X_Request_ID="client-77.a")
    assert response.headers["x-request-id"] == response.json()["request_id"] == "client-77.a"
    assert eventually(lambda: [line for line in service.lines() if line["request_id"] == "client-77.a"])


def test_request_id_that_could_forge_a_log_line_is_replaced(service: Running) -> None:
    response = service.post("/v1/search", {"query": "tide"}, X_Request_ID='x" {evil}')
    assert len(response.headers["x-request-id"]) == 32


BAD: list[tuple[str, Any, int, str]] = [
    ("/v1/search", {}, 422, "invalid_request"),
    ("/v1/search", [], 422, "invalid_request"),
    ("/v1/search", {"query": 5}, 422, "invalid_request"),
    ("/v1/search", {"query": "x", "k": "5"}, 422, "invalid_request"),
    ("/v1/search", {"query": "x", "k": 0}, 422, "invalid_request"),
    ("/v1/search", {"query": "x", "k": 1001}, 422, "invalid_request"),
    ("/v1/search", {"query": "x", "mode": "magic"}, 422, "invalid_request"),
    ("/v1/search", {"query": "x", "kay": 5}, 422, "unknown_field"),
    ("/v1/search", {"query": "   "}, 400, "query_empty"),
    ("/v1/search", {"query": "x" * 10_001}, 400, "query_too_long"),
    ("/v1/search", {"query": "x", "collection": "nowhere"}, 404, "unknown_collection"),
    ("/v1/search", {"query": "x", "collection": "../etc"}, 422, "invalid_request"),
    ("/v1/search", {"query": "x", "filters": {"colour": "red"}}, 400, "unknown_key"),
    ("/v1/search", {"query": "x", "filters": {"team": []}}, 400, "filter"),
    ("/v1/search", {"query": "x" * 1_000_001}, 413, "too_large"),
    ("/v1/context", {"query": "x", "max_tokens": 5}, 422, "invalid_request"),
    ("/v1/context", {"query": "x", "target_model": "/etc/passwd"}, 400, "target_model"),
    ("/v1/answer", {"query": "x", "mode": "hybrid"}, 422, "invalid_request"),
    ("/v1/answer", {"query": "x", "mode": "generative"}, 400, "no_model"),
    ("/v1/answer", {"query": "x", "max_energy_j": -1}, 422, "invalid_request"),
    ("/v1/answer", {"query": "x", "history": [{"role": "system", "content": "y"}]}, 422, "invalid_request"),
    ("/v1/nothing", {}, 404, "not_found"),
    ("/livez", {}, 405, "method_not_allowed"),
]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"), BAD, ids=[f"{path}-{code}-{i}" for i, (path, _, _, code) in enumerate(BAD)]
)
def test_bad_input_is_refused_with_its_reason(service: Running, path: str, body: object, status: int, code: str) -> None:
    assert service.refused(path, body) == (status, code)


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b'{"query": "x"', b"nonsense"])
def test_body_that_is_no_json_is_refused(service: Running, body: bytes) -> None:
    response = service.client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    assert problem(response)[0] in (400, 422)


def test_half_of_a_surrogate_pair_is_no_internal_error(service: Running) -> None:
    body = b'{"query": "oven \\ud800 hot"}'
    response = service.client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    assert response.status_code in (200, 422)


def test_body_without_a_length_is_cut_off_at_the_limit(service: Running) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 50_000

    response = service.client.post("/v1/search", content=parts(), headers={"content-type": "application/json"})
    assert problem(response) == (413, "too_large")


def test_message_on_an_unknown_collection_names_no_other(service: Running) -> None:
    assert "library" not in service.post("/v1/search", {"query": "x", "collection": "nowhere"}).text


def test_service_without_data_says_that_there_is_no_collection(tmp_path: Path) -> None:
    with running(settings_of(tmp_path / "nothing")) as empty:
        assert empty.refused("/v1/search", {"query": "x"}) == (404, "unknown_collection")
        assert empty.client.get("/v1/collections").json()["data"] == []


def test_cpu_of_concurrent_requests_adds_up_to_that_of_the_process(library: Settings) -> None:
    with running(library) as fresh:
        fresh.good("/v1/search", {"query": "warm up"})
        before = fresh.service.ledger.account()
        bodies = [{"query": f"{question} {i}"} for i in range(4) for question in QUESTIONS]
        with ThreadPoolExecutor(6) as clients:
            found = list(clients.map(lambda body: fresh.good("/v1/search", body), bodies))
        after = fresh.service.ledger.account()
        price = fresh.service.power.price(0).active_w.value
    borne_s = sum(one["measurement"]["cpu_s"] for one in found)
    known_s = after.attributed_s + after.framework_s - before.attributed_s - before.framework_s
    assert after.n_requests - before.n_requests == len(bodies)
    assert 0 < borne_s <= known_s <= after.process_s - before.process_s
    active = sum(one["measurement"]["energy_parts_j"]["active"]["value"] for one in found)
    assert active == pytest.approx(price * borne_s, rel=0.25)  # each is rounded to the digits that its band supports


def test_new_version_is_picked_up_and_no_answer_is_mixed_of_two(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "data")
    folder = write_documents(tmp_path / "documents", ["tides.txt"])
    fill(settings, folder)
    with running(settings) as fresh, ThreadPoolExecutor(3) as clients:
        is_over = False

        def ask() -> list[tuple[int, frozenset[str]]]:
            seen = []
            is_last = False
            while not is_last:
                is_last = is_over  # one more question when the last version is there
                found = fresh.good("/v1/search", {"query": "zebra tide", "mode": "bm25", "k": 50})
                seen.append((found["version"], frozenset(hit["doc_id"] for hit in found["hits"])))
            return seen

        asking = [clients.submit(ask) for _ in range(2)]
        for version in (2, 3, 4):
            (folder / f"zebra-{version}.txt").write_text(f"The zebra number {version} has {version * 7} stripes.")
            fill(settings, folder)
            eventually(lambda: fresh.service.engines.version("library") == version)  # noqa: B023 - looked at before the next one
        is_over = True
        seen = {one for future in asking for one in future.result()}
    for version, documents in seen:
        assert documents == {"tides.txt", *(f"zebra-{n}.txt" for n in range(2, version + 1))}
    assert max(seen)[0] == 4


def test_reload_tells_old_and_new_version(library: Settings) -> None:
    with running(library) as fresh:
        found = fresh.good("/v1/admin/reload", {})
        assert found["collections"] == [{"collection": "library", "before": 0, "after": 1, "error": ""}]
        assert fresh.good("/v1/admin/reload", {})["collections"][0]["before"] == 1


def test_idle_models_are_let_go_and_loaded_again(library: Settings) -> None:
    with running(library) as fresh:
        first = fresh.good("/v1/search", {"query": QUESTION})
        assert fresh.service.engines.unload_idle(0.0)
        assert fresh.service.engines.open_versions() == []
        assert not fresh.service.engines.unload_idle(0.0)
        again = fresh.good("/v1/search", {"query": QUESTION})
    assert [hit["score"] for hit in again["hits"]] == [hit["score"] for hit in first["hits"]]
