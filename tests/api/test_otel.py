"""Spans and metrics as a collector gets them: a real server on loopback that reads OTLP."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from api.otel import check_endpoint
from rag.errors import ConfigError
from rag.settings import ServiceSettings, Settings
from tests.api.running import Running, eventually, running
from tests.loopback import JsonExchange, serving

WORD = "xylophone"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
NATIVE = "chat ragwatt-standard"


@dataclass
class Collector:
    """What came, by path, as it came."""

    port: int = 0
    status: int = 200
    bodies: list[tuple[str, bytes]] = field(default_factory=list)

    def raw(self, path: str) -> list[bytes]:
        return [body for at, body in self.bodies if at == path]

    def spans(self) -> list[Span]:
        found = [ExportTraceServiceRequest.FromString(body) for body in self.raw("/v1/traces")]
        return [span for one in found for r in one.resource_spans for scope in r.scope_spans for span in scope.spans]

    def span(self, name: str) -> Span:
        (found,) = [span for span in self.spans() if span.name == name]
        return found

    def points(self) -> dict[str, list[HistogramDataPoint]]:
        """Of the last export, by name of the metric."""
        last = ExportMetricsServiceRequest.FromString(self.raw("/v1/metrics")[-1])
        metrics = [metric for r in last.resource_metrics for scope in r.scope_metrics for metric in scope.metrics]
        return {metric.name: list(metric.histogram.data_points) for metric in metrics}


class OtlpExchange(JsonExchange):
    state: Collector

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        self.state.bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_body(b"", self.state.status)


@contextmanager
def collecting(library: Settings, status: int = 200) -> Iterator[tuple[Running, Collector]]:
    """A service that tells a collector, which has everything once the block of the service has ended."""
    collector = Collector(status=status)
    with serving(OtlpExchange, collector) as port, running(library, options(port)) as service:
        yield service, collector


def options(port: int) -> ServiceSettings:
    return ServiceSettings(otel_endpoint=f"http://127.0.0.1:{port}/")


@pytest.fixture(scope="module")
def told(library: Settings) -> Collector:
    """What a collector has of one request of every kind."""
    chat = {"model": "ragwatt-eco", "messages": [{"role": "user", "content": f"hot oven {WORD}"}]}
    with pytest.MonkeyPatch.context() as patch:
        # What a busy machine does not send in time is dropped.
        patch.setattr("api.otel._EXPORT_S", 60.0)
        patch.setattr("api.otel.FLUSH_S", 120.0)
        with collecting(library) as (service, collector):
            question = {"query": f"how hot is the oven for a loaf {WORD}"}
            service.post("/v1/answer", question, traceparent=f"00-{TRACE}-{PARENT}-01", x_request_id="asked-1")
            service.good("/v1/chat/completions", chat | {"model": "ragwatt-eco/library"})
            service.post("/v1/chat/completions", chat | {"stream": True, "model": "ragwatt-standard/library"})
            service.good("/v1/embeddings", {"model": "all-minilm-l6-v2-int8", "input": f"a {WORD}"})
            service.good("/v1/search", {"query": f"tide {WORD}"})
            service.post("/v1/context", {"query": WORD, "collection": f"no-{WORD}"})
            service.post("/v1/search", {"query": "unsampled"}, traceparent=f"00-{TRACE}-{PARENT}-00", x_request_id="unsampled")
            service.client.get("/v1/models")
            served = service.client.get("/metrics").text
            assert "rag_requests_total" in served
    return collector


def values(attributes: Any) -> dict[str, object]:  # noqa: ANN401 - a repeated field of protobuf
    return {one.key: plain(one) for one in attributes}


def plain(one: KeyValue) -> object:
    value: AnyValue = one.value
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [item.string_value for item in value.array_value.values]
    return getattr(value, str(kind))


def asked(told: Collector) -> Span:
    (found,) = [span for span in told.spans() if values(span.attributes).get("ragwatt.request.id") == "asked-1"]
    return found


def test_every_operation_has_a_span_of_its_name(told: Collector) -> None:
    roots = [span for span in told.spans() if span.kind == Span.SPAN_KIND_SERVER]
    assert sorted(span.name for span in roots) == [
        "chat ragwatt-eco",
        NATIVE,
        NATIVE,
        "embeddings all-minilm-l6-v2-int8",
        "retrieval",
        "retrieval library",
    ]


def test_span_has_the_attributes_of_the_conventions(told: Collector) -> None:
    found = values(asked(told).attributes)
    assert (
        found.items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "ragwatt",
            "gen_ai.request.model": "ragwatt-standard",
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.data_source.id": "library",
            "http.route": "/v1/answer",
            "http.response.status_code": 200,
            "ragwatt.index.version": 1,
        }.items()
    )
    assert found["gen_ai.usage.output_tokens"]
    assert {"ragwatt.request.energy", "ragwatt.request.carbon", "ragwatt.request.cpu_time"} <= set(found)


def test_trace_of_the_caller_goes_on(told: Collector) -> None:
    span = asked(told)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)


def test_request_that_its_caller_does_not_sample_has_no_span(told: Collector) -> None:
    assert "unsampled" not in [values(span.attributes).get("ragwatt.request.id") for span in told.spans()]


def test_stages_are_children_one_after_the_other_within_the_request(told: Collector) -> None:
    parent = asked(told)
    stages = [span for span in told.spans() if span.parent_span_id == parent.span_id]
    assert {"embed", "bm25", "vector", "fuse"} <= {span.name for span in stages}
    ends = [parent.start_time_unix_nano]
    for span in sorted(stages, key=lambda span: span.start_time_unix_nano):
        assert span.trace_id == parent.trace_id
        assert ends[-1] <= span.start_time_unix_nano < span.end_time_unix_nano
        ends.append(span.end_time_unix_nano)
    assert ends[-1] <= parent.end_time_unix_nano


def test_request_that_failed_tells_its_code(told: Collector) -> None:
    found = values(told.span("retrieval").attributes)
    assert (found["error.type"], found["http.response.status_code"]) == ("unknown_collection", 404)
    assert told.span("retrieval").status.code != Status.STATUS_CODE_ERROR  # the fault is the caller's


def test_no_word_of_a_query_leaves_the_process(told: Collector) -> None:
    assert all(WORD.encode() not in body and b"oven" not in body for _, body in told.bodies)


def test_metrics_have_the_names_and_buckets_of_the_conventions(told: Collector) -> None:
    points = told.points()
    assert set(points) == {
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.duration",
        "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
    }
    for name in ("gen_ai.client.operation.duration", "gen_ai.server.request.duration"):
        assert list(points[name][0].explicit_bounds) == pytest.approx([0.01 * 2**i for i in range(14)])
    assert list(points["gen_ai.client.token.usage"][0].explicit_bounds) == [4**i for i in range(14)]


def test_metrics_count_every_operation_by_model_without_collection(told: Collector) -> None:
    durations = [(values(point.attributes), point.count) for point in told.points()["gen_ai.server.request.duration"]]
    counted = {(str(v["gen_ai.operation.name"]), v.get("gen_ai.request.model"), v.get("error.type")): n for v, n in durations}
    assert counted == {
        ("chat", "ragwatt-standard", None): 2,
        ("chat", "ragwatt-eco", None): 1,
        ("embeddings", "all-minilm-l6-v2-int8", None): 1,
        ("retrieval", None, None): 2,
        ("retrieval", None, "unknown_collection"): 1,
    }


def test_first_token_is_that_of_streams_only(told: Collector) -> None:
    (first,) = told.points()["gen_ai.server.time_to_first_token"]
    assert first.count == 1


def test_tokens_are_told_by_type(told: Collector) -> None:
    kinds = {values(point.attributes)["gen_ai.token.type"] for point in told.points()["gen_ai.client.token.usage"]}
    assert kinds == {"input", "output"}


def test_resource_is_the_program(told: Collector) -> None:
    request = ExportTraceServiceRequest.FromString(told.raw("/v1/traces")[0])
    assert values(request.resource_spans[0].resource.attributes)["service.name"] == "ragwatt"


@pytest.mark.parametrize("status", [503, 400])
def test_collector_that_refuses_harms_no_request(library: Settings, status: int) -> None:
    with collecting(library, status) as (service, collector):
        assert service.good("/v1/search", {"query": "tide"})["hits"]
    assert collector.bodies
    (line,) = [line for line in service.lines() if line["event"] == "otel"]
    assert "export" in line["message"]


def test_collector_that_is_down_harms_no_request(library: Settings) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with running(library, options(port)) as service:
        for _ in range(5):
            assert service.good("/v1/search", {"query": "tide"})["hits"]
        assert service.client.get("/readyz").status_code == 200
    assert eventually(lambda: [line for line in service.lines() if line["event"] == "otel"])


def test_without_an_endpoint_the_sdk_is_not_imported() -> None:
    program = (
        "import sys\nfrom api.app import create_app\nfrom rag.settings import Settings\ncreate_app(Settings())\n"
        "sys.exit('opentelemetry.sdk' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", program], check=False).returncode == 0


def test_missing_extra_is_named() -> None:
    program = (
        "import sys, json\nsys.modules['opentelemetry.sdk.metrics.export'] = None\nfrom api.otel import check_endpoint\n"
        "from rag.errors import MissingExtraError\n"
        "try:\n    check_endpoint('http://127.0.0.1:4318')\n"
        "except MissingExtraError as error:\n    print(json.dumps([error.extra, error.code]))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == ["otel", "missing_extra"]


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:4318", "grpc://host:4317", "http://", "http://me:secret@host", "http://host/?a=b", "http://host:x"]
)
def test_endpoint_that_is_no_base_url_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"api\.otel_endpoint"):
        check_endpoint(endpoint)
