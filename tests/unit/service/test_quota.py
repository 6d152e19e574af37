"""An owner's stored bytes are counted, and bounded if a limit is set."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from service import quota
from service.concepts import imports
from service.concepts import use_cases as concepts
from service.database.tables import ImageRow
from service.errors import StorageFull
from service.execution import leases
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.idempotency import Idempotency
from service.pictures.uploads import read_pictures
from service.wiring import KnownSizes, Service
from tests.unit.service import staging
from tests.unit.service.staging import OWNER, STRANGER

Make = Callable[..., Service]
LIMIT = 1024**2


def stored_in_blobs(service: Service) -> int:
    """Return the bytes in the store, which holds neither checkpoints nor previews here."""
    return sum(blob.size_bytes for blob in service.blobs.list())


def generate(service: Service, owner_id: str = OWNER, **fields: Any) -> str:
    body = GenerateRequest(prompt="a <teddy>", attention_maps=True, **fields)
    answer = generations.request(service, owner_id, body=body)
    return str(answer.body["job"]["id"])


def make_images(service: Service, **fields: Any) -> None:
    claimed = staging.claim(service, generate(service, **fields))
    images = staging.generated(service, claimed)
    assert leases.finish_generation(service, claimed, images=images)


def test_every_byte_that_an_owner_has_stored_is_counted(service: Service) -> None:
    assert quota.stored_bytes(service, OWNER) == 0
    picture, mask = staging.encoded(staging.picture()), staging.encoded(white())
    concepts.create(
        service,
        OWNER,
        name="teddy",
        superclass="bear",
        pictures=read_pictures(service, images=[picture, picture], masks=[mask, mask]),
        training={},
    )
    assert quota.stored_bytes(service, OWNER) == stored_in_blobs(service) > 0
    staging.register_base_model(service)
    imports.import_file(service, OWNER, data=staging.core_concept("rex").to_bytes())
    assert quota.stored_bytes(service, OWNER) == stored_in_blobs(service)
    assert quota.stored_bytes(service, STRANGER) == 0
    concepts.delete(service, OWNER, ref="teddy")
    concepts.delete(service, OWNER, ref="rex")
    assert quota.stored_bytes(service, OWNER) == stored_in_blobs(service) == 0


def white() -> Any:
    return staging.Image.new("L", (48, 40), "white")


def test_images_are_counted_under_their_owner(service: Service) -> None:
    staging.register_base_model(service)
    staging.ready(service)
    before = quota.stored_bytes(service, OWNER)
    make_images(service, num_images=3)
    with service.database.read() as session:
        sizes = session.scalars(select(ImageRow.size_bytes)).all()
    assert len(sizes) == 3
    assert min(sizes) > 0
    assert quota.stored_bytes(service, OWNER) == before + sum(sizes)


@pytest.fixture
def limited(make_service: Make) -> Service:
    """Return a service whose owner has reached the limit, with a clock that `wait` moves."""
    service = make_service(max_bytes_per_owner=LIMIT)
    object.__setattr__(service, "sizes", KnownSizes(clock=Seconds()))
    staging.register_base_model(service)
    staging.ready(service)
    missing = LIMIT - quota.stored_bytes(service, OWNER)
    with service.database.write() as session:
        teddy = concepts.rows.find(session, OWNER, ref="teddy")
        teddy.size_bytes = (teddy.size_bytes or 0) + missing
    assert quota.stored_bytes(service, OWNER) == LIMIT
    return service


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def wait(service: Service, seconds: float) -> None:
    clock = service.sizes.clock
    assert isinstance(clock, Seconds)
    clock.now += seconds


def refused(service: Service) -> list[str]:
    """Return which of the three ways to store more are refused."""
    ways: dict[str, Callable[[], object]] = {
        "generate": lambda: generate(service),
        "create": lambda: staging.submit(service, "more"),
        "import": lambda: imports.import_file(
            service, OWNER, data=staging.core_concept("file").to_bytes()
        ),
    }
    closed = []
    for name, way in ways.items():
        try:
            way()
        except StorageFull as error:
            assert error.slug == "storage-full"
            closed.append(name)
    return closed


def test_a_full_owner_is_refused_by_every_way_and_leaves_nothing_behind(limited: Service) -> None:
    wait(limited, 10)
    before = staging.blob_keys(limited)
    assert refused(limited) == ["generate", "create", "import"]
    assert staging.blob_keys(limited) == before
    staging.ready(limited, owner_id=STRANGER)
    assert generate(limited, STRANGER)


def test_there_is_room_again_a_second_after_something_was_deleted(limited: Service) -> None:
    wait(limited, 10)
    with pytest.raises(StorageFull):
        generate(limited)
    with limited.database.write() as session:
        concepts.rows.find(session, OWNER, ref="teddy").size_bytes = LIMIT // 2
    with pytest.raises(StorageFull):
        generate(limited)
    wait(limited, 1)
    assert refused(limited) == []


def test_the_sum_is_asked_for_every_ten_seconds_at_most(
    limited: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def counting(service: Service, owner_id: str) -> int:
        asked.append(owner_id)
        return 0

    monkeypatch.setattr(quota, "stored_bytes", counting)
    wait(limited, 10)
    for _ in range(5):
        generate(limited)
    assert asked == [OWNER]
    wait(limited, 10)
    generate(limited)
    assert asked == [OWNER, OWNER]


def test_without_a_limit_nothing_is_asked_for(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging.register_base_model(service)
    staging.ready(service)

    def unexpected(*_: object) -> int:
        raise AssertionError("a sum for nothing")

    monkeypatch.setattr(quota, "stored_bytes", unexpected)
    assert generate(service)


def test_the_answer_to_what_was_accepted_is_given_again_to_a_full_owner(make_service: Make) -> None:
    service = make_service(max_bytes_per_owner=LIMIT)
    object.__setattr__(service, "sizes", KnownSizes(clock=Seconds()))
    body, key = GenerateRequest(prompt="a dog"), Idempotency("once")
    first = generations.request(service, OWNER, body=body, idempotency=key)
    staging.ready(service)
    with service.database.write() as session:
        concepts.rows.find(session, OWNER, ref="teddy").size_bytes = LIMIT
    wait(service, 10)
    again = generations.request(service, OWNER, body=body, idempotency=key)
    assert again.replayed
    assert again.body == first.body
    with pytest.raises(StorageFull):
        generations.request(service, OWNER, body=body, idempotency=Idempotency("twice"))
