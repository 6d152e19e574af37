"""A map over its image: small enough to look at, and light where the word acted."""

import io

import numpy as np
import torch
from PIL import Image

from perfusion_core.sampling import overlays
from perfusion_core.sampling.attention_maps import COVERAGE_THRESHOLD


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_an_overlay_is_bounded_and_lightest_where_the_word_acted() -> None:
    share = torch.zeros(8, 16)
    share[:4, 8:] = 0.5  # above and to the right
    black = Image.new("RGB", (1200, 600))
    lightness = np.asarray(opened(overlays.draw(black, share)).convert("L"), np.float32)
    assert lightness.shape == (256, 512)
    assert lightness[:100, 300:].mean() > 3 * lightness[150:, :200].mean()
    weak = opened(overlays.draw(black, share * COVERAGE_THRESHOLD / 10)).convert("L")
    assert np.asarray(weak).max() < lightness.max() / 3
