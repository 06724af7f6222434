from __future__ import annotations

import os
from dataclasses import Field, FrozenInstanceError, fields, is_dataclass
from pathlib import Path

import pytest

from rag.errors import ConfigError
from rag.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _clean_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory and none of our variables."""
    for name in [name for name in os.environ if name.startswith(("RAG_", "TIKTOKEN_", "DATA_GYM_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "ragwatt.toml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def test_without_file_and_variables_the_defaults_hold() -> None:
    assert load_settings() == Settings()


def test_file_in_the_working_directory_is_read() -> None:
    write('collection = "x"\n[search]\nk = 7\ndense_weight = 1\n')
    settings = load_settings()
    assert (settings.collection, settings.search.k, settings.search.dense_weight) == ("x", 7, 1.0)


def test_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("[search]\nk = 7\ndepth = 50\n")
    monkeypatch.setenv("RAG_SEARCH_K", "8")
    assert (load_settings().search.k, load_settings().search.depth) == (8, 50)


def test_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_SEARCH_K", "8")
    monkeypatch.setenv("RAG_DATA_DIR", "elsewhere")
    settings = load_settings({"search.k": 9, "data_dir": None})
    assert (settings.search.k, settings.data_dir) == (9, Path("elsewhere"))


def test_named_file_is_read_in_place_of_the_usual_one() -> None:
    write("[search]\nk = 7\n")
    other = write("[search]\nk = 6\n", "other.toml")
    assert load_settings(config=other).search.k == 6


def test_variable_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("[search]\nk = 6\n", "other.toml")
    monkeypatch.setenv("RAG_CONFIG", "other.toml")
    assert load_settings().search.k == 6


def test_missing_named_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read"):
        load_settings(config=Path("nowhere.toml"))


@pytest.mark.parametrize("content", [b"k = ", b"\xff\xfe", b"[search\nk=1"])
def test_malformed_file_is_refused(content: bytes) -> None:
    Path("ragwatt.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"ragwatt\.toml is not valid TOML"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "hint"),
    [("[search]\ndepht = 5\n", "search.depth"), ("colection = 'x'\n", "collection"), ("[serch]\nk = 5\n", "search.k")],
)
def test_unknown_key_is_refused_with_the_nearest_one(text: str, hint: str) -> None:
    write(text)
    with pytest.raises(ConfigError, match=rf"unknown setting .* in ragwatt\.toml; did you mean {hint}\?"):
        load_settings()


def test_unknown_key_like_no_other_is_refused_with_all_there_are() -> None:
    write("[qqq]\nzzz = 5\n")
    with pytest.raises(ConfigError, match=r"allowed: answer\.abstain_below, .*search\.mode"):
        load_settings()


def test_value_in_the_place_of_a_table_is_refused() -> None:
    write("search = 5\n")
    with pytest.raises(ConfigError, match="unknown setting 'search'"):
        load_settings()


def test_misspelt_variable_is_refused_with_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_EMBEDER_MODEL", "x")
    with pytest.raises(ConfigError, match=r"RAG_EMBEDER_MODEL is not a setting; did you mean RAG_EMBEDDER_MODEL\?"):
        load_settings()


@pytest.mark.parametrize("name", ["RAG_SERVICE_HOST", "RAG_PORT_8000_TCP", "RAG_PORT", "RAG_SERVICE_PORT_HTTP"])
def test_variables_of_an_orchestrator_are_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "10.0.0.1")
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("RAG_SEARCH_K", "0", "1 to 1000"),
        ("RAG_SEARCH_K", "1001", "1 to 1000"),
        ("RAG_SEARCH_DENSE_WEIGHT", "1.1", "0 to 1"),
        ("RAG_SEARCH_DENSE_WEIGHT", "nan", "0 to 1"),
        ("RAG_INGEST_NEAR_DUPLICATE", "0.4", "0.5 to 1"),
        ("RAG_INGEST_KEEP_VERSIONS", "0", "1 to 1000"),
        ("RAG_CONTEXT_MAX_TOKENS", "15", "16 to"),
        ("RAG_SEARCH_MODE", "fuzzy", "hybrid, bm25, dense"),
    ],
)
def test_value_out_of_range_is_refused_with_what_is_allowed(
    variable: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=f"in the environment is '{value}'; allowed: {allowed}"):
        load_settings()


@pytest.mark.parametrize("text", ["k = 1.5", "k = true", "k = 'many'", "k = [1]", "dense_weight = 'x'", "k = ''"])
def test_value_of_another_type_is_refused(text: str) -> None:
    write(f"[search]\n{text}\n")
    with pytest.raises(ConfigError, match="expected (int|float)"):
        load_settings()


@pytest.mark.parametrize("text", ["collection = 5", "[embedder]\nmodel = false"])
def test_text_is_not_made_of_other_types(text: str) -> None:
    write(text)
    with pytest.raises(ConfigError, match="expected str"):
        load_settings()


@pytest.mark.parametrize("value", ["1000", "1e3"])
def test_numbers_are_read_from_variables_as_they_are_written(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_EMBEDDER_TIMEOUT_S", value)
    assert load_settings().embedder.timeout_s == 1000.0


@pytest.mark.parametrize(
    ("value", "meant"), [("true", True), ("1", True), ("ON", True), ("false", False), ("0", False), ("No", False)]
)
def test_truth_is_read_from_variables_as_people_spell_it(value: str, meant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_WEB_ENABLED", value)
    assert load_settings().web.enabled is meant


def test_truth_of_the_file_is_that_of_toml() -> None:
    Path("ragwatt.toml").write_text("[web]\nenabled = true\n")
    assert load_settings().web.enabled is True
    Path("ragwatt.toml").write_text("[web]\nenabled = 1\n")
    with pytest.raises(ConfigError, match="expected true or false"):
        load_settings()


def test_whole_float_of_the_file_is_an_integer() -> None:
    write("[search]\nk = 7.0\n")
    assert repr(load_settings().search.k) == "7"


def test_home_in_a_path_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("RAG_DATA_DIR", "~/data")
    assert load_settings().data_dir == Path("/somewhere/data")


def test_secret_is_read_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_EMBEDDER_API_KEY", "sk-verysecret")
    settings = load_settings()
    assert settings.embedder.api_key == "sk-verysecret"
    assert "verysecret" not in repr(settings) + str(settings)


def test_secret_of_the_wrong_type_is_not_in_the_message() -> None:
    write("[embedder]\napi_key = 987654321\n")
    with pytest.raises(ConfigError, match=r"embedder\.api_key") as caught:
        load_settings()
    assert "987654321" not in str(caught.value)


def test_misspelt_secret_is_not_in_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_EMBEDDER_APIKEY", "sk-verysecret")
    with pytest.raises(ConfigError, match="RAG_EMBEDDER_API_KEY") as caught:
        load_settings()
    assert "verysecret" not in str(caught.value)


def test_folder_of_tiktoken_is_taken_from_its_own_variable_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "theirs")
    assert load_settings().context.tiktoken_cache_dir == "theirs"
    monkeypatch.setenv("RAG_CONTEXT_TIKTOKEN_CACHE_DIR", "ours")
    assert load_settings().context.tiktoken_cache_dir == "ours"


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        load_settings().collection = "other"  # type: ignore[misc]


def test_every_setting_is_documented_with_its_variable() -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
    keys = [f"{section.name}.{inner.name}" for section in fields(Settings) for inner in _inner(section.name)]
    keys += [section.name for section in fields(Settings) if not _inner(section.name)]
    assert [key for key in keys if f"`{key}`" not in page or f"`RAG_{key.upper().replace('.', '_')}`" not in page] == []


def _inner(section: str) -> tuple[Field[object], ...]:
    value = getattr(Settings(), section)
    return fields(value) if is_dataclass(value) else ()
