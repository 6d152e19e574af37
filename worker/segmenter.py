"""The segmenter that finds the object where neither a mask nor alpha shows it: CLIPSeg.

It is used where its weights lie in the local hub cache, and never downloaded: a first training
must not wait for 600 MB. Without it the mask is uniform, and the concept's record says so.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog
from huggingface_hub import try_to_load_from_cache
from PIL import Image

from perfusion_core.masks import Segmenter
from worker.device import load_apart

NAME = "CIDAS/clipseg-rd64-refined"
_log = structlog.get_logger("perfusion.worker")


def find(
    pictures: Sequence[Image.Image], masks: Sequence[Image.Image | None], *, device: str
) -> Segmenter | None:
    """Return the segmenter, if a picture needs it and its weights are on this machine.

    A concept is worth having without it: weights that cannot be loaded cost the masks alone.
    """
    needed = any(
        mask is None and not picture.has_transparency_data
        for picture, mask in zip(pictures, masks, strict=True)
    )
    if not needed:
        return None
    config = try_to_load_from_cache(NAME, "config.json")
    if not isinstance(config, str):
        return None
    try:
        return load_apart(partial(Segmenter, Path(config).parent, device=device))
    except Exception:
        _log.warning("segmenter.not_loaded", exc_info=True)
        return None
