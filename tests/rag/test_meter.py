from __future__ import annotations

import _thread
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.clocks import Lane, process_clock, thread_clock
from rag.cost import Figure, StageCost, TokenCounts
from rag.ledger import Entry, Ledger
from rag.meter import Clock, Meter
from rag.power import open_power
from rag.settings import EnergySettings


def burn(cpu_s: float = 0.02) -> None:
    """Compute until the calling thread has used so much CPU."""
    began = time.thread_time()
    while time.thread_time() - began < cpu_s:
        sum(range(1000))


BURNING_CHILD = """
import time
print(flush=True)
input()
until = time.process_time() + 0.3
while time.process_time() < until:
    pass
print(flush=True)
input()
"""


class Loop:
    """The clock of an event loop that runs only when told to."""

    def __init__(self) -> None:
        self.ns = 0

    def clock(self) -> int:
        return self.ns


def stages(meter: Meter) -> dict[str, StageCost]:
    return {stage.name: stage for stage in meter.finish().stages}


def test_stages_are_told_in_the_order_in_which_they_began() -> None:
    meter = Meter()
    with meter.stage("outer"), meter.stage("inner"):
        pass
    with meter.stage("last"):
        pass
    assert [stage.name for stage in meter.finish().stages] == ["outer", "inner", "last"]


def test_stage_is_charged_what_its_body_took() -> None:
    meter = Meter()
    with meter.stage("work"):
        burn()
    with meter.stage("idle"):
        pass
    assert stages(meter)["work"].cpu_s >= 0.02 > stages(meter)["idle"].cpu_s


def test_stage_that_raises_is_charged_and_the_error_goes_on() -> None:
    meter = Meter()

    @meter.stage("work")
    def fail() -> None:
        burn()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert stages(meter)["work"].cpu_s >= 0.02


def test_stage_entered_again_adds_up() -> None:
    meter = Meter()
    for _ in range(3):
        with meter.stage("work"):
            burn()
    assert [stage.name for stage in meter.finish().stages] == ["work"]
    assert stages(meter)["work"].cpu_s >= 0.06


def test_total_is_at_least_the_sum_of_stages() -> None:
    meter = Meter()
    for name in ("one", "two"):
        with meter.stage(name):
            burn()
    measured = meter.finish()
    assert measured.cpu_s >= sum(stage.cpu_s for stage in measured.stages)
    assert measured.wall_s >= sum(stage.wall_s for stage in measured.stages)


def test_process_clock_charges_other_threads() -> None:
    meter = Meter("process")
    with meter.stage("work"):
        worker = threading.Thread(target=burn, args=(0.05,))
        worker.start()
        worker.join()
    assert stages(meter)["work"].cpu_s >= 0.05


def test_thread_clock_charges_only_its_own_thread() -> None:
    meter = Meter("thread")
    with meter.stage("work"):
        worker = threading.Thread(target=burn, args=(0.2,))
        worker.start()
        worker.join()
    assert stages(meter)["work"].cpu_s < 0.2


def test_what_passed_before_the_meter_is_stage_start() -> None:
    burn()
    measured = Meter(from_process_start=True).finish()
    assert [stage.name for stage in measured.stages] == ["start"]
    assert measured.cpu_s >= measured.stages[0].cpu_s >= 0.02


def test_new_meter_counts_from_its_own_beginning() -> None:
    burn(0.2)
    assert Meter().finish().cpu_s < 0.2


def test_meter_without_a_power_model_knows_no_joules() -> None:
    measured = Meter().finish()
    assert measured.energy is None
    assert measured.peak_rss_bytes > 1_000_000
    assert measured.cache == "off"


def test_measurement_reports_the_token_counts_given() -> None:
    assert Meter().finish().tokens == TokenCounts()
    assert Meter().finish(TokenCounts(context=5, saved=7)).tokens == TokenCounts(context=5, saved=7)


def test_finishing_twice_counts_on() -> None:
    meter = Meter()
    first = meter.finish()
    burn()
    assert meter.finish().cpu_s > first.cpu_s


def test_stage_inside_another_interrupts_it() -> None:
    meter = Meter()
    with meter.stage("outer"):
        burn(0.02)
        with meter.stage("inner"):
            burn(0.2)
    found = stages(meter)
    assert found["inner"].cpu_s >= 0.2 > 0.15 > found["outer"].cpu_s >= 0.02
    assert found["inner"].wall_s > found["outer"].wall_s


def test_stage_inside_itself_is_charged_once() -> None:
    meter = Meter()
    with meter.stage("work"), meter.stage("work"):
        burn(0.1)
    measured = meter.finish()
    assert 0.1 <= measured.stages[0].cpu_s <= measured.cpu_s


@pytest.mark.parametrize("clock", ["process", "thread"])
def test_child_process_is_charged_to_the_stage_that_names_it(clock: Clock) -> None:
    meter = Meter(clock)
    with subprocess.Popen([sys.executable, "-c", BURNING_CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()  # it is up
        with meter.stage("generate", child=process_clock(child.pid)):
            child.stdin.write(b"go\n")
            child.stdin.flush()
            child.stdout.readline()  # it has burnt 0.3 CPU seconds
        child.stdin.close()
    measured = meter.finish()
    assert measured.stages[0].cpu_s >= 0.3
    assert measured.cpu_s >= measured.stages[0].cpu_s


def test_child_that_ends_inside_its_stage_is_named_and_not_zero(tmp_path: Path) -> None:
    meter = Meter("thread", power=open_power(EnergySettings(powercap_root=tmp_path / "none"), tmp_path))
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child,
        meter.stage("generate", child=process_clock(child.pid)),
    ):
        child.communicate(b"\n")
    energy = meter.finish().energy
    assert energy is not None
    assert "child_cpu" in energy.not_modelled


def test_clock_of_no_process_is_refused() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    for pid in (child.pid, 0, -1, 2**31, 2**40):
        with pytest.raises(ProcessLookupError):
            process_clock(pid)


class Pool:
    """A thread that works for others and that `threading` does not know, as one of a native pool: it burns when told to."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[float] = queue.Queue()
        up = threading.Event()
        _thread.start_new_thread(self._work, (up,))
        up.wait()

    def run(self, seconds: float) -> None:
        self._jobs.put(seconds)
        self._jobs.join()

    def _work(self, up: threading.Event) -> None:
        up.set()
        while True:
            burn(self._jobs.get())
            self._jobs.task_done()


def test_lane_charges_its_pool_to_the_caller() -> None:
    lane = Lane()
    with lane.discovering():
        pool = Pool()
    meter = Meter("thread")
    with meter.stage("embed", lane=lane), lane.held():
        pool.run(0.1)
    measured = meter.finish()
    assert measured.stages[0].cpu_s >= 0.1
    assert measured.cpu_s >= measured.stages[0].cpu_s


def test_lane_leaves_out_a_python_thread_that_starts_meanwhile() -> None:
    lane = Lane()
    job: queue.Queue[None] = queue.Queue()

    def work() -> None:
        job.get()
        burn(0.1)

    worker = threading.Thread(target=work)
    with lane.discovering():
        worker.start()
    with lane.held():
        job.put(None)
        worker.join()
    assert lane.charged_ns() < 50e6


def test_lane_is_not_counted_again_under_the_process_clock() -> None:
    lane = Lane()
    with lane.discovering():
        pool = Pool()
    process = time.process_time()
    meter = Meter("process")
    with meter.stage("embed", lane=lane), lane.held():
        pool.run(0.2)
    assert meter.finish().cpu_s <= time.process_time() - process


def test_lane_charges_each_of_two_callers_its_own_work_only() -> None:
    lane = Lane()
    with lane.discovering():
        pool = Pool()
    charged: dict[float, float] = {}

    def request(seconds: float) -> None:
        meter = Meter("thread")
        with meter.stage("embed", lane=lane), lane.held():
            pool.run(seconds)
        charged[seconds] = meter.finish().cpu_s

    workers = [threading.Thread(target=request, args=(seconds,)) for seconds in (0.05, 0.3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert 0.05 <= charged[0.05] < 0.2 < 0.3 <= charged[0.3]


def test_lane_is_charged_also_when_the_work_raises() -> None:
    lane = Lane()
    with lane.discovering():
        pool = Pool()

    def fail() -> None:
        with lane.held():
            pool.run(0.05)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert lane.charged_ns() >= 50e6


def test_request_that_raises_is_on_the_account() -> None:
    ledger = Ledger()

    def fail() -> None:
        with Meter("thread", ledger=ledger):
            burn(0.05)
            raise ValueError("cancelled")

    with pytest.raises(ValueError, match="cancelled"):
        fail()
    account = ledger.account()
    assert account.n_requests == 1
    assert account.attributed_s >= 0.05


def test_event_loop_is_shared_by_the_requests_in_flight_only() -> None:
    loop = Loop()
    ledger = Ledger(loop.clock)
    loop.ns += 1000  # nobody is in flight
    first = ledger.enter()
    loop.ns += 100
    second = ledger.enter()
    loop.ns += 100
    assert ledger.share(first).framework_s == pytest.approx(150e-9)
    assert ledger.share(second).framework_s == pytest.approx(50e-9)
    ledger.leave(first, 0)
    loop.ns += 100
    assert ledger.share(second).framework_s == pytest.approx(150e-9)
    ledger.leave(second, 0)
    loop.ns += 1000
    assert ledger.account().framework_s == pytest.approx(300e-9)


def test_measurement_of_a_request_holds_its_share_of_the_event_loop() -> None:
    loop = Loop()
    with Meter("thread", ledger=Ledger(loop.clock)) as meter:
        loop.ns += 3_000_000_000
        measured = meter.finish()
    assert measured.stages[-1].name == "framework"
    assert measured.stages[-1].cpu_s == pytest.approx(3.0)
    assert measured.cpu_s >= 3.0


def test_requests_in_flight_are_not_unattributed() -> None:
    ledger = Ledger()
    with Meter("thread", ledger=ledger):
        burn(0.2)
        during = ledger.account()
    assert during.in_flight_s >= 0.2
    assert during.unattributed_s < 0.15
    assert ledger.account().in_flight_s == 0.0


def test_meter_of_the_process_clock_cannot_keep_a_ledger() -> None:
    with pytest.raises(ValueError, match="clock 'thread'"):
        Meter("process", ledger=Ledger())


def test_meter_is_entered_once() -> None:
    with Meter("thread", ledger=Ledger()) as meter, pytest.raises(RuntimeError, match="once"):
        meter.__enter__()


def test_meter_of_the_thread_clock_refuses_another_thread() -> None:
    meter = Meter("thread")
    faults: list[str] = []

    def use() -> None:
        for work in (meter.finish, meter.stage("work").__enter__):
            try:
                work()
            except RuntimeError as error:
                faults.append(str(error))

    other = threading.Thread(target=use)
    other.start()
    other.join()
    assert len(faults) == 2
    assert "belongs to the thread" in faults[0]


def test_stage_that_is_still_open_has_what_it_took_so_far() -> None:
    meter = Meter()
    with meter.stage("work"):
        burn(0.05)
        assert stages(meter)["work"].cpu_s >= 0.05
    assert stages(meter)["work"].cpu_s < 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        Figure(float("nan"), 0.0, 1.0, "J", "modelled", "x", "y"),
        Figure(1.0, 0.0, float("inf"), "J", "modelled", "x", "y"),
        Figure(0.0, 0.0, 0.0, "J", "modelled", "x", "y"),
        Figure(1.0, 0.5, 2.0, "g", "modelled", "x", "y"),
    ],
)
def test_remote_energy_that_is_none_is_refused(wrong: Figure) -> None:
    with pytest.raises(ValueError, match="allowed: joules above 0"):
        Meter().remote(wrong)


@given(events=st.lists(st.tuples(st.sampled_from(["enter", "leave", "tick"]), st.integers(0, 10**9)), max_size=60))
def test_shares_of_the_event_loop_add_up_to_the_whole(events: list[tuple[str, int]]) -> None:
    loop = Loop()
    ledger = Ledger(loop.clock)
    in_flight: list[Entry] = []
    borne = shared = 0.0
    for event, number in events:
        if event == "enter":
            in_flight.append(ledger.enter())
        elif event == "leave" and in_flight:
            entry = in_flight.pop(number % len(in_flight))
            borne += ledger.share(entry).framework_s
            ledger.leave(entry, 0)
        elif event == "tick":
            loop.ns += number
            shared += number / 1e9 if in_flight else 0.0
    borne += sum(ledger.share(entered).framework_s for entered in in_flight)
    assert borne == pytest.approx(shared, abs=1e-6)
    assert ledger.account().framework_s == pytest.approx(shared, abs=1e-6)


@pytest.mark.parametrize("n_requests", [1, 4, 16])
def test_attributed_and_unattributed_make_up_the_process(n_requests: int) -> None:
    """The threads are counted one by one, apart from the ledger, so that the account can be wrong."""
    ledger = Ledger(thread_clock(threading.main_thread().ident or 0))
    began = threading.Barrier(n_requests)
    spent: list[float] = []

    def request() -> None:
        began.wait()
        before = time.thread_time()
        with Meter("thread", ledger=ledger) as meter, meter.stage("work"):
            burn(0.8 / n_requests)
        spent.append(time.thread_time() - before)

    workers = [threading.Thread(target=request) for _ in range(n_requests)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    account = ledger.account()
    assert account.n_requests == n_requests
    assert account.attributed_s + account.framework_s + account.unattributed_s == pytest.approx(account.process_s)
    assert account.attributed_s == pytest.approx(sum(spent), rel=0.02)
    assert account.unattributed_s >= -0.02 * account.process_s
