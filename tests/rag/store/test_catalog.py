from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from rag.errors import InputError, SnapshotError
from rag.store.catalog import MAX_TAG_CHARS, Catalog, SourceRow, tags_of
from rag.store.rows import DuplicateRow, TrimRow
from rag.store.schema import BLOCK_CHARS
from rag.types import Chunk, Document, Span

C = "c"


def document(doc_id: str = "a.txt", text: str = "Some text.", **metadata: str) -> Document:
    return Document(doc_id, f"file:{doc_id}", "", text, (), metadata)


def span(start: int, end: int) -> Span:
    return Span(start, end, (), None, None, 5)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A catalog with the collection ``c``, of which nothing is published yet."""
    opened = Catalog(tmp_path / "data", create=True)
    opened.begin(C, "e", 4)
    yield opened
    opened.close()


def put(catalog: Catalog, version: int, one: Document, path: str = "/docs/a") -> None:
    catalog.put_document(C, version, path, one, [span(0, len(one.text))] if one.text else [], f"print of {one.text}")


def published(catalog: Catalog, version: int) -> None:
    catalog.commit_version(C, version, "e", 4)


def doc_ids(catalog: Catalog, version: int) -> list[str]:
    return [row.doc_id for row in catalog.view(C, version).documents()]


# Chunks


def only_chunk(catalog: Catalog, version: int = 1) -> Chunk:
    (number,) = [chunk.chunk_no for chunk in catalog.view(C, version).live_chunks()]
    return catalog.view(C, version).chunks([number])[0]


def put_menu(catalog: Catalog) -> int:
    """A document whose first and last line are boilerplate; the number of its chunk."""
    one = document(text="Menu\nRed apples.\nImprint")
    where = Span(0, len(one.text), ("Fruit",), 2, 7, 9)
    catalog.put_document(C, 1, "/docs/a", one, [where], "print")
    (chunk,) = catalog.view(C, 1).live_chunks()
    return chunk.chunk_no


def trimmed(number: int, start: int = 5, end: int = 16, *, n_blocks: int = 2) -> TrimRow:
    return TrimRow(number, start, end, 1, n_blocks, 4, b"d" * 16)


def test_place_and_flags_are_kept(catalog: Catalog) -> None:
    one = document()
    where = Span(0, 4, (), None, None, 5, "rows 12-40", ("hidden", "instructions"))
    catalog.put_document(C, 1, "/docs/a", one, [where], "print")
    source = only_chunk(catalog).source
    assert (source.place, source.flags) == ("rows 12-40", ("hidden", "instructions"))


def test_chunk_without_place_and_flags_has_none(catalog: Catalog) -> None:
    put(catalog, 1, document())
    assert (only_chunk(catalog).source.place, only_chunk(catalog).source.flags) == ("", ())


def test_trimmed_chunk_shows_what_is_left_and_where(catalog: Catalog) -> None:
    catalog.put_trims(C, 1, [trimmed(put_menu(catalog))])
    chunk = only_chunk(catalog)
    assert (chunk.text, chunk.source.start_char, chunk.source.end_char) == ("Red apples.", 5, 16)
    assert (chunk.source.line, chunk.source.page, chunk.source.headings, chunk.n_tokens) == (8, 2, ("Fruit",), 4)
    assert catalog.view(C, 1).digests(without=set()) == {b"d" * 16}
    assert [one.text for one in catalog.view(C, 1).live_chunks()] == ["Red apples."]
    assert [one.text for one in catalog.view(C, 1).live_chunks(whole=True)] == ["Menu\nRed apples.\nImprint"]


def test_chunk_of_which_nothing_is_left_is_left_out(catalog: Catalog) -> None:
    number = put_menu(catalog)
    catalog.put_trims(C, 1, [TrimRow(number, 0, 0, 0, 3, 0, b"")])
    view = catalog.view(C, 1)
    assert list(view.live_chunks()) == []
    assert view.digests(without=set()) == set()
    assert (view.counts().n_chunks, view.counts().n_documents, view.counts().n_boilerplate) == (0, 1, 3)
    assert [row.n_chunks for row in view.documents()] == [0]


def test_trim_lives_from_its_version_on(catalog: Catalog) -> None:
    number = put_menu(catalog)
    catalog.put_trims(C, 2, [trimmed(number)])
    catalog.put_trims(C, 4, [])
    texts = [only_chunk(catalog, version).text.count("Menu") for version in (1, 2, 3, 4)]
    assert texts == [1, 0, 0, 1]


def test_same_trim_keeps_its_row(catalog: Catalog) -> None:
    number = put_menu(catalog)
    catalog.put_trims(C, 1, [trimmed(number)])
    catalog.put_trims(C, 2, [trimmed(number)])
    assert catalog._db.execute("SELECT born, died FROM trim").fetchall() == [(1, None)]


def test_content_digest_covers_what_is_trimmed(catalog: Catalog) -> None:
    number = put_menu(catalog)
    before = catalog.view(C, 1).content_sha256()
    catalog.put_trims(C, 2, [trimmed(number)])
    assert catalog.view(C, 1).content_sha256() == before
    assert catalog.view(C, 2).content_sha256() != before


def test_trims_of_an_interrupted_writer_are_undone(catalog: Catalog) -> None:
    number = put_menu(catalog)
    catalog.put_trims(C, 1, [trimmed(number)])
    published(catalog, 1)
    catalog.put_trims(C, 2, [trimmed(number, end=8)])
    catalog.begin(C, "e", 4)
    assert catalog.view(C, 2).trims() == {number: trimmed(number)}


def test_trims_that_no_version_sees_are_forgotten(catalog: Catalog) -> None:
    number = put_menu(catalog)
    catalog.put_trims(C, 1, [trimmed(number)])
    catalog.put_trims(C, 2, [])
    catalog.forget_before(C, 2)
    assert catalog._db.execute("SELECT count(*) FROM trim").fetchone() == (0,)


def test_vector_of_what_is_left_of_a_chunk_is_kept(catalog: Catalog) -> None:
    catalog.put_trims(C, 1, [trimmed(put_menu(catalog))])
    catalog.vectors("e").put([b"d" * 16, b"x" * 16], np.eye(2, 4, dtype=np.float32))
    catalog.forget_before(C, 1)
    assert catalog.vectors("e").missing([b"d" * 16, b"x" * 16]) == {b"x" * 16}


def test_trims_go_with_their_document(catalog: Catalog) -> None:
    catalog.put_trims(C, 1, [trimmed(put_menu(catalog))])
    catalog.remove_document(C, 1, "a.txt")
    assert catalog._db.execute("SELECT count(*) FROM trim").fetchone() == (0,)


# Transactions


def test_failed_transaction_leaves_nothing(catalog: Catalog) -> None:
    with suppress(RuntimeError), catalog.transaction():
        put(catalog, 1, document())
        raise RuntimeError
    assert doc_ids(catalog, 1) == []


def test_inner_transaction_belongs_to_the_outer_one(catalog: Catalog) -> None:
    with suppress(RuntimeError), catalog.transaction():
        with catalog.transaction():
            put(catalog, 1, document())
        raise RuntimeError
    assert doc_ids(catalog, 1) == []


def test_reader_sees_a_transaction_when_it_is_done(catalog: Catalog, tmp_path: Path) -> None:
    reader = Catalog(tmp_path / "data")
    with catalog.transaction():
        put(catalog, 1, document())
        assert doc_ids(reader, 1) == []
    assert doc_ids(reader, 1) == ["a.txt"]
    reader.close()


# Collections


def test_collection_without_a_version_is_unknown_to_readers(catalog: Catalog) -> None:
    with pytest.raises(InputError, match="there is: none yet") as caught:
        catalog.collection(C)
    assert caught.value.code == "unknown_collection"


def test_unknown_collection_is_answered_with_the_known_ones(catalog: Catalog) -> None:
    published(catalog, 1)
    with pytest.raises(InputError, match="no collection 'd'; there is: c"):
        catalog.collection("d")


def test_committed_version_is_current(catalog: Catalog) -> None:
    catalog.commit_version(C, 3, "other", 8)
    row = catalog.collection(C)
    assert (row.version, row.embedder, row.dim) == (3, "other", 8)


def test_beginning_does_not_change_a_published_collection(catalog: Catalog) -> None:
    published(catalog, 1)
    row = catalog.begin(C, "other", 8)
    assert (row, catalog.collection(C)) == (row, row)
    assert (row.embedder, row.dim) == ("e", 4)


def test_collections_do_not_see_each_other(catalog: Catalog) -> None:
    put(catalog, 1, document())
    catalog.begin("d", "e", 4)
    assert catalog.view("d", 1).documents() == []
    assert catalog.owner_of("d", 1, "a.txt") is None


# Versions


def test_document_lives_from_its_birth_until_its_death(catalog: Catalog) -> None:
    put(catalog, 2, document())
    catalog.remove_document(C, 4, "a.txt")
    assert [doc_ids(catalog, version) for version in (1, 2, 3, 4, 5)] == [[], ["a.txt"], ["a.txt"], [], []]


def test_replaced_document_shows_each_version_its_own_text(catalog: Catalog) -> None:
    put(catalog, 1, document(text="old"))
    catalog.remove_document(C, 2, "a.txt")
    put(catalog, 2, document(text="new"))
    assert [catalog.view(C, version).document_text("a.txt") for version in (1, 2)] == ["old", "new"]


def test_document_removed_in_the_version_of_its_birth_was_never_there(catalog: Catalog) -> None:
    put(catalog, 1, document())
    catalog.remove_document(C, 1, "a.txt")
    assert [doc_ids(catalog, version) for version in (1, 2)] == [[], []]


def test_interrupted_writer_is_undone_by_the_next(catalog: Catalog) -> None:
    put(catalog, 1, document("kept.txt"))
    put(catalog, 1, document("also.txt", "Some other text."))
    catalog.put_source(C, 1, SourceRow("/docs/kept.txt", "1"))
    first, second = (chunk.chunk_no for chunk in catalog.view(C, 1).live_chunks())
    catalog.put_duplicates(C, 1, [DuplicateRow(second, first, 1.0)])
    published(catalog, 1)
    before = catalog.view(C, 1)
    truth = (before.documents(), before.duplicates(), catalog.sources(C, 1), before.content_sha256())
    catalog.remove_document(C, 2, "kept.txt")
    catalog.remove_source(C, 2, "/docs/kept.txt")
    put(catalog, 2, document("new.txt", "Something new."))
    catalog.put_source(C, 2, SourceRow("/docs/new.txt", "2"))
    catalog.put_duplicates(C, 2, [])
    catalog.begin(C, "e", 4)
    for version in (1, 2):
        view = catalog.view(C, version)
        assert (view.documents(), view.duplicates(), catalog.sources(C, version), view.content_sha256()) == truth


def test_versions_that_are_kept_lose_nothing_when_others_are_forgotten(catalog: Catalog) -> None:
    for version, text in ((1, "one"), (2, "two"), (3, "three")):
        catalog.remove_document(C, version, "a.txt")
        put(catalog, version, document(text=text))
    catalog.forget_before(C, 2)
    assert doc_ids(catalog, 1) == []
    assert [catalog.view(C, version).document_text("a.txt") for version in (2, 3)] == ["two", "three"]


def test_forgotten_document_leaves_nothing_behind(catalog: Catalog) -> None:
    put(catalog, 1, document(team="red"))
    catalog.remove_document(C, 2, "a.txt")
    catalog.forget_before(C, 2)
    tables = "document chunk tag text_block".split()
    assert [catalog._db.execute(f"SELECT count(*) FROM {table}").fetchone() for table in tables] == [(0,)] * 4


def test_same_duplicate_keeps_its_row(catalog: Catalog) -> None:
    for name in ("a", "b", "c"):
        put(catalog, 1, document(name))
    one, two, three = (chunk.chunk_no for chunk in catalog.view(C, 1).live_chunks())
    catalog.put_duplicates(C, 1, [DuplicateRow(two, one, 1.0), DuplicateRow(three, one, 0.9)])
    catalog.put_duplicates(C, 2, [DuplicateRow(two, one, 1.0)])
    assert [[row.chunk_no for row in catalog.view(C, version).duplicates()] for version in (1, 2)] == [[two, three], [two]]
    assert catalog._db.execute("SELECT count(*) FROM duplicate").fetchone() == (2,)


def test_content_digest_is_of_the_documents_and_not_of_their_order(catalog: Catalog) -> None:
    put(catalog, 1, document("a", "one"))
    put(catalog, 1, document("b", "two"))
    catalog.begin("d", "e", 4)
    for one in (document("b", "two"), document("a", "one")):
        catalog.put_document("d", 7, "/elsewhere", one, [], f"print of {one.text}")
    assert catalog.view(C, 1).content_sha256() == catalog.view("d", 7).content_sha256()
    assert catalog.view(C, 1).content_sha256() != catalog.view(C, 2).content_sha256() or doc_ids(catalog, 2)


# Sources


def test_source_is_known_from_the_version_that_read_it(catalog: Catalog) -> None:
    row = SourceRow("/docs/a", "1")
    catalog.put_source(C, 2, row)
    assert [catalog.sources(C, version) for version in (1, 2, 3)] == [{}, {"/docs/a": row}, {"/docs/a": row}]


def test_unchanged_source_is_corrected_in_place(catalog: Catalog) -> None:
    catalog.put_source(C, 1, SourceRow("/docs/a", "1"))
    catalog.record_source(C, 2, SourceRow("/docs/a", "2"), changed=False)
    assert [catalog.sources(C, version)["/docs/a"].fingerprint for version in (1, 2)] == ["2", "2"]


def test_changed_source_is_recorded_for_the_next_version(catalog: Catalog) -> None:
    catalog.put_source(C, 1, SourceRow("/docs/a", "1"))
    catalog.record_source(C, 2, SourceRow("/docs/a", "2"), changed=True)
    assert [catalog.sources(C, version)["/docs/a"].fingerprint for version in (1, 2)] == ["1", "2"]


def test_owner_of_a_document_is_its_file(catalog: Catalog) -> None:
    put(catalog, 1, document(), path="/docs/a")
    assert catalog.owner_of(C, 1, "a.txt") == "/docs/a"
    assert catalog.documents_of(C, 1, "/docs/a") == {"a.txt": "print of Some text."}


# Text


@pytest.mark.parametrize("n_chars", [0, 1, BLOCK_CHARS - 1, BLOCK_CHARS, BLOCK_CHARS + 1, 3 * BLOCK_CHARS + 17])
def test_text_of_any_length_comes_back(catalog: Catalog, n_chars: int) -> None:
    text = ("aß東\U0001f600\n" * n_chars)[:n_chars]
    put(catalog, 1, document(text=text))
    assert catalog.view(C, 1).document_text("a.txt") == text


def test_chunks_are_read_across_blocks(catalog: Catalog) -> None:
    text = "".join(chr(0x4E00 + i % 20_000) for i in range(3 * BLOCK_CHARS + 100))
    places = [
        (0, 10),
        (BLOCK_CHARS - 5, BLOCK_CHARS + 5),
        (BLOCK_CHARS - 1, BLOCK_CHARS),
        (BLOCK_CHARS, 3 * BLOCK_CHARS),
        (49_200, len(text)),
    ]
    catalog.put_document(C, 1, "/p", document(text=text), [span(*place) for place in places], "f")
    view = catalog.view(C, 1)
    live = list(view.live_chunks())
    expected = sorted(text[start:end] for start, end in places)
    assert sorted(chunk.text for chunk in live) == expected
    assert sorted(chunk.text for chunk in view.chunks([chunk.chunk_no for chunk in live])) == expected


def test_damaged_text_is_reported(catalog: Catalog) -> None:
    put(catalog, 1, document())
    catalog._db.execute("UPDATE text_block SET data = x'00112233'")
    with pytest.raises(SnapshotError) as caught:
        catalog.view(C, 1).document_text("a.txt")
    assert caught.value.code == "catalog"


@pytest.mark.parametrize("change", ["metadata = '{'", "metadata = x'ff'"])
def test_damaged_metadata_are_reported(catalog: Catalog, change: str) -> None:
    put(catalog, 1, document())
    catalog._db.execute(f"UPDATE document SET {change}")
    view = catalog.view(C, 1)
    with pytest.raises(SnapshotError) as caught:
        view.chunks([chunk.chunk_no for chunk in view.live_chunks()])
    assert caught.value.code == "catalog"


def test_chunk_that_the_catalog_does_not_know_is_damage(catalog: Catalog) -> None:
    with pytest.raises(SnapshotError, match="rag repair") as caught:
        catalog.view(C, 1).chunks([17])
    assert caught.value.code == "mismatch"


def test_unknown_document_is_refused_with_the_way_to_the_known_ones(catalog: Catalog) -> None:
    with pytest.raises(InputError, match="rag status --documents") as caught:
        catalog.view(C, 1).document_text("a.txt")
    assert caught.value.code == "unknown_document"


# Labels


def test_labels_are_metadata_and_kind_in_order() -> None:
    assert tags_of(document(team="red", lang="de")) == [("kind", "text"), ("lang", "de"), ("team", "red")]


def test_metadata_may_say_the_kind() -> None:
    assert tags_of(document(kind="contract")) == [("kind", "contract")]


def test_prose_is_no_label() -> None:
    tags = dict(tags_of(document(short="x" * MAX_TAG_CHARS, long="x" * (MAX_TAG_CHARS + 1))))
    assert set(tags) == {"kind", "short"}


def test_metadata_cannot_pose_as_the_document_id() -> None:
    one = Document("a.txt", "", "", "text", (), {"doc_id": "b.txt"})
    assert tags_of(one) == [("kind", "text")]


def test_unknown_filter_key_is_answered_with_the_known_ones(catalog: Catalog) -> None:
    put(catalog, 1, document(team="red"))
    with pytest.raises(InputError, match="doc_id, kind, team") as caught:
        catalog.view(C, 1).matching_chunks({"Team": frozenset(["red"])})
    assert caught.value.code == "unknown_key"


def test_filter_key_of_another_version_is_unknown(catalog: Catalog) -> None:
    put(catalog, 1, document(team="red"))
    catalog.remove_document(C, 2, "a.txt")
    with pytest.raises(InputError):
        catalog.view(C, 2).matching_chunks({"team": frozenset(["red"])})
