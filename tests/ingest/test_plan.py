from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.estimate import ToRead, choose, ratio_total
from ingest.pipeline import IngestReport, IngestRequest, ingest
from ingest.plan import Count, FamilyPlan, Plan, plan_ingest
from ingest.read import Kind
from ingest.walk import FoundFile
from rag.errors import InputError
from rag.meter import Meter
from rag.power import open_power
from rag.settings import EnergySettings, IngestSettings, Settings
from tests.fakes import HashEmbedder, SilentProgress

WORDS = "The supplier delivers the goods within thirty days of the order, and the buyer pays the invoice soon after. "


class Workplace:
    """A folder of documents and the data directory that they would go into."""

    def __init__(self, base: Path) -> None:
        self.folder = base / "docs"
        self.folder.mkdir()
        self.data_dir = base / "data"
        self.settings = Settings(data_dir=self.data_dir, ingest=IngestSettings(workers=1, max_file_bytes=1_000_000))
        self.embedder = HashEmbedder()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def request(self, **others: tuple[str, ...]) -> IngestRequest:
        return IngestRequest((self.folder,), "c", **others)  # type: ignore[arg-type]  # tuples of globs or addresses

    def ingest(self) -> IngestReport:
        return ingest(self.request(), self.settings, self.embedder, SilentProgress(), Meter())

    def plan(self, **others: tuple[str, ...]) -> Plan:
        power = open_power(EnergySettings(), self.data_dir)
        return plan_ingest(self.request(**others), self.settings, self.embedder, SilentProgress(), Meter(), power)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    found = Workplace(tmp_path)
    found.write("a.md", f"# A\n\n{WORDS}\n")
    found.write("b.md", "# B\n\nBirds sing in the morning.\n")
    found.write("c.csv", "name,price\nnail,1\n")
    return found


def test_plan_of_a_new_collection_makes_nothing(place: Workplace, tmp_path: Path) -> None:
    before = content(tmp_path)
    plan = place.plan()
    assert content(tmp_path) == before
    assert not place.data_dir.exists()
    assert (plan.version, plan.failed) == (0, ())
    assert [(family.kind, family.new.n_files) for family in plan.families] == [("csv", 1), ("markdown", 2)]


def test_plan_tells_new_changed_unchanged_and_gone_files(place: Workplace) -> None:
    place.write("d.md", "# D\n\nIt goes away.\n")
    place.ingest()
    before = content(place.data_dir)
    (place.folder / "d.md").unlink()
    place.write("a.md", "# A\n\nShort.\n")
    place.write("new.md", "# New\n")
    plan = place.plan()
    n_b = (place.folder / "b.md").stat().st_size
    assert plan.families == (
        FamilyPlan("csv", Count(), Count(), Count(1, 18), Count()),
        FamilyPlan("markdown", Count(1, 6), Count(1, 12), Count(1, n_b), Count(1, None)),
    )
    assert plan.version == 1
    assert content(place.data_dir) == before


def test_plan_and_ingest_agree_on_what_is_to_be_read(place: Workplace) -> None:
    estimate = place.plan().estimate
    report = place.ingest()
    assert estimate is not None
    assert (estimate.n_sampled, estimate.n_files) == (3, 3)
    assert estimate.n_chunks.value == report.n_chunks
    assert estimate.n_embedded.value == report.n_embedded


def test_nothing_to_read_has_no_estimate(place: Workplace) -> None:
    place.ingest()
    plan = place.plan()
    assert plan.estimate is None
    assert sum(family.unchanged.n_files for family in plan.families) == 3


def test_texts_that_have_a_vector_are_not_counted_as_embedded(place: Workplace) -> None:
    place.ingest()
    place.write("a.md", (place.folder / "a.md").read_text(encoding="utf-8") + "\n## More\n\nAnother paragraph.\n")
    estimate = place.plan().estimate
    report = place.ingest()
    assert estimate is not None
    assert (estimate.n_chunks.value, estimate.n_embedded.value) == (2, 1)
    assert report.n_embedded == 1


def test_known_failures_are_told_without_reading(place: Workplace) -> None:
    place.write("huge.txt", "x" * 1_000_001)
    (place.folder / "link.md").symlink_to(place.folder / "nothing")
    assert [failure.code for failure in place.plan().failed] == ["too_large", "broken_link"]


def test_failure_in_the_sample_is_told(place: Workplace) -> None:
    (place.folder / "odd.txt").write_bytes(bytes(range(256)) * 20)
    estimate = place.plan().estimate
    assert estimate is not None
    assert [failure.code for failure in estimate.failed] == ["binary"]


def test_of_a_long_text_only_the_beginning_is_read(place: Workplace) -> None:
    rows = [json.dumps({"_id": str(n), "text": WORDS * (1 + n % 5)}) for n in range(600)]
    place.write("corpus.jsonl", "\n".join(rows))
    estimate = place.plan().estimate
    report = place.ingest()
    assert estimate is not None
    assert 50_000 < estimate.sampled_bytes < 110_000
    assert estimate.failed == ()
    assert estimate.n_chunks.lo <= report.n_chunks <= estimate.n_chunks.hi


def test_ranges_are_in_order_and_priced(place: Workplace) -> None:
    estimate = place.plan().estimate
    assert estimate is not None
    for band in (estimate.n_chunks, estimate.n_embedded, estimate.cpu_s, estimate.wall_s):
        assert 0 < band.lo <= band.value <= band.hi
    assert 0 < estimate.energy_j.lo < estimate.energy_j.value < estimate.energy_j.hi
    assert estimate.energy_j.unit == "J"


def test_address_is_refused(place: Workplace) -> None:
    with pytest.raises(InputError, match=r"https://example\.com/ is an address") as caught:
        place.plan(urls=("https://example.com/",))
    assert caught.value.code == "usage"


def test_glob_that_matches_nothing_is_refused(place: Workplace) -> None:
    with pytest.raises(InputError, match="matches no file"):
        place.plan(include=("*.nothing",))


def to_read(kind: Kind, *sizes: int) -> list[ToRead]:
    names = [Path(f"/d/{n}.{kind}") for n in range(len(sizes))]
    found = [FoundFile(path, path.parent, path.name, str(path)) for path in names]
    return [ToRead(each, kind, size) for each, size in zip(found, sizes, strict=True)]


def test_sample_is_spread_over_families_and_files() -> None:
    chosen = choose([*to_read("markdown", *[10] * 1000), *to_read("csv", 5, 5)])
    assert [file.kind for file in chosen].count("csv") == 2
    numbers = [int(file.found.path.stem) for file in chosen if file.kind == "markdown"]
    assert len(numbers) == 18
    assert numbers == sorted(numbers)
    assert numbers[0] < 100
    assert numbers[-1] > 900


def test_family_of_large_files_is_sampled_by_its_smallest_one() -> None:
    assert [file.n_bytes for file in choose(to_read("pdf", 9_000_000, 5_000_000, 7_000_000))] == [5_000_000]


def test_family_of_huge_files_is_not_sampled() -> None:
    assert choose(to_read("pdf", 20_000_000)) == []


@given(st.lists(st.tuples(st.sampled_from(["pdf", "text", "docx"]), st.integers(1, 3_000_000)), max_size=60))
def test_sample_stays_within_its_limits(sizes: list[tuple[Kind, int]]) -> None:
    files = [file for kind, size in sizes for file in to_read(kind, size)]
    chosen = choose(files)
    assert len(chosen) <= 20
    assert {file.kind for file in chosen} == {file.kind for file in files}
    # A family may have one file beyond its share.
    assert sum(file.sample_bytes for file in chosen) <= 2_000_000 + 2 * 3_000_000
    assert chosen == choose(files)


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 100)), min_size=1, max_size=20), st.integers(0, 100_000))
def test_band_of_a_total_holds_what_was_seen(sample: list[tuple[int, float]], n_more: int) -> None:
    total = ratio_total(sample, sum(size for size, _ in sample) + n_more)
    seen = sum(amount for _, amount in sample)
    assert seen - 1e-9 <= total.lo <= total.value + 1e-9
    assert total.value <= total.hi


def test_whole_sample_is_exact() -> None:
    assert ratio_total([(10, 1.0), (20, 5.0), (30, 0.0)], 60) == (6.0, 6.0, 6.0)


def test_one_file_of_several_gives_half_to_double() -> None:
    assert ratio_total([(10, 4.0)], 100) == (40.0, 20.0, 80.0)
