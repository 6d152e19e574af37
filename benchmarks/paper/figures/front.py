"""Is a point of another method next to, below or above our sweep (Figure 5)?

The subjects are the same, so the difference within each of them counts.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.paper.measures import interval

Points = npt.NDArray[np.float64]
"""(subjects, dials, 2): text and image similarity."""

Difference = tuple[float, float]
"""Mean over subjects, and half the width of its 95 % interval."""


@dataclass(frozen=True)
class Comparison:
    """Ours at one of its dials less another method's point."""

    dial: int  # which of ours
    text: Difference
    image: Difference

    @property
    def verdict(self) -> str:
        """`above` or `below`: surely better in one and not surely worse in the other."""
        signs = {_sign(self.text), _sign(self.image)}
        if signs == {1, -1}:
            return "trade"
        return {1: "above", -1: "below", 0: "tie"}[sum(signs)]


def nearest(ours: Points, other: Points, dial: int | None = None) -> Comparison:
    """Compare a sweep with one point of another method, (subjects, 1, 2).

    Ours is the dial of the highest image similarity among those with no less text similarity on
    average; if there is none, the dial of the highest text similarity. `dial` names it instead, so
    that further measures are compared where the first one was.
    """
    if dial is None:
        texts, images = ours.mean(0).T  # (dials,) each
        reached = texts >= other[..., 0].mean()
        dial = int(np.argmax(np.where(reached, images, -np.inf) if reached.any() else texts))
    text, image = (interval((ours[:, dial, k] - other[:, 0, k]).tolist()) for k in range(2))
    return Comparison(dial, text, image)


def _sign(difference: Difference) -> int:
    mean, half = difference
    return 0 if abs(mean) <= half else 1 if mean > 0 else -1
