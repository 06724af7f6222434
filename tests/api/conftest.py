from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.pipeline import IngestRequest, ingest
from rag.embed import open_embedder
from rag.meter import Meter
from rag.settings import AnswerSettings, Settings
from tests.api.running import Running, running, settings_of
from tests.corpus import COLLECTION, write_documents
from tests.fakes import SilentProgress


def fill(settings: Settings, *folders: Path, collection: str = COLLECTION) -> None:
    embedder = open_embedder(settings.embedder, settings.data_dir / "models")
    ingest(IngestRequest(folders, collection), settings, embedder, SilentProgress(), Meter())


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a data directory with the twelve documents, for tests that only read."""
    base = tmp_path_factory.mktemp("service")
    settings = settings_of(base / "data", answer=AnswerSettings(abstain_below=0.3))
    fill(settings, write_documents(base / "documents"))
    return settings


@pytest.fixture(scope="module")
def service(library: Settings) -> Iterator[Running]:
    """A service that tests share, and only read from."""
    with running(library) as found:
        yield found
