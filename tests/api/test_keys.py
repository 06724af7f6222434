from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import sqlite3
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.keys import FILE_NAME, Caller, KeyRefusedError, KeyStore, time_text
from api.limits import Limits
from rag.errors import InputError, SnapshotError

NOW = 1_800_000_000.0
DAY = 86_400.0
UNKNOWN = f"rag_{'0' * 16}_{'A' * 43}"
NOBODY = 65_534


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KeyStore]:
    with closing(KeyStore(tmp_path, lambda: NOW)) as opened:
        yield opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


def refusal(store: KeyStore, secret: str, now: float = NOW) -> str:
    """Code with which a secret is refused."""
    with pytest.raises(KeyRefusedError) as caught:
        store.verify(secret, now)
    assert secret not in str(caught.value)
    return caught.value.code


def change(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(sql)


# Making and knowing keys


def test_secret_is_its_key_s(store: KeyStore) -> None:
    limits = Limits(60, 10_000)
    key, secret = store.create(["query", "ingest"], ["a", "b"], "team", NOW + DAY, limits)
    caller = store.verify(secret, NOW)
    assert caller == key.caller
    assert caller == Caller(key.caller.key_id, "team", frozenset({"query", "ingest"}), frozenset({"a", "b"}), limits)


def test_secret_names_its_key_and_has_256_bits(store: KeyStore) -> None:
    key, secret = store.create(["query"])
    assert re.fullmatch(rf"rag_{key.caller.key_id}_[A-Za-z0-9_-]{{43}}", secret)
    assert store.create(["query"])[1] != secret


def test_tenant_is_the_key_s_own_unless_named(store: KeyStore) -> None:
    key, _ = store.create(["query"])
    assert key.caller.tenant == key.caller.key_id


def test_file_holds_no_secret(store: KeyStore, tmp_path: Path) -> None:
    _, secret = store.create(["admin"])
    store.verify(secret, NOW)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret.rpartition("_")[2].encode() not in kept
    assert len(kept) > 4096


def test_every_file_is_its_owner_s_only(store: KeyStore, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store.create(["query"])
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys((FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"), 0o600)


def test_keys_outlive_their_store(store: KeyStore, tmp_path: Path) -> None:
    _, secret = store.create(["query"])
    store.close()
    with closing(KeyStore(tmp_path)) as other:
        assert other.verify(secret, NOW) == store.verify(secret, NOW)


def test_list_is_in_the_order_of_making(tmp_path: Path) -> None:
    times = iter([NOW + 2, NOW, NOW + 1])
    with closing(KeyStore(tmp_path, lambda: next(times))) as store:
        keys = [store.create(["query"])[0] for _ in range(3)]
        assert store.list() == [keys[1], keys[2], keys[0]]


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (["query"], {"query"}),
        (["ingest"], {"ingest"}),
        (["query", "ingest"], {"query", "ingest"}),
        (["admin"], {"query", "ingest", "admin"}),
    ],
)
def test_scope_allows_what_it_says_and_admin_all(store: KeyStore, scopes: list[str], allowed: set[str]) -> None:
    caller = store.create(scopes)[0].caller
    assert {scope for scope in ("query", "ingest", "admin") if caller.may(scope)} == allowed


def test_caller_sees_named_collections_or_all(store: KeyStore) -> None:
    some, every = store.create(["query"], ["a"])[0].caller, store.create(["query"])[0].caller
    assert [(some.sees(name), every.sees(name)) for name in ("a", "b")] == [(True, True), (False, True)]


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "é", "a\n", "..", "x" * 65])
def test_wrong_names_are_refused(store: KeyStore, name: str, path: Path) -> None:
    with pytest.raises(InputError, match="allowed: 1 to 64 letters"):
        store.create(["query"], [name])
    with pytest.raises(InputError, match="allowed: 1 to 64 letters"):
        store.create(["query"], None, name or " ")
    assert not path.exists()


@pytest.mark.parametrize("scopes", [[], ["root"], ["query", "Admin"]])
def test_wrong_scopes_are_refused(store: KeyStore, scopes: list[str]) -> None:
    with pytest.raises(InputError, match="allowed: query, ingest, admin"):
        store.create(scopes)


def test_key_for_no_collection_is_refused(store: KeyStore) -> None:
    with pytest.raises(InputError, match="a key needs a collection"):
        store.create(["query"], [])


@pytest.mark.parametrize("expires", [NOW, NOW - DAY, NOW + 101 * 366 * DAY, float("inf"), float("nan")])
def test_wrong_expiry_is_refused(store: KeyStore, expires: float) -> None:
    with pytest.raises(InputError, match="allowed: a time in the future, within 100 years"):
        store.create(["query"], expires=expires)


# Refusing


@given(st.text(max_size=90) | st.from_regex(r"rag_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", fullmatch=True))
@example("\ud800")
@example("rag_")
@example("rag_'; DROP TABLE key;--_x")
@example("x" * 100_000)
def test_whatever_is_no_secret_is_unknown(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(KeyStore(Path(folder), lambda: NOW)) as store:
        store.create(["query"])
        with pytest.raises(KeyRefusedError) as caught:
            store.verify(text, NOW)
        assert caught.value.code == "key_unknown"
        assert len(store.list()) == 1


def test_no_change_of_a_secret_is_accepted(store: KeyStore) -> None:
    _, secret = store.create(["query"])
    altered = [secret[:i] + ("A" if secret[i] != "A" else "B") + secret[i + 1 :] for i in range(len(secret))]
    for text in [*altered, secret + "A", secret[:-1], f" {secret}", f"{secret}\n", secret.upper()]:
        assert refusal(store, text) == "key_unknown"


def test_secret_of_another_key_is_unknown(store: KeyStore) -> None:
    (_, first), (_, second) = store.create(["query"]), store.create(["admin"])
    assert refusal(store, first[:21] + second[21:]) == "key_unknown"


def test_without_a_file_every_secret_is_unknown_and_no_file_is_made(store: KeyStore, path: Path) -> None:
    assert refusal(store, UNKNOWN) == "key_unknown"
    assert store.list() == []
    with pytest.raises(InputError, match="no key with the id 'a'"):
        store.revoke("a")
    assert not path.exists()


def test_expired_key_is_refused_from_its_moment_on(store: KeyStore) -> None:
    key, secret = store.create(["query"], expires=NOW + DAY)
    assert store.verify(secret, NOW + DAY - 1) == key.caller
    assert refusal(store, secret, NOW + DAY) == "key_expired"
    assert [key.state(NOW + DAY - 1), key.state(NOW + DAY)] == ["active", "expired"]


def test_revoked_key_is_refused_even_after_the_clock_was_set_back(store: KeyStore) -> None:
    key, secret = store.create(["query"], expires=NOW + DAY)
    store.verify(secret, NOW)
    assert store.revoke(key.caller.key_id).revoked == NOW
    assert [refusal(store, secret, now) for now in (NOW, NOW - DAY, NOW + 2 * DAY)] == ["key_revoked"] * 3


def test_key_revoked_twice_keeps_the_first_time(tmp_path: Path) -> None:
    times = iter([NOW, NOW + 1, NOW + 2])
    with closing(KeyStore(tmp_path, lambda: next(times))) as store:
        key, _ = store.create(["query"])
        assert store.revoke(key.caller.key_id) == store.revoke(key.caller.key_id)


def test_state_of_a_key_is_told_only_to_who_has_its_secret(store: KeyStore) -> None:
    key, secret = store.create(["query"])
    store.revoke(key.caller.key_id)
    assert refusal(store, secret[:-43] + "A" * 43) == "key_unknown"
    assert refusal(store, secret) == "key_revoked"


def test_revoking_by_secret_does_not_repeat_it(store: KeyStore) -> None:
    _, secret = store.create(["query"])
    with pytest.raises(InputError) as caught:
        store.revoke(secret)
    assert secret[-43:] not in str(caught.value)


def hashing(work: Callable[[], object]) -> list[str]:
    """The functions of hashing and comparing that are called meanwhile, in order."""
    seen: list[str] = []

    def watch(_frame: object, event: str, argument: object) -> None:
        name = getattr(argument, "__name__", "")
        if event == "c_call" and re.search("sha256|digest", name):
            seen.append(name)

    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen


@pytest.mark.parametrize("other", [UNKNOWN, "no key at all", "rag_", "é"])
def test_unknown_ids_take_the_same_hash_work_as_known_ones(store: KeyStore, other: str) -> None:
    key, _ = store.create(["query"])
    wrong = f"rag_{key.caller.key_id}_{'A' * 43}"
    work = hashing(lambda: refusal(store, wrong))
    assert work == ["openssl_sha256", "digest", "compare_digest"]
    assert hashing(lambda: refusal(store, other)) == work


# Whether there are keys at all


def test_empty_until_the_first_key_was_made(store: KeyStore) -> None:
    assert store.is_empty()
    store.create(["query"])
    assert not store.is_empty()


def test_revoking_the_last_key_opens_no_door(store: KeyStore) -> None:
    key, _ = store.create(["query"])
    store.revoke(key.caller.key_id)
    assert not store.is_empty()


# Last use


def used(store: KeyStore) -> float | None:
    (key,) = store.list()
    return key.used


def test_last_use_is_noted_at_most_once_a_minute(store: KeyStore) -> None:
    _, secret = store.create(["query"])
    seen = []
    for seconds in (0, 59, 60, 61, 120):
        store.verify(secret, NOW + seconds)
        seen.append(used(store))
    assert seen == [NOW, NOW, NOW + 60, NOW + 60, NOW + 120]


def test_last_use_follows_a_clock_that_was_set_back(store: KeyStore) -> None:
    _, secret = store.create(["query"])
    store.verify(secret, NOW)
    store.verify(secret, NOW - DAY)
    assert used(store) == NOW - DAY


def test_refused_secret_is_no_use(store: KeyStore) -> None:
    key, _ = store.create(["query"])
    refusal(store, f"rag_{key.caller.key_id}_{'A' * 43}")
    assert used(store) is None


def test_request_is_served_while_somebody_writes_and_a_later_use_is_noted(store: KeyStore, path: Path) -> None:
    _, secret = store.create(["query"])
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert store.verify(secret, NOW).tenant
        writer.execute("ROLLBACK")
    assert used(store) is None
    store.verify(secret, NOW)
    assert used(store) == NOW


# Damage


def test_file_that_is_none_lets_nobody_in_and_is_not_empty(store: KeyStore, path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)
    works: list[Callable[[], object]] = [
        store.is_empty,
        store.list,
        lambda: store.verify(UNKNOWN, NOW),
        lambda: store.create(["query"]),
        lambda: store.revoke("a"),
    ]
    for work in works:
        with pytest.raises(
            SnapshotError, match=r"^keys\.sqlite of the data directory cannot be used: .*; check its owner"
        ) as caught:
            work()
        assert caught.value.code == "keys"


def test_truncated_file_is_not_empty(store: KeyStore, path: Path) -> None:
    path.touch()
    with pytest.raises(SnapshotError, match="not a key file of Ragwatt"):
        store.is_empty()


def test_other_database_is_refused(store: KeyStore, path: Path) -> None:
    change(path, "CREATE TABLE key (key_id TEXT)")
    with pytest.raises(SnapshotError, match="not a key file of Ragwatt"):
        store.create(["query"])


def test_newer_format_is_told(store: KeyStore, path: Path) -> None:
    store.create(["query"])
    store.close()
    change(path, "PRAGMA user_version = 2")
    with pytest.raises(SnapshotError, match="has format 2; this version reads format 1") as caught:
        store.verify(UNKNOWN, NOW)
    assert caught.value.code == "newer_format"


@pytest.mark.parametrize(
    "damage", ["scopes = 'query'", "scopes = '[\"root\"]'", "scopes = '[]'", "collections = '[]'", "collections = '7'"]
)
def test_damaged_row_lets_nobody_in(store: KeyStore, path: Path, damage: str) -> None:
    _, secret = store.create(["query"])
    change(path, f"UPDATE key SET {damage}")
    with pytest.raises(SnapshotError, match="cannot be used"):
        store.verify(secret, NOW)


def test_store_goes_on_when_a_backup_takes_the_place_of_the_file(store: KeyStore, tmp_path: Path, path: Path) -> None:
    key, secret = store.create(["query"])
    store.close()
    backup = tmp_path / "backup"
    shutil.copy(path, backup)
    store.revoke(key.caller.key_id)
    assert refusal(store, secret) == "key_revoked"
    for ending in ("-wal", "-shm"):
        path.with_name(FILE_NAME + ending).unlink()
    backup.replace(path)
    assert store.verify(secret, NOW) == key.caller


def test_data_directory_that_cannot_be_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SnapshotError, match="cannot be used: Not a directory") as caught:
        KeyStore(tmp_path / "file").is_empty()
    assert str(tmp_path) not in str(caught.value)


# Several at once


def in_child(work: Callable[[], None], user: int | None = None) -> Callable[[], int]:
    """Run in a process of its own, as another user if root may; wait for its exit status with what is returned."""

    def run() -> None:
        if user is not None and os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        work()

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()

    def wait() -> int:
        child.join()
        return child.exitcode if child.exitcode is not None else -1

    return wait


def make_keys(data_dir: Path, n_keys: int) -> None:
    with closing(KeyStore(data_dir)) as store:
        for _ in range(n_keys):
            store.verify(store.create(["query"])[1], NOW)


def revoke(data_dir: Path, key_id: str) -> None:
    with closing(KeyStore(data_dir)) as store:
        store.revoke(key_id)


def test_processes_that_make_the_first_keys_at_once_lose_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.keys._BUSY_TIMEOUT_S", 60.0)  # children that are forked have it too
    waits = [in_child(lambda: make_keys(tmp_path, 10)) for _ in range(3)]
    assert [wait() for wait in waits] == [0, 0, 0]
    with closing(KeyStore(tmp_path)) as store:
        assert len(store.list()) == 30
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_revoking_in_another_process_is_seen_at_once(store: KeyStore, tmp_path: Path) -> None:
    key, secret = store.create(["query"])
    store.verify(secret, NOW)
    assert in_child(lambda: revoke(tmp_path, key.caller.key_id))() == 0
    assert refusal(store, secret) == "key_revoked"


def test_threads_may_share_a_store(store: KeyStore) -> None:
    secrets = [store.create(["query"])[1] for _ in range(4)]
    found: list[Caller] = []

    def ask(secret: str) -> None:
        for minute in range(50):
            found.append(store.verify(secret, NOW + 60 * minute))

    threads = [threading.Thread(target=ask, args=(secret,)) for secret in secrets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 200
    assert len(set(found)) == 4


@pytest.fixture
def foreign_folder() -> Iterator[Path]:
    """A folder that another user can reach and not write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("stays_open", [False, True])
def test_keys_of_a_read_only_folder_are_known_and_changes_are_seen(foreign_folder: Path, stays_open: bool) -> None:
    made = KeyStore(foreign_folder, lambda: NOW)
    (key, secret), (_, other) = made.create(["query"]), made.create(["query"])
    made.close()
    path = foreign_folder / FILE_NAME
    path.chmod(0o444)
    foreign_folder.chmod(0o555)
    revoked = multiprocessing.get_context("fork").Event()
    read = multiprocessing.get_context("fork").Event()

    def look() -> None:
        store = KeyStore(foreign_folder)
        assert not os.access(foreign_folder, os.W_OK)
        assert store.verify(secret, NOW) == key.caller
        with pytest.raises(SnapshotError, match="cannot be used"):
            store.create(["query"])
        read.set()
        assert revoked.wait(30)
        assert refusal(store, secret) == "key_revoked"
        assert store.verify(other, NOW)

    wait = in_child(look, NOBODY)
    assert read.wait(30)
    foreign_folder.chmod(0o755)
    path.chmod(0o644)
    made.revoke(key.caller.key_id)
    if not stays_open:  # what was written is in the file then, else in the log beside it
        made.close()
    foreign_folder.chmod(0o555)
    revoked.set()
    assert wait() == 0
    made.close()


def test_file_of_another_user_lets_nobody_in_and_is_not_empty(foreign_folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a file for another user")
    with closing(KeyStore(foreign_folder)) as made:
        made.create(["query"])

    def look() -> None:
        with pytest.raises(SnapshotError, match="check its owner"):
            KeyStore(foreign_folder).is_empty()

    assert in_child(look, NOBODY)() == 0


def test_times_are_told_to_the_minute_in_utc() -> None:
    assert [time_text(NOW), time_text(None)] == ["2027-01-15 08:00 UTC", "never"]
