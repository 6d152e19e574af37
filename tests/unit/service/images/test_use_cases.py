"""An owner's images: newest first, searched, with thumbnails; and gone when they are deleted."""

import dataclasses
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select, update

from service import deployment, quota
from service.blobs.local import LocalBlobs
from service.blobs.store import unavailable
from service.concepts import use_cases as concepts
from service.database.tables import ImageRow
from service.errors import Invalid, NotFound
from service.execution import leases
from service.garbage import collection
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.images import use_cases as images
from service.jobs import use_cases as jobs
from service.wiring import Service
from tests.unit.service.images.walk import traces
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    Clock,
    blob_keys,
    claim,
    generated,
    ready,
    register_base_model,
)


def draw(service: Service, prompt: str = "a boat", **options: Any) -> list[str]:
    """Generate images; return their ids."""
    body = GenerateRequest(prompt=prompt, **options)
    job_id = generations.request(service, OWNER, body=body).body["job"]["id"]
    claimed = claim(service, job_id)
    assert leases.finish_generation(service, claimed, images=generated(service, claimed))
    return [image.id for image in jobs.get(service, OWNER, job_id=job_id).images]


def found(service: Service, **conditions: Any) -> list[str]:
    return [image.id for image in images.list_page(service, OWNER, limit=100, **conditions).items]


def keys_of(service: Service, image_id: str) -> set[str]:
    """Return the keys of an image, its thumbnail and its maps."""
    with service.database.read() as session:
        row = session.get_one(ImageRow, image_id)
    assert row.thumbnail_key is not None
    return {
        row.blob_key,
        row.thumbnail_key,
        *(each["blob_key"] for each in row.attention_maps or ()),
    }


def test_images_are_listed_newest_first_in_pages_and_to_their_owner_alone(
    service: Service,
) -> None:
    drawn = [draw(service)[0] for _ in range(5)]
    first = images.list_page(service, OWNER, limit=3)
    rest = images.list_page(service, OWNER, limit=3, cursor=first.next_cursor)
    assert [image.id for image in (*first.items, *rest.items)] == drawn[::-1]
    assert rest.next_cursor is None
    assert images.list_page(service, STRANGER).items == ()
    with pytest.raises(NotFound):
        images.get(service, STRANGER, image_id=drawn[0])


def test_an_image_says_how_it_was_made(service: Service) -> None:
    (image_id,) = draw(service, "a boat at night")
    image = images.get(service, OWNER, image_id=image_id)
    job = jobs.get(service, OWNER, job_id=image.job_id)
    assert images.list_page(service, OWNER).items == (image,)
    assert image.created_at == job.finished_at
    assert image.request == job.request
    assert image.thumbnail_url == f"/images/{image_id}/thumbnail"
    shared = job.images[0].to_json()
    assert image.to_json().items() >= shared.items()


@pytest.mark.parametrize("by_previous_release", [False, True])
def test_a_search_finds_text_of_the_prompt_in_any_case_and_nothing_by_wildcards(
    service: Service, by_previous_release: bool
) -> None:
    (sea,) = draw(service, "A Boat at sea, 100% blue")
    (night,) = draw(service, "a boat by night_time")
    (straße,) = draw(service, "Eine STRASSE bei Nacht")
    if by_previous_release:
        forget(service)
    assert found(service, text="boat") == [night, sea]
    assert found(service, text="BOAT AT") == [sea]
    assert found(service, text="0% b") == [sea]
    assert found(service, text="t_t") == [night]
    assert found(service, text="nacht") == [straße]
    assert found(service, text="%") == [sea]
    assert found(service, text="boat\\") == []
    with_job = images.get(service, OWNER, image_id=sea).job_id
    assert found(service, text="boat", job_id=with_job) == [sea]
    with pytest.raises(Invalid) as caught:
        images.list_page(service, OWNER, text="a\0b")
    assert caught.value.errors[0].pointer == "/q"


def test_a_search_ignores_the_case_of_letters_beyond_ascii(service: Service) -> None:
    (drawn,) = draw(service, "ÉTÉ in the MÜNCHEN straße")
    assert found(service, text="été") == found(service, text="münchen STRASSE") == [drawn]


@pytest.mark.parametrize("by_previous_release", [False, True])
def test_images_of_a_concept_are_found_by_its_id_its_name_and_the_names_it_had(
    service: Service, by_previous_release: bool
) -> None:
    register_base_model(service)
    for name in ("rex", "teddy", "rexy"):
        ready(service, name)
    concept_id = concepts.get(service, OWNER, ref="rex").id
    (alone,) = draw(service, "a photo of <rex>")
    (both,) = draw(service, "<teddy> next to <rex>")
    draw(service, "a photo of <rexy>")
    draw(service, 'the words "name": "rex"')
    if by_previous_release:
        forget(service)
    assert found(service, concept="rex") == found(service, concept=concept_id) == [both, alone]
    assert found(service, concept="rex", text="photo") == [alone]
    assert found(service, concept="teddy", text="photo") == []
    concepts.delete(service, OWNER, ref="rex")
    assert found(service, concept="rex") == found(service, concept=concept_id) == [both, alone]
    assert found(service, concept="nobody") == []
    with pytest.raises(Invalid) as caught:
        images.list_page(service, OWNER, concept='"')
    assert caught.value.errors[0].pointer == "/concept"


def forget(service: Service) -> None:
    """Make the rows of all images as the previous release writes them."""
    with service.database.write() as session:
        session.execute(
            update(ImageRow).values(searched_prompt=None, concept_refs=None, thumbnail_key=None)
        )


def test_a_thumbnail_that_is_missing_is_drawn_from_its_image(service: Service) -> None:
    (image_id,) = draw(service)
    stored = images.read_thumbnail(service, OWNER, image_id=image_id)
    service.blobs.delete(next(key for key in keys_of(service, image_id) if key.endswith("webp")))
    assert images.read_thumbnail(service, OWNER, image_id=image_id) == stored
    forget(service)
    assert images.read_thumbnail(service, OWNER, image_id=image_id) == stored
    with Image.open(io.BytesIO(stored.data)) as opened:
        assert (opened.format, opened.size) == ("WEBP", (48, 40))
    with pytest.raises(NotFound):
        images.read_thumbnail(service, STRANGER, image_id=image_id)


def test_a_deleted_image_leaves_no_trace_and_takes_nothing_else_along(service: Service) -> None:
    first, second = draw(service, num_images=2, attention_maps=True)
    others = blob_keys(service) - keys_of(service, first)
    job_id = images.get(service, OWNER, image_id=first).job_id
    gone = (first, *keys_of(service, first))
    before = quota.stored_bytes(service, OWNER)
    assert traces(service, *gone)

    with pytest.raises(NotFound):
        images.delete(service, STRANGER, image_id=first)
    images.delete(service, OWNER, image_id=first)
    assert traces(service, *gone) == []
    assert blob_keys(service) == others
    assert quota.stored_bytes(service, OWNER) == before / 2
    for use in (images.delete, images.get, jobs.read_image, images.read_thumbnail):
        with pytest.raises(NotFound):
            use(service, OWNER, image_id=first)
    with pytest.raises(NotFound):
        jobs.read_attention_map(service, OWNER, image_id=first, number=0)
    assert [image.id for image in jobs.get(service, OWNER, job_id=job_id).images] == [second]

    images.delete(service, OWNER, image_id=second)
    assert jobs.get(service, OWNER, job_id=job_id).images == ()


class UnreachableBlobs(LocalBlobs):
    """A blob store that deletes nothing, as if the process ended before it could."""

    def delete(self, key: str) -> None:
        raise unavailable()


def test_an_image_whose_files_could_not_be_deleted_is_gone_and_the_collector_removes_them(
    service: Service, clock: Clock
) -> None:
    clock.now = datetime.now(UTC)  # that of the files
    deployment.check(service)
    first, second = draw(service, num_images=2, attention_maps=True)
    kept = keys_of(service, second)
    folder = Path(service.settings.blobs_url.removeprefix("file:"))
    images.delete(
        dataclasses.replace(service, blobs=UnreachableBlobs(folder)), OWNER, image_id=first
    )
    assert found(service) == [second]
    assert blob_keys(service) > kept
    clock.tick(2 * 3600)
    assert collection.collect(service) == 3
    assert blob_keys(service) == kept


def test_the_collector_keeps_the_thumbnails_that_rows_name(service: Service, clock: Clock) -> None:
    clock.now = datetime.now(UTC)  # that of the files
    deployment.check(service)
    draw(service)
    stored = blob_keys(service)
    clock.tick(2 * 3600)
    assert collection.collect(service) == 0
    assert blob_keys(service) == stored
    with service.database.read() as session:
        assert set(session.scalars(select(ImageRow.thumbnail_key))) < stored
