"""A worker makes the LoRAs that owners ask for, next to its jobs."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace

import pytest

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.export.lora import export_lora
from service.concepts import exports, files
from service.concepts.exports import FileFormat
from service.errors import Conflict
from service.wiring import Service
from tests.unit.worker.staging import OWNER, add_concept, wait_until
from worker.context import WorkerContext
from worker.exports import Exports


@pytest.fixture
def worker(context: WorkerContext) -> Exports:
    wait_until(lambda: context.model_loader.loaded)
    return Exports(context)


def ask(service: Service, name: str, file_format: FileFormat = "lora") -> bytes | None:
    """Return a file, or None if it is not made yet."""
    try:
        return exports.read(service, OWNER, ref=name, file_format=file_format).data
    except exports.NotMadeYet:
        return None


def test_a_worker_makes_the_lora_of_an_imported_concept_at_request(
    service: Service, worker: Exports, base: BaseModel, concept: Concept
) -> None:
    add_concept(service, concept)
    assert worker.make_requested() == 0
    assert ask(service, concept.name) is None
    assert worker.make_requested() == 1
    lora = ask(service, concept.name)
    assert lora == export_lora(base, concept, dtype="float16")
    assert worker.make_requested() == 0
    packed = ask(service, concept.name, "zip")
    assert packed is not None and packed == ask(service, concept.name, "zip")
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.read(f"{concept.name}.lora.safetensors") == lora


def test_a_file_whose_vectors_do_not_fit_does_not_keep_others_from_theirs(
    service: Service, worker: Exports, concept: Concept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imports refuse such a file; earlier releases did not."""
    short = tuple(vector[:-1] for vector in concept.embeddings)
    with monkeypatch.context() as earlier:
        earlier.setattr(files, "_check_sizes", lambda *_: None)
        add_concept(service, replace(concept, name="bad", embeddings=short))
    add_concept(service, concept)
    assert ask(service, "bad") is None
    assert ask(service, concept.name) is None
    assert worker.make_requested() == 2
    assert ask(service, concept.name)
    with pytest.raises(Conflict):
        ask(service, "bad")


def test_a_running_worker_answers_within_a_moment(
    service: Service, base: BaseModel, concept: Concept, make_context: Callable[[], WorkerContext]
) -> None:
    context = make_context()
    worker = Exports(context)
    worker.start()
    try:
        wait_until(lambda: context.model_loader.loaded)
        add_concept(service, concept)
        wait_until(lambda: ask(service, concept.name) is not None, timeout_seconds=30)
    finally:
        worker.stop()
