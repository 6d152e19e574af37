"""A short training of one plain picture."""

from typing import Any

from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.config import TrainConfig
from perfusion_core.training.trainer import Training, train

SHORT = TrainConfig(max_train_steps=6, train_batch_size=2, seed=4)


def picture(colour: str = "purple") -> Image.Image:
    image = Image.new("RGB", (64, 64), "skyblue")
    image.paste(Image.new("RGB", (32, 40), colour), (16, 12))
    return image


def begin(base: BaseModel, config: TrainConfig = SHORT, **more: Any) -> Training:
    return train(base, [picture()], name="x", superclass="teddy", config=config, **more)
