from __future__ import annotations

import gc
import itertools
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import InputError, PowerError
from rag.power.figure import Band
from rag.power.price import Price
from rag.power.window import BusyTimes, CounterWindows, _Sample, _thinned, machine_busy
from tests.powercap import FakeBusy, FakeClock, Powercap, RecordingRapl

RATIO = Band(0.2, 0.14, 0.5)
# Small enough that windows of a test wrap it, and that 70 s at 1000 W do not wrap it twice.
RANGE_UJ = 70_000_000_000


@dataclass
class Machine:
    """One package, its load and its clock, all moved by hand."""

    tree: Powercap
    clock: FakeClock
    busy: FakeBusy
    rapl: RecordingRapl
    windows: CounterWindows

    def work(self, seconds: float, watts: float = 40.0, busy_s: float = 0.0) -> None:
        self.clock.pass_s(seconds)
        self.busy.busy_s += busy_s
        self.tree.advance(watts * seconds)

    def price(self, age_s: float = 0.02) -> Price:
        return self.windows.price(self.clock.ns - round(age_s * 1e9))

    def failure(self, age_s: float = 0.02) -> PowerError:
        with pytest.raises(PowerError) as caught:
            self.price(age_s)
        return caught.value

    def sampled(self, seconds: int, watts: float = 40.0, load: float = 1.0) -> None:
        """Let seconds pass with a reading at the end of each."""
        for _ in range(seconds):
            self.work(1.0, watts, busy_s=load)
            self.windows.sample()


def machine_in(folder: Path, *, energy_uj: int = 0, exported: bool = False) -> Machine:
    tree = Powercap(folder / "powercap")
    tree.add("intel-rapl:0", "package-0", energy_uj=energy_uj, range_uj=None if exported else RANGE_UJ)
    clock, busy = FakeClock(), FakeBusy()
    rapl = RecordingRapl(tree.root, clock)
    return Machine(tree, clock, busy, rapl, CounterWindows(rapl, RATIO, busy=busy, now_ns=clock, every_s=None))


def outcome(machine: Machine, age_s: float) -> Price | str:
    """A price, or the code of why there is none."""
    try:
        return machine.price(age_s)
    except PowerError as error:
        return error.code


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return machine_in(tmp_path)


def counted(price: Price, busy_s: float, n_threads: int) -> float:
    """Joules that a price shares out over its whole window."""
    assert price.window_s is not None
    return price.active_w.value * busy_s + price.idle_w.value * n_threads * price.window_s


def test_a_price_of_a_full_machine_is_its_power_by_thread(machine: Machine) -> None:
    machine.work(2.0, watts=40.0, busy_s=8.0)
    price = machine.price()
    assert price.active_w.value == pytest.approx(8.0)
    assert price.idle_w.value == pytest.approx(2.0)


def test_a_price_of_half_a_load_follows_the_line(machine: Machine) -> None:
    machine.work(2.0, watts=24.0, busy_s=4.0)  # 24 W = 40 W * (0.2 + 0.8 * 0.5)
    price = machine.price()
    assert price.active_w.value == pytest.approx(8.0)
    assert price.idle_w.value == pytest.approx(2.0)


def test_a_price_says_where_it_comes_from(machine: Machine) -> None:
    machine.work(2.0, busy_s=1.0)
    price = machine.price()
    assert (price.method, price.source, price.boundary, price.window_s) == ("apportioned", "RAPL package-0", "cpu_package", 2.0)


def test_equal_names_are_said_once(tmp_path: Path) -> None:
    tree = Powercap(tmp_path / "powercap")
    for socket in (0, 1):
        tree.add(f"intel-rapl:{socket}", f"package-{socket}")
        tree.add(f"intel-rapl:{socket}:0", "dram")
    clock = FakeClock()
    windows = CounterWindows(RecordingRapl(tree.root, clock), RATIO, busy=FakeBusy(), now_ns=clock, every_s=None)
    clock.pass_s(1.0)
    tree.advance(10.0)
    price = windows.price(clock.ns)
    assert (price.source, price.boundary) == ("RAPL package-0, package-1, dram", "cpu_package+dram")


@given(
    seconds=st.floats(0.1, 59.0),
    watts=st.floats(1.0, 900.0),
    load=st.floats(0.0, 1.0),
    ends=st.tuples(*[st.floats(0.0, 1.0)] * 3).map(sorted),
)
def test_what_is_shared_out_is_what_was_counted(
    tmp_path_factory: pytest.TempPathFactory, seconds: float, watts: float, load: float, ends: list[float]
) -> None:
    machine = machine_in(tmp_path_factory.mktemp("conservation"))
    windows = CounterWindows(machine.rapl, Band(ends[1], ends[0], ends[2]), busy=machine.busy, now_ns=machine.clock, every_s=None)
    busy_s = max(0.01, load * 4 * seconds)
    machine.work(seconds, watts, busy_s)
    price = windows.price(machine.clock.ns)
    before, after = machine.rapl.readings[-2:]
    machine.rapl.close()
    assert counted(price, busy_s, 4) == pytest.approx(machine.rapl.joules(before, after))
    for band in (price.active_w, price.idle_w):
        assert 0.0 <= band.lo <= band.value <= band.hi


def test_the_band_holds_both_ends_of_the_idle_ratio_and_the_error_of_sharing(machine: Machine) -> None:
    machine.work(2.0, watts=24.0, busy_s=4.0)
    price = machine.price()
    full = {ratio: 24.0 / 4 / (ratio + (1 - ratio) * 0.5) for ratio in (0.14, 0.5)}
    assert price.active_w.lo == pytest.approx(0.9 * 0.5 * full[0.5], rel=0.001)
    assert price.active_w.hi == pytest.approx(1.15 * 0.86 * full[0.14], rel=0.001)
    assert price.idle_w.lo == pytest.approx(0.9 * 0.14 * full[0.14], rel=0.001)
    assert price.idle_w.hi == pytest.approx(1.15 * 0.5 * full[0.5], rel=0.001)


def test_a_machine_that_seems_idle_worked_a_tick(machine: Machine) -> None:
    machine.work(2.0, watts=8.0, busy_s=0.0)
    price = machine.price()
    assert counted(price, 0.01, 4) == pytest.approx(16.0)


def test_a_tick_too_many_is_not_more_than_a_full_load(machine: Machine) -> None:
    machine.work(0.5, watts=40.0, busy_s=2.01)
    assert counted(machine.price(), 2.0, 4) == pytest.approx(20.0)


def test_a_window_below_a_tenth_of_a_second_has_no_price(machine: Machine) -> None:
    machine.work(0.099, busy_s=0.1)
    assert machine.failure().code == "no_window"
    assert len(machine.rapl.readings) == 1
    machine.work(0.001, busy_s=0.0)
    assert machine.price().window_s == pytest.approx(0.1)


def test_a_tenth_of_a_second_of_requests_shares_one_reading(machine: Machine) -> None:
    machine.work(0.5, busy_s=0.1)
    first = machine.price()
    n_readings = len(machine.rapl.readings)
    for _ in range(9):
        machine.work(0.01, busy_s=0.01)
        assert machine.price() is first
    assert len(machine.rapl.readings) == n_readings


def test_requests_read_the_counters_ten_times_a_second_at_most(machine: Machine) -> None:
    machine.sampled(2)
    n_readings = len(machine.rapl.readings)
    for _ in range(1000):
        machine.work(0.005, busy_s=0.005)
        machine.price(age_s=0.005)
    assert len(machine.rapl.readings) - n_readings <= 50


def test_counters_that_fail_are_tried_ten_times_a_second_at_most(machine: Machine) -> None:
    tried = []

    def busy() -> BusyTimes:
        tried.append(machine.clock.ns)
        return machine.busy()

    windows = CounterWindows(machine.rapl, RATIO, busy=busy, now_ns=machine.clock, every_s=None)
    before = Path(machine.tree.counter("intel-rapl:0")).read_text()
    for _ in range(200):
        machine.clock.pass_s(0.005)
        machine.tree.counter("intel-rapl:0").write_text(before)  # stands still
        with pytest.raises(PowerError):
            windows.price(machine.clock.ns)
    assert 2 <= len(tried) <= 12


def test_the_window_of_a_short_request_begins_at_the_last_reading_before_it(machine: Machine) -> None:
    machine.sampled(30, watts=8.0, load=0.0)
    machine.work(0.6, watts=40.0, busy_s=2.4)
    price = machine.price(age_s=0.6)
    assert price.window_s == pytest.approx(0.6)
    assert price.active_w.value == pytest.approx(8.0)


def test_a_request_after_quiet_minutes_has_counters(machine: Machine) -> None:
    machine.sampled(600, watts=8.0, load=0.0)
    machine.work(0.4, watts=40.0, busy_s=1.6)
    price = machine.price(age_s=0.02)
    assert price.method == "apportioned"
    assert price.window_s == pytest.approx(0.4)
    assert price.active_w.value == pytest.approx(8.0)


def test_a_window_is_never_shorter_than_a_tenth_of_a_second_but_goes_further_back(machine: Machine) -> None:
    machine.sampled(3)
    machine.work(0.06, busy_s=0.06)
    assert machine.price(age_s=0.01).window_s == pytest.approx(1.0)  # no new reading yet
    machine.work(0.05, busy_s=0.05)
    assert machine.price(age_s=0.01).window_s == pytest.approx(0.11)


def test_work_older_than_the_counters_has_their_whole_window(machine: Machine) -> None:
    machine.sampled(5)
    assert machine.price(age_s=100.0).window_s == pytest.approx(5.0)


def test_work_of_five_minutes_with_wraps_of_memory_inside_has_the_exact_joules(tmp_path: Path) -> None:
    tree = Powercap(tmp_path / "powercap")
    tree.add("intel-rapl:0", "package-0")
    tree.add("intel-rapl:0:0", "dram", energy_uj=65_000_000_000, range_uj=65_712_999_613)
    clock, busy = FakeClock(), FakeBusy()
    windows = CounterWindows(RecordingRapl(tree.root, clock), RATIO, busy=busy, now_ns=clock, every_s=None)
    began_ns = clock.ns
    for _ in range(300):
        clock.pass_s(1.0)
        busy.busy_s += 2.0
        tree.advance(500.0, "intel-rapl:0")
        tree.advance(300.0, "intel-rapl:0:0")  # 90 kJ: a wrap at once and one after 220 s
        windows.sample()
    price = windows.price(began_ns)
    assert (price.window_s, price.boundary) == (300.0, "cpu_package+dram")
    assert counted(price, 600.0, 4) == pytest.approx(300 * 800.0, rel=1e-12)


def test_readings_too_far_apart_for_one_wrap_are_a_fault(machine: Machine) -> None:
    machine.work(71.0, busy_s=71.0)
    assert machine.failure(age_s=71.0).code == "counter_unread"
    machine.work(1.0)
    machine.failure(age_s=72.0)
    machine.work(1.0)
    assert machine.price(age_s=73.0).window_s == pytest.approx(1.0)


def test_a_fault_that_the_thread_met_is_told_by_the_next_price(machine: Machine) -> None:
    machine.sampled(3)
    machine.tree.remove("intel-rapl:0")
    machine.windows.sample()
    machine.tree.restore("intel-rapl:0")
    machine.work(0.05)
    told = machine.failure()
    assert told.code == "no_window"
    assert "can no longer be read" in str(told)


def test_a_wrap_inside_a_window_is_counted_through(tmp_path: Path) -> None:
    machine = machine_in(tmp_path, energy_uj=RANGE_UJ - 1_000_000)
    machine.work(1.0, watts=40.0, busy_s=4.0)
    assert machine.price().active_w.value == pytest.approx(8.0)


def test_a_stuck_counter_is_an_error_and_then_the_windows_start_anew(machine: Machine) -> None:
    machine.work(1.0, watts=0.0, busy_s=1.0)
    assert machine.failure().code == "counter_stuck"
    machine.work(1.0)
    anew = machine.failure()
    assert anew.code == "no_window"
    assert "stood still" in str(anew)
    machine.work(1.0, busy_s=4.0)
    assert machine.price().active_w.value == pytest.approx(8.0)


def test_a_vanished_counter_is_an_error_at_every_call_until_two_readings_after_it_is_back(machine: Machine) -> None:
    machine.work(1.0)
    machine.price()
    machine.tree.remove("intel-rapl:0")
    for _ in range(2):
        machine.work(1.5)
        assert machine.failure().code == "counter_vanished"
    machine.tree.restore("intel-rapl:0")
    machine.work(1.0)
    assert machine.failure().code == "no_window"
    machine.work(1.0)
    assert machine.price().window_s == pytest.approx(1.0)


@pytest.mark.parametrize("fault", ["vanished", "stuck", "reset"])
def test_no_window_reaches_over_a_fault(machine: Machine, fault: str) -> None:
    machine.sampled(50)
    if fault == "vanished":
        machine.tree.remove("intel-rapl:0")
        machine.work(1.0)
    elif fault == "stuck":
        machine.work(1.0, watts=0.0)
    else:
        machine.work(1.0)
        machine.tree.put("intel-rapl:0", 5)
    assert machine.failure(age_s=40.0).code.startswith("counter_")
    machine.tree.restore("intel-rapl:0")
    machine.work(1.0)
    assert machine.failure(age_s=41.0).code == "no_window"
    machine.work(0.5, watts=40.0, busy_s=2.0)
    price = machine.price(age_s=41.5)
    assert price.window_s == pytest.approx(0.5)
    assert price.active_w.value == pytest.approx(8.0)


def test_what_stood_still_begins_a_window_only_once_it_moved(machine: Machine) -> None:
    machine.sampled(3)
    machine.sampled(4, watts=0.0)
    machine.work(0.9, watts=0.0)
    machine.work(0.1, watts=40.0)
    machine.windows.sample()
    assert machine.failure().code == "no_window"
    machine.work(0.5, watts=40.0, busy_s=2.0)
    assert machine.price().active_w.value == pytest.approx(8.0)


def test_counters_of_a_host_that_stand_still_never_give_a_price(tmp_path: Path) -> None:
    machine = machine_in(tmp_path, exported=True)
    codes = set()
    for _ in range(130):
        machine.sampled(1, watts=0.0)
        codes.add(machine.failure(age_s=100.0).code)
    assert codes == {"no_window"}
    assert "stood still" in str(machine.failure())


def test_counters_of_a_host_that_stop_later_lose_their_price(tmp_path: Path) -> None:
    machine = machine_in(tmp_path, exported=True)
    machine.sampled(60)
    assert machine.price().method == "apportioned"
    machine.sampled(45, watts=0.0)
    assert "stood still" in str(machine.failure(age_s=100.0))


def test_counters_of_a_host_may_show_the_energy_of_a_whole_step_at_once(tmp_path: Path) -> None:
    machine = machine_in(tmp_path, exported=True)
    for second in range(100):
        machine.sampled(1, watts=2000.0 if second % 5 == 0 else 0.0)
    assert counted(machine.price(age_s=100.0), 100.0, 4) == pytest.approx(20 * 2000.0)


def test_a_counter_beyond_its_own_range_is_a_fault_when_it_falls(machine: Machine) -> None:
    machine.tree.put("intel-rapl:0", 3 * RANGE_UJ)
    windows = CounterWindows(machine.rapl, RATIO, busy=machine.busy, now_ns=machine.clock, every_s=None)
    machine.clock.pass_s(1.0)
    machine.tree.put("intel-rapl:0", 5_000_000)
    with pytest.raises(PowerError) as caught:
        windows.price(machine.clock.ns)
    assert caught.value.code == "counter_jumped"


def test_a_window_is_made_long_enough_by_a_reading_though_the_last_is_new(machine: Machine) -> None:
    machine.work(0.09, busy_s=0.09)
    machine.windows.sample()
    machine.work(0.02, busy_s=0.02)
    assert machine.price().window_s == pytest.approx(0.11)


def test_counters_of_a_host_price_work_of_minutes_over_all_of_it(tmp_path: Path) -> None:
    machine = machine_in(tmp_path, exported=True)
    machine.sampled(30, watts=5.0)
    machine.sampled(300, watts=40.0, load=4.0)
    price = machine.price(age_s=300.0)
    assert price.window_s == pytest.approx(300.0)
    assert price.active_w.value == pytest.approx(8.0)


def test_a_server_that_runs_for_long_keeps_few_readings(machine: Machine) -> None:
    """A day of readings every 0.7 s, in memory and not from files, which would take minutes."""
    samples = [_Sample(0, (0,), BusyTimes(0.0, 4))]
    for each in range(1, 24 * 3600):
        samples.append(_Sample(each * 700_000_000, (each,), BusyTimes(0.0, 4)))
        if each % 600 == 0:
            samples = _thinned(samples)
    samples = _thinned(samples)
    now_ns = samples[-1].at_ns
    assert len(samples) < 4500
    assert samples[0].at_ns == 0
    assert samples == sorted(samples)
    for before, after in itertools.pairwise(samples):
        age_ns = now_ns - before.at_ns
        assert after.at_ns - before.at_ns <= max(1_500_000_000, age_ns / 60)


def test_requests_of_hours_do_not_pile_up_readings(machine: Machine) -> None:
    machine.sampled(5)
    for _ in range(900):
        machine.work(0.15, busy_s=0.15)
        machine.price()
    # Nothing outside shows it but the memory of the process.
    assert len(machine.windows._samples) < 300


def test_a_fault_is_forgotten_with_the_next_price(machine: Machine) -> None:
    machine.work(1.0, watts=0.0)
    machine.failure()
    machine.work(1.0)
    machine.failure()
    machine.work(1.0)
    machine.price()
    machine.work(600.0)
    machine.failure()
    machine.work(0.05)
    assert "stood still" not in str(machine.failure())


def test_busy_times_that_cannot_be_read_are_an_error_and_not_an_idle_machine(machine: Machine, tmp_path: Path) -> None:
    answers = [BusyTimes(1.0, 4)]

    def once() -> BusyTimes:
        return answers.pop() if answers else machine_busy(tmp_path / "none")

    windows = CounterWindows(machine.rapl, RATIO, busy=once, now_ns=machine.clock, every_s=None)
    machine.work(1.0)
    with pytest.raises(PowerError) as caught:
        windows.price(machine.clock.ns)
    assert caught.value.code == "busy_unreadable"


def test_counters_that_a_host_writes_every_five_seconds_have_windows_of_forty(tmp_path: Path) -> None:
    machine = machine_in(tmp_path, exported=True)
    prices = []
    for second in range(1, 56):
        machine.work(1.01, watts=0.0, busy_s=1.01)
        if second % 5 == 0:
            machine.tree.advance(5 * 20.0)
        if second < 40:
            assert machine.failure().code == "no_window"
        else:
            prices.append(machine.price())
    true = 20.0 / 1.01 / 4 / (0.2 + 0.8 * 0.25)
    for price in prices:
        assert price.window_s is not None
        assert 40.0 <= price.window_s < 42.0
        assert price.active_w.lo <= 0.8 * true <= price.active_w.hi
        assert price.active_w.value == pytest.approx(0.8 * true, rel=0.13)


def test_threads_that_ask_at_once_share_one_reading(machine: Machine) -> None:
    machine.work(1.0, busy_s=1.0)
    prices: list[Price] = []
    at_once = threading.Barrier(8)

    def ask() -> None:
        at_once.wait()
        prices.append(machine.price())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(prices) == 8
    assert len(set(prices)) == 1
    assert len(machine.rapl.readings) == 2


def own_threads(windows: CounterWindows) -> list[threading.Thread]:
    """The thread of these windows, if it runs."""
    return [thread for thread in [windows._thread] if thread is not None and thread.is_alive()]


def with_thread(machine: Machine) -> CounterWindows:
    return CounterWindows(machine.rapl, RATIO, busy=machine.busy, now_ns=machine.clock, every_s=0.001)


def until(reached: Callable[[], bool]) -> None:
    """Wait for something that comes; the limit of the test run ends what does not."""
    while not reached():
        threading.Event().wait(0.001)


def test_the_thread_reads_without_a_call_and_ends_with_close(machine: Machine) -> None:
    windows = with_thread(machine)
    (thread,) = own_threads(windows)
    assert (thread.name, thread.daemon) == ("energy-counters", True)
    until(lambda: len(machine.rapl.readings) >= 5)
    windows.close()
    windows.close()
    assert not own_threads(windows)


def test_the_thread_outlives_a_fault(machine: Machine) -> None:
    windows = with_thread(machine)
    machine.tree.remove("intel-rapl:0")
    until(lambda: not windows._samples)
    machine.tree.restore("intel-rapl:0")
    machine.tree.advance(1.0)
    until(lambda: bool(windows._samples) or not own_threads(windows))
    assert windows._samples
    assert own_threads(windows)
    windows.close()


def test_the_thread_ends_with_the_last_holder_of_the_windows(machine: Machine) -> None:
    windows = with_thread(machine)
    (thread,) = own_threads(windows)
    until(lambda: len(machine.rapl.readings) >= 5)  # it has held the windows
    del windows
    gc.collect()
    thread.join(60.0)  # it ends within a millisecond, or never
    assert not thread.is_alive()


def test_closed_windows_read_for_themselves(machine: Machine) -> None:
    machine.windows.close()
    machine.work(2.0, watts=40.0, busy_s=8.0)
    assert machine.price().active_w.value == pytest.approx(8.0)


@pytest.mark.parametrize("ratio", [Band(0.2, 0.3, 0.5), Band(0.2, -0.1, 0.5), Band(0.2, 0.1, 1.1)])
def test_an_idle_ratio_outside_zero_to_one_is_refused(machine: Machine, ratio: Band) -> None:
    with pytest.raises(InputError):
        CounterWindows(machine.rapl, ratio, busy=machine.busy, now_ns=machine.clock, every_s=None)


STEPS = st.one_of(
    st.tuples(
        st.just("run"), st.sampled_from([0.001, 0.02, 0.09, 0.1, 0.5, 1.0, 1.1, 30.0, 59.0, 68.0, 80.0, 600.0]), st.floats(1, 900)
    ),
    st.tuples(st.just("stall"), st.sampled_from([0.05, 0.1, 1.0, 5.0]), st.just(0.0)),
    st.tuples(st.sampled_from(["vanish", "return", "blank", "sample", "sample"]), st.just(0.001), st.just(5.0)),
    st.tuples(st.just("price"), st.sampled_from([0.0, 0.02, 5.0, 65.0, 700.0]), st.just(0.0)),
)
PRICE = st.tuples(st.just("price"), st.just(0.02), st.just(0.0))
CODES = {"no_window", "counter_vanished", "counter_stuck", "counter_jumped", "counter_unread"}


def act(machine: Machine, what: str, seconds: float, watts: float) -> None:
    if what == "vanish":
        machine.tree.remove("intel-rapl:0")
    elif what == "return":
        machine.tree.restore("intel-rapl:0")
    machine.work(seconds, watts, busy_s=seconds)
    if what == "sample":
        machine.windows.sample()
    if what == "blank" and machine.tree.counter("intel-rapl:0").exists():
        machine.tree.counter("intel-rapl:0").write_text("")


@given(steps=st.lists(st.one_of(STEPS, PRICE), min_size=2, max_size=30), energy_uj=st.integers(0, RANGE_UJ))
def test_no_price_without_a_reading_at_both_ends_of_its_window(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, float, float]], energy_uj: int
) -> None:
    """Whatever counters do, a price shares out exactly the joules that the package took between two successful readings."""
    machine = machine_in(tmp_path_factory.mktemp("honesty"), energy_uj=energy_uj)
    taken_j = {machine.clock.ns: 0.0}
    now_j = 0.0
    for what, seconds, watts in steps:
        if what != "price":
            act(machine, what, seconds, watts)
            now_j += seconds * watts
            taken_j[machine.clock.ns] = now_j
            continue
        price = outcome(machine, seconds)
        if isinstance(price, str):
            assert price in CODES
            continue
        assert price.method == "apportioned"
        assert price.window_s is not None
        assert price.window_s >= 0.1
        end = machine.rapl.readings[-1]
        start = next(each for each in machine.rapl.readings if end.at_ns - each.at_ns == round(price.window_s * 1e9))
        assert machine.clock.ns - end.at_ns < 100_000_000
        # So the window overlaps the work, or ended less than 0.1 s before it began.
        assert end.at_ns > machine.clock.ns - round(seconds * 1e9) - 100_000_000
        busy_s = min(max(price.window_s, 0.01), 4 * price.window_s)
        assert counted(price, busy_s, 4) == pytest.approx(taken_j[end.at_ns] - taken_j[start.at_ns], abs=1e-4)
    machine.rapl.close()


STAT = """cpu  1000 100 300 90000 500 20 30 400 250 50
cpu0 500 50 150 45000 250 10 15 200 125 25
cpu1 500 50 150 45000 250 10 15 200 125 25
intr 12345 0 0
ctxt 99
"""


def test_busy_is_work_of_users_system_and_interrupts_in_seconds(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text(STAT)
    busy = machine_busy(stat)
    assert busy.busy_s == pytest.approx(1450 / os.sysconf("SC_CLK_TCK"))
    assert busy.n_threads == 2


@pytest.mark.parametrize("text", ["", "intr 1 2 3 4 5 6 7 8\n", "cpu 1 2 3\n", "cpu a b c d e f g\n"])
def test_busy_times_of_another_form_are_an_error(tmp_path: Path, text: str) -> None:
    stat = tmp_path / "stat"
    stat.write_text(text)
    with pytest.raises(PowerError) as caught:
        machine_busy(stat)
    assert caught.value.code == "busy_unreadable"


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux only")
def test_the_machine_of_this_test_was_busy() -> None:
    busy = machine_busy()
    assert busy.busy_s > 0
    assert busy.n_threads >= 1
