"""`perfusion health`, which the worker containers' health checks run."""

import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

import migrations
from api.cli.errors import CommandError
from api.cli.health import health
from service import wiring, workers
from service.database.tables import WorkerRow
from service.settings.environment import load
from service.wiring import Service

HERE = f"{socket.gethostname()}-7-abcdef"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("PERFUSION_DATA_DIR", str(tmp_path))
    settings = load()
    migrations.upgrade(settings.database_url)
    service = wiring.build(settings)
    yield service
    service.close()


def test_a_worker_that_gives_signs_of_life_is_healthy(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandError, match="No worker"):
        health("train")
    workers.seen(service, HERE, queues=["train"], device="cpu")
    health("train")
    assert capsys.readouterr().out.strip() == HERE


def test_a_worker_speaks_for_its_own_queues_only(service: Service) -> None:
    workers.seen(service, HERE, queues=["generate", "train"], device="cpu")
    health("train, generate")
    with pytest.raises(CommandError, match="on train is alive"):
        health("train")


def test_another_machine_s_worker_says_nothing_about_this_one(service: Service) -> None:
    for machine in ("elsewhere", f"{socket.gethostname()}-2"):
        workers.seen(service, workers.new_id(machine, 7), queues=["train"], device="cpu")
    with pytest.raises(CommandError, match="No worker"):
        health("train")


def test_an_old_sign_of_life_is_none(service: Service) -> None:
    workers.seen(service, HERE, queues=["train"], device="cpu")
    with service.database.write() as session:
        lease = timedelta(seconds=service.settings.lease_seconds)
        past = service.database.now(session) - lease - timedelta(seconds=1)
        session.execute(update(WorkerRow).values(seen_at=past))
    with pytest.raises(CommandError):
        health("train")
