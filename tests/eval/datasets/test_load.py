from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.datasets import load
from eval.suite import DataSpec
from rag.errors import InputError

QUESTION = '{"id": "1", "question": "How long is it?", "relevant": ["a.md"]}\n'


def write_beir(folder: Path, n: int = 10) -> Path:
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text("".join(f'{{"_id": "d{i}", "text": "t{i}"}}\n' for i in range(n)), encoding="utf-8")
    (folder / "queries.jsonl").write_text("".join(f'{{"_id": "q{i}", "text": "?"}}\n' for i in range(n)), encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text("q\td\ts\n" + "".join(f"q{i}\td{i}\t1\n" for i in range(n)), encoding="utf-8")
    return folder


def write_questions(folder: Path) -> Path:
    (folder / "docs" / "deep").mkdir(parents=True)
    (folder / "docs" / "a.md").write_text("412 metres", encoding="utf-8")
    (folder / "docs" / "deep" / "b.md").write_text("nothing", encoding="utf-8")
    (folder / "set.jsonl").write_text(QUESTION, encoding="utf-8")
    return folder


MINE = DataSpec("mine", "set.jsonl", "jsonl", documents="docs")


def test_path_is_looked_for_in_every_root_in_order(tmp_path: Path) -> None:
    write_beir(tmp_path / "second" / "set", 2)
    write_beir(tmp_path / "third" / "set", 3)
    dataset = load(DataSpec("mine", "set"), [tmp_path / "first", tmp_path / "second", tmp_path / "third"])
    assert (dataset.name, len(dataset.queries)) == ("mine", 2)


def test_path_that_is_nowhere_is_refused_with_all_places(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"data set 'mine': path is 'set', and there is no {tmp_path}/a/set nor {tmp_path}/b/set"):
        load(DataSpec("mine", "set"), [tmp_path / "a", tmp_path / "b"])


def test_missing_documents_are_refused_with_all_places(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text(QUESTION, encoding="utf-8")
    with pytest.raises(InputError, match=rf"documents is 'docs', and there is no {tmp_path}/docs"):
        load(MINE, [tmp_path])


def test_squad_is_read_by_its_format(tmp_path: Path) -> None:
    answers = [{"text": "b", "answer_start": 2}]
    paragraph = {"context": "a b", "qas": [{"id": "1", "question": "?", "answers": answers}]}
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"title": "T", "paragraphs": [paragraph]}]}), encoding="utf-8")
    assert load(DataSpec("mine", "dev.json", "squad"), [tmp_path]).corpus[0].doc_id == "T/1"


def test_checksum_of_the_files_is_accepted_whatever_is_drawn(tmp_path: Path) -> None:
    write_beir(tmp_path / "set")
    checksum = load(DataSpec("mine", "set"), [tmp_path]).checksum
    assert load(DataSpec("mine", "set", checksum=checksum, limit=3, hide=0.4), [tmp_path], seed=5).checksum == checksum


def test_other_checksum_is_refused_with_both(tmp_path: Path) -> None:
    write_beir(tmp_path / "set")
    with pytest.raises(InputError, match="its files have the checksum [0-9a-f]{64}; expected abc; fetch"):
        load(DataSpec("mine", "set", checksum="abc"), [tmp_path])


def test_hiding_is_among_the_questions_drawn(tmp_path: Path) -> None:
    write_beir(tmp_path / "set")
    dataset = load(DataSpec("mine", "set", limit=4, hide=0.5), [tmp_path])
    assert sum(query.answerable is False for query in dataset.queries) == 2
    assert (len(dataset.queries), len(dataset.corpus)) == (4, 8)


def test_documents_beside_questions_are_named_and_not_read(tmp_path: Path) -> None:
    dataset = load(MINE, [write_questions(tmp_path)])
    assert (dataset.documents, dataset.collection, dataset.corpus) == (tmp_path / "docs", "", ())


@pytest.mark.parametrize("name", ["set.jsonl", "docs/a.md", "docs/deep/b.md"])
def test_checksum_follows_questions_and_documents(tmp_path: Path, name: str) -> None:
    before = load(MINE, [write_questions(tmp_path)]).checksum
    (tmp_path / name).write_text(QUESTION.replace("long", "tall"), encoding="utf-8")
    assert load(MINE, [tmp_path]).checksum != before


def test_checksum_follows_the_names_of_documents(tmp_path: Path) -> None:
    before = load(MINE, [write_questions(tmp_path)]).checksum
    (tmp_path / "docs" / "a.md").rename(tmp_path / "docs" / "c.md")
    assert load(MINE, [tmp_path]).checksum != before


def test_checksum_does_not_follow_the_place_of_the_folder(tmp_path: Path) -> None:
    write_questions(tmp_path / "one")
    write_questions(tmp_path / "two")
    assert load(MINE, [tmp_path / "one"]).checksum == load(MINE, [tmp_path / "two"]).checksum


def test_single_file_may_be_the_documents(tmp_path: Path) -> None:
    write_questions(tmp_path)
    spec = DataSpec("mine", "set.jsonl", "jsonl", documents="docs/a.md")
    assert load(spec, [tmp_path]).documents == tmp_path / "docs" / "a.md"


def test_empty_folder_of_documents_is_refused(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "set.jsonl").write_text(QUESTION, encoding="utf-8")
    with pytest.raises(InputError, match="documents .*docs holds no file"):
        load(MINE, [tmp_path])


def test_existing_collection_may_be_asked(tmp_path: Path) -> None:
    write_questions(tmp_path)
    assert load(DataSpec("mine", "set.jsonl", "jsonl", collection="notes"), [tmp_path]).collection == "notes"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (DataSpec("mine", "set.jsonl", "jsonl"), "it has neither documents nor collection"),
        (DataSpec("mine", "set.jsonl", "jsonl", documents="docs", collection="notes"), "it has both documents and collection"),
        (DataSpec("mine", "set.jsonl", "beir", documents="docs"), "documents is 'docs', but a set in beir format brings its own"),
        (
            DataSpec("mine", "set.jsonl", "jsonl", collection="notes", hide=0.1),
            "hide is 0.1, and documents can be hidden only where",
        ),
        (DataSpec("mine", "set.jsonl", "jsonl", documents="docs", hide=0.1), "hide is 0.1, and documents can be hidden only where"),
        (DataSpec("mine", "set", "beir", collection="notes", hide=0.1), "hide is 0.1, and documents can be hidden only where"),
    ],
)
def test_contradiction_is_refused(tmp_path: Path, spec: DataSpec, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(spec, [write_questions(tmp_path)])


def test_published_data_set_can_be_drawn_and_hidden(data_dir: Path) -> None:
    dataset = load(DataSpec("xquad", "xquad-en", limit=100, hide=0.2), [data_dir], seed=1)
    assert (len(dataset.queries), sum(query.answerable is False for query in dataset.queries)) == (100, 20)
    assert len(dataset.corpus) == 240 - len(dataset.hidden)
