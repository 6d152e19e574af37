"""Concepts: accepted whole or not at all, one name per owner, and deletion really deletes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from service.blobs.local import LocalBlobs
from service.blobs.store import unavailable
from service.concepts import use_cases as concepts
from service.database.tables import ConceptRow, JobRow, PictureRow
from service.errors import Conflict, Invalid, NotFound, TooManyRequests, Unavailable, problem
from service.execution import leases, reconciler
from service.idempotency import Answer, Idempotency
from service.jobs import use_cases as jobs
from service.pictures.uploads import UploadedPicture
from service.statuses import ConceptStatus, JobStatus
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    Clock,
    RecordedNotifier,
    blob_keys,
    claim,
    ready,
    register_base_model,
    submit,
    trained,
    uploaded,
)


def create(
    service: Service,
    name: str = "teddy",
    *,
    superclass: str = "bear",
    key: str | None = None,
    pictures: list[UploadedPicture] | None = None,
    training: dict[str, object] | None = None,
) -> Answer:
    return concepts.create(
        service,
        OWNER,
        name=name,
        superclass=superclass,
        pictures=uploaded() if pictures is None else pictures,
        training=training or {},
        idempotency=Idempotency(key) if key else None,
    )


def count(service: Service, table: type) -> int:
    with service.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_an_accepted_concept_is_all_there_before_the_answer(
    service: Service, notifier: RecordedNotifier
) -> None:
    register_base_model(service)
    pictures = uploaded(2)
    answer = create(service, pictures=pictures, training={"seed": 3})
    concept, job = answer.body["concept"], answer.body["job"]
    assert answer.location == f"/jobs/{job['id']}"
    assert notifier.notified == [(job["id"], "train")]
    assert concept == concepts.get(service, OWNER, ref="teddy").to_json()
    assert job == jobs.get(service, OWNER, job_id=job["id"]).to_json()
    assert (concept["status"], concept["placeholder"]) == ("training", "<teddy>")
    assert concept["training"]["max_train_steps"] == job["progress"]["total_steps"] == 150
    assert concept["base_model"] == {"name": "tiny", "fingerprint": "base-1"}
    payload = claim(service, job["id"]).payload
    assert payload["training"] == {"max_train_steps": 150, "seed": 3}
    stored = [service.blobs.get(item["blob_key"]) for item in payload["pictures"]]
    assert stored == [picture.png for picture in pictures]
    assert payload["pictures"][0] == {
        "blob_key": f"pictures/{concept['id']}/0.png",
        "mask_key": None,
        "width": 48,
        "height": 40,
        "has_alpha": False,
    }


@pytest.mark.parametrize(
    ("training", "name"),
    [
        ({"resolution": 136}, "resolution"),
        ({"resolution": 128, "train_batch_size": 17}, "train_batch_size"),
    ],
)
def test_a_training_is_bounded_by_the_size_of_the_base_model(
    service: Service, training: dict[str, Any], name: str
) -> None:
    register_base_model(service, info={"resolution": 64})
    with pytest.raises(Invalid) as refused:
        create(service, training=training)
    assert [item.pointer for item in refused.value.errors] == [f"/training/{name}"]
    create(service, training={"resolution": 128, "train_batch_size": 16})


def test_masks_are_kept_beside_their_pictures(service: Service) -> None:
    [plain] = uploaded()
    masked = UploadedPicture(
        png=plain.png, width=48, height=40, has_alpha=False, sha256="1" * 64, mask_png=b"mask"
    )
    answer = create(service, pictures=[plain, masked])
    first, second = claim(service, answer.body["job"]["id"]).payload["pictures"]
    assert first["mask_key"] is None
    assert service.blobs.get(second["mask_key"]) == b"mask"


def test_a_concept_is_found_by_id_and_by_name_by_its_owner_alone(service: Service) -> None:
    concept_id = create(service).body["concept"]["id"]
    for ref in ("teddy", concept_id):
        assert concepts.get(service, OWNER, ref=ref).id == concept_id
        with pytest.raises(NotFound):
            concepts.get(service, STRANGER, ref=ref)
        with pytest.raises(NotFound):
            concepts.delete(service, STRANGER, ref=ref)
        with pytest.raises(NotFound):
            concepts.read_file(service, STRANGER, ref=ref)
    for ref in ("", "rex", "te\0ddy", "\ud800", "../x"):
        with pytest.raises(NotFound):
            concepts.get(service, OWNER, ref=ref)


def test_a_name_belongs_to_one_concept_of_each_owner(service: Service) -> None:
    create(service)
    before = blob_keys(service)
    with pytest.raises(Conflict, match="it is training") as caught:
        create(service)
    assert caught.value.slug == "name-taken"
    assert blob_keys(service) == before
    assert (count(service, ConceptRow), count(service, JobRow), count(service, PictureRow)) == (
        1,
        1,
        1,
    )
    submit(service, "teddy", owner_id=STRANGER)


def test_a_deleted_concept_frees_its_name(service: Service) -> None:
    ready(service)
    concepts.delete(service, OWNER, ref="teddy")
    assert create(service).body["concept"]["status"] == "training"


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_concept_that_never_became_ready_is_replaced_by_a_new_one_of_its_name(
    service: Service, end: str
) -> None:
    claimed = claim(service, submit(service))
    if end == "cancelled":
        jobs.cancel(service, OWNER, job_id=claimed.id)
    leases.fail(service, claimed, problem=problem("broken", "It broke."))
    old = concepts.get(service, OWNER, ref="teddy")
    assert old.status.value == end
    new = create(service).body["concept"]
    assert new["id"] != old.id
    assert not any(old.id in key for key in blob_keys(service))
    job = jobs.get(service, OWNER, job_id=claimed.id)
    assert (job.status.value, job.concept_id) == (end, None)


def test_deletion_removes_row_pictures_and_file(service: Service) -> None:
    claimed_id = ready(service)
    service.blobs.put(f"jobs/{claimed_id}/preview.png", b"png")
    assert len(blob_keys(service)) == 3
    concepts.delete(service, OWNER, ref="teddy")
    assert blob_keys(service) == set()
    assert (count(service, ConceptRow), count(service, PictureRow)) == (0, 0)
    assert jobs.get(service, OWNER, job_id=claimed_id).status is JobStatus.SUCCEEDED
    with pytest.raises(NotFound):
        concepts.delete(service, OWNER, ref="teddy")


def test_deleting_a_concept_cancels_its_training_first(service: Service, clock: Clock) -> None:
    queued = submit(service, "queued")
    running = claim(service, submit(service, "running"))
    concepts.delete(service, OWNER, ref="queued")
    concepts.delete(service, OWNER, ref="running")
    assert jobs.get(service, OWNER, job_id=queued).status is JobStatus.CANCELLED
    assert leases.heartbeat(service, running) is leases.Lease.CANCEL_REQUESTED
    assert not leases.finish_training(service, running, trained=trained(service, running))
    assert leases.cancelled(service, running)
    assert jobs.get(service, OWNER, job_id=running.id).status is JobStatus.CANCELLED
    assert (count(service, ConceptRow), blob_keys(service)) == (0, set())
    clock.tick(100)
    assert reconciler.reconcile(service).requeued == 0


def test_a_file_is_there_once_the_concept_is_ready(service: Service) -> None:
    claimed = claim(service, submit(service))
    with pytest.raises(Conflict, match="still being trained"):
        concepts.read_file(service, OWNER, ref="teddy")
    leases.finish_training(service, claimed, trained=trained(service, claimed))
    file = concepts.read_file(service, OWNER, ref="teddy")
    assert (file.name, file.sha256) == ("teddy", "5" * 64)


@pytest.mark.parametrize(
    "name", ["", "Teddy", "-teddy", "a b", "ä", "x" * 64, "te\0ddy", "\ud800", "teddy\n", "<a>"]
)
def test_a_name_outside_the_grammar_is_refused(service: Service, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        create(service, name)
    assert caught.value.errors[0].pointer == "/name"
    assert blob_keys(service) == set()


@pytest.mark.parametrize(
    "superclass",
    ["", "   ", " ".join(["bear"] * 40), "a b c d", "be\0ar", "\ud800", "<bear>", "x" * 61, "1"],
)
def test_a_superclass_is_one_to_three_words(service: Service, superclass: str) -> None:
    with pytest.raises(Invalid) as caught:
        create(service, superclass=superclass)
    assert caught.value.errors[0].pointer == "/superclass"


def test_a_superclass_loses_superfluous_spaces(service: Service) -> None:
    answer = create(service, superclass="  teddy   bear ")
    assert answer.body["concept"]["superclass"] == "teddy bear"


@pytest.mark.parametrize(
    ("training", "pointer"),
    [
        ({"max_train_steps": 0}, "/training/max_train_steps"),
        ({"max_train_steps": 10**40}, "/training/max_train_steps"),
        ({"max_train_steps": "5"}, "/training/max_train_steps"),
        ({"max_train_steps": True}, "/training/max_train_steps"),
        ({"learning_rate": float("nan")}, "/training/learning_rate"),
        ({"learning_rate": 10**400}, "/training/learning_rate"),
        ({"seed": -1}, "/training/seed"),
        ({"flip": 1}, "/training/flip"),
        ({"speed": 1}, "/training/speed"),
        ({"a/b~c": 1}, "/training/a~1b~0c"),
        ({"\ud800": 1}, "/training/"),
    ],
)
def test_training_options_are_checked_strictly(
    service: Service, training: dict[str, object], pointer: str
) -> None:
    with pytest.raises(Invalid) as caught:
        create(service, training=training)
    [error] = caught.value.errors
    assert error.pointer.startswith(pointer)
    error.detail.encode()


@pytest.mark.parametrize("number", [0, 21])
def test_a_concept_takes_one_to_twenty_pictures(service: Service, number: int) -> None:
    with pytest.raises(Invalid, match="1 to 20 pictures"):
        create(service, pictures=uploaded(number))


def test_a_repeated_request_gets_the_first_answer(
    service: Service, clock: Clock, notifier: RecordedNotifier
) -> None:
    first = create(service, key="k1")
    claimed = claim(service, first.body["job"]["id"])
    leases.finish_training(service, claimed, trained=trained(service, claimed))
    before = blob_keys(service)
    again = create(service, key="k1")
    assert (again.body, again.location) == (first.body, first.location)
    assert list(again.body["concept"]) == list(first.body["concept"])
    assert (first.replayed, again.replayed) == (False, True)
    assert (count(service, JobRow), blob_keys(service)) == (1, before)
    assert len(notifier.notified) == 1


def test_a_key_is_good_for_one_request_of_one_caller_for_a_day(
    service: Service, clock: Clock
) -> None:
    create(service, key="k1")
    with pytest.raises(Invalid) as caught:
        create(service, "rex", key="k1")
    assert caught.value.slug == "idempotency-key-reused"
    with pytest.raises(Invalid):
        create(service, key="k1", pictures=uploaded(seed=9))
    concepts.create(
        service,
        STRANGER,
        name="rex",
        superclass="dog",
        pictures=uploaded(),
        training={},
        idempotency=Idempotency("k1"),
    )
    clock.tick(timedelta(hours=24, seconds=1).total_seconds())
    assert not create(service, "rex", key="k1").replayed


def test_a_refused_request_leaves_its_key_unused(service: Service) -> None:
    create(service)
    with pytest.raises(Conflict):
        create(service, key="k1")
    assert not create(service, "rex", key="k1").replayed


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 256, "a\nb", "\0"])
def test_a_key_that_no_header_carries_is_refused(key: str) -> None:
    with pytest.raises(Invalid):
        Idempotency(key)


def test_the_same_request_twice_at_once_makes_one_job(service: Service) -> None:
    with ThreadPoolExecutor(2) as pool:
        for n in range(5):
            answers = list(pool.map(lambda _, n=n: create(service, f"c{n}", key=f"k{n}"), range(2)))
            assert answers[0].body == answers[1].body
            assert sorted(answer.replayed for answer in answers) == [False, True]
    assert (count(service, JobRow), count(service, ConceptRow)) == (5, 5)
    assert len(blob_keys(service)) == 5


def test_the_same_name_twice_at_once_is_taken_once(service: Service) -> None:
    def attempt(_: int) -> bool:
        try:
            create(service)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, range(4))) == 1
    assert len(blob_keys(service)) == 1


def test_an_owner_may_not_fill_the_queue(make_service: Callable[..., Service]) -> None:
    service = make_service(max_queued_jobs_per_owner=2)
    submit(service, "a")
    submit(service, "b")
    with pytest.raises(TooManyRequests) as caught:
        create(service, "c")
    assert caught.value.retry_after_seconds > 0
    assert not any("c" in concept.name for concept in concepts.list_page(service, OWNER).items)
    assert len(blob_keys(service)) == 2
    submit(service, "c", owner_id=STRANGER)
    claim(service, concepts.get(service, OWNER, ref="a").job_id or "")
    create(service, "c")


def test_nothing_is_accepted_when_pictures_cannot_be_stored(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = service.settings.blobs_url.removeprefix("file:")
    monkeypatch.setattr(service.blobs, "_folder", type(service.blobs._folder)("/dev/null"))  # type: ignore[attr-defined]
    with pytest.raises(Unavailable) as caught:
        create(service)
    assert caught.value.slug == "blobs-unavailable"
    assert folder not in caught.value.detail
    assert (count(service, JobRow), count(service, ConceptRow)) == (0, 0)


def test_pictures_of_an_upload_that_the_store_broke_off_do_not_stay(service: Service) -> None:
    """They would count as left over, and many of them hold a collection back."""

    class BrokenOff(LocalBlobs):
        def put(self, key: str, data: bytes) -> None:
            if "/2." in key:
                raise unavailable()
            super().put(key, data)

    folder = Path(service.settings.blobs_url.removeprefix("file:"))
    with pytest.raises(Unavailable):
        create(replace(service, blobs=BrokenOff(folder)), pictures=uploaded(4))
    assert not blob_keys(service)


def test_a_job_is_accepted_although_the_doorbell_is_dead(
    service: Service, notifier: RecordedNotifier, clock: Clock
) -> None:
    notifier.broken = True
    job_id = create(service).body["job"]["id"]
    notifier.broken = False
    clock.tick(6)
    reconciler.reconcile(service)
    assert notifier.notified == [(job_id, "train")]


def test_concepts_are_listed_newest_first_and_by_status(service: Service) -> None:
    for name in ("a", "b", "c"):
        ready(service, name)
    submit(service, "d")
    page = concepts.list_page(service, OWNER, limit=3)
    assert [concept.name for concept in page.items] == ["d", "c", "b"]
    rest = concepts.list_page(service, OWNER, limit=3, cursor=page.next_cursor)
    assert ([concept.name for concept in rest.items], rest.next_cursor) == (["a"], None)
    training = concepts.list_page(service, OWNER, status=ConceptStatus.TRAINING).items
    assert [concept.name for concept in training] == ["d"]


def test_a_concept_as_json_has_exactly_the_fields_of_the_contract(service: Service) -> None:
    assert list(create(service).body["concept"]) == [
        "id",
        "name",
        "placeholder",
        "superclass",
        "status",
        "usable",
        "reason",
        "base_model",
        "covariance_fingerprint",
        "bytes",
        "sha256",
        "mask_source",
        "training",
        "created_at",
        "ready_at",
        "job_id",
        "revision",
        "has_file_before",
        "verdict",
        "recommended_strength",
    ]
