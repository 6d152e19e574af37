"""Packs images into U-Net batches: limits their rows, and reuses the last step's batch."""

from collections.abc import Callable, Sequence

from perfusion_core.base_model import BaseModel
from perfusion_core.sampling.trajectories import Batch
from worker.engine.requests import Slot

# On a CPU a batch of 8 rows gives nine tenths of the images per second of a batch of 32 rows
# (docs/engine.md), and a smaller batch finishes the oldest image sooner.
_MOST_ROWS_ON_CPU = 8
_MOST_ROWS = 32


class Packing:
    """The packing of images of one latent shape into a batch, for the engine's thread only."""

    def __init__(self, base: Callable[[], BaseModel], *, max_rows: int | None, exact: bool) -> None:
        """`base` returns the base model; with `exact`, all batches of a shape have equal size."""
        self._base = base
        self._max_rows = max_rows
        self._exact = exact
        # Shapes whose batches did not fit into memory, with the rows that a batch may have since
        # then.
        self._rows_that_fit: dict[tuple[int, ...], int] = {}
        self._batch: Batch | None = None  # of the last step

    def room_for(self, shape: tuple[int, ...]) -> int:
        """Return how many rows a batch of this latent shape may have."""
        return self._rows_that_fit.get(shape, self._most_rows())

    def batch_of(self, slots: Sequence[Slot]) -> Batch:
        """Return a batch of these images; reuse the last batch if the images are the same."""
        trajectories = tuple(slot.trajectory for slot in slots)
        if self._batch is None or self._batch.trajectories != trajectories:
            self._batch = None  # free the last batch's memory first
            self._batch = Batch(trajectories, rows=self._rows_of(slots))
        return self._batch

    def drop_batch(self) -> None:
        """Free the memory of the last batch."""
        self._batch = None

    def halve(self, slots: Sequence[Slot]) -> int:
        """Limit later batches to half the rows of the batch of `slots`; return the new limit.

        Return 0 if a single image did not fit, so that nothing can be halved.
        """
        rows, first = self._rows_of(slots), slots[0].trajectory
        if rows <= first.rows:
            return 0
        self._rows_that_fit[first.latent_shape] = rows // 2
        return rows // 2

    def forget(self) -> None:
        """Forget all limits after an idle time, since other programs may have freed memory."""
        self._rows_that_fit.clear()
        self._batch = None

    def _rows_of(self, slots: Sequence[Slot]) -> int:
        own = sum(slot.trajectory.rows for slot in slots)
        return max(own, self.room_for(slots[0].trajectory.latent_shape)) if self._exact else own

    def _most_rows(self) -> int:
        if self._max_rows is None:
            on_cpu = self._base().device.type == "cpu"
            self._max_rows = _MOST_ROWS_ON_CPU if on_cpu else _MOST_ROWS
        return self._max_rows
