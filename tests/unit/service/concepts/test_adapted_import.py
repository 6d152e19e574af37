"""A file of a sibling base model: refused with an offer, or imported with a warning and a job."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from perfusion_core.concept import Concept
from perfusion_core.shared_parts import SharedParts
from service.concepts import imports, versions
from service.concepts import use_cases as concepts
from service.concepts.views import ConceptAccepted, ConceptView
from service.database.tables import JobRow
from service.errors import Conflict, NotFound, TooManyRequests
from service.execution import leases
from service.garbage import collection
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import use_cases as jobs
from service.jobs.lease_types import TrainedConcept
from service.jobs.payloads import JudgePayload
from service.statuses import JobKind, JobStatus
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    blob_keys,
    claim,
    core_concept,
    evaluation,
    register_base_model,
    submit,
)

PARTS = SharedParts("t" * 32, (32, 32))


@pytest.fixture(autouse=True)
def base_model(service: Service) -> None:
    register_base_model(service, info={"shared_parts": PARTS.to_json()})


def of_sibling(**changes: Any) -> Concept:
    """A measured concept of a base model with the served one's text encoders and widths."""
    own: dict[str, Any] = {
        "base_model_fingerprint": "base-0",
        "covariance_fingerprint": "cov-0",
        "shared_parts": PARTS,
        "evaluation": evaluation(),
    }
    return core_concept(**{**own, **changes})


def adapted(service: Service, core: Concept | None = None, **options: Any) -> ConceptAccepted:
    data = (core or of_sibling()).to_bytes()
    accepted = imports.import_file(service, OWNER, data=data, adapt=True, **options)
    assert isinstance(accepted, ConceptAccepted)
    return accepted


def judged(service: Service, job_id: str, **changes: Any) -> TrainedConcept:
    """What a worker records about the file that it measured, stored under its key."""
    payload = JudgePayload.read(payload_of(service, job_id))
    core = replace(Concept.from_bytes(service.blobs.get(payload.blob_key)), evaluation=evaluation())
    data, key = core.to_bytes(), f"jobs/{job_id}/1/concept.safetensors"
    service.blobs.put(key, data)
    values: dict[str, Any] = {
        "blob_key": key,
        "sha256": "f" * 64,
        "size_bytes": len(data),
        "base_model_name": "tiny",
        "base_model_fingerprint": "base-1",
        "covariance_fingerprint": "cov-1",
        "mask_source": "uniform",
        "training": dict(core.training),
        "judgement": imports.files.judgement_of(core, None),
    }
    return TrainedConcept(**{**values, **changes})


def payload_of(service: Service, job_id: str) -> dict[str, Any]:
    with service.database.read() as session:
        job = session.get(JobRow, job_id)
        assert job is not None
        return job.payload


def test_it_is_usable_at_once_with_a_warning_and_without_a_verdict(service: Service) -> None:
    accepted = adapted(service)
    concept, job = accepted.concept, accepted.job
    assert (concept.status.value, concept.usable, concept.verdict) == ("ready", True, None)
    assert concept.recommended_strength is None
    assert concept.base_model is not None and concept.base_model.fingerprint == "base-1"
    assert concept.warning is not None and "base-0" in concept.warning
    assert "not measured" in concept.warning
    assert (job.kind, job.status, job.concept_id) == (JobKind.JUDGE, JobStatus.QUEUED, concept.id)
    assert job.progress.total_steps == imports.JUDGE_STEPS == 8
    (told,) = job.warnings
    assert (told.type, told.detail) == ("/problems/adapted", concept.warning)
    assert told.concepts[0].name == "teddy"
    assert jobs.get(service, OWNER, job_id=job.id).warnings == job.warnings
    body = GenerateRequest(prompt="a photo of a <teddy>")
    assert generations.request(service, OWNER, body=body).body["job"]["status"] == "queued"


def test_its_stored_file_is_of_the_served_base_model_and_holds_no_curve(service: Service) -> None:
    stored = Concept.from_bytes(
        concepts.read_file(service, OWNER, ref=adapted(service).concept.id).data
    )
    stored.check_compatible(base_model="base-1", covariance="cov-1")
    assert stored.curve is None and stored.reference is not None
    assert stored.training["adapted_from"]["fingerprint"] == "base-0"
    assert np.array_equal(stored.o_v, of_sibling().o_v)


def test_without_adapt_a_sibling_is_refused_with_the_offer(service: Service) -> None:
    with pytest.raises(Conflict, match=r"base-0.*base-1.*adapt=true") as caught:
        imports.import_file(service, OWNER, data=of_sibling().to_bytes())
    assert caught.value.slug == "base-model-mismatch"
    assert [error.pointer for error in caught.value.errors] == ["/adapt"]
    assert blob_keys(service) == set()


def test_another_covariance_of_the_same_base_model_can_be_adapted_too(service: Service) -> None:
    core = of_sibling(base_model_fingerprint="base-1", shared_parts=None)
    with pytest.raises(Conflict, match=r"cov-0.*cov-1.*adapt=true") as caught:
        imports.import_file(service, OWNER, data=core.to_bytes())
    assert caught.value.slug == "covariance-mismatch"
    assert adapted(service, core).concept.covariance_fingerprint == "cov-1"


def test_a_concept_that_comes_back_to_its_own_base_model_is_measured_without_a_warning(
    service: Service,
) -> None:
    at_home = {"name": "tiny", "fingerprint": "base-1", "covariance_fingerprint": "cov-1"}
    back = adapted(service, of_sibling(training={"adapted_from": at_home}))
    assert (back.concept.training, back.concept.warning, back.job.warnings) == ({}, None, ())
    claimed = claim(service, back.job.id)
    assert leases.finish_judgement(service, claimed, judged=None, warning="No evaluator.")
    assert len(jobs.get(service, OWNER, job_id=back.job.id).warnings) == 1


def test_with_adapt_a_file_of_the_served_base_model_is_imported_as_ever(service: Service) -> None:
    data = core_concept(evaluation=evaluation()).to_bytes()
    view = imports.import_file(service, OWNER, data=data, adapt=True)
    assert isinstance(view, ConceptView)
    assert view.verdict is not None and view.warning is None
    assert jobs.list_page(service, OWNER).items == ()


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (None, "does not say which text encoders"),
        (SharedParts("u" * 32, (32, 32)), "text encoders differ"),
        (SharedParts("t" * 32, (48, 16)), "other shapes"),
    ],
)
def test_what_is_no_sibling_is_refused_with_both_fingerprints_and_the_reason(
    service: Service, parts: SharedParts | None, reason: str
) -> None:
    data = of_sibling(shared_parts=parts).to_bytes()
    for adapt in (False, True):
        with pytest.raises(Conflict, match=f"base-0.*base-1.*{reason}") as caught:
            imports.import_file(service, OWNER, data=data, adapt=adapt)
        assert (caught.value.slug, caught.value.errors) == ("base-model-mismatch", ())
    assert blob_keys(service) == set()


def test_a_worker_of_an_earlier_release_cannot_vouch_for_siblings(service: Service) -> None:
    register_base_model(service)  # its description names no shared parts
    with pytest.raises(Conflict, match="earlier release runs"):
        imports.import_file(service, OWNER, data=of_sibling().to_bytes(), adapt=True)


def test_a_file_of_the_served_base_model_learns_what_siblings_share(service: Service) -> None:
    view = imports.import_file(service, OWNER, data=core_concept().to_bytes())
    assert isinstance(view, ConceptView)
    exported = concepts.read_file(service, OWNER, ref=view.id).data
    assert Concept.from_bytes(exported).shared_parts == PARTS


def test_the_owners_limit_of_waiting_jobs_holds_and_leaves_nothing(service: Service) -> None:
    limit = service.settings.max_queued_jobs_per_owner
    for k in range(limit):
        submit(service, f"waiting-{k}")
    before = blob_keys(service)
    with pytest.raises(TooManyRequests):
        adapted(service)
    assert blob_keys(service) == before
    with pytest.raises(NotFound):
        concepts.get(service, OWNER, ref="teddy")


def test_the_judgement_gives_the_concept_its_verdict_and_keeps_the_file_that_generations_name(
    service: Service,
) -> None:
    accepted = adapted(service)
    job_id, concept_id = accepted.job.id, accepted.concept.id
    claimed = claim(service, job_id)
    assert leases.finish_judgement(service, claimed, judged=judged(service, job_id))
    view = concepts.get(service, OWNER, ref=concept_id)
    assert view.verdict is not None and view.recommended_strength == 0.6
    assert (view.revision, view.has_file_before, view.job_id) == (2, True, None)
    assert view.warning is not None and "was measured on this one" in view.warning
    job = jobs.get(service, OWNER, job_id=job_id)
    assert (job.status, job.progress.step) == (JobStatus.SUCCEEDED, imports.JUDGE_STEPS)
    collection.collect(service)
    assert blob_keys(service) == {
        f"concepts/{concept_id}.safetensors",
        f"jobs/{job_id}/1/concept.safetensors",
    }
    reverted = versions.revert(service, OWNER, ref=concept_id).body
    assert reverted["verdict"] is None and reverted["revision"] == 3


def test_a_judgement_that_cannot_be_made_warns_and_changes_nothing(service: Service) -> None:
    accepted = adapted(service)
    claimed = claim(service, accepted.job.id)
    assert leases.finish_judgement(service, claimed, judged=None, warning="No evaluator.")
    job = jobs.get(service, OWNER, job_id=accepted.job.id)
    assert job.status is JobStatus.SUCCEEDED
    assert [told.type for told in job.warnings] == ["/problems/adapted", "/problems/not-judged"]
    assert job.warnings[1].detail == "No evaluator."
    assert concepts.get(service, OWNER, ref="teddy") == accepted.concept


def test_the_result_of_a_worker_without_the_lease_changes_nothing(service: Service) -> None:
    accepted = adapted(service)
    claimed = claim(service, accepted.job.id)
    result = judged(service, accepted.job.id)
    jobs.cancel(service, OWNER, job_id=accepted.job.id)
    assert not leases.finish_judgement(service, claimed, judged=result)
    assert leases.cancelled(service, claimed)
    assert concepts.get(service, OWNER, ref="teddy") == accepted.concept
    assert blob_keys(service) == {f"concepts/{accepted.concept.id}.safetensors"}


def test_the_result_is_dropped_if_the_concept_has_another_file_by_now(service: Service) -> None:
    accepted = adapted(service)
    claimed = claim(service, accepted.job.id)
    result = judged(service, accepted.job.id)
    with service.database.write() as session:
        imports.rows.find(session, OWNER, ref="teddy").sha256 = "0" * 64
    assert leases.finish_judgement(service, claimed, judged=result)
    assert concepts.get(service, OWNER, ref="teddy").revision == 1
    assert result.blob_key not in blob_keys(service)


def test_deleting_the_concept_cancels_its_judgement_and_removes_every_file(
    service: Service,
) -> None:
    waiting = adapted(service)
    concepts.delete(service, OWNER, ref="teddy")
    assert jobs.get(service, OWNER, job_id=waiting.job.id).status is JobStatus.CANCELLED
    ended = adapted(service)
    claimed = claim(service, ended.job.id)
    leases.finish_judgement(service, claimed, judged=judged(service, ended.job.id))
    concepts.delete(service, OWNER, ref="teddy")
    assert blob_keys(service) == set()


def test_a_failed_judgement_leaves_a_usable_concept(service: Service) -> None:
    accepted = adapted(service)
    claimed = claim(service, accepted.job.id)
    assert leases.fail(service, claimed, problem={"type": "x", "title": "x", "detail": "x"})
    assert concepts.get(service, OWNER, ref="teddy") == accepted.concept


def test_another_owner_sees_neither_concept_nor_job(service: Service) -> None:
    accepted = adapted(service)
    with pytest.raises(NotFound):
        concepts.get(service, STRANGER, ref=accepted.concept.id)
    with pytest.raises(NotFound):
        jobs.get(service, STRANGER, job_id=accepted.job.id)
