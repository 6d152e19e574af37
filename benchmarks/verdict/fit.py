"""Thresholds that agree with people, chosen on all concepts but one and tried on that one."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt

from perfusion_core.evaluation.calibration import NOTHING_KNOWN, Calibration, Thresholds
from perfusion_core.evaluation.verdict import Figures, verdict

GOOD_FROM = 6
"""A concept is good if so many images of eight show the very object."""

_DIGITS = 4


@dataclass(frozen=True)
class Case:
    """A concept: what people said of its images, and what was measured of it."""

    name: str
    labels: tuple[bool, ...]
    figures: Figures

    @property
    def good(self) -> bool:
        """What people say."""
        return sum(self.labels) >= GOOD_FROM


def choose(cases: Sequence[Case]) -> Thresholds:
    """Return the thresholds that agree with the most cases.

    If no case is good, the gain has to reach NOTHING_KNOWN. Among equals, those that ask for the
    fewest figures win, and then those in the widest gap between measured values, relative to their
    range, where the next concept is least likely to lie.
    """
    good = np.array([case.good for case in cases])
    measured = np.array(
        [(case.figures.gain, case.figures.presence, case.figures.kept) for case in cases]
    )
    alike = np.array([case.figures.alike for case in cases])
    best: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    options = [_candidates(column) for column in measured.T]
    if not good.any():
        options[0].append((NOTHING_KNOWN, 1.0))
    for chosen in product(*options):
        least = tuple(threshold for threshold, _ in chosen)
        said = (measured >= np.array(least)).all(1) & alike
        asked = [gap for threshold, gap in chosen if threshold > 0]
        score = (float((said == good).sum()), -len(asked), min(asked, default=0.0))
        if best is None or score > best[0]:
            best = score, least
    assert best is not None
    gain, presence, kept = best[1]
    return Thresholds(gain=gain, presence=presence, kept=kept)


def says_good(figures: Figures, thresholds: Thresholds) -> bool:
    """Return what the product says of figures, by these thresholds."""
    calibration = Calibration(
        base_model="", evaluator=figures.evaluator, judging=figures.judging or "",
        thresholds=thresholds,
    )  # fmt: skip
    judged = verdict(figures, superclass="", base_model="", calibration=calibration)
    if judged.quality == "uncalibrated":
        raise ValueError(f"there is no verdict on these figures: {judged.reasons[0]}")
    return judged.quality == "good"


def left_out(cases: Sequence[Case]) -> list[bool]:
    """Return what thresholds that were chosen without it say of each case."""
    return [
        says_good(case.figures, choose([*cases[:k], *cases[k + 1 :]]))
        for k, case in enumerate(cases)
    ]


def calibrate(cases: Sequence[Case], *, base_model: str) -> dict[str, Any]:
    """Return what calibration.json holds: the calibration, and what it was made of.

    Raises ValueError if the figures are not all of one evaluator and one judging.
    """
    judges = {(case.figures.evaluator, case.figures.judging) for case in cases}
    if len(judges) != 1:
        raise ValueError(f"the concepts were judged in different ways: {sorted(map(str, judges))}")
    ((evaluator, judging),) = judges
    thresholds, alone = choose(cases), left_out(cases)
    calibration = Calibration(
        base_model=base_model, evaluator=evaluator, judging=judging or "", thresholds=thresholds
    )
    said = [says_good(case.figures, thresholds) for case in cases]
    return {
        **calibration.to_json(),
        "agreement": {
            "of": len(cases),
            "all": sum(a == case.good for a, case in zip(said, cases, strict=True)),
            "left_out": sum(a == case.good for a, case in zip(alone, cases, strict=True)),
        },
        "concepts": [
            {
                "name": case.name,
                "labels": case.labels,
                "good": case.good,
                "said": by_all,
                "said_when_left_out": by_others,
                "gain": round(case.figures.gain, _DIGITS),
                "presence": round(case.figures.presence, _DIGITS),
                "kept": round(case.figures.kept, _DIGITS),
                "figures": case.figures.to_json(),
            }
            for case, by_all, by_others in zip(cases, said, alone, strict=True)
        ],
    }


def _candidates(column: npt.NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return thresholds between measured values, each with its gap; 0 asks for nothing."""
    values = np.unique(column)
    spread = values[-1] - values[0]
    between = [
        (round(float(a + b) / 2, _DIGITS), float((b - a) / spread)) for a, b in pairwise(values)
    ]
    return [(0.0, 0.0), *between]
