"""The figures behind automatic choices are near a count over all operations."""

import pytest
import torch

from benchmarks.measure import held_bytes
from benchmarks.needs import needs, reckoned
from benchmarks.shapes import Shape


def test_held_bytes_are_those_of_tensors_that_live_at_the_same_time() -> None:
    def work() -> None:
        kept = torch.ones(1000)
        for _ in range(5):
            kept = kept + 1  # the sum lives beside its first operand
        kept.view(10, 100)

    assert held_bytes(work) == 2 * 4000


@pytest.mark.parametrize("shape", ["tiny", pytest.param("sd15", marks=pytest.mark.slow)])
def test_reckoned_needs_are_within_a_quarter_of_what_operations_hold(shape: Shape) -> None:
    counted, of = needs(shape), reckoned(shape)
    pixels = counted.side**2
    assert of.unet == counted.unet_bytes
    assert of.text + of.vae == counted.other_bytes
    for reckoned_bytes, count in (
        (of.training(pixels), counted.training_bytes),
        (of.recomputing(pixels), counted.recomputing_bytes),
        (of.step(pixels, rows=1), counted.denoising_bytes),
        (of.decoding(pixels), counted.decoding_bytes),
        (of.encoding(pixels), counted.encoding_bytes),
    ):
        assert reckoned_bytes == pytest.approx(count, rel=0.25)
