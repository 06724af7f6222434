"""What a running service is measured by: closed and open load, streams, overhead over the engine, and its first answer after a rest."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.load import Reply, Target, closed_loop, open_loop
from bench.serving import Bodies, Server, body_of
from rag.engine import Engine
from rag.meter import Meter
from rag.types import Query

CONNECTIONS = (1, 4, 16)
# Of an overload: until the queue is full, nothing is counted.
_WARM_UP_S = 2.0
_PROBE_EVERY_S = 0.1
_PATIENCE_S = 60.0
_RETRIEVAL = frozenset({"open", "embed", "bm25", "vector", "fuse", "fetch"})


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is run: requests at each number of connections, requests of a turn and turns of what is compared, seconds."""

    n_requests: int = 400
    n_turn: int = 60
    n_turns: int = 7
    n_streams: int = 60
    overload_s: float = 12.0
    n_cold: int = 3


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of wall-clock over replies, from when each was due to its last byte."""

    n: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Level:
    """Requests of one kind over some connections, each sending the next as soon as it has an answer.

    Attributes:
        path: Asked.
        n_connections: At once.
        n_failed: Replies other than 200.
        throughput: Good replies a second.
        wall: Of the good ones.
        cpu_ms: Of the service process, a request.
        energy_j: Of the service, a request, by its own metrics: modelled or measured as its answers say.
        client_cpu_ms: Of the load generator, which shares the cores.
    """

    path: str
    n_connections: int
    n_failed: int
    throughput: float
    wall: Times
    cpu_ms: float
    energy_j: float
    client_cpu_ms: float


@dataclass(frozen=True, slots=True)
class Overhead:
    """CPU milliseconds a request, medians over turns: of the service, of the same engine calls in process, and of their difference."""

    path: str
    n_turns: int
    service_ms: float
    engine_ms: float
    overhead_ms: float


@dataclass(frozen=True, slots=True)
class Stream:
    """Streams, one after the other: from sending to the first byte, and the same less the stages of retrieval.

    What is left after retrieval still has the way there, the reading of the request and the queue in it: an upper limit.
    """

    n: int
    first_ms: float
    after_retrieval_p50_ms: float
    after_retrieval_p95_ms: float


@dataclass(frozen=True, slots=True)
class Overload:
    """Requests that come whether or not the service keeps up.

    Attributes:
        factor: Of the peak.
        rate: Requests a second.
        n_sent: Requests.
        peak: Good replies a second without overload, mean of right before and right after.
        goodput: Good replies a second from the warm-up to the last request sent.
        share: Of the peak.
        good: Wall-clock of good replies.
        refused: Wall-clock of refusals.
        n_without_retry: Refusals that do not say when to come again.
        n_failed: Replies that are neither.
        probes: Wall-clock of ``/readyz`` meanwhile.
        n_bad_probes: Of these, not 200.
        server_cores: Cores that the service used.
        client_cores: Cores that the load generator used.
    """

    factor: float
    rate: float
    n_sent: int
    peak: float
    goodput: float
    share: float
    good: Times
    refused: Times
    n_without_retry: int
    n_failed: int
    probes: Times
    n_bad_probes: int
    server_cores: float
    client_cores: float


@dataclass(frozen=True, slots=True)
class Cold:
    """After idle models were let go: megabytes loaded and let go, and medians of the first request then and of the next one."""

    loaded_mb: float
    idle_mb: float
    first_wall_ms: float
    first_cpu_ms: float
    next_wall_ms: float


def level(server: Server, bodies: Bodies, path: str, n_connections: int, n: int) -> Level:
    """Send requests of one kind over some connections."""
    requests = bodies.take(server.address, path, n)
    joules, cpu, own, began = server.metric("rag_energy_joules_total"), server.cpu_s, time.process_time(), time.perf_counter()
    replies = server.closed(requests, n_connections)
    seconds, own, cpu = time.perf_counter() - began, time.process_time() - own, server.cpu_s - cpu
    good = [reply for reply in replies if reply.status == 200]
    return Level(
        path=path,
        n_connections=n_connections,
        n_failed=n - len(good),
        throughput=len(good) / seconds,
        wall=_times(good),
        cpu_ms=cpu / n * 1e3,
        energy_j=(server.metric("rag_energy_joules_total") - joules) / n,
        client_cpu_ms=own / n * 1e3,
    )


def overhead(server: Server, engine: Engine, bodies: Bodies, path: str, effort: Effort) -> Overhead:
    """Compare a service with the same calls of its engine, in turns."""

    def ask(question: str) -> None:
        with Meter("thread") as meter:
            if path == "/v1/search":
                engine.search(Query(question), meter)
            else:
                engine.ask(Query(question), meter)

    for _ in range(effort.n_turn):
        ask(bodies.question())
    service_ms, engine_ms = [], []
    for _ in range(effort.n_turns):
        questions = [bodies.question() for _ in range(effort.n_turn)]
        requests = [Target(server.address, path).post(body_of(path, question)) for question in questions]
        began = server.cpu_s
        _all_good(server.closed(requests))
        service_ms.append((server.cpu_s - began) / len(questions) * 1e3)
        own = time.process_time()
        for question in questions:
            ask(question)
        engine_ms.append((time.process_time() - own) / len(questions) * 1e3)
    differences = [service - own for service, own in zip(service_ms, engine_ms, strict=True)]
    middle = statistics.median
    return Overhead(path, effort.n_turns, middle(service_ms), middle(engine_ms), middle(differences))


def stream(server: Server, bodies: Bodies, n: int) -> Stream:
    """Ask for streams, one after the other."""
    replies = _all_good(server.closed(bodies.take(server.address, "/v1/chat/completions", n)))
    first = [(reply.first_s - reply.due_s) * 1e3 for reply in replies]
    after = sorted(ms - _retrieval_ms(reply) for ms, reply in zip(first, replies, strict=True))
    return Stream(n, statistics.median(first), _percentile(after, 50), _percentile(after, 95))


def _retrieval_ms(reply: Reply) -> float:
    """What the stages before the first words took, as the last event of the stream tells it."""
    (line,) = (line for line in reply.body.decode().splitlines() if line.startswith("data: ") and '"stages": [' in line)
    stages = json.loads(line.removeprefix("data: "))["rag"]["measurement"]["stages"]
    return sum(float(stage["wall_s"]) * 1e3 for stage in stages if stage["name"] in _RETRIEVAL)


def overload(server: Server, bodies: Bodies, factor: float, effort: Effort) -> Overload:
    """Send a multiple of what the service can do."""
    path = "/v1/answer"

    def peak() -> float:
        return level(server, bodies, path, max(CONNECTIONS), max(16, effort.n_requests // 2)).throughput

    before = peak()
    began, cpu, own = time.perf_counter(), server.cpu_s, time.process_time()
    replies, probes = asyncio.run(_flood(server.address, bodies.all(server.address, path), before * factor, effort.overload_s))
    seconds, cpu, own = time.perf_counter() - began, server.cpu_s - cpu, time.process_time() - own
    mean_peak = (before + peak()) / 2
    good = [reply for reply in replies if reply.status == 200]
    refused = [reply for reply in replies if reply.status == 503]
    warm_up_s = min(_WARM_UP_S, effort.overload_s / 2)
    last = max(reply.due_s for reply in replies)
    goodput = sum(began + warm_up_s <= reply.done_s <= last for reply in good) / (last - began - warm_up_s)
    return Overload(
        factor=factor,
        rate=before * factor,
        n_sent=len(replies),
        peak=mean_peak,
        goodput=goodput,
        share=goodput / mean_peak,
        good=_times(good),
        refused=_times(refused),
        n_without_retry=sum(not reply.has_retry_after for reply in refused),
        n_failed=len(replies) - len(good) - len(refused),
        probes=_times(probes),
        n_bad_probes=sum(reply.status != 200 for reply in probes),
        server_cores=cpu / seconds,
        client_cores=own / seconds,
    )


async def _flood(address: str, requests: Iterator[bytes], rate: float, seconds: float) -> tuple[list[Reply], list[Reply]]:
    """Replies to requests, and to probes that are sent beside them one after the other."""
    probes: list[Reply] = []
    probe = Target(address, "/readyz").get()

    async def look() -> None:
        while True:
            probes.extend(await closed_loop(address, [probe], 1))
            await asyncio.sleep(_PROBE_EVERY_S)

    looking = asyncio.ensure_future(look())
    replies = await open_loop(address, requests, rate, seconds)
    looking.cancel()
    return replies, probes


def cold(server: Server, bodies: Bodies, n: int) -> Cold:
    """Let the service rest until its models are let go, then ask."""
    first, cpu_ms, following, loaded, idle = [], [], [], [], []

    def once() -> float:
        (reply,) = _all_good(server.closed(bodies.take(server.address, "/v1/answer", 1)))
        return reply.wall_s * 1e3

    once()  # what is compiled and imported once a process stays
    for number in range(1, n + 1):
        loaded.append(server.rss_mb)
        _until(lambda unloaded=number: server.metric("rag_idle_unloads_total") >= unloaded)  # type: ignore[misc]
        idle.append(server.rss_mb)
        cpu = server.cpu_s
        first.append(once())
        cpu_ms.append((server.cpu_s - cpu) * 1e3)
        following.append(once())
    return Cold(*map(statistics.median, (loaded, idle, first, cpu_ms, following)))


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"idle models were not let go within {_PATIENCE_S:g} s: api.idle_unload_s has no effect")
        time.sleep(0.1)


def _all_good(replies: list[Reply]) -> list[Reply]:
    bad = next((reply for reply in replies if reply.status != 200), None)
    if bad:
        raise SystemExit(f"a request failed with status {bad.status}: {bad.body.decode()[:400]}")
    return replies


def _times(replies: Sequence[Reply]) -> Times:
    """Of no reply at all, all times are 0 and so is ``n``."""
    ms = sorted(reply.wall_s * 1e3 for reply in replies)
    return Times(len(ms), *(_percentile(ms, p) if ms else 0.0 for p in (50, 95, 99)))


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent do not exceed."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
