"""How much of the scene each method leaves as it is, measured on the kept contact sheets.

Every prompt's first seed is on them, so nothing has to be drawn again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.paper.contact import cut
from benchmarks.paper.measures import scene_overlap


def add_scenes(results: Mapping[str, Sequence[dict[str, Any]]], folder: Path) -> None:
    """Give every row of `results` its "scene": the edges' likeness to the plain superclass's."""
    plain = {result["subject"]: _images(folder, result, 1) for result in results["superclass"]}
    for result in (result for found in results.values() for result in found):
        for number, row in enumerate(result["rows"]):
            images = _images(folder, result, number + 1)
            row["scene"] = scene_overlap(images, plain[result["subject"]])


def _images(folder: Path, result: Mapping[str, Any], line: int) -> list[Image.Image]:
    file = folder / result["sheet"]
    return [cut(file, line, column) for column in range(len(result["prompts"]))]
