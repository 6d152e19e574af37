"""Attention maps: the share of cross-attention that each word of a prompt has at each place.

`A[p, n]`, the attention from place p to token n, is a softmax over tokens, so each row sums to 1. A
word's share of the attention is the sum of `A[p, n]` over the word's tokens. A word's map is the
mean of the word's share over heads, layers (each resized to the latents' grid) and steps. Only the
prompt's row of the batch counts, not the negative prompt's row. The means are accumulated, so
memory does not grow with the number of steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from perfusion_core.attention import Observer
from perfusion_core.errors import BaseModelError
from perfusion_core.text.words import Word

MAX_WORDS = 24
"""The most maps of one image. Of a longer prompt, concepts come first, then the first other
words."""

COVERAGE_THRESHOLD = 0.2
"""The least share of the prompt's attention: a word covers a place if its share there is larger."""

_BEGIN = 0  # the begin token's position
_LEAST = 1e-6  # where the begin token takes all attention, no word covers anything


@dataclass(frozen=True)
class WordMap:
    """A word, and its mean share of the attention at each place, (h, w), on the CPU."""

    word: Word
    share: Tensor
    begin: Tensor  # (h, w): the begin token's mean share

    @property
    def coverage(self) -> float:
        """The share of the image that the word covers.

        A word is compared with the attention that the begin token leaves. A causal text encoder
        gives the begin token the same encoding in every prompt, so attention to it is attention to
        no prompt. With frozen CLIP encoders the begin token takes most of the attention (arXiv
        2301.13826 leaves it out, too); no word would reach the threshold of all attention.
        """
        return coverage(self.share / (1 - self.begin).clamp(min=_LEAST))


def coverage(share: Tensor, *, threshold: float = COVERAGE_THRESHOLD) -> float:
    """Return the share of an image that a word covers (METHOD 7, the paper's Fig. 1).

    `share` (h, w) is a word's mean share of the prompt's attention at each place. A place is
    covered if the word's share there is above `threshold`. The coverage is the number of covered
    places divided by the number of all places. A high coverage indicates attention overfit. The
    threshold is absolute, so that coverages of different prompts and methods on one base model can
    be compared. The coverage is 1 for a word with all attention everywhere, and 0 for a word
    without attention.
    """
    return float((share > threshold).float().mean())


def probabilities(q: Tensor, k: Tensor) -> Tensor:
    """Return the attention of Queries (h, P, c) to Keys (h, N, c), averaged over heads: (P, N)."""
    scores: Tensor = q.float() @ k.float().transpose(-1, -2) / q.shape[-1] ** 0.5  # (h, P, N)
    return scores.softmax(-1).mean(0)


def the_most_telling(words: Sequence[Word]) -> tuple[Word, ...]:
    """Return at most MAX_WORDS words, in the prompt's order; concepts have priority."""
    ranked = sorted(range(len(words)), key=lambda n: words[n].concept is None)
    return tuple(words[n] for n in sorted(ranked[:MAX_WORDS]))


class AttentionMaps:
    """The running means of one image's maps. A step counts only after `keep_step`."""

    def __init__(
        self,
        words: Sequence[Word],
        *,
        token_count: int,
        grid: tuple[int, int],
        device: torch.device,
        layer_grid: tuple[int, int] | None = None,
    ) -> None:
        """Start without any step; `grid` is the height and width of the image's latents.

        With `layer_grid` only layers of this height and width count.
        """
        self.words = tuple(words)
        self._grid = grid
        self._places = None if layer_grid is None else layer_grid[0] * layer_grid[1]
        # The last column is the begin token.
        self._tokens_of = torch.zeros(token_count, len(self.words) + 1, device=device)  # (N, w + 1)
        self._tokens_of[_BEGIN, -1] = 1.0
        for number, word in enumerate(self.words):
            self._tokens_of[list(word.positions), number] = 1.0
        self._total = torch.zeros(len(self.words) + 1, *grid, device=device)
        self._count = 0
        self.begin_step()

    def begin_step(self) -> None:
        """Discard the contributions of a step that was not kept."""
        self._step_total = torch.zeros_like(self._total)
        self._step_count = 0

    def see(self, q: Tensor, k: Tensor) -> None:
        """Add one layer's Queries (h, P, c) and Keys (h, N, c)."""
        if not self.words:  # a prompt may contain no words
            return
        if self._places not in (None, q.shape[1]):
            return
        share = probabilities(q, k) @ self._tokens_of  # (P, w + 1)
        height, width = self._grid_of(len(share))
        layer = share.T.unflatten(1, (height, width))
        self._step_total += interpolate(
            layer[None], size=self._grid, mode="bilinear", align_corners=False
        )[0]
        self._step_count += 1

    def keep_step(self) -> None:
        """Include the step in the means."""
        self._total += self._step_total
        self._count += self._step_count

    def means(self) -> tuple[WordMap, ...]:
        """Return the maps so far, in the prompt's order."""
        *shares, begin = (self._total / max(1, self._count)).cpu()
        return tuple(
            WordMap(word, share, begin) for word, share in zip(self.words, shares, strict=True)
        )

    def _grid_of(self, places: int) -> tuple[int, int]:
        """Return a layer's height and width: the latents' size halved (rounded up) some times."""
        height, width = self._grid
        while height * width > places:
            height, width = -(-height // 2), -(-width // 2)
        if height * width != places:
            raise BaseModelError("This base model's layers are of sizes that cannot be mapped.")
        return height, width


def observer_of(recorded: Mapping[int, Sequence[AttentionMaps]]) -> Observer:
    """Return an observer of one U-Net batch that updates the maps in `recorded`, by row number."""

    def observe(q: Tensor, k: Tensor) -> None:
        for row, each in recorded.items():
            for maps in each:
                maps.see(q[row], k[row])

    return observe
