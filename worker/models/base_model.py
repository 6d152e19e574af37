"""Fetches and loads the base model that the settings name, and says how far it is."""

from collections.abc import Callable
from pathlib import Path

from perfusion_core.base_model import BaseModel
from service.settings.environment import SHIPPED_BASE_MODEL, Settings
from worker.models import phases
from worker.models.phases import Report


def load(
    settings: Settings,
    *,
    report: Report,
    estimate: Callable[[BaseModel], None] | None = None,
) -> BaseModel:
    """Return the base model with its covariance; fetch and estimate what is missing.

    `estimate` estimates the covariance, whether or not one is there. Raises BaseModelError with a
    sentence for the operator.
    """
    silence_libraries()
    report(phases.loading("base model"))
    return BaseModel.load(
        settings.base_model,
        device=settings.device,
        device_options=settings.device_options,
        covariance_dir=covariance_folder(settings),
        progress=lambda captions: report(phases.estimating(captions)),
        fetch_progress=phases.fetching("base model", report),
        estimate=estimate,
    )


def covariance_folder(settings: Settings) -> Path:
    """Return the folder of estimated covariances, which all processes of a machine share."""
    folder = Path(settings.data_dir) / "covariance"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def is_shipped(settings: Settings) -> bool:
    """Return whether the settings name the base model that comes with the product."""
    return Path(settings.base_model).resolve() == SHIPPED_BASE_MODEL


def silence_libraries() -> None:
    """Keep progress bars and advice of the libraries out of logs and of the commands' own bars."""
    # Imported here, in the loading thread, since it takes seconds in which the API can answer.
    import diffusers
    import transformers

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.disable_progress_bar()
        library.set_verbosity_error()
