"""Calibration of verdicts: thresholds that agree with people's opinions of some concepts.

The folder of a base model may contain `calibration.json`. The thresholds in this file hold only for
one base model, one evaluator and one version of the judging (eval_prompts.judging_of).
`calibration.json` also contains the labels and measurements from which `python -m
benchmarks.verdict` chose the thresholds. This module does not import torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perfusion_core.errors import BaseModelError

CALIBRATION_FILE = "calibration.json"

NOTHING_KNOWN = 1.0
"""The threshold of the gain if people recognised none of the concepts."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The least measurements of a good concept, each from 0 to 1; 0 accepts every concept."""

    gain: float
    presence: float
    kept: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Thresholds, with the fingerprints and the version of the judging for which they hold."""

    base_model: str
    evaluator: str
    judging: str
    thresholds: Thresholds

    def to_json(self) -> dict[str, Any]:
        """Return the calibration as plain JSON, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Calibration":
        """Read the JSON of `to_json`, ignoring other keys; raises ValueError if it is not valid."""
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
    """Read the calibration in a base model's folder; return None if the file is missing.

    Raises BaseModelError if the file cannot be read.
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
