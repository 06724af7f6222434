from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag.errors import PowerError
from rag.power.cpu import TABLE, Cpu, Family, default_price, identify, idle_ratio, read_families, table_price

MILAN = Cpu("AuthenticAMD", 25, 1, "AMD EPYC 7763 64-Core Processor", is_guest=False, smt_visible=True)
STRANGER = Cpu("HygonGenuine", 24, 1, "Hygon C86", is_guest=False, smt_visible=True)

BLOCK = """processor\t: {number}
vendor_id\t: {vendor}
cpu family\t: {family}
model\t\t: {model}
model name\t: Some   Processor
stepping\t: 7
siblings\t: {siblings}
cpu cores\t: {cores}
flags\t\t: fpu sse2 {flags} avx2

"""
ARM_BLOCK = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

"""


def block(
    number: int = 0,
    vendor: str = "GenuineIntel",
    family: object = 6,
    model: object = 85,
    siblings: object = 56,
    cores: object = 28,
    flags: str = "",
) -> str:
    return BLOCK.format(number=number, vendor=vendor, family=family, model=model, siblings=siblings, cores=cores, flags=flags)


def identified(folder: Path, text: str) -> Cpu:
    path = folder / "cpuinfo"
    path.write_text(text, encoding="utf-8")
    return identify(path)


def source_of(cpu: Cpu) -> str | None:
    price = table_price(cpu)
    return None if price is None else price.source


def table(folder: Path, old: str = "", new: str = "") -> Path:
    """The shipped table with one replacement."""
    text = TABLE.read_text("utf-8")
    assert old in text
    path = folder / "table.csv"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_intel_processor_is_known_by_its_numbers(tmp_path: Path) -> None:
    assert identified(tmp_path, block()) == Cpu("GenuineIntel", 6, 85, "Some Processor", is_guest=False, smt_visible=True)


def test_hypervisor_flag_makes_a_guest(tmp_path: Path) -> None:
    assert identified(tmp_path, block(flags="hypervisor")).is_guest


def test_flag_that_only_contains_the_word_makes_no_guest(tmp_path: Path) -> None:
    assert not identified(tmp_path, block(flags="nohypervisor")).is_guest


def test_as_many_siblings_as_cores_show_no_smt(tmp_path: Path) -> None:
    assert identified(tmp_path, block(siblings=2, cores=2)).smt_visible is False


def test_smt_is_open_where_the_kernel_does_not_count(tmp_path: Path) -> None:
    assert identified(tmp_path, block(siblings="", cores="")).smt_visible is None


def test_arm_processor_is_known_by_implementer_and_part(tmp_path: Path) -> None:
    cpu = identified(tmp_path, ARM_BLOCK)
    assert (cpu.vendor, cpu.family, cpu.model) == ("0x41", 8, 0xD0C)
    assert (cpu.name, cpu.smt_visible) == ("ARM implementer 0x41 part 0xd0c", None)


def test_only_the_first_processor_counts(tmp_path: Path) -> None:
    assert identified(tmp_path, block() + block(1, model=143) * 400).model == 85


def test_missing_file_is_an_unknown_processor(tmp_path: Path) -> None:
    cpu = identify(tmp_path / "absent")
    assert (cpu.vendor, cpu.family, cpu.model, cpu.name, cpu.smt_visible) == ("", 0, 0, "unknown", None)


def test_folder_in_place_of_the_file_is_an_unknown_processor(tmp_path: Path) -> None:
    assert identify(tmp_path).name == "unknown"


@pytest.mark.parametrize("number", ["", "six", "-6", "06", "9" * 5000, "\u0666"])
def test_number_that_is_none_is_unknown(tmp_path: Path, number: str) -> None:
    assert identified(tmp_path, block(model=number)).model == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(), st.text(alphabet="vendor_id:CPU implementer\n\t0x 9\x00").map(lambda text: text.encode())))
def test_any_file_is_read_without_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "cpuinfo").write_bytes(data)
    cpu = identify(tmp_path / "cpuinfo")
    assert default_price(cpu).active_w.value > 0


def test_shipped_table_holds_every_family_with_year_and_source() -> None:
    families = read_families()
    assert len(families) == 11
    assert all(family.year == 2026 and "SPECpower_ssj2008" in family.source for family in families)


@pytest.mark.parametrize(
    ("vendor", "family", "model", "name"),
    [
        ("AuthenticAMD", 23, 49, "EPYC 7xx2"),
        ("AuthenticAMD", 25, 1, "EPYC 7xx3"),
        ("AuthenticAMD", 25, 17, "EPYC 9xx4"),
        ("AuthenticAMD", 25, 160, "EPYC 9xx4"),
        ("AuthenticAMD", 26, 2, "EPYC 9xx5"),
        ("AuthenticAMD", 26, 17, "EPYC 9xx5"),
        ("GenuineIntel", 6, 85, "Xeon x1xx/x2xx"),
        ("GenuineIntel", 6, 106, "Xeon x3xx"),
        ("GenuineIntel", 6, 108, "Xeon x3xx"),
        ("GenuineIntel", 6, 143, "Xeon x4xx"),
        ("GenuineIntel", 6, 207, "Xeon x5xx"),
        ("GenuineIntel", 6, 173, "Xeon 6 P"),
        ("GenuineIntel", 6, 174, "Xeon 6 P"),
        ("GenuineIntel", 6, 175, "Xeon 6 E"),
        ("0x41", 8, 0xD0C, "Ampere Altra (Neoverse N1)"),
    ],
)
def test_processor_is_priced_by_its_family(vendor: str, family: int, model: int, name: str) -> None:
    assert source_of(replace(MILAN, vendor=vendor, family=family, model=model)) == f"SPECpower medians, {name}"


@pytest.mark.parametrize(
    "cpu",
    [
        STRANGER,
        replace(MILAN, vendor="GenuineIntel"),
        replace(MILAN, family=26),
        replace(MILAN, model=97),  # EPYC 4xx4, a desktop part
        Cpu("", 0, 0, "unknown", is_guest=False, smt_visible=None),
    ],
)
def test_processor_outside_the_table_has_no_table_price(cpu: Cpu) -> None:
    assert table_price(cpu) is None


def test_active_price_is_what_a_busy_thread_adds() -> None:
    price = table_price(MILAN)
    assert price is not None
    assert (price.active_w.value, price.active_w.lo, price.active_w.hi) == pytest.approx((1.50, 1.50 * 0.6, 1.50 * 3.0))
    assert (price.idle_w.value, price.idle_w.lo, price.idle_w.hi) == pytest.approx((0.42, 0.42 * 0.6, 0.42 * 2.0))


def test_table_price_says_that_it_is_modelled_at_the_wall() -> None:
    price = table_price(MILAN)
    assert price is not None
    assert (price.method, price.boundary, price.year, price.window_s) == ("modelled", "server_wall", 2026, None)


@pytest.mark.parametrize("cpu", [MILAN, STRANGER])
def test_guest_without_smt_may_cost_twice_as_much(cpu: Cpu) -> None:
    plain = table_price(cpu) or default_price(cpu)
    guest = replace(cpu, is_guest=True, smt_visible=False)
    doubled = table_price(guest) or default_price(guest)
    assert (doubled.active_w.hi, doubled.idle_w.hi) == pytest.approx((2 * plain.active_w.hi, 2 * plain.idle_w.hi))
    assert (doubled.active_w.value, doubled.active_w.lo) == (plain.active_w.value, plain.active_w.lo)


@pytest.mark.parametrize(("is_guest", "smt_visible"), [(True, True), (True, None), (False, False)])
def test_other_machines_are_not_taken_for_whole_cores(is_guest: bool, smt_visible: bool | None) -> None:
    assert table_price(replace(MILAN, is_guest=is_guest, smt_visible=smt_visible)) == table_price(MILAN)


def test_default_is_the_median_of_the_table() -> None:
    price = default_price(STRANGER)
    assert (price.active_w.value, price.active_w.lo, price.active_w.hi) == pytest.approx((1.87, 1.87 * 0.3, 1.87 * 4.5))
    assert (price.idle_w.value, price.idle_w.lo, price.idle_w.hi) == pytest.approx((0.62, 0.62 * 0.3, 0.62 * 3.0))


def test_default_names_the_processor_that_is_missing() -> None:
    price = default_price(STRANGER)
    assert price.source == "median of the CPU families in the table: this CPU (Hygon C86) is not one of them"
    assert (price.method, price.boundary, price.year) == ("modelled", "server_wall", 2026)


@given(st.sampled_from(read_families()), st.booleans(), st.sampled_from([True, False, None]))
def test_unknown_processor_never_seems_better_known(family: Family, is_guest: bool, smt_visible: bool | None) -> None:
    cpu = Cpu(family.vendor, family.family, family.models[0], "name", is_guest, smt_visible)
    known, unknown = table_price(cpu), default_price(cpu)
    assert known is not None
    for ours, other in ((known.active_w, unknown.active_w), (known.idle_w, unknown.idle_w)):
        assert 0 < ours.lo < ours.value < ours.hi
        assert ours.lo / ours.value > other.lo / other.value
        assert ours.hi / ours.value < other.hi / other.value


def test_idle_ratio_is_that_of_the_family_within_all_of_them() -> None:
    ratio = idle_ratio(MILAN)
    assert (ratio.value, ratio.lo, ratio.hi) == pytest.approx((0.42 / 1.92, 0.55 / 4.08, 0.62 / 1.92))


def test_idle_ratio_of_a_stranger_is_the_median() -> None:
    ratios = sorted(family.idle_w / family.full_w for family in read_families())
    ratio = idle_ratio(STRANGER)
    assert (ratio.value, ratio.lo, ratio.hi) == (ratios[5], ratios[0], ratios[-1])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("28,2026,", "28,,"),  # no year
        ("28,2026,", "28,soon,"),
        ("28,2026,", "28,1999,"),
        ("28,2026,", "0,2026,"),
        ("28,2026,SPECpower_ssj2008 published results (median by family; collected 2026-03)", "28,2026,"),  # no source
        ("28,2026,SPECpower_ssj2008 published results (median by family; collected 2026-03)", "28,2026"),
        ("0.42,1.92", "much,1.92"),
        ("0.42,1.92", "nan,1.92"),
        ("0.42,1.92", "0,1.92"),
        ("0.42,1.92", "1.92,0.42"),
        ("1.59,2.33", "2.33,1.59"),
        ("1.59,2.33", "1.93,2.33"),
        ("1.59,2.33", "1.59,inf"),
        ("EPYC 7xx3,", "EPYC 7xx3,,"),
        ("25,17 160", "25,17 1"),  # claimed by the row above
        ("25,17 160", "25,17 17"),
        ("25,17 160", "25,"),
        ("name,vendor", "vendor,name"),
    ],
)
def test_wrong_row_is_refused(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(PowerError) as caught:
        read_families(table(tmp_path, old, new))
    assert caught.value.code == "cpu_table"


def test_message_names_the_line_of_the_wrong_row(tmp_path: Path) -> None:
    path = table(tmp_path, "25,17 160", "25,17 1")
    number = next(number for number, line in enumerate(path.read_text("utf-8").splitlines(), 1) if line.startswith("EPYC 9xx4"))
    with pytest.raises(PowerError, match=f"table.csv:{number}: model 1 is claimed by EPYC 7xx3 already"):
        read_families(path)


@pytest.mark.parametrize("data", [b"", b"# only a comment\n", b"\xff\xfe"])
def test_file_that_is_no_table_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(data)
    with pytest.raises(PowerError):
        read_families(tmp_path / "table.csv")


def test_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PowerError, match="cannot be read"):
        read_families(tmp_path / "absent.csv")
