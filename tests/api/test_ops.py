"""Probes, metrics, log and the description of the service."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest

from api.log import open_log
from rag.settings import CacheSettings, ServiceSettings, Settings
from tests.api.running import Running, eventually, running

NAMES = """rag_requests_total rag_request_duration_seconds rag_stage_duration_seconds rag_time_to_first_token_seconds rag_tokens_total
rag_context_tokens rag_inflight rag_queue_length rag_rejected_total rag_cancelled_total rag_cache_hits_total rag_cache_misses_total
rag_index_version_info rag_index_age_seconds rag_index_chunks rag_reload_total rag_citations_total rag_abstained_total
rag_energy_joules_total rag_cpu_seconds_total rag_unattributed_energy_joules_total rag_request_energy_joules rag_carbon_grams_total
rag_degraded_total rag_shared_total rag_idle_unloads_total process_resident_memory_bytes process_open_fds""".split()


@pytest.mark.parametrize(("path", "status"), [("/livez", "ok"), ("/readyz", "ok"), ("/healthz", "ok")])
def test_probe_answers(service: Running, path: str, status: str) -> None:
    response = service.client.get(path)
    assert (response.status_code, response.json()["status"]) == (200, status)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
def test_probe_answers_to_those_who_want_no_body(service: Running, path: str) -> None:
    response = service.client.head(path)
    assert (response.status_code, response.content) == (200, b"")


def test_version_is_that_of_the_program(service: Running) -> None:
    assert set(service.client.get("/version").json()) == {"name", "version"}


def test_every_metric_has_its_name_once_there_was_work(library: Settings) -> None:
    with running(replace(library, cache=CacheSettings("exact"))) as service:
        for _ in range(2):
            service.good("/v1/answer", {"query": "how hot is the oven for a loaf"})
        service.good("/v1/context", {"query": "tide"})
        chat = {"model": "ragwatt-eco", "messages": [{"role": "user", "content": "tide"}], "stream": True}
        service.post("/v1/chat/completions", chat)
        eventually(
            lambda: re.search(r'rag_requests_total\{code="200",route="/v1/answer"\} 2.0', service.client.get("/metrics").text)
        )
        text = service.client.get("/metrics").text
    found = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert set(NAMES) <= found
    assert "rag_cache_hits_total 1.0" in text
    assert 'rag_index_version_info{collection="library",version="1"} 1.0' in text


def test_joules_of_requests_and_of_metrics_are_the_same(library: Settings) -> None:
    with running(library) as service:
        bodies = [{"query": f"oven {i}"} for i in range(3)]
        cpu_s = sum(service.good("/v1/search", body)["measurement"]["cpu_s"] for body in bodies)
        text = service.client.get("/metrics").text
    counted = [float(line.split()[1]) for line in text.splitlines() if line.startswith("rag_cpu_seconds_total{")]
    assert sum(counted) == pytest.approx(cpu_s, rel=1e-6)


def test_log_has_one_line_a_request_and_no_words_of_the_query(service: Running) -> None:
    request_id = service.good("/v1/search", {"query": "xylophone in the oven"})["request_id"]
    service.client.get("/livez")
    (line,) = eventually(lambda: [line for line in service.lines() if line["request_id"] == request_id])
    assert (line["event"], line["route"], line["status"], line["collection"]) == ("request", "/v1/search", 200, "library")
    assert line["query_chars"] == len("xylophone in the oven")
    assert line["cpu_ms"] > 0
    assert "xylophone" not in service.log.getvalue()


def test_log_has_the_words_where_the_settings_ask_for_them(library: Settings) -> None:
    with running(library, ServiceSettings(log_queries="on")) as service:
        service.good("/v1/search", {"query": "xylophone in the oven"})
        (line,) = eventually(service.lines)
        assert line["query"] == "xylophone in the oven"


def test_field_that_is_not_allowed_stays_out_of_the_log() -> None:
    stream = io.StringIO()
    open_log(stream).info("request", secret="rag_0123", status=200)
    assert set(json.loads(stream.getvalue())) == {"event", "level", "timestamp", "status"}


def test_description_tells_every_error_in_its_shape(service: Running) -> None:
    found = service.client.get("/openapi.json").json()
    native = found["paths"]["/v1/search"]["post"]["responses"]
    assert native["422"]["content"]["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
    chat = found["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert chat["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/OpenAIError")
    text = json.dumps(found)
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in found["components"]["schemas"], name


def test_page_of_another_site_is_refused_without_keys(service: Running) -> None:
    response = service.post("/v1/search", {"query": "tide"}, Origin="http://evil.example")
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


def test_name_of_another_site_that_means_this_machine_is_refused(service: Running) -> None:
    assert service.post("/v1/search", {"query": "tide"}, Host="evil.example").status_code == 401


def test_origin_of_the_settings_is_let_in_by_browsers(library: Settings) -> None:
    with running(library, ServiceSettings(cors_origins="https://good.example")) as service:
        headers = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST"}
        response = service.client.options("/v1/search", headers=headers)
        assert response.headers["access-control-allow-origin"] == "https://good.example"
