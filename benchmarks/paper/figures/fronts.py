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

_RIVALS = ("custom diffusion", "lora")
_SWEEP = (PAIRS, *map(pairs_at, BETAS_OF_PAIRS))


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
            found: list[Comparison] = []
            for measure in IMAGE_MEASURES:
                of_ours, of_other = (
                    _points(ours, rows, (axis, measure)), _points(other, [k], (axis, measure))
                )  # fmt: skip
                found.append(nearest(of_ours, of_other, found[0].dial if found else None))
            dial = ours[0]["rows"][rows[found[0].dial]]["dial"]
            told = [name, str(row["steps"]), f"{row['dial']:g}", f"{dial:g}"]
            lines.append(_line([*told, *_verdicts(found)]))
    return "\n".join(lines)


def has_pairs(found: Results) -> bool:
    """Return whether the pairs were drawn at all strengths, and by another method."""
    rivals = {f"{PAIRS}, {method}" for method in _RIVALS}
    return set(_SWEEP) <= set(found) and bool(rivals & set(found))


def composition_front_table(found: Results) -> str:
    """Tabulate our pairs, side by side, where they have no less text similarity than the others'.

    Images' similarities are those of the best windows, means over the concepts of an image.
    Intervals are over pairs, and each subject is in two of those.
    """
    lines = [
        "| against | our strengths | text, ours less theirs | image | | EfficientNet-Lite2 | "
        "| recognised | |",
        f"|{' --- |' * 9}",
    ]
    for method in _RIVALS:
        title = f"{PAIRS}, {method}"
        if title not in found:
            continue
        told: list[Comparison] = []
        for measure in ("image", "outside", "recognised"):
            ours, theirs = _pairs(found, _SWEEP, measure), _pairs(found, [title], measure)
            told.append(nearest(ours, theirs, told[0].dial if told else None))
        lines.append(_line([method, _SWEEP[told[0].dial], *_verdicts(told)]))
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
