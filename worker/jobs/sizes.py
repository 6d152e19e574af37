"""Checks a job's size against the base model of this worker.

The service refuses jobs that are too large for the base model. But the service may have accepted a
job before any worker registered a base model, or for another base model.
"""

from perfusion_core.base_model import BaseModel
from perfusion_core.config import GenerateConfig, TrainConfig
from perfusion_core.defaults.bounds import too_large
from worker.errors import JobTooLarge


def check_size(base: BaseModel, config: TrainConfig | GenerateConfig) -> None:
    """Raise JobTooLarge if a step with these options has more pixels than the model allows."""
    wrong = too_large(config, resolution=base.default_resolution)
    for name, sentence in wrong.items():
        raise JobTooLarge(f"{name}: {sentence}")
