"""Portions of a job's images, which bound what a job keeps in memory.

Each cell of a sweep has its own Keys and Values, which stay in the device's memory until the cell's
images are finished, and a finished image of a masked edit is a whole photo. So the images of a job
are sampled, encoded and stored portion by portion. An image is the same in any portion, because
image k of a request has the seed of the request plus k.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from perfusion_core.config import MAX_SEED
from perfusion_core.sampling.sampler import ImageRequest
from worker.jobs.cells import Cell

MOST_IMAGES = 16
"""A portion's images: as many as a request without a sweep may have, and as many as fit into the
largest U-Net batch."""

_MOST_BYTES = 256 * 1024**2  # of whole photos
_BYTES_PER_PIXEL = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class CellImages:
    """Some of the images of a cell: `count` of them, from number `first` on."""

    cell: Cell
    first: int
    count: int

    @property
    def request(self) -> ImageRequest:
        """The cell's request for these images alone."""
        config = self.cell.request.config
        if self.count == config.num_images:
            return self.cell.request
        assert config.seed is not None  # drawn when the job was accepted
        seed = (config.seed + self.first) % (MAX_SEED + 1)
        own = replace(config, seed=seed, num_images=self.count)
        return replace(self.cell.request, config=own)


def portions_of(cells: Sequence[Cell]) -> Iterator[list[CellImages]]:
    """Yield the images of the cells in their order, in portions of at least one image."""
    portion: list[CellImages] = []
    images = size_bytes = 0
    for cell in cells:
        own_bytes = _photo_bytes(cell.request)
        for number in range(cell.request.config.num_images):
            if images and (images == MOST_IMAGES or size_bytes + own_bytes > _MOST_BYTES):
                yield portion
                portion, images, size_bytes = [], 0, 0
            if portion and portion[-1].cell is cell:
                portion[-1] = replace(portion[-1], count=portion[-1].count + 1)
            else:
                portion.append(CellImages(cell=cell, first=number, count=1))
            images, size_bytes = images + 1, size_bytes + own_bytes
    yield portion


def _photo_bytes(request: ImageRequest) -> int:
    """Return the bytes of an image that is a whole photo; other images are small next to it."""
    if request.edit is None or request.edit.mask is None:
        return 0
    width, height = request.edit.picture.size
    return width * height * _BYTES_PER_PIXEL
