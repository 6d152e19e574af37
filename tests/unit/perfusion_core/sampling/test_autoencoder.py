"""Images are decoded as many at once as memory allows; in tiles they stay near the whole."""

from typing import Any

import pytest
import torch
from torch import Tensor

from perfusion_core.base_model import BaseModel
from perfusion_core.devices import plans
from perfusion_core.imaging.pixels import to_pixels
from perfusion_core.sampling import autoencoder
from perfusion_core.sampling.autoencoder import decode_latents, encode_pixels
from tests.unit.perfusion_core.conftest import drawing


def levels(pixels: Tensor) -> Tensor:
    """Grey levels of an image's file."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round()


def drawn(*, side: int) -> Tensor:
    return to_pixels(drawing(side), side=side)[None]


def with_memory(monkeypatch: pytest.MonkeyPatch, free: int | None) -> None:
    """Tell the VAE of so much free memory; small tiles keep the tests quick."""
    monkeypatch.setattr(plans, "SMALLEST_TILE", 128)
    monkeypatch.setattr(autoencoder, "free_bytes", lambda device: free)


def test_images_are_decoded_together_alone_or_in_tiles_by_the_free_memory(
    shipped: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = encode_pixels(shipped, drawn(side=256)).expand(2, -1, -1, -1)
    each = shipped.placed.needs.decoding(256**2)
    shapes: list[tuple[int, int]] = []

    def see(_module: Any, args: tuple[Tensor, ...]) -> None:
        shapes.append((args[0].shape[0], args[0].shape[-1] * shipped.vae_factor))

    hook = shipped.vae.decoder.register_forward_pre_hook(see)
    decoded = []
    try:
        for free in (100 * each, 2 * each, each // 2):
            with_memory(monkeypatch, free)
            decoded.append(levels(decode_latents(shipped, latents)))
            shapes.append((0, 0))
    finally:
        hook.remove()
        shipped.vae.use_tiling = False
    together, alone, tiles = _split(shapes)
    assert together == [(2, 256)]
    assert alone == [(1, 256), (1, 256)]
    assert max(side for _, side in tiles) == 128
    assert {rows for rows, _ in tiles} == {1}
    assert float((decoded[1] - decoded[0]).abs().max()) <= 1
    # Each tile's norms see the tile alone, which shifts its colours.
    difference = (decoded[2] - decoded[0]).abs()
    assert 0 < float(difference.mean()) <= 3
    assert decoded[2].shape == decoded[0].shape


def test_a_picture_that_does_not_fit_is_encoded_in_tiles(
    shipped: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = drawn(side=256)
    with_memory(monkeypatch, None)
    whole = encode_pixels(shipped, pixels)
    with_memory(monkeypatch, shipped.placed.needs.encoding(256**2) // 2)
    try:
        tiles = encode_pixels(shipped, pixels)
    finally:
        shipped.vae.use_tiling = False
    assert tiles.shape == whole.shape
    assert 0 < float((tiles - whole).norm()) <= 0.2 * float(whole.norm())


def test_after_a_shortage_images_are_decoded_as_before(
    shipped: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = encode_pixels(shipped, drawn(side=256))
    with_memory(monkeypatch, None)
    before = decode_latents(shipped, latents)
    with_memory(monkeypatch, 1)
    assert not torch.equal(decode_latents(shipped, latents), before)
    with_memory(monkeypatch, None)
    assert torch.equal(decode_latents(shipped, latents), before)


def _split(shapes: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    groups: list[list[tuple[int, int]]] = [[]]
    for shape in shapes:
        if shape == (0, 0):
            groups.append([])
        else:
            groups[-1].append(shape)
    return groups[:-1]
