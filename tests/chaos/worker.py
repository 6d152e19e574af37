"""A worker whose jobs only sleep, without torch. Everything else is the product's own code.

Queue, slots, claims, heartbeats, blobs, fenced ends, repairs and the drain are those of
`perfusion worker`. A job takes as many steps as it asks for.
"""

import hashlib
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

from service import log, wiring
from service.blobs import keys
from service.database.tables import JobRow
from service.errors import Unavailable
from service.execution import checkpoints, heartbeats, leases
from service.jobs.lease_types import ClaimedJob, NewImage, TrainedConcept
from service.settings import environment
from service.statuses import JobKind, Queue
from tests.chaos import disk
from worker import main as process
from worker.context import WorkerContext, new_worker_id
from worker.embedded import Embedded
from worker.errors import Draining
from worker.heartbeat import Heartbeat

JOURNAL = "CHAOS_JOURNAL"
MUTANT = "CHAOS_WITHOUT_LEASE_TOKEN"
STEP_SECONDS = 0.1
SLOTS = {Queue.GENERATE.value: 4, Queue.TRAIN.value: 1}


class Loaded:
    """A model loader whose base model is always loaded."""

    loaded = True
    problem = None

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def wait(self) -> bool:
        return True

    def base(self) -> Any:
        return SimpleNamespace(device="none", fingerprint="none", covariance_fingerprint="none")


def generate(context: WorkerContext, claimed: ClaimedJob, heartbeat: Heartbeat) -> bool:
    steps = claimed.payload["config"]["num_inference_steps"]
    for step in range(steps):
        heartbeat.check()
        time.sleep(STEP_SECONDS)
        heartbeat.report(step + 1, steps)
    heartbeat.check()
    images = []
    config = claimed.payload["config"]
    for index in range(config.get("num_images", 1)):
        key = f"{keys.attempt_prefix(claimed.id, claimed.attempt)}{index}.png"
        context.service.blobs.put_new(key, key.encode())
        images.append(
            NewImage(
                index=index,
                seed=config["seed"] + index,
                width=8,
                height=8,
                blob_key=key,
                sha256=_sha256(key),
                size_bytes=len(key),
            )
        )
    won = heartbeat.retry_while_unavailable(
        lambda: leases.finish_generation(context.service, claimed, images=images)
    )
    return _noted(claimed, won)


def train(context: WorkerContext, claimed: ClaimedJob, heartbeat: Heartbeat) -> bool:
    state = checkpoints.read_state(context.service, claimed)
    done = int(state or 0)

    def save(step: int) -> None:
        checkpoints.save_state(context.service, claimed, state=str(step).encode(), step=step)

    steps = claimed.payload["training"]["max_train_steps"]
    for step in range(done, steps):
        try:
            heartbeat.check()
        except Draining:
            save(step)
            raise
        time.sleep(STEP_SECONDS)
        heartbeat.report(step + 1, steps)
        if step % 5 == 0:
            with suppress(Unavailable):
                save(step)
    heartbeat.check()
    key = f"{keys.attempt_prefix(claimed.id, claimed.attempt)}concept.safetensors"
    context.service.blobs.put_new(key, key.encode())
    trained = TrainedConcept(
        blob_key=key,
        sha256=_sha256(key),
        size_bytes=len(key),
        base_model_name="none",
        base_model_fingerprint="none",
        covariance_fingerprint="none",
        mask_source="uniform",
        training={"steps_of_this_attempt": steps - done},
    )
    won = heartbeat.retry_while_unavailable(
        lambda: leases.finish_training(context.service, claimed, trained=trained)
    )
    return _noted(claimed, won)


def build(service: wiring.Service) -> Embedded:
    """Return a worker on all queues, not started yet."""
    engine: Any = SimpleNamespace(start=lambda: None, stop=lambda *, timeout_seconds: True)
    model_loader: Any = Loaded()
    context = WorkerContext(
        service=service,
        worker_id=new_worker_id(),
        model_loader=model_loader,
        engine=engine,
        concepts=engine,
    )
    work = {JobKind.GENERATE: generate, JobKind.TRAIN: train}
    return Embedded(context, slots=SLOTS, work=work)


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _noted(claimed: ClaimedJob, won: bool) -> bool:
    """Note in the journal that this attempt was told of its success, for a check of the rows."""
    if won and JOURNAL in os.environ:
        # A full disk only loses the note.
        with suppress(OSError), Path(os.environ[JOURNAL]).open("a") as journal:
            journal.write(f"{claimed.id} {claimed.attempt}\n")
    return won


def _forget_the_lease_token() -> None:
    for module in (leases, heartbeats):
        module.held = lambda claimed: (JobRow.id == claimed.id,)  # type: ignore[attr-defined]


def main() -> None:
    if disk.FLAG in os.environ:
        disk.install()
    if os.environ.get(MUTANT):
        _forget_the_lease_token()
    chosen = environment.load()
    log.configure(chosen)
    signalled: Event = process.listen_for_signals()
    worker = build(wiring.build(chosen))
    worker.start()
    process.stay(worker, signalled)


if __name__ == "__main__":
    sys.exit(main())
