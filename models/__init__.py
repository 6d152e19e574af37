"""The models that come with Perfusion, as package data: `base` draws, `evaluator` judges.

`families` holds what single-file checkpoints of Stable Diffusion lack.

`models/maker`, which made them, is not part of an installed package.
"""

from importlib.resources import files
from pathlib import Path


def folder() -> Path:
    """Return the folder of the shipped models: the repository's, or the installed package's."""
    return Path(str(files(__name__))).resolve()
