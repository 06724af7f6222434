from __future__ import annotations

import json
import os
import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.pipeline import IngestReport, IngestRequest, ingest
from rag.engine import Engine
from rag.errors import InputError, ModelError
from rag.generate.extractive import ExtractiveGenerator
from rag.meter import Meter
from rag.settings import IngestSettings, Settings
from rag.store import open_store
from rag.store.catalog import Catalog
from rag.store.manifest import verify
from rag.store.snapshot import folder_of
from rag.types import Candidate, Query, SearchMode, TextRole, Vectors
from tests.fakes import CountingEmbedder, SilentProgress

LONG = (
    "The supplier delivers the goods within thirty days of the order. The buyer pays the invoice soon after its receipt, "
    "and may return what is damaged. Each party keeps the terms of this contract secret, unless a court orders otherwise."
)


class Workplace:
    """A folder of documents and the data directory that it is ingested into."""

    def __init__(self, base: Path) -> None:
        self.folder = base / "docs"
        self.folder.mkdir()
        self.embedder = CountingEmbedder()
        self.settings = Settings(data_dir=base / "data", ingest=IngestSettings(workers=1))

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def records(self, name: str, *rows: tuple[str, str]) -> Path:
        return self.write(name, "".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in rows))

    def ingest(self, *paths: Path, prefix: str = "", metadata: dict[str, str] | None = None) -> IngestReport:
        self.embedder.texts.clear()
        request = IngestRequest(paths or (self.folder,), "c", prefix=prefix, metadata=metadata or {})
        return ingest(request, self.settings, self.embedder, SilentProgress(), Meter())

    def engine(self) -> Engine:
        store = open_store(self.settings.data_dir, "c")
        return Engine(store, self.embedder, ExtractiveGenerator(self.settings.answer), self.settings)

    def hits(self, text: str, mode: SearchMode = "bm25", **filters: str) -> list[Candidate]:
        with self.engine() as engine:
            wanted = {key: frozenset([value]) for key, value in filters.items()}
            return list(engine.search(Query(text, mode=mode, filters=wanted)).hits)

    def found(self, text: str, **filters: str) -> list[str]:
        return [hit.chunk.doc_id for hit in self.hits(text, "bm25", **filters)]


def counts(report: IngestReport) -> tuple[int, int, int, int]:
    return report.n_added, report.n_updated, report.n_unchanged, report.n_removed


def codes(report: IngestReport) -> list[str]:
    return [failure.code for failure in report.failed]


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    found = Workplace(tmp_path)
    found.write("a.md", "# Apples\n\nApples are red.\n")
    found.write("b.md", "# Pears\n\nPears are green.\n")
    return found


def test_first_ingest_publishes_version_one(place: Workplace) -> None:
    report = place.ingest()
    assert (report.version, report.published, counts(report)) == (1, True, (2, 0, 0, 0))
    assert (report.n_parsed, report.n_embedded, report.n_chunks, report.failed) == (2, 2, 2, ())


def test_ingesting_twice_parses_embeds_and_publishes_nothing(place: Workplace) -> None:
    place.ingest()
    report = place.ingest()
    assert (report.version, report.published, counts(report)) == (1, False, (0, 0, 2, 0))
    assert (report.n_parsed, report.n_embedded, place.embedder.texts) == (0, 0, [])


def test_touched_file_is_unchanged(place: Workplace) -> None:
    place.ingest()
    os.utime(place.folder / "a.md", (1, 1))
    assert place.ingest().n_parsed == 0


def test_changed_file_updates_only_its_document(place: Workplace) -> None:
    place.ingest()
    place.write("a.md", "# Apples\n\nApples are yellow.\n")
    report = place.ingest()
    assert (report.version, counts(report), report.n_parsed) == (2, (0, 1, 1, 0), 1)
    assert place.embedder.texts == ["Apples\nApples\n\nApples are yellow."]
    assert (place.found("yellow"), place.found("red")) == (["a.md"], [])


def test_changed_paragraph_embeds_only_its_chunk(place: Workplace) -> None:
    parts = [f"## Part {i}\n\n{LONG.replace('goods', f'goods{i}')}" for i in range(5)]
    place.write("long.md", "# Long\n\n" + "\n\n".join(parts))
    place.ingest()
    parts[2] = "## Part 2\n\nSomething else."
    place.write("long.md", "# Long\n\n" + "\n\n".join(parts))
    assert place.ingest().n_embedded == 1


def test_deleted_file_is_not_found_any_more(place: Workplace) -> None:
    place.ingest()
    (place.folder / "a.md").unlink()
    report = place.ingest()
    assert (counts(report), report.n_embedded) == ((0, 0, 1, 1), 0)
    assert place.found("apples") == []


def test_last_file_deleted_leaves_an_empty_collection(place: Workplace) -> None:
    place.ingest()
    for path in place.folder.iterdir():
        path.unlink()
    assert counts(place.ingest()) == (0, 0, 0, 2)
    assert [place.hits("apples", mode) for mode in ("bm25", "dense", "hybrid")] == [[], [], []]


def test_renamed_file_keeps_its_vectors(place: Workplace) -> None:
    place.ingest()
    (place.folder / "a.md").rename(place.folder / "z.md")
    report = place.ingest()
    assert (counts(report), report.n_embedded) == ((1, 0, 1, 1), 0)
    assert place.found("apples") == ["z.md"]


def test_moved_folder_keeps_its_documents_and_vectors(place: Workplace, tmp_path: Path) -> None:
    place.ingest()
    moved = place.folder.rename(tmp_path / "elsewhere")
    report = place.ingest(moved)
    assert (report.n_embedded, report.failed) == (0, ())
    assert (place.found("apples"), place.found("pears")) == (["a.md"], ["b.md"])


def test_file_ingested_by_itself_leaves_its_neighbours_alone(place: Workplace) -> None:
    place.ingest()
    place.write("a.md", "# Apples\n\nApples are yellow.\n")
    assert counts(place.ingest(place.folder / "a.md")) == (0, 1, 0, 0)
    assert place.found("pears") == ["b.md"]


def test_other_folder_is_added_beside_the_first(place: Workplace, tmp_path: Path) -> None:
    place.ingest()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "c.md").write_text("# Plums\n\nPlums are blue.\n")
    assert counts(place.ingest(tmp_path / "more")) == (1, 0, 0, 0)
    assert set(place.found("apples plums")) == {"a.md", "c.md"}


def test_prefix_stands_before_every_id(place: Workplace) -> None:
    place.ingest(prefix="fruit")
    assert place.found("apples") == ["fruit/a.md"]


def test_prefix_keeps_folders_of_like_names_apart(place: Workplace, tmp_path: Path) -> None:
    place.ingest()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.md").write_text("# Apples\n\nApples are sour.\n")
    assert codes(place.ingest(tmp_path / "more")) == ["duplicate_id"]
    assert place.ingest(tmp_path / "more", prefix="more").failed == ()
    assert set(place.found("apples")) == {"a.md", "more/a.md"}


def test_metadata_of_the_call_is_on_every_document(place: Workplace) -> None:
    place.ingest(metadata={"team": "fruit"})
    assert [hit.chunk.source.metadata["team"] for hit in place.hits("apples pears", team="fruit")] == ["fruit", "fruit"]


def test_changed_metadata_updates_every_document_and_embeds_nothing(place: Workplace) -> None:
    place.ingest(metadata={"team": "fruit"})
    report = place.ingest(metadata={"team": "garden"})
    assert (counts(report), report.n_embedded) == ((0, 2, 0, 0), 0)
    assert place.found("apples", team="garden") == ["a.md"]


def test_other_embedder_embeds_everything_anew(place: Workplace) -> None:
    place.ingest()
    place.embedder = CountingEmbedder(dim=32)
    report = place.ingest()
    assert (report.n_embedded, report.version) == (2, 2)
    assert place.hits("apples red", "dense")[0].chunk.doc_id == "a.md"


def test_file_that_becomes_unreadable_keeps_its_documents_and_is_reported(place: Workplace) -> None:
    place.ingest()
    (place.folder / "a.md").write_bytes(b"%PDF-1.7 \x00\x01")
    report = place.ingest()
    assert (codes(report), counts(report), report.published) == (["binary"], (0, 0, 2, 0), False)
    assert place.found("apples") == ["a.md"]


def test_unreadable_file_is_reported_every_time(place: Workplace) -> None:
    (place.folder / "c.md").write_bytes(b"%PDF-1.7 \x00\x01")
    assert codes(place.ingest()) == codes(place.ingest()) == ["binary"]


def test_file_that_grows_too_large_keeps_its_documents_and_is_reported(place: Workplace) -> None:
    place.ingest()
    place.settings = replace(place.settings, ingest=replace(place.settings.ingest, max_file_bytes=40))
    place.write("a.md", "# Apples\n\n" + "Apples are large. " * 9)
    report = place.ingest()
    assert (codes(report), counts(report)) == (["too_large"], (0, 0, 2, 0))
    assert "ingest.max_file_bytes" in report.failed[0].message
    assert place.found("apples") == ["a.md"]


def test_folder_that_cannot_be_listed_keeps_its_documents(place: Workplace) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may list every folder")
    place.write("sub/c.md", "# Plums\n\nPlums are blue.\n")
    place.ingest()
    (place.folder / "sub").chmod(0)
    try:
        assert codes(place.ingest()) == ["permission"]
    finally:
        (place.folder / "sub").chmod(0o700)
    assert place.found("plums") == ["sub/c.md"]


def test_link_to_a_file_that_is_gone_keeps_its_document_also_below_a_linked_root(place: Workplace, tmp_path: Path) -> None:
    target = place.write("sub/c.md", "# Plums\n\nPlums are blue.\n")
    target.rename(place.folder / "sub" / ".c.md")
    (place.folder / "d.md").symlink_to(place.folder / "sub" / ".c.md")
    linked = tmp_path / "linked"
    linked.symlink_to(place.folder)
    place.ingest(linked)
    (place.folder / "sub" / ".c.md").unlink()
    assert codes(place.ingest(linked)) == ["broken_link"]
    assert place.found("plums") == ["d.md"]


def test_one_changed_record_updates_one_document(place: Workplace) -> None:
    place.records("r.jsonl", ("one", "First record."), ("two", "Second record."), ("three", "Third record."))
    place.ingest()
    place.records("r.jsonl", ("one", "First record."), ("two", "Another record."), ("three", "Third record."))
    report = place.ingest()
    assert (counts(report), place.embedder.texts) == ((0, 1, 4, 0), ["Another record."])


def test_record_that_is_gone_is_removed(place: Workplace) -> None:
    place.records("r.jsonl", ("one", "First record."), ("two", "Second record."))
    place.ingest()
    place.records("r.jsonl", ("two", "Second record."))
    assert counts(place.ingest()) == (0, 0, 3, 1)
    assert place.found("first") == []


def test_records_in_another_order_publish_nothing_but_new_lines(place: Workplace) -> None:
    place.records("r.jsonl", ("one", "First record."), ("two", "Second record."))
    place.ingest()
    place.records("r.jsonl", ("two", "Second record."), ("one", "First record."))
    assert place.ingest().n_embedded == 0


def test_bad_record_is_reported_and_the_rest_is_taken(place: Workplace) -> None:
    path = place.records("r.jsonl", ("one", "First record."))
    path.write_text(path.read_text() + "{broken\n")
    report = place.ingest()
    assert [(failure.path, failure.code) for failure in report.failed] == [(f"{path}:2", "bad_record")]
    assert place.found("first") == ["one"]


def test_id_of_another_upload_is_reported_without_the_place_of_its_file(place: Workplace) -> None:
    place.records("r.jsonl", ("one", "First record."))
    place.ingest()
    place.records("s.jsonl", ("one", "Stolen record."), ("two", "Second record."))
    request = IngestRequest((place.folder,), "c", home=place.folder)
    (failure,) = ingest(request, place.settings, place.embedder, SilentProgress(), Meter()).failed
    assert failure.code == "duplicate_id"
    assert "belongs to r.jsonl;" in failure.message


def test_file_that_is_too_large_is_named_as_it_was_given(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write("a.md", "# Apples\n\nApples grow.")
    place.write("b.md", "# Bears\n\n" + "Bears are large. " * 9)
    place.settings = replace(place.settings, ingest=replace(place.settings.ingest, max_file_bytes=40))
    monkeypatch.chdir(place.folder.parent)
    (failure,) = (at for at in place.ingest(Path("docs")).failed if at.path.endswith("b.md"))
    assert (failure.path, failure.code) == ("docs/b.md", "too_large")


def test_id_of_another_file_is_reported_and_its_document_stays(place: Workplace) -> None:
    place.records("r.jsonl", ("one", "First record."))
    place.ingest()
    path = place.records("s.jsonl", ("one", "Stolen record."), ("two", "Second record."))
    report = place.ingest()
    assert [(failure.path, failure.code) for failure in report.failed] == [(str(path.resolve()), "duplicate_id")]
    assert (place.found("first"), place.found("stolen"), place.found("second")) == (["one"], [], ["two"])


def test_refused_id_is_taken_when_its_owner_gives_it_up(place: Workplace) -> None:
    place.records("r.jsonl", ("one", "First record."), ("zero", "Zeroth record."))
    place.ingest()
    place.records("a.jsonl", ("one", "First record."), ("two", "Second record."))
    place.records("r.jsonl", ("zero", "Zeroth record."))
    assert codes(place.ingest()) == ["duplicate_id"]
    assert place.ingest().failed == ()
    assert place.found("first") == ["one"]
    assert place.ingest().n_parsed == 0


def test_id_of_a_file_that_is_gone_is_free(place: Workplace) -> None:
    path = place.records("r.jsonl", ("one", "First record."))
    place.ingest()
    path.rename(place.folder / "a.jsonl")
    report = place.ingest()
    assert (report.failed, report.n_embedded) == ((), 0)
    assert place.found("first") == ["one"]


def test_empty_folder_is_refused(place: Workplace, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nothing to ingest in .*empty: 0 files found") as caught:
        place.ingest(tmp_path / "empty")
    assert caught.value.code == "nothing_to_ingest"


def test_nothing_but_binaries_is_refused_with_the_first_reason(place: Workplace, tmp_path: Path) -> None:
    folder = tmp_path / "binaries"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"%PDF-1.7 \x00")
    (folder / "b.txt").write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    with pytest.raises(InputError, match=r"2 files found, none readable; first reason: .*a\.txt: is a PDF"):
        place.ingest(folder)


def test_missing_path_is_refused(place: Workplace) -> None:
    with pytest.raises(InputError, match="does not exist") as caught:
        place.ingest(place.folder / "nowhere")
    assert caught.value.code == "not_found"


def test_path_that_does_not_exist_makes_no_data_directory(place: Workplace) -> None:
    with pytest.raises(InputError):
        place.ingest(place.folder / "nowhere")
    assert not place.settings.data_dir.exists()


def test_refused_first_ingest_leaves_no_collection(place: Workplace, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nothing to ingest"):
        place.ingest(tmp_path / "empty")
    with pytest.raises(InputError, match="no collection 'c'"):
        open_store(place.settings.data_dir, "c")


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "ü", "x" * 65])
def test_bad_collection_name_is_refused(place: Workplace, name: str) -> None:
    request = IngestRequest((place.folder,), name)
    with pytest.raises(InputError, match="is not allowed"):
        ingest(request, place.settings, place.embedder, SilentProgress(), Meter())


@pytest.mark.parametrize("limit", [64, 257])
def test_chunk_limit_outside_of_what_the_embedder_reads_is_refused(place: Workplace, limit: int) -> None:
    place.settings = replace(place.settings, ingest=replace(place.settings.ingest, max_chunk_tokens=limit))
    with pytest.raises(InputError, match="allowed: 128 to 256"):
        place.ingest()


def test_copies_are_collapsed_and_told_with_their_original(place: Workplace) -> None:
    place.write("c.txt", LONG)
    place.write("d.txt", LONG)
    report = place.ingest()
    (hit,) = place.hits("supplier")
    assert (report.n_chunks, report.n_duplicates) == (4, 1)
    assert (hit.chunk.doc_id, hit.chunk.source.also_in) == ("c.txt", ("d.txt",))


def test_copy_is_promoted_when_its_original_is_deleted(place: Workplace) -> None:
    place.write("c.txt", LONG)
    place.write("d.txt", LONG.replace("damaged", "broken"))
    place.settings = replace(place.settings, ingest=replace(place.settings.ingest, near_duplicate=0.8))
    place.ingest()
    assert place.found("supplier") == ["c.txt"]
    (place.folder / "c.txt").unlink()
    report = place.ingest()
    (hit,) = place.hits("supplier broken", "hybrid")[:1]
    assert (report.n_embedded, report.n_duplicates) == (1, 0)
    assert (hit.chunk.doc_id, hit.chunk.source.also_in) == ("d.txt", ())


def test_filter_by_document_gives_its_own_copy(place: Workplace) -> None:
    place.write("c.txt", LONG)
    place.write("d.txt", "A first line of its own.\n\n" + LONG)
    place.write("e.txt", LONG)
    place.ingest()
    (hit,) = place.hits("supplier", doc_id="e.txt")
    assert hit.chunk.doc_id == "e.txt"
    assert hit.chunk.text == LONG[hit.chunk.source.start_char : hit.chunk.source.end_char]


def test_order_in_which_files_come_does_not_matter(place: Workplace, tmp_path: Path) -> None:
    texts = {"m.txt": LONG, "c.txt": LONG.replace("damaged", "broken"), "x.txt": LONG}
    for name, text in texts.items():
        place.write(name, text)
        place.ingest()
    (tmp_path / "other").mkdir()
    other = Workplace(tmp_path / "other")
    other.write("a.md", "# Apples\n\nApples are red.\n")
    other.write("b.md", "# Pears\n\nPears are green.\n")
    for name, text in texts.items():
        other.write(name, text)
    other.ingest()
    for mode in ("bm25", "dense", "hybrid"):
        ours, theirs = place.hits("supplier", mode), other.hits("supplier", mode)
        assert [(hit.chunk.chunk_id, hit.score) for hit in ours] == [(hit.chunk.chunk_id, hit.score) for hit in theirs]


def test_vectors_of_an_interrupted_run_are_kept_and_nothing_else(place: Workplace) -> None:
    class Tiring(CountingEmbedder):
        def embed(self, texts: Sequence[str], role: TextRole = "document") -> Vectors:
            if len(self.texts) + len(texts) > 150:
                raise ModelError("out of power")
            return super().embed(texts, role)

    place.ingest()
    place.records("r.jsonl", *((f"n{i}", f"Record number {i}.") for i in range(200)))
    place.embedder = Tiring()
    with pytest.raises(ModelError, match="out of power"):
        place.ingest()
    assert place.found("record") == []
    place.embedder = CountingEmbedder()
    report = place.ingest()
    assert (report.version, report.n_added) == (2, 200)
    assert 50 <= report.n_embedded < 200  # what was committed is not embedded again: how much that was depends on the cores


def test_measurement_names_the_stages(place: Workplace) -> None:
    stages = [stage.name for stage in place.ingest().measurement.stages]
    assert stages == ["read", "dedup", "embed", "publish"]
    assert [stage.name for stage in place.ingest().measurement.stages] == ["read"]


def test_file_ingested_by_itself_is_still_removed_with_its_folder(place: Workplace) -> None:
    place.ingest()
    place.ingest(place.folder / "a.md")
    (place.folder / "a.md").unlink()
    assert place.ingest().n_removed == 1


def test_prefix_is_put_before_the_ids_of_records_too(place: Workplace) -> None:
    place.records("r.jsonl", ("one", "A record about plums."))
    place.ingest(prefix="shop")
    assert place.found("plums") == ["shop/one"]


def test_bad_record_is_reported_again_by_the_next_run(place: Workplace) -> None:
    place.write("r.jsonl", '{"_id": "one", "text": "A record about plums."}\nnonsense\n')
    assert codes(place.ingest()) == ["bad_record"]
    report = place.ingest()
    assert (codes(report), report.published, report.n_embedded) == (["bad_record"], False, 0)


def content_of(place: Workplace) -> str:
    """Digest of all that the current version holds."""
    catalog = Catalog(place.settings.data_dir)
    version = catalog.collection("c").version
    catalog.close()
    return verify(folder_of(place.settings.data_dir, "c", version)).content_sha256


def many(place: Workplace) -> None:
    for i in range(12):
        place.write(f"{i % 3}/{i}.md", f"# Number {i}\n\n" + f"Paragraph {i} of some words.\n\n" * (200 if i == 0 else 2))
    place.records("r.jsonl", *((f"r{i}", f"record {i}") for i in range(30)))
    place.write("empty.txt", "")


def test_number_of_processes_does_not_change_what_is_published(place: Workplace, tmp_path: Path) -> None:
    many(place)
    one = place.ingest()
    digest = content_of(place)
    place.settings = replace(place.settings, data_dir=tmp_path / "other", ingest=IngestSettings(workers=3))
    three = place.ingest()
    assert content_of(place) == digest
    assert [(f.path, f.code) for f in three.failed] == [(f.path, f.code) for f in one.failed]


class Interrupted(SilentProgress):
    """Ctrl-C at the n-th step."""

    def __init__(self, at: int) -> None:
        self._left = at

    def advance(self, steps: int = 1) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", [1, 2, 7, 14])
def test_run_after_an_interrupt_publishes_what_an_uninterrupted_one_does(place: Workplace, tmp_path: Path, at: int) -> None:
    many(place)
    place.ingest()
    digest = content_of(place)
    place.settings = replace(place.settings, data_dir=tmp_path / "other", ingest=IngestSettings(workers=2))
    with pytest.raises(KeyboardInterrupt):
        ingest(IngestRequest((place.folder,), "c"), place.settings, place.embedder, Interrupted(at), Meter())
    place.ingest()
    assert content_of(place) == digest


def test_unchanged_folder_starts_no_process(place: Workplace) -> None:
    place.ingest()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    place.ingest()
    assert resource.getrusage(resource.RUSAGE_CHILDREN) == before


def test_cpu_time_of_the_processes_is_charged_to_reading(place: Workplace) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = place.ingest()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (read,) = [stage for stage in report.measurement.stages if stage.name == "read"]
    assert 0 < used_s <= read.cpu_s <= report.measurement.cpu_s


def test_what_a_reading_that_was_given_up_did_not_come_to_stays(place: Workplace) -> None:
    rows = [(f"r{i}", f"word{i} " * 200) for i in range(10)]
    place.records("r.jsonl", *rows)
    place.ingest()
    place.records("r.jsonl", ("r0", "changed"), *rows[1:])
    place.settings = replace(place.settings, ingest=IngestSettings(workers=1, max_output_bytes=8000))
    report = place.ingest()
    assert codes(report) == ["too_large"]
    assert (counts(report), place.found("changed"), place.found("word9")) == ((0, 1, 11, 0), ["r0"], ["r9"])
    place.settings = replace(place.settings, ingest=IngestSettings(workers=1))
    report = place.ingest()
    assert (report.n_parsed, counts(report), report.failed) == (1, (0, 0, 12, 0), ())


def test_file_that_grew_too_large_is_reported_and_what_is_known_of_it_stays(place: Workplace) -> None:
    place.ingest()
    place.write("a.md", "apples " * 1000)
    place.settings = replace(place.settings, ingest=IngestSettings(workers=1, max_file_bytes=100))
    report = place.ingest()
    assert (codes(report), counts(report), place.found("apples")) == (["too_large"], (0, 0, 2, 0), ["a.md"])


# Boilerplate


def write_pages(place: Workplace, n: int) -> None:
    for i in range(n):
        place.write(f"page{i:02}.txt", f"Home | Shop | About\n\nNews number {i} of the day.\n\nImprint and privacy")


def test_boilerplate_is_left_out_and_counted(place: Workplace) -> None:
    write_pages(place, 12)
    report = place.ingest()
    assert (report.n_boilerplate, report.n_chunks) == (2 * 11, 14)
    assert place.found("imprint") == ["page00.txt"]
    assert [hit.chunk.text for hit in place.hits("number 7")][:1] == ["News number 7 of the day."]
    assert not [text for text in place.embedder.texts if "Imprint" in text][1:]


def test_boilerplate_is_the_same_when_nothing_changes(place: Workplace) -> None:
    write_pages(place, 12)
    place.ingest()
    report = place.ingest()
    assert (report.published, report.n_boilerplate) == (False, 2 * 11)


def test_line_becomes_boilerplate_when_enough_documents_have_it(place: Workplace) -> None:
    write_pages(place, 9)
    assert place.ingest().n_boilerplate == 0
    write_pages(place, 10)
    assert place.ingest().n_boilerplate == 2 * 9
    assert place.found("imprint") == ["page00.txt"]


def test_document_that_kept_the_boilerplate_passes_it_on_when_it_goes(place: Workplace) -> None:
    write_pages(place, 12)
    place.ingest()
    (place.folder / "page00.txt").unlink()
    place.ingest()
    assert place.found("imprint") == ["page01.txt"]
