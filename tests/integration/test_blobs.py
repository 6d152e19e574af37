"""The same behaviour of four stores: a folder, SQLite, PostgreSQL and a real S3 server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.blobs.local import LocalBlobs
from service.blobs.store import BlobExists, BlobNotFound, Blobs

STORES = {"folder": "folder_blobs", "SQLite": "sqlite_blobs"}
SERVERS = {"PostgreSQL": "postgres_blobs", "S3": "s3_blobs"}
# Folders that a wildcard, a common prefix or another collation could confuse.
FOLDERS = ("jobs/j_1/", "jobs/jx1/", "jobs/j_1/1/", "jobs/j_10/", "jobs/j_1-/", "jobs/j-1/", "job/")


@pytest.fixture(
    params=[*STORES, *(pytest.param(name, marks=pytest.mark.servers) for name in SERVERS)]
)
def blobs(request: pytest.FixtureRequest) -> Blobs:
    store: Blobs = request.getfixturevalue((STORES | SERVERS)[request.param])
    return store


@pytest.fixture
def folder_blobs(tmp_path: Path) -> Iterator[LocalBlobs]:
    return LocalBlobs(tmp_path / "blobs")


def keys(blobs: Blobs, prefix: str = "") -> list[str]:
    return sorted(blob.key for blob in blobs.list(prefix))


def test_what_was_put_is_there_until_it_is_deleted(blobs: Blobs) -> None:
    blobs.put("jobs/j1/preview.png", b"one")
    blobs.put("jobs/j1/preview.png", b"two")
    assert blobs.get("jobs/j1/preview.png") == b"two"
    blobs.delete("jobs/j1/preview.png")
    blobs.delete("jobs/j1/preview.png")
    with pytest.raises(BlobNotFound):
        blobs.get("jobs/j1/preview.png")
    with pytest.raises(BlobNotFound):
        blobs.get("jobs/j1/none")
    blobs.check()


@pytest.mark.parametrize("data", [b"", b"\0\0", bytes(range(256)) * 5000], ids=len)
def test_bytes_come_back_as_they_were(blobs: Blobs, data: bytes) -> None:
    blobs.put("jobs/j1/1/0.png", data)
    assert blobs.get("jobs/j1/1/0.png") == data
    (stored,) = blobs.list()
    assert stored.size_bytes == len(data)


def test_what_a_row_names_is_never_replaced(blobs: Blobs) -> None:
    blobs.put_new("jobs/j1/1/0.png", b"result")
    blobs.put_new("jobs/j1/1/0.png", b"result")  # the answer to the first try was lost
    with pytest.raises(BlobExists):
        blobs.put_new("jobs/j1/1/0.png", b"another")
    assert blobs.get("jobs/j1/1/0.png") == b"result"


def test_a_folder_is_listed_and_deleted_alone(blobs: Blobs) -> None:
    for folder in FOLDERS:
        blobs.put(f"{folder}a", folder.encode())
    assert keys(blobs, "jobs/j_1/") == ["jobs/j_1/1/a", "jobs/j_1/a"]
    blobs.delete_prefix("jobs/j_1/")
    blobs.delete_prefix("jobs/none/")
    assert keys(blobs) == sorted(
        f"{folder}a" for folder in FOLDERS if not folder.startswith("jobs/j_1/")
    )
    with pytest.raises(ValueError, match="every blob"):
        blobs.delete_prefix("")


def test_a_listing_says_when_a_blob_was_last_written(blobs: Blobs) -> None:
    blobs.put("jobs/j1/1/0.png", b"old")
    (first,) = blobs.list()
    blobs.put("jobs/j1/1/0.png", b"new")
    (second,) = blobs.list()
    assert first.modified_at <= second.modified_at
    assert abs(datetime.now(UTC) - second.modified_at) < timedelta(minutes=1)


def test_blobs_may_be_deleted_while_they_are_listed(blobs: Blobs) -> None:
    for number in range(12):
        blobs.put(f"jobs/j{number}/1/0.png", b"x")
    for blob in blobs.list():
        blobs.delete(blob.key)
    assert keys(blobs) == []


def test_a_key_that_is_no_plain_path_is_a_bug(blobs: Blobs) -> None:
    for key in ("", "/", "../x", "a//b", "a/", ".hidden", "a b", "x" * 201):
        for use in (blobs.get, blobs.delete, lambda name: blobs.put(name, b"")):
            with pytest.raises(ValueError, match="unsafe"):
                use(key)
    with pytest.raises(ValueError, match="ends with /"):
        blobs.delete_prefix("jobs/j1")


NAMES = st.sampled_from([f"{folder}{name}" for folder in FOLDERS for name in "ab"])
DATA = st.binary(max_size=3)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), NAMES, DATA),
        st.tuples(st.just("put_new"), NAMES, DATA),
        st.tuples(st.just("delete"), NAMES),
        st.tuples(st.just("delete_prefix"), st.sampled_from(FOLDERS)),
    ),
    max_size=12,
)


@settings(
    max_examples=20,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(actions=ACTIONS)
def test_a_store_is_a_dictionary_whatever_is_done_to_it(
    blobs: Blobs, actions: list[tuple[str, str, bytes]]
) -> None:
    for blob in list(blobs.list()):
        blobs.delete(blob.key)
    model: dict[str, bytes] = {}
    for action, key, *data in actions:
        match action:
            case "put":
                blobs.put(key, *data)
                model[key] = data[0]
            case "put_new" if model.get(key, data[0]) != data[0]:
                with pytest.raises(BlobExists):
                    blobs.put_new(key, *data)
            case "put_new":
                blobs.put_new(key, *data)
                model[key] = data[0]
            case "delete":
                blobs.delete(key)
                model.pop(key, None)
            case "delete_prefix":
                blobs.delete_prefix(key)
                model = {name: held for name, held in model.items() if not name.startswith(key)}
    assert {blob.key: blobs.get(blob.key) for blob in blobs.list()} == model
    for folder in FOLDERS:
        assert keys(blobs, folder) == sorted(name for name in model if name.startswith(folder))
