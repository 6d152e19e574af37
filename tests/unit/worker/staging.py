"""What the worker's tests stage: pictures drawn here, and jobs accepted by the service."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from sqlalchemy import select

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.config import BaseModelDefaults
from perfusion_core.covariance.captions import captions
from service.blobs import keys
from service.concepts import imports
from service.concepts import use_cases as concepts
from service.database.tables import JobEventRow
from service.execution.leases import ClaimedJob
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import use_cases as jobs
from service.jobs.views import JobView
from service.pictures.crops import Crop
from service.pictures.uploads import UploadedPicture
from service.statuses import JobKind, Queue
from service.wiring import Service
from tests.unit.perfusion_core.conftest import drawing, tiny_pipeline
from tests.unit.service import staging
from worker import context as composition
from worker.context import WorkerContext
from worker.heartbeat import Heartbeat
from worker.runner import Runner, Work

OWNER = "local"


def noise_model() -> BaseModel:
    """A base model of a few thousand weights, which draws noise and is quick about it."""
    tiny = BaseModel.from_pipeline(tiny_pipeline("sd1"), name="tiny", device="cpu")
    tiny.override_defaults(BaseModelDefaults(generate={"num_inference_steps": 3}))
    tiny.estimate_covariance(captions(300, known=tiny.knows_word))
    return tiny


@contextmanager
def workers(service: Service, base: BaseModel) -> Iterator[Callable[[], WorkerContext]]:
    """Makes workers without consumers: tests bring the job ids themselves."""
    built: list[WorkerContext] = []

    def make() -> WorkerContext:
        context = composition.build(service, base=base)
        context.model_loader.start()
        assert context.model_loader.wait(timeout_seconds=10)
        context.engine.start()
        built.append(context)
        return context

    yield make
    for context in built:
        context.draining.set()
        context.halted.set()
        context.engine.stop()


def accept_training(
    service: Service, *, name: str = "rex", crop: Crop | None = None, **options: Any
) -> str:
    """Accept a training and return its job's id."""
    file = io.BytesIO()
    drawing().save(file, "PNG")
    picture = UploadedPicture(
        png=file.getvalue(),
        width=64,
        height=64,
        has_alpha=False,
        sha256="0" * 64,
        uploaded_size=(64, 64),
    )
    answer = concepts.create(
        service,
        OWNER,
        name=name,
        superclass="robot",
        pictures=[picture],
        crops=[crop],
        training={"max_train_steps": 3, "train_batch_size": 1, **options},
    )
    return str(answer.body["job"]["id"])


def accept_generation(service: Service, prompt: str = "a photo of a dog", **options: Any) -> str:
    """Accept a generation and return its job's id."""
    body = GenerateRequest(prompt=prompt, **{"num_inference_steps": 2, "seed": 5, **options})
    return str(generations.request(service, OWNER, body=body).body["job"]["id"])


def look_at(service: Service, job_id: str) -> JobView:
    return jobs.get(service, OWNER, job_id=job_id)


def claim(service: Service, job_id: str, worker_id: str = "somebody") -> ClaimedJob:
    return staging.claim(service, job_id, worker_id=worker_id)


def add_concept(service: Service, concept: Concept) -> str:
    """Import a concept and return its blob's key."""
    view = imports.import_file(service, OWNER, data=concept.to_bytes())
    return keys.imported_concept_key(view.id)


def events(service: Service, job_id: str) -> list[tuple[str, int]]:
    """The audit of a job: each status that it came to, and in which attempt."""
    with service.database.read() as session:
        rows = session.scalars(
            select(JobEventRow).where(JobEventRow.job_id == job_id).order_by(JobEventRow.id)
        )
        return [(row.to_status, row.attempt) for row in rows]


def blob_keys(service: Service, prefix: str = "") -> list[str]:
    return sorted(blob.key for blob in service.blobs.list(prefix))


def in_thread(run: Callable[[Queue], None], queue: Queue) -> Thread:
    thread = Thread(target=run, args=(queue,), daemon=True)
    thread.start()
    return thread


def wait_until(true: Callable[[], bool], *, timeout_seconds: float = 60) -> None:
    give_up_at = time.monotonic() + timeout_seconds
    while not true():
        assert time.monotonic() < give_up_at, "waited in vain"
        time.sleep(0.02)


def works_until(released: Event, *, result: Callable[[ClaimedJob], bool]) -> Work:
    """Work that takes steps until the test lets it end."""

    def work(context: WorkerContext, claimed: ClaimedJob, heartbeat: Heartbeat) -> bool:
        context.service.blobs.put(f"{keys.attempt_prefix(claimed.id, claimed.attempt)}0.png", b"x")
        step = 0
        while not released.is_set():
            step += 1
            heartbeat.report(step, 1000)
            heartbeat.check()
            time.sleep(0.01)
        return result(claimed)

    return work


def runner_of(context: WorkerContext, work: Work) -> Runner:
    return Runner(context, work={JobKind.TRAIN: work, JobKind.GENERATE: work})


def failing(error: Exception) -> Work:
    def work(context: WorkerContext, claimed: ClaimedJob, heartbeat: Heartbeat) -> bool:
        raise error

    return work
