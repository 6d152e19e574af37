"""The base model that a command loads, and the options that choose it and its device."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.progress import loading_bar
from perfusion_core.devices.options import DtypeName, Offload
from service.settings import environment
from service.settings.environment import Settings

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel

BaseModelOption = Annotated[
    str | None,
    typer.Option(
        "--base-model",
        help="Folder or hub name. Default: PERFUSION_BASE_MODEL, or the shipped one.",
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps. Default: PERFUSION_DEVICE.")
]


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """Where a command computes, and how precisely."""

    device: DeviceOption = None
    dtype: Annotated[
        DtypeName | None, typer.Option(help="The U-Net's precision. Default: PERFUSION_DTYPE.")
    ] = None
    offload: Annotated[
        Offload | None,
        typer.Option(help="What leaves a GPU while it is not used. Default: PERFUSION_OFFLOAD."),
    ] = None

    def over(self, settings: Settings) -> Settings:
        """Return the settings with these options in place of the environment's."""
        given = {"device": self.device, "dtype": self.dtype, "offload": self.offload}
        return settings.model_copy(update={name: value for name, value in given.items() if value})


@dataclass(frozen=True, kw_only=True)
class ModelOptions(ComputeOptions):
    """Which base model a command loads, and where."""

    base_model: BaseModelOption = None

    def settings(self) -> Settings:
        """Return the environment's settings with these options in their place."""
        chosen = environment.load()
        if self.base_model is not None:
            chosen = chosen.model_copy(update={"base_model": self.base_model})
        return self.over(chosen)


def load(settings: Settings) -> "BaseModel":
    """Load the base model with its covariance, from the caches that the worker also uses."""
    from worker.models import base_model

    with loading_bar() as report:
        return base_model.load(settings, report=report)
