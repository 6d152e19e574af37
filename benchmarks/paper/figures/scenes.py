"""How much of the scene each method leaves as it is, measured on the kept contact sheets.

Every prompt's first seed is on them, so nothing has to be drawn again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.paper.compare import kept_in
from benchmarks.paper.contact import cut
from benchmarks.paper.measures import scene_overlap


def add_scenes(results: Mapping[str, Sequence[dict[str, Any]]], folder: Path) -> None:
    """Give every row of `results` its "scene": the edges' likeness to the plain superclass's."""
    for name, found in results.items():
        for result in found:
            for number, row in enumerate(result["rows"]):
                images, plain = (
                    _images(
                        kept_in(folder, which, [result["subject"]]), line, len(result["prompts"])
                    )
                    for which, line in ((name, number + 1), ("superclass", 1))
                )
                row["scene"] = scene_overlap(images, plain)


def _images(kept: Path, line: int, count: int) -> list[Image.Image]:
    return [cut(kept.with_suffix(".png"), line, column) for column in range(count)]
