"""A job's options as this release knows them.

The service has checked them already. If this worker refuses them, a newer release has accepted
them, in the middle of an upgrade: the job rests until a newer worker takes it.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from perfusion_core.config import BaseModelDefaults, GenerateConfig, TrainConfig
from worker.errors import OfNewerRelease


def generate_config(defaults: BaseModelDefaults, options: Mapping[str, Any]) -> GenerateConfig:
    """Return the options of a generation, or raise OfNewerRelease."""
    try:
        return defaults.generate_config(options)
    except ValidationError as error:
        raise OfNewerRelease from error


def train_config(defaults: BaseModelDefaults, options: Mapping[str, Any]) -> TrainConfig:
    """Return the options of a training, or raise OfNewerRelease."""
    try:
        return defaults.train_config(options)
    except ValidationError as error:
        raise OfNewerRelease from error
