"""The embedded default with `sql:`, where one file is the whole deployment."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration.stack.deployment import photos
from tests.integration.stack.server import Server


@pytest.fixture
def serve(tmp_path: Path, tiny_base: Path) -> Iterator[Callable[[str], Server]]:
    """Return a function that makes servers with their own data folders, not started yet."""
    made: list[Server] = []

    def make(name: str) -> Server:
        folder = tmp_path / name
        (folder / "data").mkdir(parents=True)
        settings = {"base_model": tiny_base, "evaluator": "none", "blobs_url": "sql:"}
        made.append(Server(folder, checkpoint_seconds=0.2, **settings))
        return made[-1]

    yield make
    for server in made:
        server.close()


def test_one_file_copied_while_it_is_in_use_is_the_whole_deployment(
    serve: Callable[[str], Server],
) -> None:
    first, second = serve("first"), serve("second")
    first.start()
    drawn = use_everything(first)
    before = files(first, drawn)
    waiting = first.post_training(photos(), name="ada", max_train_steps=2000)
    first.wait_until(lambda: first.job(waiting)["progress"]["step"] > 0)
    # The data folder holds the database, and what a worker computes and caches.
    names = {file.name for file in (first.folder / "data").iterdir()}
    assert {"perfusion.db", "perfusion.db-wal", "perfusion.db-shm"} <= names
    assert "blobs" not in names

    copy_database(first, second)
    with closing(sqlite3.connect(second.folder / "data" / "perfusion.db")) as copy:
        assert copy.execute("SELECT 1 FROM blobs").fetchone()
    first.kill()
    # A blob that is written inside a transaction would wait for it: a deadlock, logged as a fault.
    assert "database_fault" not in first.log
    second.start()
    assert files(second, second.job(drawn["id"])) == before
    second.wait_until(lambda: second.job(waiting)["status"] == "running")  # the copy continues it
    again = finished(second, second.post_generation("<rex>", num_inference_steps=2, seed=7))
    assert second.http.get(again["images"][0]["url"]).content.startswith(b"\x89PNG")


def use_everything(server: Server) -> dict[str, Any]:
    """Write, read and delete blobs in every way that a client can; return the job of an image."""
    taught = finished(server, server.post_training(photos(), name="rex", max_train_steps=90))
    assert server.http.get(f"/jobs/{taught['id']}/preview").status_code == 200
    cancelled = server.post_training(photos(), name="ada", max_train_steps=2000)
    server.wait_until(lambda: server.job(cancelled)["progress"]["step"] > 0)
    assert server.http.post(f"/jobs/{cancelled}/cancel").status_code == 202
    server.wait_for(cancelled)
    file = server.http.get("/concepts/rex/file").content
    imported = {"files": {"file": ("rex.safetensors", file)}, "data": {"name": "copy"}}
    assert server.http.post("/concepts/import", **imported).status_code == 201
    for name in ("copy", "ada"):
        assert server.http.delete(f"/concepts/{name}").status_code in (200, 204)
    return finished(
        server, server.post_generation("<rex>", num_inference_steps=2, attention_maps=True)
    )


def finished(server: Server, job_id: str) -> dict[str, Any]:
    job = server.wait_for(job_id)
    assert job["status"] == "succeeded", job["error"]
    return job


def files(server: Server, drawn: dict[str, Any]) -> list[bytes]:
    """Return the concept's file, the image and its attention maps."""
    (image,) = drawn["images"]
    paths = [
        "/concepts/rex/file",
        image["url"],
        *(shown["url"] for shown in image["attention_maps"]),
    ]
    answers = [server.http.get(path) for path in paths]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.content for answer in answers]


def copy_database(source: Server, target: Server) -> None:
    """Copy the database of a running server at one moment, as docs/operations.md says."""
    with closing(sqlite3.connect(source.folder / "data" / "perfusion.db")) as database:
        database.execute("VACUUM INTO ?", (str(target.folder / "data" / "perfusion.db"),))
