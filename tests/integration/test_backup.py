"""Backup and restore with real servers, as docs/operations.md says.

The test dumps the database first, then copies the bucket, and restores both into an empty
deployment.
"""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.blobs.keys import DEPLOYMENT_KEY
from tests.integration.stack.deployment import Deployment, ask_to_teach, wait_until
from tests.integration.stack.servers import Servers, postgres_programs


@pytest.fixture
def empty_deployment(servers: Servers, tmp_path: Path, tiny_base: Path) -> Iterator[Deployment]:
    """Yield a deployment with a database without tables and an empty bucket."""
    folder = tmp_path / "restored"
    folder.mkdir()
    deployment = Deployment(
        folder, servers.new_deployment(), base_model=tiny_base, evaluator="none"
    )
    yield deployment
    deployment.close()


@pytest.mark.servers
@pytest.mark.timeout(1500)
def test_a_backup_restored_into_an_empty_deployment_generates_from_an_old_concept(
    deploy: Callable[..., Deployment],
    empty_deployment: Deployment,
    servers: Servers,
    tiny_base: Path,
    tmp_path: Path,
) -> None:
    old = deploy(base_model=tiny_base, evaluator="none")
    api = old.api()
    api.start()
    worker = old.worker()
    worker.start()
    wait_until(api.is_ready, seconds=400)
    taught = api.wait_for(ask_to_teach(api.http, "rex"), seconds=300)
    assert taught["status"] == "succeeded"
    worker.terminate()
    waiting = ask_for_an_image(api.http)  # accepted, while no worker runs
    file = api.http.get("/concepts/rex/file").content
    dump = dump_database(old, tmp_path)
    bucket = copy_bucket(servers, old)
    assert bucket[DEPLOYMENT_KEY]  # copied with the files, as the deployment's id is with the rows
    api.process.terminate()

    new = empty_deployment
    restore_database(new, dump)
    restore_bucket(servers, new, bucket)
    new.migrate()
    api = new.api()
    api.start()
    new.worker().start()
    wait_until(api.is_ready, seconds=400)

    assert api.http.get("/concepts/rex/file").content == file
    assert api.wait_for(waiting, seconds=300)["status"] == "succeeded"
    again = api.wait_for(ask_for_an_image(api.http), seconds=300)
    first, second = (
        api.http.get(job["images"][0]["url"]).content for job in (api.job(waiting), again)
    )
    assert first.startswith(b"\x89PNG")
    assert first == second  # request, seed and concept are equal, also in the metadata


def ask_for_an_image(http: Any) -> str:
    request = {"prompt": "a photo of <rex>", "num_images": 1, "num_inference_steps": 4, "seed": 7}
    answer = http.post("/generate", json=request)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job"]["id"])


def dump_database(deployment: Deployment, folder: Path) -> Path:
    file = folder / "perfusion.dump"
    with file.open("wb") as out:
        _run("pg_dump", "--format=custom", _url(deployment), stdout=out)
    return file


def restore_database(deployment: Deployment, dump: Path) -> None:
    _run("pg_restore", "--exit-on-error", "--no-owner", "--dbname", _url(deployment), str(dump))


def copy_bucket(servers: Servers, deployment: Deployment) -> dict[str, bytes]:
    """Return every object of the deployment, by its key without the deployment's prefix."""
    prefix = _prefix(deployment)
    client = servers.s3.client()
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=servers.s3.bucket, Prefix=prefix
    )
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    assert keys
    return {
        key.removeprefix(prefix): client.get_object(Bucket=servers.s3.bucket, Key=key)[
            "Body"
        ].read()
        for key in keys
    }


def restore_bucket(servers: Servers, deployment: Deployment, objects: dict[str, bytes]) -> None:
    client = servers.s3.client()
    for key, data in objects.items():
        client.put_object(Bucket=servers.s3.bucket, Key=_prefix(deployment) + key, Body=data)


def _run(program: str, *arguments: str, **options: Any) -> None:
    subprocess.run([postgres_programs() / program, *arguments], check=True, **options)


def _url(deployment: Deployment) -> str:
    return deployment.environment["PERFUSION_DATABASE_URL"].replace("+psycopg", "")


def _prefix(deployment: Deployment) -> str:
    """Return the deployment's folder in the shared bucket."""
    return deployment.environment["PERFUSION_BLOBS_URL"].split("/", 3)[3] + "/"
