"""A generation job: the PNG files say how they were made, and are the same for the same seed."""

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import select

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.conditioning import ConceptUse
from perfusion_core.encodings import superclass_encoding
from perfusion_core.sampling import sampler
from perfusion_core.strength import beta_from_strength
from service.concepts import imports
from service.concepts import use_cases as concepts
from service.database.tables import ImageRow
from service.errors import problem
from service.execution import leases
from service.images import use_cases as images
from service.jobs import use_cases as jobs
from service.jobs.views import JobWarning
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.worker.staging import (
    OWNER,
    accept_generation,
    add_concept,
    claim,
    in_thread,
    look_at,
    wait_until,
)
from worker.context import WorkerContext
from worker.runner import Runner


def generated(service: Service, context: WorkerContext, prompt: str, **options: Any) -> list[bytes]:
    job_id = accept_generation(service, prompt, **options)
    Runner(context).run(Queue.GENERATE)
    job = look_at(service, job_id)
    assert job.status is JobStatus.SUCCEEDED, job.error
    return [jobs.read_image(service, OWNER, image_id=image.id).data for image in job.images]


def opened(data: bytes) -> Any:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_the_same_request_gives_the_same_bytes_and_another_seed_gives_others(
    service: Service, context: WorkerContext, concept: Concept
) -> None:
    add_concept(service, concept)
    first = generated(service, context, "a photo of a <rex>", num_images=2)
    second = generated(service, context, "a photo of a <rex>", num_images=2)
    assert first == second
    assert first[0] != first[1]
    assert generated(service, context, "a photo of a <rex>", seed=6)[0] != first[0]


def test_a_job_gives_the_pixels_of_the_library_call(
    service: Service, context: WorkerContext, base: BaseModel, concept: Concept
) -> None:
    add_concept(service, concept)
    data = generated(service, context, "a <rex:0.6> in the snow", num_inference_steps=3)[0]
    config = base.defaults.generate_config({"num_inference_steps": 3, "seed": 5})
    use = ConceptUse(concept, beta=beta_from_strength(0.6))
    expected = sampler.generate(
        base, "a <rex:0.6> in the snow", concepts={"rex": use}, config=config
    )
    assert np.array_equal(np.asarray(opened(data)), np.asarray(expected[0]))


def test_the_parameters_chunk_reads_like_a_web_uis(
    service: Service, context: WorkerContext
) -> None:
    data = generated(
        service,
        context,
        "a photo of a dog",
        negative_prompt="blurry, dark",
        guidance_scale=6.0,
        scheduler="dpmpp_2m",
    )[0]
    base = context.model_loader.base()
    side = base.default_resolution
    assert opened(data).text["parameters"] == (
        "a photo of a dog\n"
        "Negative prompt: blurry, dark\n"
        f"Steps: 2, Sampler: DPM++ 2M, CFG scale: 6, Seed: 5, Size: {side}x{side}, "
        f"Model hash: {base.fingerprint[:10]}, Model: {base.name}"
    )


def test_the_perfusion_chunk_holds_all_that_the_image_depends_on(
    service: Service, context: WorkerContext, concept: Concept
) -> None:
    add_concept(service, concept)
    second = generated(service, context, "a <rex:0.6>, ünïcode", num_images=2)[1]
    about = json.loads(opened(second).text["perfusion"])
    assert about["seed"] == 6
    assert about["request"]["seed"] == 5
    assert about["request"]["prompt"] == "a <rex:0.6>, ünïcode"
    assert about["base_model"]["fingerprint"] == context.model_loader.base().fingerprint
    (used,) = about["concepts"]
    assert used["name"] == "rex"
    assert used["beta"] == beta_from_strength(0.6)
    assert len(used["sha256"]) == 64
    assert "job" not in second.decode("latin-1")


def test_jobs_side_by_side_share_batches_and_all_succeed(
    service: Service, context: WorkerContext
) -> None:
    job_ids = [accept_generation(service, f"a photo of {n} dogs", seed=n) for n in range(5)]
    threads = [in_thread(Runner(context).run, Queue.GENERATE) for _ in job_ids]
    for thread in threads:
        thread.join(60)
    together = [look_at(service, job_id) for job_id in job_ids]
    assert {job.status for job in together} == {JobStatus.SUCCEEDED}
    alone = opened(generated(service, context, "a photo of 3 dogs", seed=3)[0])
    image_id = together[3].images[0].id
    beside = opened(jobs.read_image(service, OWNER, image_id=image_id).data)
    apart = np.abs(np.asarray(alone, np.int16) - np.asarray(beside, np.int16))
    assert apart.max() <= 1


def test_an_imported_concept_is_used_under_the_name_that_its_owner_gave_it(
    service: Service, context: WorkerContext, concept: Concept
) -> None:
    imports.import_file(service, OWNER, data=concept.to_bytes(), name="dino")
    assert len(generated(service, context, "a photo of a <dino>")) == 1


def test_maps_come_beside_an_image_that_is_the_same_file_without_them(
    service: Service, context: WorkerContext, concept: Concept
) -> None:
    add_concept(service, concept)
    prompt, size = "a <rex> on the beach", {"width": 32}
    plain = generated(service, context, prompt, **size)
    job_id = accept_generation(service, prompt, attention_maps=True, **size)
    Runner(context).run(Queue.GENERATE)
    (image,) = look_at(service, job_id).images
    assert [jobs.read_image(service, OWNER, image_id=image.id).data] == plain
    assert image.attention_maps is not None
    assert [attention_map.word for attention_map in image.attention_maps] == [
        "a",
        "<rex>",
        "on",
        "the",
        "beach",
    ]
    rex = concepts.get(service, OWNER, ref="rex")
    assert [attention_map.concept_id for attention_map in image.attention_maps] == [
        None,
        rex.id,
        None,
        None,
        None,
    ]
    drawn = [
        jobs.read_attention_map(service, OWNER, image_id=image.id, number=k).data for k in range(5)
    ]
    assert len(set(drawn)) == 5
    with service.database.read() as session:
        stored = session.scalar(select(ImageRow.size_bytes).where(ImageRow.id == image.id))
    thumbnail = images.read_thumbnail(service, OWNER, image_id=image.id).data
    assert stored == len(plain[0]) + len(thumbnail) + sum(map(len, drawn))
    for attention_map in image.attention_maps:
        assert 0 <= attention_map.coverage <= 1
    for data in drawn:
        assert opened(data).size == (32, 16) and opened(data).info == {}


def test_the_words_of_a_prompt_that_are_not_read_are_told(
    service: Service, context: WorkerContext, concept: Concept
) -> None:
    add_concept(service, concept)
    long = accept_generation(
        service, "a <rex>" + " cat" * 90 + " dog", num_inference_steps=1,
        negative_prompt="tree " * 40 + "moon",
    )  # fmt: skip
    fits = accept_generation(service, "a <rex> at night", num_inference_steps=1)
    for _ in range(2):
        Runner(context).run(Queue.GENERATE)
    own, negative = look_at(service, long).warnings
    assert own.type == negative.type == "/problems/prompt-cut"
    assert own.detail.startswith("The prompt is") and "cat …'" in own.detail
    assert negative.detail.startswith("The negative prompt is") and "moon'" in negative.detail
    assert own.concepts == ()
    assert look_at(service, fits).warnings == ()


def test_concepts_that_may_blend_are_told_before_the_first_step(
    service: Service, context: WorkerContext, base: BaseModel, concept: Concept
) -> None:
    between = concept.i_star + 0.7 * superclass_encoding(base, "car").numpy()
    twin = replace(concept, name="twin", i_star=between)
    for added in (concept, twin):
        add_concept(service, added)
    job_id = accept_generation(service, "a <rex> beside a <twin>", num_inference_steps=150)
    running = in_thread(Runner(context).run, Queue.GENERATE)
    wait_until(lambda: bool(look_at(service, job_id).warnings))
    assert look_at(service, job_id).status is JobStatus.RUNNING
    jobs.cancel(service, OWNER, job_id=job_id)
    running.join(60)
    (warning,) = look_at(service, job_id).warnings
    assert warning.type == "/problems/concepts-may-blend"
    assert "<rex> and <twin>" in warning.detail
    assert [concept.name for concept in warning.concepts] == ["rex", "twin"]
    twin_id = concepts.get(service, OWNER, ref="twin").id
    assert warning.concepts[1].id == twin_id

    alone = accept_generation(service, "a <twin>")
    Runner(context).run(Queue.GENERATE)
    assert look_at(service, alone).warnings == ()


def test_what_an_attempt_before_has_warned_of_is_forgotten(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_generation(service)
    first = claim(service, job_id)
    warning = {**problem("concept-vanished", "It is not there."), "concepts": []}
    assert leases.warn(service, first, warnings=[warning])
    assert leases.release(service, first, delay_seconds=0, spend_attempt=False)
    assert look_at(service, job_id).warnings == (JobWarning(**warning),)
    Runner(context).run(Queue.GENERATE)
    job = look_at(service, job_id)
    assert (job.status, job.warnings) == (JobStatus.SUCCEEDED, ())
