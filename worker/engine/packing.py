"""How many rows a U-Net batch may have, and the batch of the last step, which may serve again."""

from collections.abc import Callable, Sequence

from perfusion_core.base_model import BaseModel
from perfusion_core.sampling.sampler import Batch
from worker.engine.requests import Slot

# On a CPU 8 rows give nine tenths of the images per second that 32 give (docs/engine.md), and a
# narrower batch finishes the oldest image sooner.
_MOST_ROWS_ON_CPU = 8
_MOST_ROWS = 32


class Packing:
    """Packs images of one latent shape into a batch. The engine's thread alone uses it."""

    def __init__(self, base: Callable[[], BaseModel], *, max_rows: int | None, exact: bool) -> None:
        """`base` tells the device; with `exact` all batches of a shape have as many rows."""
        self._base = base
        self._max_rows = max_rows
        self._exact = exact
        # Shapes whose batches did not fit into memory, and how many rows they may take since.
        self._rows_that_fit: dict[tuple[int, ...], int] = {}
        self._batch: Batch | None = None  # of the last step

    def room_for(self, shape: tuple[int, ...]) -> int:
        """Return how many rows a batch of this latent shape may have."""
        return self._rows_that_fit.get(shape, self._most_rows())

    def batch_of(self, slots: Sequence[Slot]) -> Batch:
        """Return the last batch if the same images step again: it holds their Keys and Values."""
        trajectories = tuple(slot.trajectory for slot in slots)
        if self._batch is None or self._batch.trajectories != trajectories:
            self._batch = None  # first give its memory back
            self._batch = Batch(trajectories, rows=self._rows_of(slots))
        return self._batch

    def drop_batch(self) -> None:
        """Give the memory of the last batch back."""
        self._batch = None

    def halve(self, slots: Sequence[Slot]) -> int:
        """Allow half as many rows from now on as the batch of `slots` had; return how many.

        0: one image alone did not fit, so nothing can be halved.
        """
        rows, first = self._rows_of(slots), slots[0].trajectory
        if rows <= first.rows:
            return 0
        self._rows_that_fit[first.latent_shape] = rows // 2
        return rows // 2

    def forget(self) -> None:
        """Start anew, after the engine was idle: other programs may have freed memory since."""
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
