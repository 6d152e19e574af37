"""A repeated request makes no second concept."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from service.concepts import use_cases as concepts
from service.database.tables import ConceptRow, JobRow
from service.errors import Conflict, Invalid
from service.execution import leases
from service.idempotency import Idempotency
from service.wiring import Service
from tests.unit.service.concepts.created import count, create
from tests.unit.service.staging import (
    STRANGER,
    Clock,
    RecordedNotifier,
    blob_keys,
    claim,
    trained,
    uploaded,
)


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
