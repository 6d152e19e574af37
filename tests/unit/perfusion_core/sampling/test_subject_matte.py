"""Where an edit shows its subject."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from perfusion_core.errors import EditError
from perfusion_core.sampling.subject_matte import SubjectMatte, guided_filter
from perfusion_core.text.words import Word

TWO_LEVELS = SimpleNamespace(down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"])
WORDS = (Word("<x>", "x", (1,)), Word("beach", None, (2,)), Word("<y>", "y", (3,)))


def attention(shown: Tensor, *, token: int) -> tuple[Tensor, Tensor]:
    """Return Queries and Keys of one head by which the places `shown` (h, w) attend to a token."""
    k = 6 * torch.eye(5)[None]
    q = torch.where(shown.flatten()[:, None], 6 * torch.eye(5)[token], 6 * torch.eye(5)[2])[None]
    return q, k


def test_the_subject_is_where_concepts_have_much_attention_in_the_first_half_of_the_steps() -> None:
    white = torch.zeros(1, 1, 32, 32)
    white[..., 2:30, 2:30] = 1
    matte = SubjectMatte(WORDS, token_count=5, anew=white, unet_config=TWO_LEVELS)
    left, right, late = (torch.zeros(16, 16, dtype=torch.bool) for _ in range(3))
    left[4:10, 0:5] = right[4:10, 11:14] = late[12:] = True
    fine = torch.ones(32, 32, dtype=torch.bool)  # a layer that is finer than needed
    for places, token in ((left, 1), (right, 3), (fine, 1)):
        matte.maps.see(*attention(places, token=token))
    matte.keep_step(left=2, total=3)
    assert matte.found is None
    matte.keep_step(left=1, total=3)
    matte.maps.see(*attention(late, token=1))
    matte.keep_step(left=0, total=3)
    assert matte.found is not None
    expected = (left | right).repeat_interleave(2, 0).repeat_interleave(2, 1) & (white[0, 0] > 0)
    wrong = matte.found[0, 0] != expected
    assert not bool((matte.found & (white == 0)).any())
    assert int(wrong.sum()) < 0.35 * int(expected.sum())  # only along the edges
    assert bool(matte.found[0, 0, 10:18, 4:8].all()) and not bool(matte.found[..., 24:, :].any())


def test_without_a_concept_there_is_no_subject() -> None:
    with pytest.raises(EditError, match="needs a concept"):
        SubjectMatte(WORDS[1:2], token_count=5, anew=torch.ones(1, 1, 8, 8), unet_config=TWO_LEVELS)


def test_the_edge_of_a_matte_moves_to_the_edge_of_the_pixels() -> None:
    pixels = torch.full((3, 40, 60), -0.8)
    pixels[:, :, 30:] = 0.6
    matte = torch.zeros(1, 40, 60)
    matte[:, :, 27:] = 1  # three pixels too wide
    row = guided_filter(matte, guide=pixels, radius=6)[0, 20]
    assert bool((row[31:] > 0.8).all()) and bool((row[:20] < 0.1).all())
    assert row[30] - row[29] > 0.4  # the largest step is at the edge of the pixels
    assert int(row.diff().argmax()) == 29


def test_a_matte_stays_as_it_is_where_the_pixels_are_even() -> None:
    matte = torch.ones(1, 20, 20)
    filtered = guided_filter(matte, guide=torch.zeros(3, 20, 20), radius=3)
    assert torch.allclose(filtered, matte)
