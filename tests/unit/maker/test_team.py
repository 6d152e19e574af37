import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from models.maker.networks.team import Team, train_together


def _weights() -> list[nn.Parameter]:
    image_like = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    return [nn.Parameter(torch.zeros(5)), nn.Parameter(image_like)]


def _train(folder: Path, failing: int | None, stopping: int | None, team: Team) -> None:
    """Take ten steps with gradients that differ by step, place and process; keep the last mean."""
    weights = _weights()
    for step in range(10):
        if team.rank == failing:
            raise RuntimeError("out of memory")
        if team.rank == 0 and step == stopping:
            raise SystemExit(0)
        if team.rank != 0 and step == 2:  # as a stop of the whole process group does
            os.kill(os.getpid(), signal.SIGTERM)
        team.open(weights)
        number = 10 * step + team.rank
        loss = sum(
            (number + torch.arange(w.numel()).reshape(w.shape)).mul(w).sum() for w in weights
        )
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        team.average(weights)
    torch.save([weight.grad for weight in weights], folder / f"{team.rank}.pt")


def _run(
    folder: Path, *, processes: int, failing: int | None = None, stopping: int | None = None
) -> None:
    arguments = (folder, failing, stopping)
    train_together(_train, arguments, processes=processes, numbers=5 + 2 * 3 * 4 * 4)


def test_every_process_steps_along_the_mean_and_only_the_first_heeds_a_stop(tmp_path: Path) -> None:
    _run(tmp_path, processes=2)
    first, *others = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for number, grad in enumerate(first):
        expected = 90.5 + torch.arange(grad.numel()).reshape(grad.shape)
        assert torch.allclose(grad, expected)
        assert all(torch.equal(grad, other[number]) for other in others)


def test_one_process_alone_steps_along_its_own_gradient(tmp_path: Path) -> None:
    _run(tmp_path, processes=1)
    (grad, _) = torch.load(tmp_path / "0.pt", weights_only=True)
    assert torch.equal(grad, 90.0 + torch.arange(5))


def test_a_process_that_fails_ends_the_training_of_all(tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError, match=r"with \[1\]; its error is above"):
        _run(tmp_path, processes=2, failing=1)


def test_a_stop_of_the_first_process_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        _run(tmp_path, processes=2, stopping=4)
    assert list(tmp_path.iterdir()) == []
