"""A clock, pictures, concepts and the steps of a worker, for the tests of the service."""

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import Barrier, Lock
from typing import TypeVar

import numpy as np
from PIL import Image
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from perfusion_core.concept import Concept
from perfusion_core.evaluation.calibration import Calibration, Thresholds
from perfusion_core.evaluation.curve import Curve, Point, Proof, Similarity, recommended
from perfusion_core.evaluation.record import Evaluation, EvaluatorRef
from perfusion_core.imaging.thumbnails import of_png, thumbnail
from service import base_models
from service.base_models import RegisteredBaseModel
from service.blobs import keys
from service.concepts import files
from service.concepts import use_cases as concepts
from service.database.engine import Database
from service.database.tables import JobRow
from service.errors import Unavailable
from service.execution import claiming, leases
from service.execution.leases import (
    ClaimedJob,
    NewAttentionMap,
    NewImage,
    TrainedConcept,
)
from service.jobs.cells import cells_of
from service.jobs.payloads import GeneratePayload
from service.pictures.uploads import UploadedPicture
from service.statuses import Queue
from service.wiring import Service

T = TypeVar("T")
OWNER = "owner_a"
STRANGER = "owner_b"


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
        self._lock = Lock()  # keeps two threads that ask at once from turning the time back

    def __call__(self) -> datetime:
        with self._lock:
            self.now += timedelta(microseconds=1)
            return self.now

    def tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class LosingDatabase(Database):
    """A database that loses the answers to its commits whenever `loses` returns True."""

    def __init__(self, database: Database, *, loses: Callable[[], bool] = lambda: True) -> None:
        super().__init__(database.engine, clock=database._clock)
        self._loses = loses

    @contextmanager
    def write(self) -> Iterator[Session]:
        with super().write() as session:
            yield session
        self._answer()

    def run(self, act: Callable[[Connection, datetime], T]) -> T:
        result = super().run(act)
        self._answer()
        return result

    def _answer(self) -> None:
        if self._loses():
            raise Unavailable("database-unavailable", "The connection broke.")


@dataclass
class RecordedNotifier:
    """A notifier that records its calls and wakes no worker: tests claim jobs themselves."""

    notified: list[tuple[str, Queue]] = field(default_factory=list)
    broken: bool = False
    waiting_messages: int = 0  # messages that no worker has taken

    def notify(self, job_id: str, queue: Queue) -> bool:
        if self.broken:
            return False
        self.notified.append((job_id, queue))
        return True

    def notify_soon(self, job_id: str, queue: Queue) -> None:
        self.notify(job_id, queue)

    def pending(self, queue: Queue) -> int:
        return self.waiting_messages

    def check(self) -> None:
        if self.broken:
            raise ConnectionError

    def close(self) -> None:
        pass


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def picture(*, size: tuple[int, int] = (48, 40), seed: int = 0, alpha: bool = False) -> Image.Image:
    shape = (size[1], size[0], 4 if alpha else 3)
    pixels = np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)
    return Image.fromarray(pixels)


def uploaded(number: int = 1, *, seed: int = 0) -> list[UploadedPicture]:
    """Return pictures as `uploads.read_pictures` does, without its decoder process."""
    return [
        UploadedPicture(
            png=(png := encoded(picture(seed=seed + n))),
            width=48,
            height=40,
            has_alpha=False,
            sha256=f"{len(png):032x}{seed + n:032x}",
            uploaded_size=(48, 40),
        )
        for n in range(number)
    ]


def core_concept(name: str = "teddy", **changes: object) -> Concept:
    values: dict[str, object] = {
        "name": name,
        "superclass": "bear",
        "family": "sd1",
        "base_model_name": "tiny",
        "base_model_fingerprint": "base-1",
        "covariance_fingerprint": "cov-1",
        "o_v": np.linspace(0, 1, 64, dtype=np.float32),
        "i_star": np.linspace(1, 2, 16, dtype=np.float32),
        "e_super": np.linspace(3, 4, 16, dtype=np.float32),
        "embeddings": (np.linspace(2, 3, 16, dtype=np.float32),),
        "mask_source": "uniform",
        "training": {"max_train_steps": 5},
    }
    return Concept(**{**values, **changes})  # type: ignore[arg-type]


def evaluation(**changes: object) -> Evaluation:
    """Return the evaluation of a good concept, which is best at 0.6."""
    figures = ((0.2, 0.4, 0.3), (0.6, 0.7, 0.28), (0.9, 0.72, 0.2))
    curve: dict[str, object] = {
        "prompts": ("a photo of a {} on the beach",),
        "superclass": Similarity(0.35, 0.3),
        "ceiling": 0.75,
        "points": tuple(Point(s, Similarity(image, text)) for s, image, text in figures),
    }
    measured = Curve(**{**curve, **changes})  # type: ignore[arg-type]
    best = recommended(measured).similarity
    proof = Proof(
        judging="judging-1",
        images=(best.image,) * 8,
        windows=(best.image + 0.05,) * 8,
        text=best.text,
        superclass=measured.superclass,
    )
    return Evaluation(
        evaluator=EvaluatorRef("evaluator", "e" * 32),
        reference=np.full(4, 0.5, np.float32),
        curve=replace(measured, proof=proof) if "proof" not in changes else measured,
        thumbnails=tuple(thumbnail(picture(seed=k)) for k in range(3)),
    )


CALIBRATION = Calibration(
    base_model="base-1",
    evaluator="e" * 32,
    judging="judging-1",
    thresholds=Thresholds(gain=0.5, presence=0.75, kept=0.5),
)


def register_base_model(service: Service, **changes: object) -> None:
    values: dict[str, object] = {
        "name": "tiny",
        "fingerprint": "base-1",
        "covariance_fingerprint": "cov-1",
        "family": "sd1",
        "info": {
            "defaults": {"train": {"max_train_steps": 150}, "generate": {}},
            "calibration": CALIBRATION.to_json(),
        },
    }
    base_models.register_base_model(service, RegisteredBaseModel(**{**values, **changes}))  # type: ignore[arg-type]


def submit(service: Service, name: str = "teddy", *, owner_id: str = OWNER) -> str:
    """Create a concept; return the id of its job."""
    answer = concepts.create(
        service, owner_id, name=name, superclass="bear", pictures=uploaded(), training={}
    )
    return str(answer.body["job"]["id"])


def claim(service: Service, job_id: str, worker_id: str = "worker-1") -> ClaimedJob:
    claimed = try_to_claim(service, job_id, worker_id=worker_id)
    assert claimed is not None
    return claimed


def try_to_claim(service: Service, job_id: str, *, worker_id: str) -> ClaimedJob | None:
    """Claim this job, even out of turn; return None if it is not queued."""
    return claiming._claim(
        service,
        lambda now: JobRow.id == job_id,
        worker_id=worker_id,
        token=claiming.new_token(),
    )


def trained(
    service: Service, claimed: ClaimedJob, *, judged: bool = True, **curve: object
) -> TrainedConcept:
    """Store a concept file as a worker does; return what the worker reports about it."""
    evaluated = evaluation(**curve) if judged else None
    core = core_concept(claimed.payload["name"], evaluation=evaluated)
    data = core.to_bytes()
    key = f"jobs/{claimed.id}/{claimed.attempt}/concept.safetensors"
    service.blobs.put(key, data)
    return TrainedConcept(
        blob_key=key,
        sha256="5" * 64,
        size_bytes=len(data),
        base_model_name="tiny",
        base_model_fingerprint="base-1",
        covariance_fingerprint="cov-1",
        mask_source="uniform",
        training={"max_train_steps": 5},
        judgement=files.judgement_of(core, CALIBRATION),
        standing=files.standing_of(core, CALIBRATION),
    )


def generated(service: Service, claimed: ClaimedJob) -> list[NewImage]:
    images = []
    cells = cells_of(GeneratePayload.read(claimed.payload))
    wanted = [(cell, k) for cell in cells for k in range(cell.options.get("num_images", 1))]
    for index, (cell, k) in enumerate(wanted):
        key = f"jobs/{claimed.id}/{claimed.attempt}/{index}.png"
        service.blobs.put(key, data := encoded(picture(seed=index)))
        small = keys.thumbnail_key(claimed.id, claimed.attempt, index=index)
        service.blobs.put(small, of_png(data))
        image = NewImage(
            index=index, seed=cell.options["seed"] + k, width=48, height=40, blob_key=key,
            sha256="6" * 64, size_bytes=len(data), thumbnail_key=small, cell=cell.position,
            prompt=cell.prompt,
            concept_refs=tuple(ref for used in cell.concepts for ref in (used.id, used.name)),
            attention_maps=_maps(service, claimed, index=index),
        )  # fmt: skip
        images.append(image)
    return images


def _maps(
    service: Service, claimed: ClaimedJob, *, index: int
) -> tuple[NewAttentionMap, ...] | None:
    """Store an attention map of an article and one of each concept; return them."""
    if not claimed.payload["attention_maps"]:
        return None
    words = [("a", None)]
    words += [(f"<{concept['name']}>", concept["id"]) for concept in claimed.payload["concepts"]]
    maps = []
    for number, (word, concept_id) in enumerate(words):
        key = keys.attention_map_key(claimed.id, claimed.attempt, index=index, number=number)
        service.blobs.put(key, encoded(picture(seed=100 + number)))
        maps.append(
            NewAttentionMap(
                word=word, concept_id=concept_id, coverage=0.25, blob_key=key, sha256="7" * 64
            )
        )
    return tuple(maps)


def ready(service: Service, name: str = "teddy", *, owner_id: str = OWNER) -> str:
    """Create a concept and finish its training; return the id of its job."""
    claimed = claim(service, submit(service, name, owner_id=owner_id))
    assert leases.finish_training(service, claimed, trained=trained(service, claimed))
    return claimed.id


def at_once(acts: Sequence[Callable[[], object]]) -> None:
    """Run all of these in threads that start at the same moment; raise the first error."""
    gate = Barrier(len(acts))

    def do(act: Callable[[], object]) -> None:
        gate.wait(10)
        act()

    with ThreadPoolExecutor(len(acts)) as pool:
        for done in [pool.submit(do, act) for act in acts]:
            done.result(60)


def blob_keys(service: Service) -> set[str]:
    """Return the keys of all blobs except the one that names the deployment."""
    return {blob.key for blob in service.blobs.list()} - {keys.DEPLOYMENT_KEY}
