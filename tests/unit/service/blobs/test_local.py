"""Local blobs are whole or absent, and never lie outside their folder."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.blobs import keys, local
from service.blobs.local import LocalBlobs
from service.blobs.store import check_key, check_prefix
from service.errors import Unavailable


@pytest.fixture
def store(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


def test_deleting_leaves_no_empty_folders(store: LocalBlobs, tmp_path: Path) -> None:
    store.put("jobs/j1/1/a", b"x")
    store.put("pictures/p/0.png", b"x")
    store.delete("jobs/j1/1/a")
    store.delete_prefix("pictures/p/")
    assert list((tmp_path / "blobs").iterdir()) == []


def test_a_write_that_fails_leaves_nothing(store: LocalBlobs, tmp_path: Path) -> None:
    store.put("a/b", b"old")
    with pytest.raises(TypeError):
        store.put("a/b", "no bytes")  # type: ignore[arg-type]
    assert store.get("a/b") == b"old"
    assert [file.name for file in (tmp_path / "blobs" / "a").iterdir()] == ["b"]


def test_a_blob_is_on_the_disk_before_its_name_is_and_its_name_before_anyone_is_told(
    store: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check the order of writes and fsyncs, because a test cannot cut the power."""
    target, fsync = tmp_path / "blobs" / "jobs" / "j1" / "0.png", os.fsync
    synced: list[tuple[int, bool, int]] = []

    def record(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.append((status.st_ino, target.exists(), status.st_size))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    store.put("jobs/j1/0.png", b"whole")
    file = target.stat().st_ino
    assert (file, False, len(b"whole")) in synced
    # First each new folder's name in its parent folder, then the folder that holds the blob's name.
    folders = [folder.stat().st_ino for folder in target.parents]
    named = [(inode, exists) for inode, exists, _ in synced if inode != file]
    assert named == [*((inode, False) for inode in folders[3:0:-1]), (folders[0], True)]


def test_a_folder_that_goes_empty_while_a_blob_is_on_its_way_there_is_made_again(
    store: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder, lost = local._make_folder, []

    def make_and_lose(folder: Path) -> None:
        make_folder(folder)
        if folder.name == "1" and not lost:
            lost.append(folder)
            store.delete("jobs/j1/1/other.png")  # by another thread, and with it the empty folders
            assert not folder.exists()

    monkeypatch.setattr(local, "_make_folder", make_and_lose)
    store.put("jobs/j1/1/0.png", b"x")
    assert lost and store.get("jobs/j1/1/0.png") == b"x"


def test_a_write_in_progress_is_not_listed(store: LocalBlobs, tmp_path: Path) -> None:
    store.put("a/b", b"x")
    (tmp_path / "blobs" / "a" / ".part-1").write_bytes(b"half")
    assert [blob.key for blob in store.list()] == ["a/b"]


def test_what_a_killed_write_left_behind_goes_after_the_grace(
    store: LocalBlobs, tmp_path: Path
) -> None:
    store.put("jobs/j1/1/0.png", b"x")
    now = datetime.now(UTC)
    for name, age in (("old", timedelta(hours=2)), ("young", timedelta(minutes=5))):
        file = tmp_path / "blobs" / "pictures" / name / ".part-1"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"half of a private picture")
        modified_at = (now - age).timestamp()
        os.utime(file, (modified_at, modified_at))
    assert store.clear_unfinished(older_than=now - timedelta(hours=1)) == 1
    assert [folder.name for folder in (tmp_path / "blobs" / "pictures").iterdir()] == ["young"]
    assert store.get("jobs/j1/1/0.png") == b"x"


@pytest.mark.parametrize(
    "key",
    ["", "/", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".hidden", "a/.part-1", "a\0b",
     "a b", "ä", "a\\b", "x" * 201, "-rf", "a/..", "a\n"],
)  # fmt: skip
def test_a_key_that_is_no_plain_path_is_a_bug(store: LocalBlobs, key: str) -> None:
    for use in (check_key, store.get, store.delete, lambda name: store.put(name, b"")):
        with pytest.raises(ValueError, match="unsafe"):
            use(key)
    with pytest.raises(ValueError, match=r"prefix|unsafe"):
        check_prefix(f"{key}/" if key else "x")


def test_a_folder_that_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    broken = LocalBlobs(tmp_path / "file" / "blobs")
    for use in (broken.check, lambda: broken.put("a", b""), lambda: broken.get("a")):
        with pytest.raises(Unavailable):
            use()
    LocalBlobs(tmp_path / "fresh").check()


def test_every_key_function_makes_a_safe_key() -> None:
    for key in (
        keys.picture_key("concept_1", 0),
        keys.mask_key("concept_1", 19),
        keys.imported_concept_key("concept_1"),
        keys.state_key("job_1", 2),
        keys.preview_key("job_1", 2),
    ):
        assert check_key(key) == key
    for prefix in (
        keys.pictures_prefix("concept_1"),
        keys.job_prefix("job_1"),
        keys.attempt_prefix("job_1", 3),
    ):
        assert check_prefix(prefix) == prefix
