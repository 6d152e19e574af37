"""Notifications reach a consumer of the same process, take a bounded time and never raise."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from service.queue import TASK_NAME, CeleryNotifier
from service.statuses import Queue


@pytest.fixture
def notifier() -> Iterator[CeleryNotifier]:
    notifier = CeleryNotifier("memory://")
    yield notifier
    notifier.close()


def received(queue: str) -> list[tuple[str, Any]]:
    """Take all messages of a queue with an app of its own, as a worker in this process does."""
    app = Celery("consumer", broker="memory://", set_as_current=False)
    messages = []
    with app.connection_for_read() as connection, connection.SimpleQueue(queue) as simple:
        for _ in range(len(simple)):
            message = simple.get(timeout=1)
            messages.append((message.headers["task"], message.payload[0]))
            message.ack()
    return messages


def test_a_worker_of_the_same_process_receives_the_jobs_id_in_its_kinds_queue(
    notifier: CeleryNotifier,
) -> None:
    received("train")
    received("generate")
    assert notifier.notify("job_1", Queue.TRAIN)
    assert notifier.notify("job_2", Queue.GENERATE)
    assert notifier.notify("job_3", Queue.GENERATE)
    assert received("train") == [(TASK_NAME, ["job_1"])]
    assert received("generate") == [(TASK_NAME, ["job_2"]), (TASK_NAME, ["job_3"])]


def test_a_reachable_queue_passes_its_check(notifier: CeleryNotifier) -> None:
    notifier.check()


def test_a_refused_queue_is_a_quick_false() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        notifier = CeleryNotifier(f"redis://127.0.0.1:{unused.getsockname()[1]}/0")
        start = time.monotonic()
        assert not notifier.notify("job_1", Queue.TRAIN)
        with pytest.raises(Exception, match=r"."):
            notifier.check()
        assert time.monotonic() - start < 5
        notifier.close()


@pytest.mark.slow
def test_a_queue_that_never_answers_is_given_up_in_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        notifier = CeleryNotifier(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        start = time.monotonic()
        assert not notifier.notify("job_1", Queue.TRAIN)
        assert time.monotonic() - start < 8
        notifier.close()


@pytest.mark.slow
def test_notify_soon_does_not_wait_for_a_queue_that_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        notifier = CeleryNotifier(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        start = time.monotonic()
        notifier.notify_soon("job_1", Queue.TRAIN)
        assert time.monotonic() - start < 0.5
        notifier.close()


def test_a_job_of_notify_soon_is_notified_before_the_notifier_is_closed() -> None:
    received("train")
    notifier = CeleryNotifier("memory://")
    notifier.notify_soon("job_1", Queue.TRAIN)
    notifier.close()
    assert received("train") == [(TASK_NAME, ["job_1"])]
