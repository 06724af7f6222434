from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from eval.datasets import EvalQuery, Record, load_beir
from rag.errors import InputError

CORPUS = '{"_id": "d1", "title": "One", "text": "first"}\n{"_id": "d2", "text": "second\\u2028line"}\n'
QUERIES = (
    '{"_id": "q1", "text": "which?", "metadata": {"answers": ["first", "1st"]}}\n'
    '{"_id": "q2", "text": "not judged"}\n\n{"_id": "q3", "text": "who?", "metadata": {}}\n'
)
QRELS = "query-id\tcorpus-id\tscore\nq3\td1\t0\nq1\td1\t2\nq1\td2\t1\n"


def write(folder: Path, corpus: str = CORPUS, queries: str = QUERIES, qrels: str = QRELS) -> Path:
    (folder / "qrels").mkdir()
    (folder / "corpus.jsonl").write_text(corpus, encoding="utf-8")
    (folder / "queries.jsonl").write_text(queries, encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text(qrels, encoding="utf-8")
    return folder


def test_corpus_is_read_in_order_with_missing_titles_empty(tmp_path: Path) -> None:
    dataset = load_beir(write(tmp_path))
    assert dataset.corpus == (Record("d1", "One", "first"), Record("d2", "", "second\u2028line"))


def test_only_judged_queries_are_kept_in_the_order_of_their_file(tmp_path: Path) -> None:
    dataset = load_beir(write(tmp_path))
    assert dataset.queries == (
        EvalQuery("q1", "which?", ("first", "1st"), group="d1", slice="which", answerable=True),
        EvalQuery("q3", "who?", (), group="q3", slice="who", answerable=None),
    )


def test_query_belongs_to_the_group_of_its_first_relevant_document(tmp_path: Path) -> None:
    dataset = load_beir(write(tmp_path, qrels=QRELS.replace("q1\td1\t2", "q1\td1\t0")))
    assert [query.group for query in dataset.queries] == ["d2", "q3"]


def test_judgements_keep_their_grades(tmp_path: Path) -> None:
    assert load_beir(write(tmp_path)).qrels == {"q1": {"d1": 2, "d2": 1}, "q3": {"d1": 0}}


def test_judgements_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        load_beir(write(tmp_path)).qrels["q1"]["d1"] = 3  # type: ignore[index]


def test_data_set_is_named_by_its_folder(tmp_path: Path) -> None:
    assert load_beir(write(tmp_path)).name == tmp_path.name


def test_compressed_corpus_gives_the_same_data_set(tmp_path: Path) -> None:
    plain = load_beir(write(tmp_path))
    (tmp_path / "corpus.jsonl").rename(tmp_path / "moved")
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress((tmp_path / "moved").read_bytes()))
    assert load_beir(tmp_path) == plain


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_checksum_follows_every_file(tmp_path: Path, name: str) -> None:
    before = load_beir(write(tmp_path)).checksum
    path = tmp_path / name
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert load_beir(tmp_path).checksum != before


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_missing_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).unlink()
    with pytest.raises(InputError, match=rf"{name}(\.gz)? is missing; a data set folder holds"):
        load_beir(tmp_path)


def test_truncated_compressed_corpus_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "corpus.jsonl").unlink()
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(CORPUS.encode())[:-12])
    with pytest.raises(InputError, match=r"corpus\.jsonl\.gz cannot be read"):
        load_beir(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"corpus\.jsonl, line 3 is not valid JSON"),
        ("[" * 100_000, "line 3 is not valid JSON"),
        ("[1]", "line 3 is list; expected a JSON object"),
        ('{"_id": 7, "text": "x"}', "line 3: '_id' is 7; expected a string"),
        ('{"_id": "d3"}', "line 3: 'text' is None; expected a string"),
        ('{"_id": "d1", "text": "x"}', "line 3 has _id 'd1' for the second time"),
    ],
)
def test_malformed_corpus_line_is_refused_with_its_number(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_beir(write(tmp_path, corpus=CORPUS + line + "\n"))


@pytest.mark.parametrize("metadata", ["x", {"answers": "x"}, {"answers": [1]}])
def test_malformed_answers_are_refused(tmp_path: Path, metadata: object) -> None:
    line = json.dumps({"_id": "q9", "text": "x", "metadata": metadata})
    with pytest.raises(InputError, match=r"line 5: 'metadata' is .*expected an object whose answers are a list of strings"):
        load_beir(write(tmp_path, queries=QUERIES + line + "\n"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1 d1 1", "line 5 is 'q1 d1 1'; expected query-id, corpus-id and a whole number"),
        ("q1\td1\t-1", "expected query-id, corpus-id and a whole number of 0 or more"),
        ("q1\td1\t1", "judges query 'q1' and document 'd1' a second time"),
        ("q7\td1\t1", r"judges query 'q7', which is not in queries\.jsonl"),
        ("q1\td7\t1", "judges document 'd7', which is not in the corpus"),
    ],
)
def test_malformed_judgement_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_beir(write(tmp_path, qrels=QRELS + line + "\n"))


def test_judgements_without_a_heading_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 1 is .*expected the heading"):
        load_beir(write(tmp_path, qrels="q1\td1\t1\n"))


def test_no_judgements_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no judgements"):
        load_beir(write(tmp_path, qrels="query-id\tcorpus-id\tscore\n"))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "queries.jsonl").write_bytes(b'{"_id": "q1", "text": "\xff"}\n')
    with pytest.raises(InputError, match=r"queries\.jsonl, line 1 is not UTF-8"):
        load_beir(tmp_path)


@pytest.mark.parametrize(
    ("name", "n_documents", "n_queries", "n_judgements", "has_answers"),
    [("scifact", 5183, 300, 339, False), ("xquad-en", 240, 1190, 1190, True)],
)
def test_published_data_sets_are_read_whole(
    data_dir: Path, name: str, n_documents: int, n_queries: int, n_judgements: int, has_answers: bool
) -> None:
    dataset = load_beir(data_dir / name)
    assert (len(dataset.corpus), len(dataset.queries)) == (n_documents, n_queries)
    assert sum(len(grades) for grades in dataset.qrels.values()) == n_judgements
    assert all(bool(query.answers) is has_answers for query in dataset.queries)
