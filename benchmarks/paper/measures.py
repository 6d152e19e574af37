"""How near images are to a subject's photos and to what was asked for.

Image similarity is measured by the shipped evaluator, by colours alone and by a network that was
trained on photographs. No training here uses the last two, so no embedding can be gamed. Text
similarity hardly notices a scene that gives way to the photos' background, but the colours at an
image's edges do. Intervals are 95 % over subjects (Student's t).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import stats
from scipy.ndimage import gaussian_filter
from torch import Tensor

from benchmarks.paper.outside import outside_similarity
from benchmarks.paper.subjects import Photo, Subject
from perfusion_core.evaluators.similarity import Evaluator


@dataclass(frozen=True)
class Scores:
    """Means over prompts and seeds of one subject at one setting of the dial."""

    image: float  # mean cosine to the photos
    colours: float  # mean overlap of colour histograms with the photos, 0 to 1
    outside: float  # mean cosine to the photos, by EfficientNet-Lite2 with ImageNet weights
    text: float  # mean cosine to the prompt, with the superclass in the subject's place
    nearest: float  # cosine to the nearest photo
    pixels: float  # mean absolute difference to the nearest photo or its mirror image, 0 to 255
    background: float  # overlap of the edges' colours with the photos', 0 to 1


def score(
    evaluator: Evaluator,
    subject: Subject,
    photos: Sequence[Photo],
    *,
    images: Sequence[Image.Image],
    prompts: Sequence[str],
) -> Scores:
    """Score images that were drawn for `prompts`, one each."""
    pictures = [photo.picture for photo in photos]
    told = [prompt.format(subject.phrase) for prompt in prompts]
    seen = evaluator.embed_images(images)  # (n, p)
    cosines = seen @ evaluator.embed_images(pictures).T  # (n, photos)
    return Scores(
        image=float(cosines.mean()),
        colours=colour_overlap(images, pictures),
        outside=outside_similarity(images, pictures),
        text=float((seen * evaluator.embed_texts(told)).sum(-1).mean()),
        nearest=float(cosines.amax(1).mean()),
        pixels=pixel_distance(images, pictures),
        background=background_overlap(images, pictures),
    )


def colour_overlap(images: Sequence[Image.Image], pictures: Sequence[Image.Image]) -> float:
    """Return the mean overlap of the colours of every image and every picture, 0 to 1."""
    return _overlap(images, pictures, _CENTRE)


def background_overlap(images: Sequence[Image.Image], pictures: Sequence[Image.Image]) -> float:
    """Return the mean overlap of the edges' colours of every image and every picture, 0 to 1.

    What an image has above the plain superclass's has leaked from the pictures' background.
    """
    return _overlap(images, pictures, _EDGES)


def pixel_distance(images: Sequence[Image.Image], pictures: Sequence[Image.Image]) -> float:
    """Return the images' mean distance to the nearest picture or its mirror image, 0 to 255.

    A distance is the mean absolute difference of pixels; a copy has 0.
    """
    own = np.stack([_pixels(picture) for picture in pictures]).astype(np.float64)
    own = np.concatenate([own, own[:, :, ::-1]])  # (2 photos, side, side, 3)
    return float(np.mean([np.abs(own - _pixels(image)).mean((1, 2, 3)).min() for image in images]))


def _overlap(
    images: Sequence[Image.Image],
    pictures: Sequence[Image.Image],
    where: npt.NDArray[np.bool_],
) -> float:
    own, others = (
        [_histogram(_pixels(image)[where]) for image in many] for many in (pictures, images)
    )
    return float(np.mean([np.minimum(a, b).sum() for a in own for b in others]))


def scene_overlap(images: Sequence[Image.Image], plain: Sequence[Image.Image]) -> float:
    """Return the mean overlap of the edges' colours of each image and its own plain one, 0 to 1.

    `plain` shows the superclass, from the same prompts and noise. The overlap is 1 if only the
    subject changes.
    """
    pairs = zip(images, plain, strict=True)
    own = [[_histogram(_pixels(image)[_EDGES]) for image in pair] for pair in pairs]
    return float(np.mean([np.minimum(a, b).sum() for a, b in own]))


# Colours are compared at one size for all images, so that base models compare.
_SIDE = 64
_CENTRE = np.zeros((_SIDE, _SIDE), dtype=bool)  # the central quarter, where subjects are
_CENTRE[16:48, 16:48] = True
_EDGES = np.ones((_SIDE, _SIDE), dtype=bool)  # an eighth of the side at the top and the sides
_EDGES[8:, 8:56] = False


def _pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(image.convert("RGB").resize((_SIDE, _SIDE)))


def _histogram(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Shares of 512 colours; blurred by one cell, so that a lighter blue is not another colour."""
    counts, _ = np.histogramdd(pixels.reshape(-1, 3), bins=8, range=[(0, 256)] * 3)
    blurred: npt.NDArray[np.float64] = gaussian_filter(3 * counts / pixels.size, sigma=1.0)
    return blurred


def count_nearest(seen: Tensor, known: Mapping[str, Tensor], names: Sequence[str]) -> int:
    """Count the images (n, p) whose own subject's photos (5, p) are the nearest on average."""
    likeness = torch.stack([(seen @ photos.T).mean(1) for photos in known.values()])  # (s, n)
    subjects = list(known)
    nearest = [subjects[k] for k in likeness.argmax(0).tolist()]
    return sum(found == name for found, name in zip(nearest, names, strict=True))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and half the width of its 95 % confidence interval; needs two values."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return float(np.mean(values)), float(half)
