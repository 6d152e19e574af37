"""The doorbell: heard by a consumer of the same process, bounded in time, never an error."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from service.queue import TASK_NAME, CeleryNotifier
from service.statuses import JobKind


@pytest.fixture
def notifier() -> Iterator[CeleryNotifier]:
    bell = CeleryNotifier("memory://")
    yield bell
    bell.close()


def heard(queue: str) -> list[tuple[str, Any]]:
    """Take what lies in a queue, as an app of its own (a worker's) in this process."""
    app = Celery("consumer", broker="memory://", set_as_current=False)
    messages = []
    with app.connection_for_read() as connection, connection.SimpleQueue(queue) as simple:
        for _ in range(len(simple)):
            message = simple.get(timeout=1)
            messages.append((message.headers["task"], message.payload[0]))
            message.ack()
    return messages


def test_a_worker_of_the_same_process_hears_the_jobs_id_in_its_kinds_queue(
    notifier: CeleryNotifier,
) -> None:
    heard("train")
    heard("generate")
    assert notifier.notify("job_1", JobKind.TRAIN)
    assert notifier.notify("job_2", JobKind.GENERATE)
    assert notifier.notify("job_3", JobKind.GENERATE)
    assert heard("train") == [(TASK_NAME, ["job_1"])]
    assert heard("generate") == [(TASK_NAME, ["job_2"]), (TASK_NAME, ["job_3"])]


def test_a_reachable_queue_passes_its_check(notifier: CeleryNotifier) -> None:
    notifier.check()


def test_a_refused_queue_is_a_quick_false() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        bell = CeleryNotifier(f"redis://127.0.0.1:{unused.getsockname()[1]}/0")
        start = time.monotonic()
        assert not bell.notify("job_1", JobKind.TRAIN)
        with pytest.raises(Exception, match=r"."):
            bell.check()
        assert time.monotonic() - start < 5
        bell.close()


def test_a_queue_that_never_answers_is_given_up_in_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        bell = CeleryNotifier(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        start = time.monotonic()
        assert not bell.notify("job_1", JobKind.TRAIN)
        assert time.monotonic() - start < 8
        bell.close()


def test_who_rings_soon_does_not_wait_for_a_queue_that_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        bell = CeleryNotifier(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        start = time.monotonic()
        bell.notify_soon("job_1", JobKind.TRAIN)
        assert time.monotonic() - start < 0.5
        bell.close()


def test_what_was_to_be_rung_soon_is_heard_before_the_doorbell_is_closed() -> None:
    heard("train")
    bell = CeleryNotifier("memory://")
    bell.notify_soon("job_1", JobKind.TRAIN)
    bell.close()
    assert heard("train") == [(TASK_NAME, ["job_1"])]
