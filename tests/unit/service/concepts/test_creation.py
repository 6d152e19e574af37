"""A concept is accepted whole or not at all."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.blobs.local import LocalBlobs
from service.blobs.store import unavailable
from service.concepts import trainings
from service.concepts import use_cases as concepts
from service.database.tables import ConceptRow, JobRow
from service.errors import Conflict, Invalid, TooManyRequests, Unavailable, problem
from service.execution import leases, reconciler
from service.jobs import use_cases as jobs
from service.pictures.uploads import UploadedPicture
from service.wiring import Service
from tests.unit.service.concepts.created import count, create
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    Clock,
    RecordedNotifier,
    blob_keys,
    claim,
    register_base_model,
    submit,
    uploaded,
)


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
        "crop": None,
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


def test_masks_are_stored_with_their_pictures(service: Service) -> None:
    [plain] = uploaded()
    masked = UploadedPicture(
        png=plain.png,
        width=48,
        height=40,
        has_alpha=False,
        sha256="1" * 64,
        uploaded_size=(48, 40),
        mask_png=b"mask",
    )
    answer = create(service, pictures=[plain, masked])
    first, second = claim(service, answer.body["job"]["id"]).payload["pictures"]
    assert first["mask_key"] is None
    assert service.blobs.get(second["mask_key"]) == b"mask"


def test_a_crop_is_kept_for_every_training_of_its_picture(service: Service) -> None:
    first, second = uploaded(2)
    shrunk = replace(second, uploaded_size=(480, 400))  # stored at a tenth of its size
    answer = create(service, pictures=[first, shrunk], crops=[None, (100, 50, 320, 340)])
    claimed = claim(service, answer.body["job"]["id"])
    crops = [None, [10, 5, 32, 34]]
    assert [picture["crop"] for picture in claimed.payload["pictures"]] == crops
    assert leases.fail(service, claimed, problem=problem("internal", "It failed."))
    again = trainings.train_again(service, OWNER, ref="teddy", training={})
    pictures = claim(service, again.body["job"]["id"]).payload["pictures"]
    assert [picture["crop"] for picture in pictures] == crops


@pytest.mark.parametrize(
    "crop", [(0, 0, 49, 40), (0, 0, 48, 41), (17, 0, 32, 32), (-1, 0, 32, 32), (0, 0, 32, 31)]
)
def test_a_crop_outside_its_picture_or_too_small_is_refused(
    service: Service, crop: tuple[int, int, int, int]
) -> None:
    with pytest.raises(Invalid) as refused:
        create(service, pictures=uploaded(3), crops=[None, None, crop])
    assert [item.pointer for item in refused.value.errors] == ["/crops/2"]
    assert blob_keys(service) == set()


def test_a_number_of_crops_other_than_that_of_the_pictures_is_refused(service: Service) -> None:
    for number in (1, 3):
        with pytest.raises(Invalid) as refused:
            create(service, pictures=uploaded(2), crops=[None] * number)
        assert [item.pointer for item in refused.value.errors] == ["/crops"]


def test_another_crop_under_the_same_key_is_another_request(service: Service) -> None:
    create(service, key="k")
    assert create(service, key="k", crops=[None]).replayed
    with pytest.raises(Invalid) as refused:
        create(service, key="k", crops=[(0, 0, 40, 40)])
    assert [item.pointer for item in refused.value.errors] == ["/Idempotency-Key"]


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


def test_a_job_is_accepted_although_the_notifier_is_broken(
    service: Service, notifier: RecordedNotifier, clock: Clock
) -> None:
    notifier.broken = True
    job_id = create(service).body["job"]["id"]
    notifier.broken = False
    clock.tick(6)
    reconciler.reconcile(service)
    assert notifier.notified == [(job_id, "train")]
