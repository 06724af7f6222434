from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import InputError, PowerError
from rag.power.figure import Band
from rag.power.grid import TABLE, compare, intensity, parse, regions, world

HEADER = "code,alias,name,parent,g_per_kwh,rounding,year,signal,scope,source"
WORLD = "WOR,,World,,480,0,2023,average,lifecycle,Somebody (CC0)"
FRANCE = "FRA,FR,France,WOR,56,0,2023,average,lifecycle,Somebody (CC0)"
ENERGY = st.floats(min_value=0, max_value=1e6).map(lambda kwh: Band(kwh, kwh / 2, kwh * 2))


def table(*rows: str) -> str:
    return "\n".join((HEADER, *rows)) + "\n"


@pytest.mark.parametrize("name", ["FRA", "fra", "FR", " fr ", "France", "FRANCE"])
def test_region_is_found_by_code_and_by_name_in_any_case(name: str) -> None:
    assert intensity(name).code == "FRA"


def test_uk_is_the_united_kingdom() -> None:
    assert intensity("UK") == intensity("GB") == intensity("United Kingdom") == intensity("GBR")


@pytest.mark.parametrize(
    ("code", "grams"),
    [("FRA", 56), ("DEU", 381), ("GBR", 238), ("USA", 369), ("POL", 662), ("SWE", 41), ("IND", 713), ("CHN", 582)],
)
def test_well_known_means_of_2023_are_in_the_table(code: str, grams: int) -> None:
    found = intensity(code)
    assert found.g_per_kwh.value == pytest.approx(grams, abs=0.55)
    assert found.year == 2023


def test_state_of_the_usa_is_a_region_of_its_own() -> None:
    california = intensity("us-ca")
    assert (california.name, california.parent, california.scope) == ("California", "USA", "combustion")
    # 394.769 lb/MWh
    assert california.g_per_kwh.value == pytest.approx(179.1, abs=0.05)


def test_georgia_is_the_country() -> None:
    assert intensity("Georgia").code == "GEO"


@pytest.mark.parametrize("region", ["", "  "])
def test_no_region_is_the_world_average_and_says_so(region: str) -> None:
    found = intensity(region)
    assert found.code == "WOR"
    assert not found.is_known
    assert found.source.startswith("world average: no region set (energy.region)")
    assert "Ember" in found.source


def test_world_that_was_asked_for_is_known() -> None:
    assert intensity("World").is_known
    assert not world().is_known
    assert world().source.startswith("world average; ")


def test_band_of_the_world_leaves_out_the_cleanest_and_the_dirtiest_twentieth() -> None:
    grams = sorted(row.g_per_kwh.value for row in regions() if row.parent == "WOR")
    low, high = (grams[math.ceil(share * len(grams)) - 1] for share in (0.05, 0.95))
    assert (world().g_per_kwh.lo, world().g_per_kwh.hi) == (low, high)
    assert low < 60 < 600 < high


def test_unknown_region_names_what_is_near() -> None:
    with pytest.raises(PowerError, match=r"'Frence'.*FRA France.*rag energy regions") as caught:
        intensity("Frence")
    assert caught.value.code == "region_unknown"


def test_unknown_part_of_a_country_names_the_country() -> None:
    with pytest.raises(PowerError, match=r"'CA-QC'.*its country CAN is"):
        intensity("CA-QC")


def test_error_is_one_line() -> None:
    with pytest.raises(PowerError) as caught:
        intensity("no such\ngrid")
    assert "\n" not in str(caught.value)


@given(st.text(max_size=20))
def test_any_text_is_a_region_or_an_error_of_ours(region: str) -> None:
    try:
        found = intensity(region)
    except PowerError as error:
        code = error.code
    else:
        code = "region_unknown" if found.g_per_kwh.value <= 0 else "found"
    assert code in ("found", "region_unknown")


def test_every_row_has_year_source_and_a_band_around_its_mean() -> None:
    for row in regions():
        assert 2005 <= row.year <= 2026, row
        assert row.source, row
        assert row.signal == "average", row
        assert 0 < row.g_per_kwh.lo < row.g_per_kwh.value < row.g_per_kwh.hi, row


def test_every_source_is_openly_licensed() -> None:
    assert {row.source for row in regions()} == {"Ember via Our World in Data (CC-BY-4.0)", "US EPA eGRID2023 (public domain)"}


def test_every_region_is_part_of_one_in_the_table_but_the_world() -> None:
    codes = {row.code for row in regions()}
    assert [row.code for row in regions() if row.parent not in codes] == ["WOR"]


def test_mean_of_combustion_alone_may_be_higher_by_what_building_adds() -> None:
    row = intensity("US-VT")
    assert row.g_per_kwh.hi == pytest.approx(row.g_per_kwh.value * 1.3 + 50)


def test_mean_that_its_source_rounded_has_a_wider_band() -> None:
    island, country = intensity("KIR").g_per_kwh, intensity("FRA").g_per_kwh
    assert island.hi / island.value > country.hi / country.value == pytest.approx(1.3)


def test_regions_are_ordered_by_grams_then_code() -> None:
    keys = [(row.g_per_kwh.value, row.code) for row in regions()]
    assert keys == sorted(keys)
    assert len(keys) > 250


def test_table_is_small_enough_to_ship() -> None:
    assert TABLE.stat().st_size < 40_000


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("DEU,DE,Germany,WOR,381,0,,average,lifecycle,Somebody (CC0)", "line 4: year"),
        ("DEU,DE,Germany,WOR,381,0,23,average,lifecycle,Somebody (CC0)", "line 4: year"),
        ("DEU,DE,Germany,WOR,381,0,2023,average,lifecycle,", "line 4: source"),
        ("DEU,DE,,WOR,381,0,2023,average,lifecycle,Somebody (CC0)", "line 4: name"),
        ("DEU,DE,Germany,WOR,2001,0,2023,average,lifecycle,Somebody (CC0)", "line 4: g_per_kwh"),
        ("DEU,DE,Germany,WOR,-1,0,2023,average,lifecycle,Somebody (CC0)", "line 4: g_per_kwh"),
        ("DEU,DE,Germany,WOR,nan,0,2023,average,lifecycle,Somebody (CC0)", "line 4: g_per_kwh"),
        ("DEU,DE,Germany,WOR,0,0,2023,average,lifecycle,Somebody (CC0)", "no grid is free of emissions"),
        ("DEU,DE,Germany,WOR,much,0,2023,average,lifecycle,Somebody (CC0)", "line 4: g_per_kwh"),
        ("DEU,DE,Germany,WOR,381,0.6,2023,average,lifecycle,Somebody (CC0)", "line 4: rounding"),
        ("DEU,DE,Germany,WOR,381,0,2023,usual,lifecycle,Somebody (CC0)", "line 4: signal"),
        ("FRA,XX,Francia,WOR,381,0,2023,average,lifecycle,Somebody (CC0)", "line 4: a code or name is 'fra'"),
        ("DEU,FR,Germany,WOR,381,0,2023,average,lifecycle,Somebody (CC0)", "line 4: a code or name is 'fr'"),
        ("DEU,DE,Congo, Democratic,WOR,381,0,2023,average,lifecycle,Somebody (CC0)", "line 4: the number of fields"),
    ],
)
def test_bad_row_is_refused_with_its_line(row: str, what: str) -> None:
    with pytest.raises(PowerError, match=what) as caught:
        parse(table(WORLD, FRANCE, row))
    assert caught.value.code == "grid_table"


@pytest.mark.parametrize("text", ["", "code,name\n", table(), table(FRANCE)])
def test_table_without_columns_or_world_is_refused(text: str) -> None:
    with pytest.raises(PowerError, match="table of grids"):
        parse(text)


def test_good_table_is_read_in_its_order() -> None:
    assert [row.code for row in parse(table(WORLD, FRANCE))] == ["WOR", "FRA"]


def test_same_energy_costs_fewest_grams_first() -> None:
    costs = compare(Band(2.0, 1.0, 4.0), ["POL", "France", "US-CA"])
    assert [cost.intensity.code for cost in costs] == ["FRA", "US-CA", "POL"]
    assert costs[0].grams.value == pytest.approx(2 * 56.0)
    assert costs[0].grams.lo == pytest.approx(56.0 * 0.7)
    assert costs[0].grams.hi == pytest.approx(4 * 56.0 * 1.3)


def test_equal_grams_are_ordered_by_code() -> None:
    # Diesel islands: both 611.1 g/kWh.
    assert [cost.intensity.code for cost in compare(Band(1, 1, 1), ["ATG", "ASM"])] == ["ASM", "ATG"]


def test_region_named_twice_is_compared_once() -> None:
    assert len(compare(Band(1, 1, 1), ["FR", "FRA", "france"])) == 1


def test_no_regions_to_compare_is_an_error() -> None:
    with pytest.raises(InputError, match="no regions to compare"):
        compare(Band(1, 1, 1), [])


def test_comparison_with_an_unknown_region_is_an_error() -> None:
    with pytest.raises(PowerError, match="Atlantis"):
        compare(Band(1, 1, 1), ["FRA", "Atlantis"])


@given(ENERGY, st.sets(st.sampled_from([row.code for row in regions()]), min_size=1, max_size=6))
def test_comparison_does_not_depend_on_the_order_of_the_regions(energy: Band, codes: set[str]) -> None:
    costs = compare(energy, sorted(codes))
    assert costs == compare(energy, sorted(codes, reverse=True))
    assert {cost.intensity.code for cost in costs} == codes
    assert all(0 <= cost.grams.lo <= cost.grams.value <= cost.grams.hi for cost in costs)


def test_lookup_imports_no_csv_reader() -> None:
    script = "import sys; from rag.power.grid import intensity; intensity('FRA'); print('csv' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
