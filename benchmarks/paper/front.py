"""Is a method on the front of another's sweep? Differences at equal text similarity (Figure 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""(subjects, dials, 2): text and image similarity."""

_RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """Our image similarity less another's at its own text similarity; NaN where we never have it.

    The interval is the bootstrap's, 95 %, over subjects.
    """

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """In a word: who is above."""
        if np.isnan(self.mean):
            return "text out of reach"
        if self.low > 0:
            return "above"
        return "below" if self.high < 0 else "tie"


def image_at_text(sweep: npt.NDArray[np.float64], text: float) -> float:
    """The best image similarity of a sweep (dials, 2) where it has at least this text similarity.

    Between neighbouring dials the sweep is a straight line. NaN where it has less text everywhere.
    """
    reached = [image for own, image in sweep if own >= text]
    for (text_a, image_a), (text_b, image_b) in pairwise(sweep):
        if (text_a - text) * (text_b - text) < 0:
            share = (text - text_a) / (text_b - text_a)
            reached.append(image_a + share * (image_b - image_a))
    return float(max(reached, default=np.nan))


def difference(ours: Points, other: Points, *, seed: int = 0) -> Difference:
    """Compare a sweep with one point of another method, (subjects, 1, 2), on the same subjects."""
    chance = np.random.default_rng(seed)
    count = len(ours)
    drawn = []
    for chosen in [np.arange(count), *chance.integers(count, size=(_RESAMPLES, count))]:
        (text, image), sweep = other[chosen].mean(0)[0], ours[chosen].mean(0)
        drawn.append(image_at_text(sweep, text) - image)
    known = np.array(drawn[1:])
    known = known[~np.isnan(known)]
    if np.isnan(drawn[0]) or len(known) < 0.9 * _RESAMPLES:
        return Difference(np.nan, np.nan, np.nan)
    low, high = np.percentile(known, (2.5, 97.5))
    return Difference(drawn[0], float(low), float(high))


def points(results: Sequence[dict[str, object]], rows: Sequence[int], measure: str) -> Points:
    """Text and image (or colour) similarity of some rows of every subject's result."""
    found = [
        [(row["text"], row[measure]) for row in (result["rows"][k] for k in rows)]  # type: ignore[index]
        for result in results
    ]
    return np.array(found, dtype=np.float64)
