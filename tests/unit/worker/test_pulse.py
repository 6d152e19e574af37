"""What is taken for hanging, and what merely waits in line."""

import time
from collections.abc import Callable
from threading import Event

import pytest

from perfusion_core.concept import Concept
from perfusion_core.conditioning import ConceptUse
from perfusion_core.config import GenerateConfig
from perfusion_core.denoise import ImageRequest
from service.views import JobKind, JobStatus
from service.wiring import Service
from tests.unit.worker.staging import accept_generation, claim, look_at
from worker import pulse as pulse_module
from worker.parts import Parts
from worker.pulse import Pulse
from worker.runner import Runner


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse_module, "HANG_SECONDS", 0.6)


def is_given_up(service: Service, *, moved_at: Callable[[], float]) -> bool:
    """Whether a job that waits for three times as long as a hang is taken for one."""
    claimed, broken = claim(service, accept_generation(service)), Event()
    with Pulse(service, claimed, leave=Event(), broken=broken) as pulse:
        over = time.monotonic() + 1.8
        while time.monotonic() < over:
            pulse.waited(moved_at())
            time.sleep(0.05)
    return broken.is_set()


def test_a_job_waits_as_long_as_its_line_moves_and_hangs_where_the_line_does(
    service: Service,
) -> None:
    began = time.monotonic()
    assert not is_given_up(service, moved_at=time.monotonic)
    assert is_given_up(service, moved_at=lambda: began)


class Stopped:
    """Stands for a process that is stopped in its first wait, and hangs in those after it."""

    def __init__(self, *seconds: float) -> None:
        self.now = 0.0
        self._waits = list(seconds)

    def monotonic(self) -> float:
        return self.now

    def wait(self, _: float) -> bool:
        if not self._waits:
            return True
        self.now += self._waits.pop(0)
        return False


@pytest.mark.parametrize(("waits", "hangs"), [([1000.0], False), ([1000.0, 0.4, 0.4], True)])
def test_a_process_that_was_stopped_for_long_does_not_take_its_job_for_a_hang(
    service: Service, monkeypatch: pytest.MonkeyPatch, waits: list[float], hangs: bool
) -> None:
    stopped = Stopped(*waits)
    monkeypatch.setattr(pulse_module, "time", stopped)
    claimed, broken = claim(service, accept_generation(service)), Event()
    pulse = Pulse(service, claimed, leave=Event(), broken=broken)
    monkeypatch.setattr(pulse, "_stopped", stopped)
    pulse._beat()
    assert broken.is_set() == hangs


def test_a_generation_behind_others_is_done_however_long_they_take(
    service: Service, parts: Parts
) -> None:
    parts.engine._max_rows = 2
    config = GenerateConfig(num_inference_steps=80, seed=1)
    request = ImageRequest(prompt="a dog", config=config)
    before = parts.engine.submit(request, owner="another", on_step=lambda *_: time.sleep(0.02))
    began = time.monotonic()
    job_id = accept_generation(service)
    Runner(parts).run(JobKind.GENERATE)
    assert before.ended and time.monotonic() - began > 2 * pulse_module.HANG_SECONDS
    assert look_at(service, job_id).status is JobStatus.SUCCEEDED
    assert not parts.broken.is_set()


def test_the_line_stands_still_while_a_step_hangs(parts: Parts, concept: Concept) -> None:
    config = GenerateConfig(num_inference_steps=3, seed=1)
    request = ImageRequest(
        prompt="a <rex>", concepts={"rex": ConceptUse(concept, beta=0.7)}, config=config
    )
    ticket = parts.engine.submit(request, on_step=lambda done, _: time.sleep(0.5 * (done == 2)))
    seen = set()
    while not ticket.ended:
        seen.add(parts.engine.moved_at)
        time.sleep(0.01)
    longest = max(b - a for a, b in zip(sorted(seen), sorted(seen)[1:], strict=False))
    assert longest >= 0.5
