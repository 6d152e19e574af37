"""Saves a training's state at intervals, and resumes from the newest saved state."""

import time
from collections.abc import Callable

import structlog

from perfusion_core.errors import TrainingStateError
from perfusion_core.training.trainer import Training
from service.errors import Unavailable
from service.execution import checkpoints
from service.jobs.lease_types import ClaimedJob
from service.wiring import Service

_log = structlog.get_logger("perfusion.worker")


class Checkpoints:
    """The saved states of one attempt at a training."""

    def __init__(self, service: Service, claimed: ClaimedJob) -> None:
        self._service = service
        self._claimed = claimed
        self._saved_step = 0
        self._saved_at = time.monotonic()

    def begin(self, train: Callable[[bytes | None], Training]) -> Training:
        """Return `train` of the newest saved state, or of None if that state cannot be used.

        If the saved state belongs to another release or base model, the training starts again from
        step 0, but the job does not fail.
        """
        state = checkpoints.read_state(self._service, self._claimed)
        if state is not None:
            try:
                training = train(state)
            except TrainingStateError as error:
                _log.warning("training.state_refused", reason=str(error))
            else:
                _log.info("training.resumed", step=training.step)
                self._saved_step = training.step
                return training
        return train(None)

    def save_when_due(self, training: Training) -> None:
        """Save the training's state if the last saved state is old enough."""
        every_seconds = self._service.settings.checkpoint_seconds
        if time.monotonic() - self._saved_at >= every_seconds:
            self._saved_at = time.monotonic()
            self.save(training)

    def save(self, training: Training) -> None:
        """Save the training's state, unless this step is already saved.

        If the blob store is unavailable, the training goes on, because a later state can still be
        saved.
        """
        if training.step <= self._saved_step:
            return
        try:
            saved = checkpoints.save_state(
                self._service, self._claimed, state=training.state(), step=training.step
            )
        except Unavailable:
            _log.warning("training.state_not_saved", step=training.step)
            return
        if saved:
            self._saved_step = training.step
            _log.debug("training.state_saved", step=training.step)
