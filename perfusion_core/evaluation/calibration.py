"""What a verdict is measured by: thresholds that agree with what people said of some concepts.

A base model's folder may carry `calibration.json`. Its thresholds hold for one base model, one
evaluator and one version of the judging (trials.judging_of), and for no other. Beside them lie the
labels and figures that they were chosen by (`python -m benchmarks.verdict`). Imports no torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perfusion_core.errors import BaseModelError

CALIBRATION_FILE = "calibration.json"

NOTHING_KNOWN = 1.0
"""The threshold of the gain where people knew none of the concepts again."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The least figures of a good concept, each from 0 to 1; 0 asks for nothing."""

    gain: float
    presence: float
    kept: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Thresholds, and the fingerprints and the version that they hold for."""

    base_model: str
    evaluator: str
    judging: str
    thresholds: Thresholds

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Calibration":
        """Read what `to_json` wrote, with more beside it or not; raises ValueError otherwise."""
        told = value.get("thresholds")
        names = ("base_model", "evaluator", "judging")
        if not all(isinstance(value.get(name), str) for name in names):
            raise ValueError(f"it names no {', '.join(names)}")
        if not isinstance(told, Mapping) or set(told) != {"gain", "presence", "kept"}:
            raise ValueError("it has no thresholds of gain, presence and kept")
        if not all(type(share) in (int, float) and 0 <= share <= 1 for share in told.values()):
            raise ValueError("a threshold is no number from 0 to 1")
        return cls(thresholds=Thresholds(**told), **{name: value[name] for name in names})


def read_calibration(folder: Path) -> Calibration | None:
    """Read the calibration in a base model's folder; None where there is none.

    Raises BaseModelError where it cannot be read.
    """
    file = folder / CALIBRATION_FILE
    if not file.is_file():
        return None
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("it is no object")
        return Calibration.from_json(value)
    except ValueError as error:
        raise BaseModelError(
            f"{file} is no calibration: {error}. Remove it, or make it anew with "
            "`python -m benchmarks.verdict fit`."
        ) from error
