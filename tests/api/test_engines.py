"""Engines lent to requests: versions that come and go, models that are let go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.engines import Engines, Reload
from rag.errors import ConfigError, InputError
from rag.power import Power, open_power
from rag.settings import Settings
from rag.store.snapshot import folder_of
from rag.types import Query
from tests.api.conftest import fill
from tests.api.running import settings_of
from tests.corpus import write_documents


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = settings_of(tmp_path / "data")
    fill(found, write_documents(tmp_path / "documents", ["tides.txt"]))
    return found


@pytest.fixture
def told() -> list[Reload]:
    return []


@pytest.fixture
def engines(settings: Settings, told: list[Reload]) -> Iterator[Engines]:
    power: Power = open_power(settings.energy, settings.data_dir)
    found = Engines(settings, power, told.append)
    yield found
    found.close()


def publish_another(settings: Settings, name: str) -> None:
    folder = settings.data_dir.parent / "documents"
    (folder / name).write_text(f"The bishop of {name} moves along diagonals.")
    fill(settings, folder)


def test_version_of_a_request_stays_open_until_it_ends(engines: Engines, settings: Settings) -> None:
    with engines.engine("library", "extractive") as old:
        publish_another(settings, "a.txt")
        assert engines.refresh() == [Reload("library", 1, 2)]
        with engines.engine("library", "extractive") as new:
            assert (old.search(Query("bishop", mode="bm25")).version, new.search(Query("bishop", mode="bm25")).version) == (1, 2)
        assert old.search(Query("bishop", mode="bm25")).hits == ()


def test_version_that_is_damaged_leaves_the_old_one_in_place(engines: Engines, settings: Settings, told: list[Reload]) -> None:
    with engines.engine("library", "extractive"):
        pass
    publish_another(settings, "a.txt")
    (folder_of(settings.data_dir, "library", 2) / "rows.npy").write_bytes(b"damaged")
    (reload,) = engines.refresh()
    assert "rows.npy" in reload.error
    assert (reload.before, reload.after, engines.version("library")) == (1, 1, 1)
    assert told[-1] == reload


def test_look_that_finds_nothing_new_tells_nobody(engines: Engines, told: list[Reload]) -> None:
    with engines.engine("library", "extractive"):
        pass
    told.clear()
    assert engines.refresh() == [Reload("library", 1, 1)]
    assert told == []


def test_collections_share_models_and_versions_do_not_meet(engines: Engines, settings: Settings) -> None:
    other = settings.data_dir.parent / "other"
    fill(settings, write_documents(other, ["chess.md"]), collection="games")
    with engines.engine("library", "extractive") as one, engines.engine("games", "extractive") as two:
        assert one.search(Query("tide")).hits[0].chunk.doc_id == "tides.txt"
        assert [hit.chunk.doc_id for hit in two.search(Query("tide")).hits] == ["chess.md"]
    with engines.embedder() as first, engines.embedder() as second:
        assert first is second


def test_models_in_use_are_not_let_go(engines: Engines) -> None:
    with engines.engine("library", "extractive"):
        assert not engines.unload_idle(0.0)
    assert engines.unload_idle(0.0)


def test_models_used_a_moment_ago_are_not_let_go(engines: Engines) -> None:
    with engines.engine("library", "extractive"):
        pass
    assert not engines.unload_idle(3600.0)


def test_unknown_collection_is_told_in_the_same_words_as_a_foreign_one(engines: Engines) -> None:
    with pytest.raises(InputError, match="GET /v1/collections") as caught, engines.engine("nowhere", "extractive"):
        pass
    assert caught.value.code == "unknown_collection"
    assert "library" not in str(caught.value)


def test_language_model_that_is_not_configured_is_refused(engines: Engines) -> None:
    with pytest.raises(ConfigError) as caught, engines.engine("library", "model"):
        pass
    assert caught.value.code == "no_model"
    assert engines.unload_idle(0.0), "the version that was lent for it is given back"
