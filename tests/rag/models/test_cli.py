from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rag.errors import InputError
from rag.models.card import CARD_NAME, write_card
from rag.models.cli import main
from rag.models.registry import find_model
from rag.settings import Settings
from rag.tokens import SHIPPED_NAME

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
