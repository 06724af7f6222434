from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rag.errors import InputError, ModelError
from rag.models.card import CARD_NAME, write_card
from rag.models.cli import main
from rag.models.registry import find_model
from rag.settings import Settings
from rag.tokens import SHIPPED_NAME
from tests.rag.models.test_gguf_header import gguf

CaptureFixture = pytest.CaptureFixture[str]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def damaged(settings: Settings) -> Path:
    """An added model whose tokenizer was altered."""
    shipped = find_model(SHIPPED_NAME, settings.data_dir)
    folder = settings.data_dir / "models" / "mine"
    shutil.copytree(shipped.folder, folder)
    write_card(replace(shipped.card, name="mine"), folder / CARD_NAME)
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def language_file(tmp_path: Path) -> Path:
    path = tmp_path / "Small Model-1M.Q4_1.gguf"
    path.write_bytes(gguf())
    return path


def test_list_shows_the_shipped_model(settings: Settings, capsys: CaptureFixture) -> None:
    assert main(["list"], settings) == 0
    assert f"{SHIPPED_NAME}  shipped  384 dims  256 tokens" in capsys.readouterr().out


def test_list_as_json_has_card_and_licence(settings: Settings, capsys: CaptureFixture) -> None:
    assert main(["list", "--json"], settings) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["name"] == SHIPPED_NAME
    assert (model["shipped"], model["dim"], model["licence"]) == (True, 384, "Apache-2.0")
    assert model["parity"]["cosine_mean"] > 0.99


def test_verify_checks_all_models_and_fails_when_one_does(settings: Settings, damaged: Path, capsys: CaptureFixture) -> None:
    assert main(["verify", "--json"], settings) == 1
    good, bad = json.loads(capsys.readouterr().out)["models"]
    assert (good["name"], good["ok"]) == (SHIPPED_NAME, True)
    assert (bad["name"], bad["ok"]) == ("mine", False)
    assert "tokenizer.json is altered" in bad["message"]


def test_verify_says_what_failed(settings: Settings, damaged: Path, capsys: CaptureFixture) -> None:
    assert main(["verify", "mine"], settings) == 1
    assert "mine  FAILED: model file" in capsys.readouterr().out


def test_verify_of_the_shipped_model_passes(settings: Settings, capsys: CaptureFixture) -> None:
    assert main(["verify", SHIPPED_NAME], settings) == 0
    assert "as measured" in capsys.readouterr().out


def test_name_that_leaves_the_folder_is_refused(settings: Settings) -> None:
    with pytest.raises(InputError, match=r"model name '\.\./x' is not allowed"):
        main(["add", "nothing", "--name", "../x"], settings)


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["add"], ["add", "x"], ["list", "--nonsense"]])
def test_wrong_usage_is_refused(settings: Settings, argv: list[str]) -> None:
    with pytest.raises(InputError, match="see 'rag models"):
        main(argv, settings)


@pytest.mark.parametrize("argv", [["--help"], ["add", "--help"]])
def test_help_is_0(settings: Settings, argv: list[str], capsys: CaptureFixture) -> None:
    assert main(argv, settings) == 0
    assert "usage: rag models" in capsys.readouterr().out


def test_added_gguf_file_gets_a_fitting_name_and_says_how_to_use_it(
    settings: Settings, language_file: Path, capsys: CaptureFixture
) -> None:
    assert main(["add", str(language_file)], settings) == 0
    added, use = capsys.readouterr().out.splitlines()
    assert added.startswith("added small-model-1m.q4_1@")
    assert 'kind = "gguf" and model = "small-model-1m.q4_1" under [language_model] in ragwatt.toml' in use


def test_list_shows_both_kinds(settings: Settings, language_file: Path, capsys: CaptureFixture) -> None:
    main(["add", str(language_file), "--name", "small"], settings)
    capsys.readouterr()
    assert main(["list"], settings) == 0
    embedder, language = capsys.readouterr().out.splitlines()
    assert embedder.startswith(SHIPPED_NAME)
    assert language.startswith("small  language  llama Q4_1  ")
    assert main(["list", "--json"], settings) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert [(model["name"], model["kind"]) for model in models] == [(SHIPPED_NAME, "embedder"), ("small", "language")]
    assert (models[1]["n_parameters"], models[1]["context_length"], models[1]["licence"]) == (138, 2048, "apache-2.0")


def test_add_prints_what_list_prints(settings: Settings, language_file: Path, capsys: CaptureFixture) -> None:
    assert main(["add", str(language_file), "--name", "small", "--json"], settings) == 0
    added = json.loads(capsys.readouterr().out)
    main(["list", "--json"], settings)
    assert json.loads(capsys.readouterr().out)["models"][1] == added


def test_gguf_file_can_be_put_into_another_folder(settings: Settings, language_file: Path, tmp_path: Path) -> None:
    assert main(["add", str(language_file), "--name", "small", "--into", str(tmp_path / "other")], settings) == 0
    assert (tmp_path / "other" / "gguf" / "small" / "model.gguf").is_file()


def test_verify_checks_both_kinds(settings: Settings, language_file: Path, capsys: CaptureFixture) -> None:
    main(["add", str(language_file), "--name", "small"], settings)
    (settings.data_dir / "models" / "gguf" / "small" / "model.gguf").write_bytes(gguf(data=bytes(136)))
    capsys.readouterr()
    assert main(["verify", "--json"], settings) == 1
    good, bad = json.loads(capsys.readouterr().out)["models"]
    assert (good["name"], good["kind"], good["ok"]) == (SHIPPED_NAME, "embedder", True)
    assert (bad["name"], bad["kind"], bad["ok"], bad["code"]) == ("small", "language", False, "model_altered")


def test_verify_of_a_language_model_passes(settings: Settings, language_file: Path, capsys: CaptureFixture) -> None:
    main(["add", str(language_file), "--name", "small"], settings)
    capsys.readouterr()
    assert main(["verify", "small"], settings) == 0
    assert capsys.readouterr().out == "small  as added\n"


def test_verify_of_an_unknown_name_lists_models_of_both_kinds(
    settings: Settings, language_file: Path, capsys: CaptureFixture
) -> None:
    assert main(["add", str(language_file), "--name", "small"], settings) == 0
    assert main(["verify", "nope"], settings) == 1
    said = capsys.readouterr().out
    assert f"there are: {SHIPPED_NAME}; add one with: rag models add; language models: small" in said


def test_verify_of_a_name_of_both_kinds_checks_both(
    settings: Settings, damaged: Path, language_file: Path, capsys: CaptureFixture
) -> None:
    main(["add", str(language_file), "--name", damaged.name], settings)
    capsys.readouterr()
    assert main(["verify", damaged.name, "--json"], settings) == 1
    checked = [(model["kind"], model["ok"]) for model in json.loads(capsys.readouterr().out)["models"]]
    assert checked == [("embedder", False), ("language", True)]


@pytest.mark.parametrize("option", [["--licence", "MIT"], ["--max-tokens", "9"], ["--force"], ["--document-prompt", "d"]])
def test_option_of_embedders_is_refused_for_a_gguf_file(settings: Settings, language_file: Path, option: list[str]) -> None:
    with pytest.raises(InputError, match=f"{option[0]} is for embedding models"):
        main(["add", str(language_file), *option], settings)


@pytest.mark.parametrize("arguments", [["--name", ""], ["--name", "../x"], ["--name", "x.gguf"]])
def test_name_that_cannot_be_used_is_refused(settings: Settings, language_file: Path, arguments: list[str]) -> None:
    with pytest.raises(InputError, match="model name"):
        main(["add", str(language_file), *arguments], settings)


def test_embedder_cannot_take_the_folder_of_the_language_models(settings: Settings) -> None:
    with pytest.raises(InputError, match="give another --name"):
        main(["add", "nothing", "--name", "gguf", "--replace"], settings)


def test_file_that_is_no_gguf_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.GGUF").write_text("no model")
    with pytest.raises(ModelError, match="is no GGUF file"):
        main(["add", str(tmp_path / "a.GGUF")], settings)
