"""Turn-taking between sampling and training on one device."""

import time
from threading import Event, Thread

import torch

from worker.device import Turns, is_broken, is_out_of_memory


def test_only_one_step_runs_at_a_time() -> None:
    turns = Turns()
    inside: list[str] = []
    overlaps: list[int] = []

    def work(kind: str) -> None:
        for _ in range(50):
            with turns.generation() if kind == "g" else turns.training():
                inside.append(kind)
                overlaps.append(len(inside))
                inside.remove(kind)

    threads = [Thread(target=work, args=(kind,)) for kind in "ggt"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert set(overlaps) == {1}
    assert len(overlaps) == 150


def test_a_generation_that_waits_goes_before_a_training_that_waited_longer() -> None:
    turns = Turns(patience_seconds=60)
    order: list[str] = []

    def train() -> None:
        with turns.training():
            order.append("training")

    def generate() -> None:
        with turns.generation():
            order.append("generation")

    with turns.generation():
        first = Thread(target=train)
        first.start()
        time.sleep(0.05)
        second = Thread(target=generate)
        second.start()
        time.sleep(0.05)
    first.join(5)
    second.join(5)
    assert order == ["generation", "training"]


def test_a_queue_of_generations_that_never_empties_does_not_stop_a_training() -> None:
    turns = Turns(patience_seconds=0.1)
    trained, stop = Event(), Event()

    def generate() -> None:
        while not stop.is_set():
            with turns.generation():
                time.sleep(0.005)

    def train() -> None:
        with turns.training():
            trained.set()

    busy = [Thread(target=generate) for _ in range(2)]
    for thread in busy:
        thread.start()
    trainer = Thread(target=train)
    trainer.start()
    assert trained.wait(5)
    stop.set()
    for thread in [*busy, trainer]:
        thread.join(5)


def test_a_step_that_fails_gives_its_turn_back() -> None:
    turns = Turns()
    for turn in (turns.generation, turns.training):
        try:
            with turn():
                raise ValueError
        except ValueError:
            pass
    with turns.generation():
        pass
    with turns.training():
        pass


def test_out_of_memory_and_a_broken_device_are_told_from_other_errors() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(MemoryError())
    try:
        torch.empty(2**60)
    except RuntimeError as error:
        assert is_out_of_memory(error)
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not is_broken(RuntimeError("CUDA error: out of memory"))
    assert is_broken(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not is_out_of_memory(ValueError("7"))
    assert not is_broken(ValueError("7"))
