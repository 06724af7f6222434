from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rag.errors import InputError, ModelError
from rag.models.card import CARD_NAME, read_card, write_card
from rag.models.registry import Model, find_model, list_models, sha256_of, verify_model
from rag.tokens import SHIPPED_NAME

LIMIT_BYTES = 25_000_000


@pytest.fixture
def shipped(tmp_path: Path) -> Model:
    return find_model(SHIPPED_NAME, tmp_path / "none")


@pytest.fixture
def added(tmp_path: Path, shipped: Model) -> Model:
    """The shipped model once more, under another name, as if the user had added it."""
    folder = tmp_path / "models" / "mine"
    shutil.copytree(shipped.folder, folder)
    write_card(replace(shipped.card, name="mine"), folder / CARD_NAME)
    return find_model("mine", tmp_path / "models")


def test_shipped_model_is_as_measured(shipped: Model) -> None:
    report = verify_model(shipped)
    assert (report.n_files, report.n_canonical) == (2, 3)
    assert report.max_deviation <= report.tolerance


def test_shipped_model_is_small_free_and_documented(shipped: Model) -> None:
    assert shipped.shipped
    assert shipped.graph_path.stat().st_size < LIMIT_BYTES
    assert shipped.card.licence == "Apache-2.0"
    assert "sentence-transformers/all-MiniLM-L6-v2" in shipped.licence_notice
    for name in ("MODEL_CARD.md", "NOTICE"):
        assert shipped.card.source in (shipped.folder / name).read_text(encoding="utf-8")


def test_shipped_model_lost_no_quality(shipped: Model) -> None:
    assert shipped.card.parity.cosine_mean > 0.99
    assert {quality.data for quality in shipped.card.parity.quality} >= {"xquad-en"}
    for quality in shipped.card.parity.quality:
        # The 95 % interval of the difference on 300 claims is about +-0.01; a lossy recipe (per tensor) moves the cosine first.
        assert abs(quality.ndcg10_int8 - quality.ndcg10_fp32) < 0.01


def test_shipped_files_name_no_path_of_the_machine_that_made_them(shipped: Model) -> None:
    content = shipped.graph_path.read_bytes() + (shipped.folder / CARD_NAME).read_bytes()
    assert not [needle for needle in (b"/home/", b"/root/", b"/tmp/", b"site-packages") if needle in content]


def test_shipped_models_are_listed_first(added: Model) -> None:
    names = [model.card.name for model in list_models(added.folder.parent)]
    assert names == [SHIPPED_NAME, "mine"]


def test_folder_of_models_need_not_exist(tmp_path: Path) -> None:
    assert [model.card.name for model in list_models(tmp_path / "none")] == [SHIPPED_NAME]


def test_half_written_folder_is_not_listed(added: Model) -> None:
    added.folder.rename(added.folder.with_name(".mine-half"))
    assert len(list_models(added.folder.parent)) == 1


def test_unknown_model_is_an_error_that_names_what_there_is(added: Model) -> None:
    with pytest.raises(ModelError, match="'nope'.*there are: all-minilm-l6-v2-int8, mine"):
        find_model("nope", added.folder.parent)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../mine", "a/b", "a\\b", "/etc", ".hidden", "A", "a b", "a\n", "x" * 65, "-x", "x."]
)
def test_name_that_is_not_a_plain_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="is not allowed"):
        find_model(name, tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_altered_byte_is_found_and_its_file_named(added: Model, name: str) -> None:
    path = added.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} is altered.*rag models add"):
        verify_model(find_model("mine", added.folder.parent))


def test_finding_does_not_hash(added: Model) -> None:
    added.graph_path.write_bytes(b"altered")
    assert find_model("mine", added.folder.parent).card == added.card


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_missing_file_is_named(added: Model, name: str) -> None:
    (added.folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        find_model("mine", added.folder.parent)


def test_other_vectors_than_measured_are_found(shipped: Model) -> None:
    first = shipped.card.canonical[0]
    wrong = replace(first, values=(first.values[0] + 0.1, *first.values[1:]))
    card = replace(shipped.card, canonical=(wrong, *shipped.card.canonical[1:]))
    with pytest.raises(ModelError, match="a canonical component differs by 0.1"):
        verify_model(replace(shipped, card=card))


def test_canonical_vector_without_values_proves_nothing(shipped: Model) -> None:
    card = replace(shipped.card, canonical=(replace(shipped.card.canonical[0], values=()),))
    with pytest.raises(ModelError, match="differs by inf"):
        verify_model(replace(shipped, card=card))


def test_card_survives_writing_and_reading(shipped: Model, tmp_path: Path) -> None:
    write_card(shipped.card, tmp_path / CARD_NAME)
    assert read_card(tmp_path / CARD_NAME) == shipped.card
    assert sha256_of(tmp_path / CARD_NAME) == sha256_of(shipped.folder / CARD_NAME)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format 2; this version reads 1"),
        ({"dim": "384"}, "dim is '384', expected int"),
        ({"dim": True}, "dim is True, expected int"),
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"extra": 1}, "does not know extra"),
        ({"parity": {}}, "lacks or does not know cosine_mean"),
        ({"canonical": [{"text": "a", "values": ["x"]}]}, "values is 'x'"),
        ({"max_tokens": 128}, "it was edited"),
        ({"id": "other"}, "it was edited"),
    ],
)
def test_damaged_card_says_what_is_wrong(shipped: Model, tmp_path: Path, change: dict[str, object], said: str) -> None:
    tree = json.loads((shipped.folder / CARD_NAME).read_text(encoding="utf-8"))
    (tmp_path / CARD_NAME).write_text(json.dumps(tree | change), encoding="utf-8")
    with pytest.raises(ModelError, match=said):
        read_card(tmp_path / CARD_NAME)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_card_that_is_no_card_is_a_model_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CARD_NAME).write_bytes(content)
    with pytest.raises(ModelError, match=r"card\.json"):
        read_card(tmp_path / CARD_NAME)


def test_card_of_another_name_is_refused(added: Model) -> None:
    added.folder.rename(added.folder.with_name("yours"))
    with pytest.raises(ModelError, match="is of 'mine', not of 'yours'"):
        find_model("yours", added.folder.parent)
