from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from rag.errors import InputError, ModelError
from rag.models.gguf import GGUF_DIR, add_gguf, find_gguf, gguf_names, list_gguf, verify_gguf
from rag.models.registry import list_models, sha256_of
from tests.rag.models.test_gguf_header import ARCHITECTURE, DATA, HEADER, gguf


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "Small.gguf"
    path.write_bytes(gguf())
    return path


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_added_model_is_found_by_its_name(source: Path, models_dir: Path) -> None:
    added = add_gguf(source, "small", models_dir)
    assert added == find_gguf("small", models_dir)
    assert (added.name, added.source, added.header) == ("small", "Small.gguf", HEADER)
    assert (added.size_bytes, added.fingerprint) == (len(gguf()), sha256_of(source))
    assert added.id == f"small@{added.fingerprint[:12]}"
    assert added.path.read_bytes() == gguf()


def test_nothing_else_is_left_beside_an_added_model(source: Path, models_dir: Path) -> None:
    folder = add_gguf(source, "small", models_dir).path.parent
    assert [path.name for path in folder.parent.iterdir()] == ["small"]
    assert {path.name for path in folder.iterdir()} == {"model.gguf", "card.json"}


def test_model_on_another_file_system_is_copied(source: Path) -> None:
    if not Path("/dev/shm").is_dir() or os.stat("/dev/shm").st_dev == source.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        model = add_gguf(source, "small", Path(folder))
        assert not model.path.samefile(source)
        verify_gguf(model)


def test_link_is_followed_and_keeps_its_name(source: Path, models_dir: Path) -> None:
    link = source.with_name("blob.gguf")
    link.symlink_to(source.name)
    model = add_gguf(link, "small", models_dir)
    source.unlink()
    assert model.source == "blob.gguf"
    verify_gguf(model)


def test_name_of_a_file_that_is_no_text_is_kept_printable(source: Path, models_dir: Path) -> None:
    odd = source.rename(source.parent / os.fsdecode(b"a\xff\n.gguf"))
    assert add_gguf(odd, "small", models_dir).source == "a\N{REPLACEMENT CHARACTER} .gguf"


def test_file_that_is_written_in_place_later_does_not_change_the_model(source: Path, models_dir: Path) -> None:
    model = add_gguf(source, "small", models_dir)
    with source.open("r+b") as file:
        file.write(b"broken")
    verify_gguf(model)
    assert source.read_bytes().startswith(b"broken")
    assert model.path.read_bytes() == gguf()


def test_taken_name_is_refused_unless_replaced(source: Path, models_dir: Path) -> None:
    add_gguf(source, "small", models_dir)
    source.write_bytes(gguf([ARCHITECTURE]))
    with pytest.raises(ModelError, match="--replace") as caught:
        add_gguf(source, "small", models_dir)
    assert caught.value.code == "model_exists"
    assert find_gguf("small", models_dir).header == HEADER
    assert add_gguf(source, "small", models_dir, replace=True).header.context_length == 0
    assert [path.name for path in (models_dir / GGUF_DIR).iterdir()] == ["small"]


def test_bad_file_does_not_replace_a_good_one(source: Path, models_dir: Path) -> None:
    add_gguf(source, "small", models_dir)
    bad = source.with_name("bad.gguf")
    bad.write_bytes(gguf()[:-1])
    with pytest.raises(ModelError):
        add_gguf(bad, "small", models_dir, replace=True)
    verify_gguf(find_gguf("small", models_dir))


def test_model_may_be_replaced_by_itself(source: Path, models_dir: Path) -> None:
    model = add_gguf(source, "small", models_dir)
    again = add_gguf(model.path, "small", models_dir, replace=True)
    verify_gguf(again)
    assert again.source == "model.gguf"


def test_folder_that_cannot_be_written_is_a_model_error(source: Path) -> None:
    with pytest.raises(ModelError, match="cannot be kept") as caught:
        add_gguf(source, "small", source)
    assert caught.value.code == "model_not_saved"


@pytest.mark.parametrize("name", ["", "../x", "A", "x.gguf"])
def test_bad_name_is_refused(source: Path, models_dir: Path, name: str) -> None:
    with pytest.raises(InputError, match="model name"):
        add_gguf(source, name, models_dir)


@pytest.mark.parametrize("name", ["nope", "", "..", "Small Model", "gguf"])
def test_missing_model_is_an_error_that_names_what_there_is(source: Path, models_dir: Path, name: str) -> None:
    for added in ("small", "big"):
        add_gguf(source, added, models_dir)
    with pytest.raises(ModelError, match=r"there are: big, small; add one with: rag models add FILE\.gguf --name NAME") as caught:
        find_gguf(name, models_dir)
    assert caught.value.code == "model_missing"


@pytest.mark.parametrize("name", ["none.gguf", "a/b", ".", "../none", "folder/"])
def test_missing_file_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="is missing or no file") as caught:
        find_gguf(name, tmp_path)
    assert caught.value.code == "model_missing"


def test_file_is_found_by_its_path(source: Path, models_dir: Path) -> None:
    model = find_gguf(str(source), models_dir)
    assert (model.name, model.source, model.size_bytes, model.header) == ("Small", "Small.gguf", len(gguf()), HEADER)
    assert model.path == source


def test_identity_of_a_file_changes_with_the_file(source: Path, models_dir: Path) -> None:
    before = find_gguf(str(source), models_dir).id
    assert find_gguf(str(source), models_dir).id == before
    os.utime(source, ns=(1, 1))
    assert find_gguf(str(source), models_dir).id != before


def test_list_is_in_order_of_names_and_apart_from_embedders(source: Path, models_dir: Path) -> None:
    assert list_gguf(models_dir) == ()
    embedders = list_models(models_dir)
    for name in ("b", "a"):
        add_gguf(source, name, models_dir)
    assert [model.name for model in list_gguf(models_dir)] == ["a", "b"]
    assert list_models(models_dir) == embedders


def test_half_written_model_is_not_listed(source: Path, models_dir: Path) -> None:
    folder = add_gguf(source, "small", models_dir).path.parent
    folder.rename(folder.with_name(".small-half"))
    assert gguf_names(models_dir) == ()


def test_altered_weight_is_found(source: Path, models_dir: Path) -> None:
    model = add_gguf(source, "small", models_dir)
    verify_gguf(model)
    model.path.write_bytes(gguf(data=bytes(len(DATA))))
    with pytest.raises(ModelError, match="is altered") as caught:
        verify_gguf(model)
    assert caught.value.code == "model_altered"


@pytest.mark.parametrize(("n_bytes", "code"), [(-1, "gguf_truncated"), (1, "model_altered")])
def test_other_size_is_found(source: Path, models_dir: Path, n_bytes: int, code: str) -> None:
    model = add_gguf(source, "small", models_dir)
    os.truncate(model.path, model.size_bytes + n_bytes)
    with pytest.raises(ModelError) as caught:
        verify_gguf(model)
    assert caught.value.code == code


def test_missing_weights_are_found_without_verifying(source: Path, models_dir: Path) -> None:
    add_gguf(source, "small", models_dir).path.unlink()
    with pytest.raises(ModelError, match="is missing") as caught:
        find_gguf("small", models_dir)
    assert caught.value.code == "model_missing"


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"name": "other"}, {"sha256": 1}, {"more": 1}, {"header": {}}, {"header": None}, {"size_bytes": True}]
)
def test_damaged_card_is_a_model_error(source: Path, models_dir: Path, change: dict[str, object]) -> None:
    path = add_gguf(source, "small", models_dir).path.with_name("card.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match="was edited") as caught:
        find_gguf("small", models_dir)
    assert caught.value.code == "model_card"


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000])
def test_card_that_is_no_card_is_a_model_error(source: Path, models_dir: Path, content: bytes) -> None:
    add_gguf(source, "small", models_dir).path.with_name("card.json").write_bytes(content)
    with pytest.raises(ModelError, match=r"card\.json"):
        find_gguf("small", models_dir)
