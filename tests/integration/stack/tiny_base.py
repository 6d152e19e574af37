"""A base model of a few thousand random weights, which draws noise at once."""

from pathlib import Path

from perfusion_core.base_model import COVARIANCE_FILE, BaseModel
from perfusion_core.covariance.captions import captions
from tests.unit.perfusion_core.conftest import tiny_pipeline


def write_tiny_base(folder: Path, *, seed: int = 7) -> Path:
    """Write a base model for PERFUSION_BASE_MODEL with its covariance, and return the folder."""
    pipeline = tiny_pipeline("sd1", seed=seed)
    pipeline.save_pretrained(folder)
    base = BaseModel.from_pipeline(pipeline, name=folder.name, device="cpu")
    base.estimate_covariance(captions(300, known=base.knows_word))
    base.covariance.save(folder / COVARIANCE_FILE)
    return folder
