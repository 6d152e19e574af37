"""`perfusion blobs`, and a start whose database and blob store do not belong together."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service import wiring
from service.blobs.keys import DEPLOYMENT_KEY
from service.settings import environment
from service.wiring import Service
from tests.unit.api.cli.test_commands import Run, refused, run
from tests.unit.service.staging import blob_keys

__all__ = ["run"]  # the fixture
ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def migrated(run: Run) -> None:
    """Prepare a folder with one database and one folder of files."""
    assert run("keys", "list")[0] == 0


def leave_orphans(folder: Path, count: int, *, age_seconds: float = 7200) -> set[str]:
    keys = {f"jobs/job_gone/1/{number}.png" for number in range(count)}
    for key in keys:
        file = folder / "data/blobs" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
        then = time.time() - age_seconds
        os.utime(file, (then, then))
    return keys


def stored(folder: Path) -> set[str]:
    service: Service = wiring.build(environment.load({"PERFUSION_DATA_DIR": str(folder / "data")}))
    try:
        return blob_keys(service)
    finally:
        service.close()


def test_files_that_no_row_names_are_listed_and_removed(run: Run, tmp_path: Path) -> None:
    assert run("blobs", "adopt")[0] == 0
    keys = leave_orphans(tmp_path, 3)
    code, listed, _ = run("blobs", "collect", "--dry-run")
    assert code == 0
    assert set(listed.split()) == keys == stored(tmp_path)
    code, listed, _ = run("blobs", "collect")
    assert code == 0
    assert set(listed.split()) == keys
    assert stored(tmp_path) == set()


def test_too_many_are_removed_only_when_all_are_asked_for(run: Run, tmp_path: Path) -> None:
    assert run("blobs", "adopt")[0] == 0
    keys = leave_orphans(tmp_path, 21)
    code, listed, told = run("blobs", "collect")
    assert code == 1
    assert set(listed.split()) == keys == stored(tmp_path)
    assert "collect --all" in told
    code, listed, _ = run("blobs", "collect", "--all")
    assert code == 0
    assert set(listed.split()) == keys
    assert stored(tmp_path) == set()


def test_young_files_go_only_with_a_shorter_grace(run: Run, tmp_path: Path) -> None:
    assert run("blobs", "adopt")[0] == 0
    keys = leave_orphans(tmp_path, 1, age_seconds=60)
    assert run("blobs", "collect", "--all")[1] == ""
    assert stored(tmp_path) == keys
    assert run("blobs", "collect", "--grace", "0")[0] == 0
    assert stored(tmp_path) == set()


def test_a_server_above_the_files_of_another_database_starts_when_an_operator_adopts_them(
    run: Run, tmp_path: Path
) -> None:
    """The SQLite file was lost, or the setting names another one by mistake."""
    keys = leave_orphans(tmp_path, 2)
    for arguments in (("serve", "--port", "0"), ("blobs", "collect", "--all")):
        assert "perfusion blobs adopt" in refused(run(*arguments))
    assert stored(tmp_path) == keys
    code, told, warned = run("blobs", "adopt")
    assert code == 0
    assert "No row names 2 of the 3 files" in warned
    assert (tmp_path / "data/blobs" / DEPLOYMENT_KEY).read_text() in told
    assert run("blobs", "collect")[0] == 0
    assert stored(tmp_path) == set()


def test_a_worker_above_the_files_of_another_database_ends_with_a_sentence(tmp_path: Path) -> None:
    leave_orphans(tmp_path, 2)
    done = subprocess.run(  # it handles signals, so it needs a process of its own
        [sys.executable, "-m", "api", "worker"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PERFUSION_QUEUE_URL": "redis://127.0.0.1:1",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "perfusion blobs adopt" in done.stderr.splitlines()[-1]
