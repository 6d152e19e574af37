"""The segmenter, CLIPSeg, which finds the object in pictures without a mask or alpha.

A worker fetches it while it loads a base model other than the shipped one; `perfusion prepare`
fetches it for any. A training never waits for a download of 600 MB. Without a segmenter the mask is
uniform, and the concept records that the mask is uniform.

The default, CIDAS/clipseg-rd64-refined, is unverified: no revision is pinned, because none could be
compared with the hub here. Pin one by PERFUSION_SEGMENTER=NAME@REVISION.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from PIL import Image

from perfusion_core.errors import PerfusionError
from perfusion_core.hub import find_folder, split_revision
from perfusion_core.pictures.masks import Segmenter
from service.settings.environment import Settings
from worker.engine.device import load_apart
from worker.models import phases
from worker.models.phases import Report

_log = structlog.get_logger("perfusion.worker")


def fetch(settings: Settings, *, report: Report) -> str | None:
    """Fetch the segmenter unless its files are here; return a sentence if that is not possible."""
    if settings.segmenter == "none" or name_of(settings) is not None:
        return None
    try:
        find_folder(
            settings.segmenter, role="segmenter", progress=phases.fetching("segmenter", report)
        )
    except PerfusionError as error:
        problem = f"Pictures without a mask are learned as a whole. {error}"
        _log.warning("segmenter.not_fetched", problem=problem, exc_info=True)
        return problem
    return None


def find(
    pictures: Sequence[Image.Image],
    masks: Sequence[Image.Image | None],
    *,
    name: str,
    device: str,
) -> Segmenter | None:
    """Return the segmenter `name` if a picture needs it and its files are on this machine.

    A concept is useful without masks, so a segmenter that cannot be loaded does not fail the job.
    """
    needed = any(
        mask is None and not picture.has_transparency_data
        for picture, mask in zip(pictures, masks, strict=True)
    )
    if not needed or name == "none":
        return None
    try:
        folder = _folder_of(name)
        return load_apart(partial(Segmenter, folder, device=device)) if folder else None
    except Exception as error:
        problem = str(error) if isinstance(error, PerfusionError) else type(error).__name__
        _log.warning("segmenter.not_loaded", problem=problem, exc_info=True)
        return None


def name_of(settings: Settings) -> str | None:
    """Return the segmenter's folder or hub name; None if this machine does not have its files."""
    name = settings.segmenter
    return None if name == "none" or _folder_of(name) is None else name


def _folder_of(name: str) -> Path | None:
    if Path(name).is_dir():
        return Path(name)
    hub_name, revision = split_revision(name)
    try:
        config = try_to_load_from_cache(hub_name, "config.json", revision=revision)
    except HFValidationError:  # a path that does not exist: no hub has such a name
        return None
    return Path(config).parent if isinstance(config, str) else None
