"""Requests counted ahead are used once, by the caller for which they were counted."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from api.limits import rate
from api.limits.rate import Limiter
from api.metrics import Metrics
from service.errors import TooManyRequests
from service.wiring import Service

Make = Callable[[int], Limiter]


@pytest.fixture
def make(service: Service) -> Make:
    def limiter(requests_per_minute: int) -> Limiter:
        return Limiter(
            requests_per_minute=requests_per_minute,
            queue_url="memory://",
            metrics=Metrics(service),
        )

    return limiter


def passes(limiter: Limiter, caller: str) -> bool:
    if limiter.counted(caller):
        return True
    try:
        limiter.check_often(caller)
    except TooManyRequests:
        return False
    return True


@pytest.mark.parametrize("requests_per_minute", [1, 59, 125, 600])
def test_a_caller_gets_its_limit_and_no_more(make: Make, requests_per_minute: int) -> None:
    limiter = make(requests_per_minute)
    passed = [passes(limiter, "a") for _ in range(requests_per_minute + 50)]
    assert passed.count(True) == requests_per_minute
    assert passed == sorted(passed, reverse=True)
    assert passes(limiter, "b")


def test_threads_at_once_never_use_a_count_twice(make: Make) -> None:
    limiter = make(600)
    with ThreadPoolExecutor(8) as pool:
        passed = list(pool.map(lambda _: passes(limiter, "a"), range(900)))
    # If two threads count ahead at once, one block is lost: fewer requests pass, never more.
    assert passed.count(True) <= 600


def test_most_requests_wait_for_no_count(make: Make) -> None:
    limiter = make(600)
    waited = 0
    for _ in range(200):
        if not limiter.counted("a"):
            limiter.check_often("a")
            waited += 1
    assert waited == 20


def test_what_was_counted_ahead_is_worth_nothing_after_a_minute(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = make(600)
    limiter.check_often("a")
    assert limiter.counted("a")
    monkeypatch.setattr(rate, "_AHEAD_SECONDS", 0)
    limiter.check_often("a")
    assert not limiter.counted("a")
