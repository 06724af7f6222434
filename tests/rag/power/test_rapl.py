from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import PowerError
from rag.power.rapl import JITTER_UJ, Rapl, Reading, open_counter
from tests.powercap import RANGE_UJ, FakeClock, Powercap, refuse


@pytest.fixture
def tree(tmp_path: Path) -> Powercap:
    return Powercap(tmp_path / "powercap")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def spent(tree: Powercap, clock: FakeClock, joules: float, *labels: str) -> float:
    """Joules that the counters show when zones take some in a second."""
    rapl = Rapl(tree.root, now_ns=clock)
    before = rapl.read()
    clock.pass_s(1.0)
    tree.advance(joules, *labels)
    after = rapl.read()
    rapl.close()
    return rapl.joules(before, after)


def code_of(tree: Powercap) -> str:
    with pytest.raises(PowerError) as caught:
        Rapl(tree.root)
    return caught.value.code


def test_package_and_dram_are_added(tree: Powercap, clock: FakeClock) -> None:
    tree.add("intel-rapl:0", "package-0")
    tree.add("intel-rapl:0:1", "dram")
    rapl = Rapl(tree.root, now_ns=clock)
    assert (rapl.zones, rapl.boundary) == (("package-0", "dram"), "cpu_package+dram")
    assert spent(tree, clock, 30.0) == pytest.approx(60.0)


def test_subdomains_are_never_added(tree: Powercap, clock: FakeClock) -> None:
    tree.add("intel-rapl:0", "package-0")
    tree.add("intel-rapl:0:0", "core")
    tree.add("intel-rapl:0:1", "uncore")
    assert Rapl(tree.root).boundary == "cpu_package"
    assert spent(tree, clock, 30.0) == pytest.approx(30.0)


def test_psys_is_left_out_where_a_package_counts(tree: Powercap, clock: FakeClock) -> None:
    tree.add("intel-rapl:0", "package-0")
    tree.add("intel-rapl:1", "psys")
    assert Rapl(tree.root).zones == ("package-0",)
    assert spent(tree, clock, 30.0) == pytest.approx(30.0)


def test_psys_alone_counts_as_the_platform(tree: Powercap, clock: FakeClock) -> None:
    tree.add("intel-rapl:0", "psys")
    assert Rapl(tree.root).boundary == "platform"
    assert spent(tree, clock, 30.0) == pytest.approx(30.0)


def test_two_sockets_are_added_even_when_their_numbers_are_equal(tree: Powercap, clock: FakeClock) -> None:
    tree.add("intel-rapl:0", "package-0")
    tree.add("intel-rapl:1", "package-1")
    assert spent(tree, clock, 30.0) == pytest.approx(60.0)


def test_the_mmio_view_of_a_package_is_dropped_whatever_it_shows(tree: Powercap, clock: FakeClock) -> None:
    tree.add("intel-rapl-mmio:0", "package-0", energy_uj=77)
    tree.add("intel-rapl:0", "package-0")
    tree.add("intel-rapl:0:0", "dram")
    tree.add("intel-rapl-mmio:0:0", "dram", energy_uj=99)
    rapl = Rapl(tree.root)
    assert rapl.zones == ("package-0", "dram")
    assert rapl.read().microjoules == (1_000_000_000, 1_000_000_000)
    assert spent(tree, clock, 30.0) == pytest.approx(60.0)


@pytest.mark.parametrize("apart_uj", [0, 40_000, JITTER_UJ])
def test_a_counter_shown_by_every_die_counts_once(tree: Powercap, clock: FakeClock, apart_uj: int) -> None:
    tree.add("intel-rapl:0", "package-0-die-0", energy_uj=5_000_000_000)
    tree.add("intel-rapl:1", "package-0-die-1", energy_uj=5_000_000_000 + apart_uj)
    assert Rapl(tree.root).zones == ("package-0-die-0",)
    assert spent(tree, clock, 68.0) == pytest.approx(68.0)


def test_a_package_shown_twice_under_one_name_counts_once(tree: Powercap, clock: FakeClock) -> None:
    tree.add("intel-rapl:0", "package-0")
    tree.add("intel-rapl:1", "package-0")
    assert spent(tree, clock, 68.0) == pytest.approx(68.0)


def test_mirrored_dies_of_two_sockets_count_once_a_socket(tree: Powercap, clock: FakeClock) -> None:
    for number, name in enumerate(["package-0-die-0", "package-0-die-1", "package-1-die-0", "package-1-die-1"]):
        tree.add(f"intel-rapl:{number}", name)
    assert Rapl(tree.root).zones == ("package-0-die-0", "package-1-die-0")
    assert spent(tree, clock, 68.0) == pytest.approx(136.0)


def test_a_mirror_is_seen_though_time_passes_between_the_reads(tree: Powercap) -> None:
    """The counter moves a lot before the second die is opened, as when the process is interrupted there."""
    tree.add("intel-rapl:0", "package-0-die-0")
    tree.add("intel-rapl:1", "package-0-die-1")

    def interrupted(path: Path) -> int:
        if path == tree.counter("intel-rapl:1"):
            tree.advance(500.0)
        return open_counter(path)

    assert Rapl(tree.root, opener=interrupted).zones == ("package-0-die-0",)


@pytest.mark.parametrize("apart_uj", [-10 * JITTER_UJ, 10 * JITTER_UJ])
def test_real_counters_of_two_dies_are_added(tree: Powercap, clock: FakeClock, apart_uj: int) -> None:
    tree.add("intel-rapl:0", "package-0-die-0", energy_uj=5_000_000_000)
    tree.add("intel-rapl:1", "package-0-die-1", energy_uj=5_000_000_000 + apart_uj)
    assert spent(tree, clock, 68.0) == pytest.approx(136.0)


def test_dram_of_one_socket_of_two_does_not_count(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "package-0")
    tree.add("intel-rapl:0:0", "dram")
    tree.add("intel-rapl:1", "package-1")
    rapl = Rapl(tree.root)
    assert (rapl.zones, rapl.boundary) == (("package-0", "package-1"), "cpu_package")


def test_a_nested_tree_without_links_reads_the_same(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "package-0")
    tree.add("intel-rapl:0:0", "dram")
    nested = tree.counter("intel-rapl:0").resolve().parents[2]
    assert nested != tree.root
    assert Rapl(nested).zones == Rapl(tree.root).zones == ("package-0", "dram")


def test_zones_are_in_numeric_order(tree: Powercap) -> None:
    for number in (10, 2, 1):
        tree.add(f"intel-rapl:{number}", f"package-{number}")
    assert Rapl(tree.root).zones == ("package-1", "package-2", "package-10")


def test_other_zones_of_powercap_are_ignored(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "package-0")
    tree.add("dtpm:0", "package-9")
    assert Rapl(tree.root).zones == ("package-0",)


def test_a_tree_that_a_host_writes_needs_no_name_and_no_range(tree: Powercap, clock: FakeClock) -> None:
    tree.add("intel-rapl:0", None, energy_uj=0, range_uj=None)
    (tree.root / "intel-rapl:0" / "intel-rapl:0:0").mkdir()  # its exporter makes one and leaves it empty
    rapl = Rapl(tree.root)
    assert (rapl.zones, rapl.boundary) == (("package-0",), "cpu_package")
    assert spent(tree, clock, 30.0) == pytest.approx(30.0)


def test_a_host_writes_seldom_so_its_windows_are_longer(tree: Powercap) -> None:
    tree.add("intel-rapl:0", None, range_uj=None)
    rapl = Rapl(tree.root)
    assert rapl.min_window_s >= 8 * rapl.step_s == 40.0
    assert rapl.min_window_s < rapl.longest_window_s


def test_the_kernel_updates_often(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "package-0")
    assert Rapl(tree.root).min_window_s == 0.1


def test_the_longest_window_is_that_of_the_smallest_range(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "package-0", range_uj=RANGE_UJ)
    tree.add("intel-rapl:0:0", "dram", range_uj=65_712_999_613)
    assert Rapl(tree.root).longest_window_s == pytest.approx(65.71, abs=0.01)


def test_a_wrap_is_counted_through(tree: Powercap, clock: FakeClock) -> None:
    tree.add("intel-rapl:0", "package-0", energy_uj=RANGE_UJ - 5_000_000)
    assert spent(tree, clock, 12.0) == pytest.approx(12.0)


@given(
    left_uj=st.integers(0, 2_000_000_000),
    spent_uj=st.integers(1, 1_000_000_000),
    range_uj=st.sampled_from([RANGE_UJ, 65_712_999_613]),
)
def test_energy_near_a_wrap_is_exact(tmp_path_factory: pytest.TempPathFactory, left_uj: int, spent_uj: int, range_uj: int) -> None:
    tree = Powercap(tmp_path_factory.mktemp("wrap") / "powercap")
    tree.add("intel-rapl:0", "package-0", energy_uj=range_uj - left_uj, range_uj=range_uj)
    rapl = Rapl(tree.root)
    before = Reading(0, rapl.read().microjoules)
    tree.advance(spent_uj / 1e6)
    after = Reading(1_000_000_000, rapl.read().microjoules)
    rapl.close()
    assert rapl.joules(before, after) == spent_uj / 1e6


def test_a_fall_without_a_range_is_an_error(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "package-0", energy_uj=5_000, range_uj=None)
    rapl = Rapl(tree.root)
    before = rapl.read()
    tree.put("intel-rapl:0", 4_999)
    with pytest.raises(PowerError, match="max_energy_range_uj") as caught:
        rapl.joules(before, rapl.read())
    assert caught.value.code == "counter_wrapped"


def test_a_reset_is_not_taken_for_a_wrap(tree: Powercap, clock: FakeClock) -> None:
    tree.add("intel-rapl:0", "package-0", energy_uj=RANGE_UJ // 2)
    rapl = Rapl(tree.root, now_ns=clock)
    before = rapl.read()
    clock.pass_s(1.0)
    tree.put("intel-rapl:0", 30_000_000)
    with pytest.raises(PowerError, match="reset") as caught:
        rapl.joules(before, rapl.read())
    assert caught.value.code == "counter_jumped"


def test_packages_that_stand_still_are_an_error_though_dram_moves(tree: Powercap, clock: FakeClock) -> None:
    tree.add("intel-rapl:0", "package-0")
    tree.add("intel-rapl:0:0", "dram")
    with pytest.raises(PowerError, match="stood still") as caught:
        spent(tree, clock, 3.0, "intel-rapl:0:0")
    assert caught.value.code == "counter_stuck"


def test_a_counter_may_stand_still_for_less_than_a_window(tree: Powercap, clock: FakeClock) -> None:
    tree.add("intel-rapl:0", "package-0")
    rapl = Rapl(tree.root, now_ns=clock)
    before = rapl.read()
    clock.pass_s(0.099)
    assert rapl.joules(before, rapl.read()) == 0.0


def test_a_reading_carries_the_time_of_the_clock(tree: Powercap, clock: FakeClock) -> None:
    tree.add("intel-rapl:0", "package-0", energy_uj=7)
    assert Rapl(tree.root, now_ns=clock).read() == Reading(clock.ns, (7,))


def test_a_missing_tree_is_absent(tmp_path: Path) -> None:
    with pytest.raises(PowerError) as caught:
        Rapl(tmp_path / "none")
    assert caught.value.code == "counters_absent"


def test_an_empty_tree_is_absent(tree: Powercap) -> None:
    assert code_of(tree) == "counters_absent"


def test_zones_that_a_container_hides_are_absent(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "package-0")
    (tree.root / "intel-rapl:0" / "name").unlink()
    tree.remove("intel-rapl:0")
    assert code_of(tree) == "counters_absent"


def test_subdomains_alone_are_useless(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "core")
    tree.add("intel-rapl:1", "dram")
    assert code_of(tree) == "counters_useless"


def test_a_package_that_gives_no_number_is_useless(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "package-0")
    tree.add("intel-rapl:1", "package-1")
    tree.counter("intel-rapl:1").write_text("")
    assert code_of(tree) == "counters_useless"


def test_counters_for_root_only_are_present_and_unreadable_and_the_message_says_what_to_do(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "package-0")
    with pytest.raises(PowerError, match="present, unreadable") as caught:
        Rapl(tree.root, opener=refuse)
    assert caught.value.code == "counters_unreadable"
    message = str(caught.value)
    assert f"chmod a+r {tree.root}/intel-rapl*/energy_uj" in message
    assert "tmpfiles.d" in message
    assert "\n" not in message


def test_a_counter_that_vanishes_is_an_error_until_it_is_back(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "package-0")
    rapl = Rapl(tree.root)
    rapl.read()
    tree.remove("intel-rapl:0")
    for _ in range(2):
        with pytest.raises(PowerError) as caught:
            rapl.read()
        assert caught.value.code == "counter_vanished"
    tree.restore("intel-rapl:0")
    assert rapl.read().microjoules == (1_000_000_000,)


def test_a_counter_that_holds_no_number_any_more_is_an_error(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "package-0")
    rapl = Rapl(tree.root)
    tree.counter("intel-rapl:0").write_text("")
    with pytest.raises(PowerError) as caught:
        rapl.read()
    assert caught.value.code == "counter_vanished"


def test_a_counter_that_is_replaced_is_opened_again(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "package-0")
    rapl = Rapl(tree.root)
    rapl.read()
    fresh = tree.root / "fresh"
    fresh.write_text("42\n")
    fresh.replace(tree.counter("intel-rapl:0"))
    assert rapl.read().microjoules == (42,)


def test_reading_opens_nothing_again(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "package-0")
    opened: list[Path] = []

    def counting(path: Path) -> int:
        opened.append(path)
        return open_counter(path)

    rapl = Rapl(tree.root, opener=counting)
    rapl.read()
    n_opened = len(opened)
    rapl.read()
    assert len(opened) == n_opened > 0


def test_close_closes_every_file_and_may_be_called_twice(tree: Powercap) -> None:
    tree.add("intel-rapl:0", "package-0-die-0")
    tree.add("intel-rapl:1", "package-0-die-1")
    opened: list[int] = []

    def noting(path: Path) -> int:
        opened.append(open_counter(path))
        return opened[-1]

    rapl = Rapl(tree.root, opener=noting)
    rapl.read()
    rapl.close()
    rapl.close()
    assert opened
    for fd in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
