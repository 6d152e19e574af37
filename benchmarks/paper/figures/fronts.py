"""Figure 5 as tables: our sweep against every other point, alone and in pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.paper.figures.front import Comparison, Points, nearest
from benchmarks.paper.figures.sets import BETAS_OF_PAIRS, PAIRS, pairs_at
from benchmarks.paper.figures.tables import (
    IMAGE_MEASURES,
    SWEEP,
    Results,
    difference,
    sweep_rows,
)


def front_table(results: Results, axis: str = "text") -> str:
    """Tabulate our sweep against every other point: where it is nearest, and which is above.

    `axis` is what an image measure is traded against: "text" or "scene".
    """
    lines = [
        f"| against | steps | dial | our dial | {axis}, ours less theirs "
        "| image | | EfficientNet-Lite2 | | colours | |",
        f"|{' --- |' * 11}",
    ]
    by_name = {result["subject"]: result for result in results[SWEEP]}
    for name in results:
        if name in (SWEEP, "superclass"):
            continue
        other = results[name]
        ours = [by_name[result["subject"]] for result in other]
        rows = sweep_rows(ours)
        for k, row in enumerate(other[0]["rows"]):
            found = [
                nearest(_points(ours, rows, (axis, measure)), _points(other, [k], (axis, measure)))
                for measure in IMAGE_MEASURES
            ]
            dial = ours[0]["rows"][rows[found[0].dial]]["dial"]
            told = [name, str(row["steps"]), f"{row['dial']:g}", f"{dial:g}"]
            lines.append(_line([*told, *_verdicts(found)]))
    return "\n".join(lines)


def composition_front_table(found: Results) -> str:
    """Tabulate our pairs, side by side, against the others' at about equal text similarity.

    Images' similarities are those of the best windows, means over the concepts of an image.
    """
    sweep = [PAIRS, *(pairs_at(beta) for beta in BETAS_OF_PAIRS)]
    lines = [
        "| against | our strengths | text, ours less theirs | image | | EfficientNet-Lite2 | "
        "| recognised | |",
        f"|{' --- |' * 9}",
    ]
    for method in ("custom diffusion", "lora"):
        told = [
            nearest(_pairs(found, sweep, measure), _pairs(found, [f"{PAIRS}, {method}"], measure))
            for measure in ("image", "outside", "recognised")
        ]
        lines.append(_line([method, sweep[told[0].dial], *_verdicts(told)]))
    return "\n".join(lines)


def _pairs(found: Results, titles: Sequence[str], measure: str) -> Points:
    """Return text similarity and a measure of each pair's side-by-side images, by title."""
    points = []
    for title in titles:
        of_title = []
        for result in found[title]:
            images = [image for image in result["images"] if "painting" not in image["prompt"]]
            own = [np.mean([c[measure] for c in i["concepts"].values()]) for i in images]
            of_title.append((np.mean([image["text"] for image in images]), np.mean(own)))
        points.append(of_title)
    return np.array(points).swapaxes(0, 1)


def _points(
    found: Sequence[dict[str, Any]], rows: Sequence[int], measures: tuple[str, str]
) -> Points:
    """Return two measures of some rows of every subject's result."""
    chosen = [[result["rows"][k] for k in rows] for result in found]
    return np.array([[[row[measure] for measure in measures] for row in each] for each in chosen])


def _verdicts(found: Sequence[Comparison]) -> list[str]:
    """Return the cells of the first one's text, and of everyone's image and verdict."""
    cells = [difference(found[0].text)]
    for measured in found:
        cells += [difference(measured.image), measured.verdict]
    return cells


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
