from __future__ import annotations

import contextlib
import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.cost import Figure
from rag.errors import InputError, MissingExtraError, PowerError
from rag.power.figure import Band
from rag.power.gpu import MIN_WINDOW_S, GpuCounters, GpuReading, open_gpus

DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, NOT_SUPPORTED, NO_PERMISSION, LOST, VERSION_MISMATCH = 9, 12, 3, 4, 15, 18


class FakeNvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"NVML code {value}")
        self.value = value


class FakeNvml:
    """A driver whose boards draw the watts given; `now_ns` is its clock.

    Args:
        watts: One per board, by name.
        broken: NVML code by name of a function, or of a board whose counter is then unreadable.
    """

    NVMLError: type[Exception] = FakeNvmlError

    def __init__(self, watts: dict[str, float], broken: dict[str, int] | None = None) -> None:
        self.watts = watts
        self.broken = broken or {}
        self.now_ns = 1_000_000_000
        self.n_attached = 0

    def fail_if_broken(self, name: str) -> None:
        if name in self.broken:
            raise FakeNvmlError(self.broken[name])

    def nvmlInit(self) -> None:  # noqa: N802
        self.fail_if_broken("nvmlInit")
        self.n_attached += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.fail_if_broken("nvmlShutdown")
        self.n_attached -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self.fail_if_broken("nvmlDeviceGetCount")
        return len(self.watts)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:  # noqa: N802
        self.fail_if_broken("nvmlDeviceGetHandleByIndex")
        return index

    def nvmlDeviceGetName(self, handle: object) -> str:  # noqa: N802
        assert isinstance(handle, int)
        return list(self.watts)[handle]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:  # noqa: N802
        name = self.nvmlDeviceGetName(handle)
        self.fail_if_broken(name)
        return int(self.watts[name] * self.now_ns / 1e6)

    def clock(self) -> int:
        return self.now_ns

    def passes(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


def opened(nvml: FakeNvml) -> GpuCounters:
    return open_gpus(nvml, nvml.clock)


def test_joules_are_watts_times_seconds_of_all_boards() -> None:
    nvml = FakeNvml({"A": 100.0, "B": 50.0})
    gpus = opened(nvml)
    before = gpus.read()
    nvml.passes(2.0)
    assert gpus.joules(before, gpus.read()) == pytest.approx(300.0)


def test_figure_is_the_share_of_the_window_and_says_what_it_is() -> None:
    nvml = FakeNvml({"A": 100.0, "B": 50.0})
    gpus = opened(nvml)
    before = gpus.read()
    nvml.passes(2.0)
    figure = gpus.apportioned(before, gpus.read(), 0.25)
    assert figure.value == pytest.approx(75.0)
    assert (figure.unit, figure.window_s) == ("J", 2.0)
    assert (figure.method, figure.boundary, figure.source) == ("apportioned", "gpu_board", "NVML total energy of A + B")


def test_whole_window_is_still_not_measured() -> None:
    gpus = opened(FakeNvml({"A": 100.0}))
    assert gpus.apportioned(GpuReading(0, (0,)), GpuReading(10**10, (10**6,)), 1.0).method == "apportioned"


def test_shortest_window_may_hold_four_times_what_the_sensor_saw() -> None:
    gpus = opened(FakeNvml({"A": 100.0}))
    figure = gpus.apportioned(GpuReading(0, (0,)), GpuReading(10**8, (10_000,)), 1.0)
    assert [figure.value, figure.lo, figure.hi] == pytest.approx([10.0, 10 / 1.75, 40.0])


def test_band_never_becomes_narrower_than_the_sensor() -> None:
    gpus = opened(FakeNvml({"A": 100.0}))
    figure = gpus.apportioned(GpuReading(0, (0,)), GpuReading(10**15, (10**8,)), 1.0)
    assert figure.lo / figure.value == pytest.approx(1 / 1.05, rel=1e-3)
    assert figure.hi / figure.value == pytest.approx(1 / 0.95, rel=1e-3)


@given(st.floats(MIN_WINDOW_S, 1e4), st.floats(1.1, 100.0))
def test_longer_window_has_the_narrower_band(window_s: float, factor: float) -> None:
    gpus = opened(FakeNvml({"A": 100.0}))
    short, long = (
        gpus.apportioned(GpuReading(0, (0,)), GpuReading(int(seconds * 1e9) + 1, (1000,)), 1.0)
        for seconds in (window_s, window_s * factor)
    )
    assert short.lo < long.lo < long.value < long.hi < short.hi


def test_share_with_a_band_widens_the_figure() -> None:
    gpus = opened(FakeNvml({"A": 100.0}))
    window = GpuReading(0, (0,)), GpuReading(10**9, (100_000,))
    exact, wide = gpus.apportioned(*window, 0.5), gpus.apportioned(*window, Band(0.5, 0.4, 0.6))
    assert wide.value == exact.value
    assert [wide.lo, wide.hi] == pytest.approx([exact.lo * 0.8, exact.hi * 1.2])


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), Band(0.5, 0.6, 0.7), Band(0.5, 0.4, 1.2)])
def test_share_out_of_range_is_refused(share: Band | float) -> None:
    gpus = opened(FakeNvml({"A": 100.0}))
    with pytest.raises(InputError, match="0 to 1") as caught:
        gpus.apportioned(GpuReading(0, (0,)), GpuReading(10**9, (1000,)), share)
    assert caught.value.code == "gpu_share"


@given(
    window_ns=st.integers(-(10**10), 10**11),
    first=st.lists(st.integers(0, 10**6), max_size=3),
    last=st.lists(st.integers(0, 10**6), max_size=3),
    share=st.floats(0.0, 1.0),
)
def test_figure_exists_only_for_a_window_in_which_every_counter_rose(
    window_ns: int, first: list[int], last: list[int], share: float
) -> None:
    gpus = opened(FakeNvml({"A": 100.0, "B": 50.0}))
    rose = len(first) == len(last) == 2 and all(low < high for low, high in zip(first, last, strict=True))
    try:
        figure = gpus.apportioned(GpuReading(0, tuple(first)), GpuReading(window_ns, tuple(last)), share)
    except PowerError:
        assert not rose or window_ns < MIN_WINDOW_S * 1e9
    else:
        assert rose
        assert window_ns >= MIN_WINDOW_S * 1e9
        assert 0 <= figure.lo <= figure.value <= figure.hi


@given(fails_at=st.integers(0, 3), code=st.sampled_from([LOST, NO_PERMISSION, NOT_SUPPORTED, 999]))
def test_no_figure_without_two_readings(fails_at: int, code: int) -> None:
    nvml = FakeNvml({"A": 100.0})
    gpus = opened(nvml)
    readings: list[GpuReading] = []
    figures: list[Figure] = []
    with contextlib.suppress(PowerError):
        for reading_no in range(2):
            nvml.broken = {"A": code} if reading_no == fails_at else {}
            readings.append(gpus.read())
            nvml.passes(1.0)
        figures.append(gpus.apportioned(readings[0], readings[1], 0.5))
    assert len(readings) == min(fails_at, 2)
    assert len(figures) == (len(readings) == 2)


@pytest.mark.parametrize("window_ns", [0, -(10**9), 99_000_000])
def test_window_shorter_than_the_counter_is_refused(window_ns: int) -> None:
    gpus = opened(FakeNvml({"A": 100.0}))
    with pytest.raises(PowerError, match=r"0\.1 s or more") as caught:
        gpus.joules(GpuReading(0, (0,)), GpuReading(window_ns, (1000,)))
    assert caught.value.code == "no_window"


def test_counter_that_stays_is_not_zero_joules() -> None:
    nvml = FakeNvml({"A": 100.0, "asleep": 0.0})
    gpus = opened(nvml)
    before = gpus.read()
    nvml.passes(1.0)
    with pytest.raises(PowerError, match="asleep stayed at 0 mJ") as caught:
        gpus.joules(before, gpus.read())
    assert caught.value.code == "no_window"


def test_counter_that_falls_is_an_error() -> None:
    gpus = opened(FakeNvml({"A": 100.0}))
    with pytest.raises(PowerError, match="fell from 5000 to 10 mJ") as caught:
        gpus.joules(GpuReading(0, (5000,)), GpuReading(10**9, (10,)))
    assert caught.value.code == "counter_wrapped"


def test_device_lost_between_readings_is_an_error() -> None:
    nvml = FakeNvml({"A": 100.0})
    gpus = opened(nvml)
    nvml.broken["A"] = LOST
    with pytest.raises(PowerError, match="counter of A cannot be read any more: NVML code 15") as caught:
        gpus.read()
    assert caught.value.code == "counter_vanished"


def test_readings_of_another_number_of_devices_are_refused() -> None:
    gpus = opened(FakeNvml({"A": 100.0}))
    with pytest.raises(PowerError, match="1 and 2 devices") as caught:
        gpus.joules(GpuReading(0, (0,)), GpuReading(10**9, (5, 5)))
    assert caught.value.code == "counter_vanished"


@pytest.mark.parametrize("code", [DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND])
def test_no_driver_is_an_absent_gpu(code: int) -> None:
    with pytest.raises(PowerError, match="no NVIDIA driver") as caught:
        opened(FakeNvml({}, {"nvmlInit": code}))
    assert caught.value.code == "gpu_absent"


def test_driver_without_devices_is_an_absent_gpu() -> None:
    nvml = FakeNvml({})
    with pytest.raises(PowerError, match="no device") as caught:
        opened(nvml)
    assert (caught.value.code, nvml.n_attached) == ("gpu_absent", 0)


@pytest.mark.parametrize(
    "broken",
    [
        {"nvmlInit": VERSION_MISMATCH},
        {"nvmlDeviceGetCount": NO_PERMISSION},
        {"nvmlDeviceGetHandleByIndex": NO_PERMISSION},
        {"A": NOT_SUPPORTED},
    ],
)
def test_device_that_does_not_tell_is_unreadable_and_the_driver_is_given_back(broken: dict[str, int]) -> None:
    nvml = FakeNvml({"A": 100.0}, broken)
    with pytest.raises(PowerError, match=f"NVML code {next(iter(broken.values()))}") as caught:
        opened(nvml)
    assert (caught.value.code, nvml.n_attached) == ("gpu_unreadable", 0)


def test_old_device_beside_a_new_one_is_passed_over_by_name() -> None:
    gpus = opened(FakeNvml({"old": 100.0, "new": 50.0}, {"old": NOT_SUPPORTED}))
    assert (gpus.names, gpus.passed_over) == (("new",), ("old: NVML code 3",))
    assert len(gpus.read().millijoules) == 1


def test_closing_twice_gives_the_driver_back_once() -> None:
    nvml = FakeNvml({"A": 100.0})
    gpus = opened(nvml)
    gpus.close()
    gpus.close()
    assert nvml.n_attached == 0


def test_closing_after_the_driver_has_gone_is_quiet() -> None:
    nvml = FakeNvml({"A": 100.0})
    gpus = opened(nvml)
    nvml.broken["nvmlShutdown"] = 1
    gpus.close()
    with pytest.raises(PowerError, match="closed"):
        gpus.read()


def test_closed_counters_cannot_be_read() -> None:
    gpus = opened(FakeNvml({"A": 100.0}))
    gpus.close()
    with pytest.raises(PowerError, match="closed") as caught:
        gpus.read()
    assert caught.value.code == "counter_vanished"


@pytest.mark.skipif(importlib.util.find_spec("pynvml") is not None, reason="the extra [gpu] is installed")
def test_missing_extra_is_named() -> None:
    with pytest.raises(MissingExtraError) as caught:
        open_gpus()
    assert caught.value.extra == "gpu"


@pytest.mark.skipif(importlib.util.find_spec("pynvml") is None, reason="the extra [gpu] is not installed")
def test_own_machine_is_read_or_the_reason_is_told() -> None:
    try:
        gpus = open_gpus()
    except PowerError as error:
        code = error.code
    else:
        code = "read" if all(gpus.read().millijoules) else "zero"
        gpus.close()
    assert code in ("read", "gpu_absent", "gpu_unreadable")
