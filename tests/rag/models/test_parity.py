from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from rag.errors import InputError, ModelError
from rag.models.parity import Encode, Encoders, ParityData, builtin_texts, compare, ndcg10, read_beir, sample
from rag.types import Vector
from tests.fakes import HashEmbedder


def words(text: str) -> Vector:
    vector: Vector = HashEmbedder().embed([text])[0]
    return vector


def noisy(share: float) -> Encode:
    """The hash encoder with a fixed vector mixed in: a model that lost something."""
    other = words("something else")

    def encode(text: str) -> Vector:
        mixed = words(text) + np.float32(share) * other
        unit: Vector = mixed / np.linalg.norm(mixed)
        return unit

    return encode


def write_beir(folder: Path, *, gz: bool = False) -> Path:
    corpus = "\n".join(json.dumps({"_id": f"d{i}", "title": "On", "text": f"topic{i}"}) for i in range(3))
    (folder / "qrels").mkdir(parents=True)
    if gz:
        (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(corpus.encode()))
    else:
        (folder / "corpus.jsonl").write_text(corpus)
    queries = [{"_id": "q1", "text": "topic1"}, {"_id": "q2", "text": "topic2"}, {"_id": "unjudged", "text": "topic0"}]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t2\nq2\td0\t0\n")
    return folder


@pytest.mark.parametrize("gz", [False, True])
def test_beir_folder_is_read(tmp_path: Path, gz: bool) -> None:
    data = read_beir(write_beir(tmp_path / "set", gz=gz))
    assert data.name == "set"
    assert data.documents["d0"] == "On topic0"
    assert data.queries == {"q1": "topic1", "q2": "topic2"}
    assert data.judgements == {"q1": {"d1": 1}, "q2": {"d2": 2}}


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_incomplete_folder_is_an_input_error(tmp_path: Path, missing: str) -> None:
    (write_beir(tmp_path / "set") / missing).unlink()
    with pytest.raises(InputError, match="not in BEIR layout"):
        read_beir(tmp_path / "set")


def test_ndcg_is_that_of_a_hand_computed_example() -> None:
    # Cosines order d0, d1, d2; gains 0, 1, 2: (1/log2(3) + 2/log2(4)) / (2/log2(2) + 1/log2(3)) = 1.63093 / 2.63093.
    data = ParityData("t", dict.fromkeys(["d0", "d1", "d2"], ""), {"q": ""}, {"q": {"d1": 1, "d2": 2}})
    documents = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], dtype=np.float32)
    assert ndcg10(data, documents, np.array([[1, 0]], dtype=np.float32)) == pytest.approx(1.63093 / 2.63093, abs=1e-5)


def test_equal_cosines_keep_the_order_of_the_documents() -> None:
    data = ParityData("t", dict.fromkeys(["d0", "d1"], ""), {"q": ""}, {"q": {"d1": 1}})
    same = np.array([[1, 0], [1, 0]], dtype=np.float32)
    assert ndcg10(data, same, same[:1]) == pytest.approx(1 / np.log2(3))


def test_sample_is_even_and_in_order() -> None:
    assert sample(list("abcdefgh"), 4) == ["a", "c", "e", "g"]
    assert sample(["a", "b"], 4) == ["a", "b"]


def test_builtin_texts_are_a_hundred_at_least() -> None:
    texts = list(builtin_texts().documents.values())
    assert len(texts) >= 100
    assert len(set(texts)) == len(texts)
    assert min(len(text.split()) for text in texts) >= 5


def test_compare_measures_cosine_quality_and_cost(tmp_path: Path) -> None:
    data = read_beir(write_beir(tmp_path / "set"))
    parity = compare(Encoders(words, words, noisy(0.1)), [data], prompts=("", ""), count=len)
    assert parity.n_texts == 3
    assert 0.98 < parity.cosine_min <= parity.cosine_mean < 1.0
    assert parity.quality[0].ndcg10_fp32 == 1.0
    assert (parity.quality[0].n_documents, parity.quality[0].n_queries) == (3, 2)
    assert parity.cost.query_tokens == 6.0
    assert parity.cost.document_int8_ms > 0


def test_unfaithful_export_is_refused() -> None:
    with pytest.raises(ModelError, match="exported graph is not the model"):
        compare(Encoders(words, noisy(0.1), words), [], prompts=("", ""), count=len, force=True)


def test_lossy_quantisation_is_refused_unless_forced() -> None:
    encoders = Encoders(words, words, noisy(0.5))
    with pytest.raises(ModelError, match=r"mean cosine 0\.\d+, allowed 0\.98"):
        compare(encoders, [], prompts=("", ""), count=len)
    assert compare(encoders, [], prompts=("", ""), count=len, force=True).cosine_mean < 0.98
