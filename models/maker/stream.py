"""An endless, repeatable stream of drawn shards: shard k depends only on the seed and on k."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from models.maker.networks.tokenizer import Encoder, make_tokenizer
from models.maker.scenes.art import load_art
from models.maker.scenes.drawing import Painter
from models.maker.scenes.scene import Facts, caption, draw_facts, object_regions


class Joinable(Protocol):
    """A shard that processes draw in parts."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Join the parts in their order."""


@dataclass(frozen=True)
class Shard:
    """Pictures (n, 128, 128, 3), token ids (n, 32), the facts of each scene, and object regions.

    Regions (n, 16, 16) are 1 in the cells where an object may be.
    """

    pictures: npt.NDArray[np.uint8]
    ids: npt.NDArray[np.int16]
    facts: tuple[Facts, ...]
    regions: npt.NDArray[np.uint8]

    @classmethod
    def joined(cls, parts: Sequence[Shard]) -> Shard:
        """Join the parts in their order."""
        return cls(
            np.concatenate([part.pictures for part in parts]),
            np.concatenate([part.ids for part in parts]),
            tuple(fact for part in parts for fact in part.facts),
            np.concatenate([part.regions for part in parts]),
        )


Drawn = TypeVar("Drawn", bound=Joinable)
Draw = Callable[[Path, list[int], int, float], Drawn]  # art, seed, count, width


class Stream(Generic[Drawn]):
    """Draw shards in this process, or in other processes while the previous shard is in use.

    Parts have a fixed size and their own seed, so the result is the same either way. Shards follow
    each other in steps of `stride`: each of several processes that share the stream skips the
    shards of the others.
    """

    def __init__(
        self,
        draw: Draw[Drawn],
        art_file: Path,
        *,
        seed: int,
        size: int,
        workers: int,
        stride: int = 1,
    ) -> None:
        self._draw, self._art_file, self._seed = draw, art_file, seed
        self._size, self._part, self._stride = size, min(size, 256), stride
        # The processes are spawned, not forked, because the parent may use a GPU and threads.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, context) if workers else None
        self._ahead: dict[int, list[Future[Drawn]]] = {}

    def shard(self, index: int, width_of: Callable[[int], float]) -> Drawn:
        """Return shard `index`; `width_of` gives the width of the curriculum at a shard."""
        if self._pool is None:
            parts = [self._draw(*task) for task in self._tasks(index, width_of(index))]
        else:
            for wanted in (index, index + self._stride):
                if wanted not in self._ahead:
                    tasks = self._tasks(wanted, width_of(wanted))
                    self._ahead[wanted] = [self._pool.submit(self._draw, *task) for task in tasks]
            parts = [future.result() for future in self._ahead.pop(index)]
        return type(parts[0]).joined(parts)

    def _tasks(self, index: int, width: float) -> list[tuple[Path, list[int], int, float]]:
        return [
            (
                self._art_file,
                [self._seed, index, start],
                min(self._part, self._size - start),
                width,
            )
            for start in range(0, self._size, self._part)
        ]


_TOOLS: dict[
    Path, tuple[Painter, Encoder]
] = {}  # kept for the whole process: drawing the places takes a second


def tools(art_file: Path) -> tuple[Painter, Encoder]:
    """Return the painter and the caption encoder of this process."""
    if art_file not in _TOOLS:
        _TOOLS[art_file] = (Painter(load_art(art_file), 7), Encoder(make_tokenizer()))
    return _TOOLS[art_file]


def draw_shard(art_file: Path, seed: list[int], count: int, width: float) -> Shard:
    """Draw scenes of mixed widths up to `width`, so that simple ones stay in the mix."""
    painter, encoder = tools(art_file)
    facts = []
    for index in range(count):
        rng = np.random.default_rng([*seed, index])
        facts.append(draw_facts(rng, painter.art, width=width * float(rng.random())))
    return Shard(
        np.stack([painter.paint(fact) for fact in facts]),
        encoder.encode([caption(fact) for fact in facts]),
        tuple(facts),
        np.stack([object_regions(fact) for fact in facts]),
    )


def draw_pictures(art_file: Path, seed: list[int], count: int, width: float) -> Shard:
    """Draw a shard without the facts, which are slow to send between processes."""
    shard = draw_shard(art_file, seed, count, width)
    return Shard(shard.pictures, shard.ids, (), shard.regions)
