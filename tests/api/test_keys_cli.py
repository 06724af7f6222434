from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from api.keys import FILE_NAME, KeyStore
from api.keys_cli import main
from rag.errors import InputError, SnapshotError
from rag.settings import Settings

DAY = 86_400.0

Run = Callable[..., str]


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `rag keys`, and returns what it printed."""

    def run(*arguments: str, as_json: bool = False) -> str:
        assert main(arguments, Settings(data_dir=tmp_path), as_json) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def found(keys: Run) -> Callable[..., dict[str, Any]]:
    """Runs `rag keys --json`, and returns its one object."""

    def run(*arguments: str) -> dict[str, Any]:
        value = json.loads(keys(*arguments, as_json=True))
        assert isinstance(value, dict)
        return value

    return run


Found = Callable[..., dict[str, Any]]


def verified(data_dir: Path, secret: str, now: float) -> str:
    with closing(KeyStore(data_dir)) as store:
        return store.verify(secret, now).key_id


def test_secret_is_printed_once_and_is_good(keys: Run, tmp_path: Path) -> None:
    shown = keys("create").splitlines()
    assert shown[0].startswith(verified(tmp_path, shown[1], time.time()))
    assert "the only time that the secret is shown" in shown[2]
    assert shown[1] not in keys("list")


def test_key_may_query_everything_forever_unless_told_otherwise(found: Found) -> None:
    key = found("create")["key"]
    assert {name: key[name] for name in key if name not in ("id", "created")} == {
        "state": "active",
        "scopes": ["query"],
        "collections": None,
        "tenant": key["id"],
        "requests_per_minute": 0,
        "tokens_per_minute": 0,
        "expires": None,
        "revoked": None,
        "used": None,
    }


def test_every_option_is_kept_and_listed(keys: Run, found: Found) -> None:
    several = ("--scope", "query", "--scope", "ingest", "--collection", "b", "--collection", "a", "--tenant", "team")
    limits = ("--requests-per-minute", "60", "--tokens-per-minute", "40000")
    made = found("create", *several, *limits, "--expires", "2100-01-01")
    assert set(made) == {"key", "secret"}
    assert (made["key"]["scopes"], made["key"]["collections"], made["key"]["tenant"]) == (["ingest", "query"], ["a", "b"], "team")
    assert (made["key"]["requests_per_minute"], made["key"]["tokens_per_minute"]) == (60, 40_000)
    assert made["key"]["expires"] == "2100-01-01T00:00:00+00:00"
    assert found("list") == {"keys": [made["key"]]}
    for text in ("query", "a,b", "tenant team", "60 requests a minute, 40000 tokens a minute", "expires 2100-01-01 00:00 UTC"):
        assert text in keys("list")


def test_first_key_closes_the_open_door_and_says_so(keys: Run) -> None:
    assert "no keys yet" in keys("list")
    assert "refuses requests without one" in keys("create")
    assert "refuses requests without one" not in keys("create")


def test_days_count_from_now(found: Found) -> None:
    before = time.time()
    expires = datetime.fromisoformat(found("create", "--expires", "90d")["key"]["expires"]).timestamp()
    assert before <= expires - 90 * DAY <= time.time()


@pytest.mark.parametrize(
    ("given", "expires"),
    [
        ("2100-01-01", "2100-01-01T00:00:00"),
        ("2100-01-01T12:00", "2100-01-01T12:00:00"),
        ("2100-01-01T12:00+02:00", "2100-01-01T10:00:00"),
    ],
)
def test_dates_are_utc_unless_they_say_otherwise(found: Found, given: str, expires: str) -> None:
    assert found("create", "--expires", given)["key"]["expires"] == f"{expires}+00:00"


def test_revoked_key_is_listed_as_such_and_refused(keys: Run, found: Found, tmp_path: Path) -> None:
    made = found("create")
    assert made["key"]["id"] in keys("revoke", made["key"]["id"])
    (key,) = found("list")["keys"]
    assert key["state"] == "revoked"
    assert datetime.fromisoformat(key["revoked"]) <= datetime.now(UTC)
    with pytest.raises(InputError, match="is revoked since"):
        verified(tmp_path, made["secret"], time.time())


def test_revoking_tells_the_key(found: Found) -> None:
    made = found("create")["key"]
    assert found("revoke", made["id"])["key"] == made | {"state": "revoked", "revoked": found("list")["keys"][0]["revoked"]}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("create", "--scope", "root"), "usage", "invalid choice: 'root'"),
        (("create", "--collection", "a/b"), "bad_key", "collection name 'a/b' is not allowed; allowed: 1 to 64 letters"),
        (("create", "--tenant", "é"), "bad_key", "tenant 'é' is not allowed"),
        (("create", "--expires", "soon"), "usage", "--expires 'soon' is neither days nor a date; for example 90d"),
        (("create", "--expires", "0d"), "bad_key", "allowed: a time in the future, within 100 years"),
        (("create", "--expires", "2001-01-01"), "bad_key", "allowed: a time in the future, within 100 years"),
        (("create", "--expires", "99999d"), "bad_key", "allowed: a time in the future, within 100 years"),
        (("create", "--requests-per-minute", "-1"), "bad_key", "a limit of -1 a minute is not allowed; allowed: 0"),
        (("create", "--tokens-per-minute", "x"), "usage", "invalid int value: 'x'"),
        (("revoke", "0123"), "no_key", "there is no key with the id '0123'; give an id that 'rag keys list' shows"),
        (("revoke",), "usage", "ID"),
        (("rotate",), "usage", "invalid choice"),
        ((), "usage", "create|list|revoke"),
    ],
)
def test_wrong_arguments_are_refused_and_make_nothing(
    keys: Run, tmp_path: Path, arguments: tuple[str, ...], code: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        keys(*arguments)
    assert caught.value.code == code
    assert message in str(caught.value)
    assert not (tmp_path / FILE_NAME).exists()


def test_damaged_file_is_told(keys: Run, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("no database" * 100)
    with pytest.raises(SnapshotError, match="cannot be used"):
        keys("list")
