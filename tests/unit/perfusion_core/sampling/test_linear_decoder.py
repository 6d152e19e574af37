"""Small pictures of latents by an affine function that is fitted to the VAE."""

import pytest
import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from api.demo.subjects import SUBJECTS, photograph
from perfusion_core.imaging.pixels import to_pixels
from perfusion_core.sampling.linear_decoder import LinearDecoder
from service.settings.environment import SHIPPED_BASE_MODEL


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_what_is_affine_is_learned_from_one_picture(factor: int) -> None:
    generator = torch.Generator().manual_seed(0)
    A, b = torch.randn(3, 4, generator=generator), torch.randn(3, 1, 1, generator=generator)

    def vae(latents: torch.Tensor) -> torch.Tensor:
        pixels = torch.einsum("oc,bchw->bohw", A, latents) + b
        return functional.interpolate(pixels, scale_factor=factor)

    first, other = torch.randn(2, 1, 4, 16, 12, generator=generator)
    patch = min(factor, 4)
    expected = functional.avg_pool2d(vae(other), factor // patch)
    decoder = LinearDecoder()
    assert decoder.decode(other) is None
    decoder.learn("first", first, vae(first))
    decoded = decoder.decode(other)
    assert decoded is not None and decoded.shape == (1, 3, 16 * patch, 12 * patch)
    assert (decoded - expected).abs().mean() < 0.02 * expected.std()


@torch.no_grad()
def test_what_the_shipped_vae_makes_of_one_photo_is_enough_to_draw_another() -> None:
    vae = AutoencoderKL.from_pretrained(SHIPPED_BASE_MODEL / "vae", torch_dtype=torch.float32)
    photos = [photograph(subject)[0].picture for subject in SUBJECTS]
    latents = [vae.encode(to_pixels(photo, side=128)[None]).latent_dist.mode() for photo in photos]
    pixels = [vae.decode(each).sample for each in latents]
    decoder = LinearDecoder()

    def apart(k: int) -> float:
        decoded = decoder.decode(latents[k])
        assert decoded is not None and decoded.shape == (1, 3, 64, 64)
        return float((decoded - functional.avg_pool2d(pixels[k], 2)).abs().mean())

    decoder.learn(0, latents[0], pixels[0])
    untaught = apart(1)
    assert untaught < pixels[1].std() / 2
    # What was learned from the first stays when the second is learned, too.
    decoder.learn(1, latents[1], pixels[1])
    both = apart(0)
    assert apart(1) < untaught
    alone = LinearDecoder()
    alone.learn(1, latents[1], pixels[1])
    decoder = alone
    assert both < apart(0)
