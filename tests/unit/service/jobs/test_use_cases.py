"""Jobs as their owner sees them: queue position, lists and cancellation; hidden from others."""

import pytest
from sqlalchemy import insert, select

from service.blobs import keys
from service.concepts import use_cases as concepts
from service.database.tables import JobRow
from service.errors import Conflict, Invalid, NotFound
from service.execution import leases
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import use_cases as jobs
from service.jobs.views import JobView
from service.statuses import JobKind, JobStatus
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    Clock,
    claim,
    generated,
    ready,
    register_base_model,
    submit,
    trained,
    try_to_claim,
)


def draw(service: Service, *, owner_id: str = OWNER, attention_maps: bool = False) -> str:
    body = GenerateRequest(prompt="a boat at sea", attention_maps=attention_maps)
    return str(generations.request(service, owner_id, body=body).body["job"]["id"])


def position(service: Service, job_id: str) -> int | None:
    return jobs.get(service, OWNER, job_id=job_id).queue_position


def test_the_queue_position_counts_the_jobs_of_the_same_kind_whose_turn_is_earlier(
    service: Service,
) -> None:
    first, drawing, second = submit(service, "a"), draw(service), submit(service, "b")
    other = submit(service, "a", owner_id=STRANGER)
    assert [position(service, job_id) for job_id in (first, second, drawing)] == [1, 3, 1]
    assert jobs.get(service, STRANGER, job_id=other).queue_position == 2
    claim(service, first)
    assert [position(service, job_id) for job_id in (first, second)] == [None, 2]


def test_positions_are_counted_to_a_thousand_which_stands_for_all_behind_it(
    service: Service,
) -> None:
    first = draw(service, owner_id=STRANGER)
    with service.database.write() as session:
        row = session.execute(select(JobRow.__table__).where(JobRow.id == first)).one()._asdict()
        session.execute(insert(JobRow), [row | {"id": f"job_{n}"} for n in range(1200)])
    body = GenerateRequest(prompt="a boat at sea")
    accepted = generations.request(service, OWNER, body=body).body["job"]
    assert accepted["queue_position"] == 1000
    assert position(service, accepted["id"]) == 1000


def test_a_queued_job_is_cancelled_at_once_and_never_claimed(service: Service) -> None:
    job_id = submit(service)
    view = jobs.cancel(service, OWNER, job_id=job_id)
    assert view.status is JobStatus.CANCELLED
    assert view.finished_at is not None
    assert try_to_claim(service, job_id, worker_id="w") is None


def test_cancelling_twice_is_fine_until_the_job_has_ended(service: Service) -> None:
    claimed = claim(service, submit(service))
    for _ in range(2):
        assert jobs.cancel(service, OWNER, job_id=claimed.id).status is JobStatus.RUNNING
    leases.cancelled(service, claimed)
    with pytest.raises(Conflict, match="been cancelled already"):
        jobs.cancel(service, OWNER, job_id=claimed.id)


def test_a_finished_job_cannot_be_cancelled(service: Service) -> None:
    job_id = ready(service)
    with pytest.raises(Conflict) as caught:
        jobs.cancel(service, OWNER, job_id=job_id)
    assert caught.value.slug == "job-finished"
    assert jobs.get(service, OWNER, job_id=job_id).status is JobStatus.SUCCEEDED


def test_what_belongs_to_another_owner_does_not_exist(service: Service) -> None:
    claimed = claim(service, draw(service, attention_maps=True))
    leases.finish_generation(service, claimed, images=generated(service, claimed))
    image_id = jobs.get(service, OWNER, job_id=claimed.id).images[0].id
    for look in (
        lambda owner: jobs.get(service, owner, job_id=claimed.id),
        lambda owner: jobs.cancel(service, owner, job_id=claimed.id),
        lambda owner: jobs.preview(service, owner, job_id=claimed.id),
        lambda owner: jobs.read_image(service, owner, image_id=image_id),
        lambda owner: jobs.read_attention_map(service, owner, image_id=image_id, number=0),
    ):
        with pytest.raises(NotFound):
            look(STRANGER)
    assert jobs.list_page(service, STRANGER).items == ()


@pytest.mark.parametrize("name", ["", "job_1", "job\0", "../../etc", "ä", "x" * 1000])
def test_an_id_that_is_none_finds_nothing(service: Service, name: str) -> None:
    with pytest.raises(NotFound):
        jobs.get(service, OWNER, job_id=name)
    with pytest.raises(NotFound):
        jobs.read_image(service, OWNER, image_id=name)


def test_a_preview_is_there_while_and_after_training(service: Service) -> None:
    claimed = claim(service, submit(service))
    with pytest.raises(NotFound):
        jobs.preview(service, OWNER, job_id=claimed.id)
    service.blobs.put(keys.last_preview_key(claimed.id), b"png")
    assert jobs.preview(service, OWNER, job_id=claimed.id) == b"png"
    leases.finish_training(service, claimed, trained=trained(service, claimed))
    assert jobs.preview(service, OWNER, job_id=claimed.id) == b"png"


def read_all(service: Service, *, limit: int, between: object = None) -> list[JobView]:
    items: list[JobView] = []
    cursor = None
    while True:
        page = jobs.list_page(service, OWNER, limit=limit, cursor=cursor)
        items += page.items
        if callable(between):
            between()
        if page.next_cursor is None:
            return items
        cursor = page.next_cursor


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
def test_pages_together_are_the_whole_list_newest_first(service: Service, limit: int) -> None:
    job_ids = [draw(service) for _ in range(7)]
    assert [view.id for view in read_all(service, limit=limit)] == job_ids[::-1]


def test_what_arrives_while_paging_shifts_nothing(service: Service) -> None:
    job_ids = [draw(service) for _ in range(5)]
    seen = [view.id for view in read_all(service, limit=2, between=lambda: draw(service))]
    assert seen == job_ids[::-1]


def test_jobs_of_the_same_moment_are_paged_as_well(service: Service, clock: Clock) -> None:
    moment = clock.now
    job_ids = []
    for _ in range(5):
        clock.now = moment
        job_ids.append(draw(service))
    seen = [view.id for view in read_all(service, limit=2)]
    assert sorted(seen) == sorted(job_ids)


def test_lists_can_be_narrowed_by_status_and_kind(service: Service) -> None:
    training, drawing = submit(service), draw(service)
    claim(service, drawing)
    running = jobs.list_page(service, OWNER, status=JobStatus.RUNNING).items
    trainings = jobs.list_page(service, OWNER, kind=JobKind.TRAIN).items
    assert [view.id for view in running] == [drawing]
    assert [view.id for view in trainings] == [training]


@pytest.mark.parametrize("cursor", ["", "!", "abc", "ä", "AAAA" * 100, "MjAyNi0wMS0wMXx4", "\0"])
def test_a_cursor_that_no_list_returned_is_refused(service: Service, cursor: str) -> None:
    with pytest.raises(Invalid) as caught:
        jobs.list_page(service, OWNER, cursor=cursor)
    assert caught.value.errors[0].pointer == "/cursor"


@pytest.mark.parametrize("limit", [0, -1, 101, 10**40])
def test_a_limit_out_of_bounds_is_refused(service: Service, limit: int) -> None:
    with pytest.raises(Invalid):
        jobs.list_page(service, OWNER, limit=limit)


def test_an_image_lists_its_maps_only_where_they_were_asked_for(service: Service) -> None:
    register_base_model(service)
    ready(service, "teddy")
    found = []
    for wanted in (True, False):
        body = GenerateRequest(prompt="a <teddy> at sea", attention_maps=wanted)
        job_id = generations.request(service, OWNER, body=body).body["job"]["id"]
        claimed = claim(service, job_id)
        leases.finish_generation(service, claimed, images=generated(service, claimed))
        found.append(jobs.get(service, OWNER, job_id=job_id).images[0])
    with_maps, without = found
    assert without.attention_maps is None and with_maps.attention_maps is not None
    concept = concepts.get(service, OWNER, ref="teddy")
    assert with_maps.to_json()["attention_maps"] == [
        {
            "word": word,
            "concept_id": concept_id,
            "coverage": 0.25,
            "url": f"/images/{with_maps.id}/attention/{number}",
        }
        for number, (word, concept_id) in enumerate([("a", None), ("<teddy>", concept.id)])
    ]
    concept_map = jobs.read_attention_map(service, OWNER, image_id=with_maps.id, number=1)
    word_map = jobs.read_attention_map(service, OWNER, image_id=with_maps.id, number=0)
    assert concept_map.data.startswith(b"\x89PNG") and concept_map.data != word_map.data
    for image, number in ((with_maps, 2), (with_maps, -1), (without, 0)):
        with pytest.raises(NotFound) as caught:
            jobs.read_attention_map(service, OWNER, image_id=image.id, number=number)
        assert caught.value.slug == "attention-map-not-found"


def test_a_job_as_json_has_exactly_the_fields_of_the_contract(service: Service) -> None:
    body = jobs.get(service, OWNER, job_id=submit(service)).to_json()
    assert list(body) == [
        "id",
        "kind",
        "status",
        "progress",
        "queue_position",
        "attempt",
        "concept_id",
        "images",
        "pictures",
        "error",
        "warnings",
        "request",
        "created_at",
        "started_at",
        "finished_at",
    ]
    assert list(body["progress"]) == [
        "step",
        "total_steps",
        "seconds_per_step",
        "eta_seconds",
        "phase",
    ]
    assert body["created_at"].endswith("Z")
