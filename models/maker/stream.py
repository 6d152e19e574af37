"""An endless, repeatable stream of scenes in shards: shard k depends on the seed and k alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.maker.art import load_art
from models.maker.drawing import Painter
from models.maker.scenes import Facts, caption, draw_facts
from models.maker.tokenizer import Encoder, make_tokenizer

CHUNK = 2048


@dataclass(frozen=True)
class Shard:
    """Pictures (n, 64, 64, 3), token ids (n, 32), and the facts they were made from."""

    pictures: npt.NDArray[np.uint8]
    ids: npt.NDArray[np.int16]
    facts: tuple[Facts, ...]


class Stream:
    """Draws shards: in line, or ahead of time in other processes."""

    def __init__(self, art_file: Path, seed: int, *, scenes: int, workers: int) -> None:
        self._art_file, self._seed, self._scenes = art_file, seed, scenes
        self._pool = ProcessPoolExecutor(workers) if workers else None
        self._ahead: dict[int, list[Future[Shard]]] = {}

    def shard(self, index: int, width_of: Callable[[int], float]) -> Shard:
        """Shard `index`; `width_of` tells how wide the curriculum is at a shard."""
        if self._pool is None:
            return draw_shard(self._art_file, [self._seed, index], self._scenes, width_of(index))
        for wanted in (index, index + 1):
            if wanted not in self._ahead:
                self._ahead[wanted] = self._submit(self._pool, wanted, width_of(wanted))
        parts = [future.result() for future in self._ahead.pop(index)]
        return Shard(
            np.concatenate([part.pictures for part in parts]),
            np.concatenate([part.ids for part in parts]),
            tuple(fact for part in parts for fact in part.facts),
        )

    def _submit(self, pool: ProcessPoolExecutor, index: int, width: float) -> list[Future[Shard]]:
        return [
            pool.submit(
                draw_shard,
                self._art_file,
                [self._seed, index, start],
                min(CHUNK, self._scenes - start),
                width,
            )
            for start in range(0, self._scenes, CHUNK)
        ]


_TOOLS: dict[Path, tuple[Painter, Encoder]] = {}  # one per process: drawing places takes a second


def tools(art_file: Path) -> tuple[Painter, Encoder]:
    """The painter and the caption encoder of this process."""
    if art_file not in _TOOLS:
        _TOOLS[art_file] = (Painter(load_art(art_file), 7), Encoder(make_tokenizer()))
    return _TOOLS[art_file]


def draw_shard(art_file: Path, seed: list[int], count: int, width: float) -> Shard:
    """Scenes of mixed widths up to `width`, so that simple ones never die out."""
    painter, encoder = tools(art_file)
    facts = []
    for index in range(count):
        rng = np.random.default_rng([*seed, index])
        facts.append(draw_facts(rng, painter.art, width=width * float(rng.random())))
    return Shard(
        np.stack([painter.paint(fact) for fact in facts]),
        encoder.encode([caption(fact) for fact in facts]),
        tuple(facts),
    )
