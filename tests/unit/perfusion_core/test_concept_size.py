"""How many bytes a concept of Stable Diffusion 1.5 takes: the paper says 100 KB."""

from dataclasses import asdict, replace

import numpy as np
from PIL import Image

from perfusion_core.concept import Concept
from perfusion_core.config import TrainConfig
from perfusion_core.evaluation.curve import BETAS, Curve, Point, Similarity
from perfusion_core.evaluation.record import Evaluation, EvaluatorRef
from perfusion_core.imaging.thumbnails import MAX_THUMBNAIL_BYTES, thumbnail
from perfusion_core.shared_parts import SharedParts
from perfusion_core.strength import strength_from_beta

draw = np.random.default_rng(11)


def vector(size: int) -> np.ndarray:
    return draw.standard_normal(size).astype(np.float32)


WIDTHS = (*[320] * 2, *[640] * 2, *[1280] * 6, *[640] * 3, *[320] * 3)
TRAINED = Concept(
    name="the-old-teddy-bear-of-my-sister",
    superclass="teddy bear",
    family="sd1",
    base_model_name="stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    base_model_fingerprint="0123456789abcdef" * 2,
    covariance_fingerprint="fedcba9876543210" * 2,
    o_v=vector(12_480),
    i_star=vector(768),
    e_super=vector(768),
    embeddings=(vector(768),),
    mask_source="segmenter",
    shared_parts=SharedParts("89abcdef01234567" * 2, WIDTHS),
    training=asdict(TrainConfig(seed=2**32 - 1, resolution=512))
    | {"steps": 400, "stopped_early": False},
)


def largest_thumbnail() -> bytes:
    """Noise, of the most detail that still fits."""
    found = b""
    for scale in range(24, 97, 4):
        pixels = draw.integers(0, 255, (scale, scale, 3), dtype=np.uint8)
        found = max(found, thumbnail(Image.fromarray(pixels).resize((512, 512))), key=len)
    assert len(found) > 0.9 * MAX_THUMBNAIL_BYTES
    return found


def test_in_float16_without_a_curve_it_takes_at_most_31_200_bytes() -> None:
    assert len(TRAINED.to_bytes("float16")) <= 31_200


def test_in_float32_with_the_largest_curve_it_takes_at_most_100_000_bytes() -> None:
    points = tuple(Point(strength_from_beta(b), Similarity(-0.1234, -0.5678)) for b in BETAS)
    curve = Curve(
        prompts=("a photo of a {} under the trees, next to a river in the evening light",) * 16,
        superclass=Similarity(-0.1234, -0.5678),
        ceiling=0.8125,
        points=points,
        text_floor=-0.1234,
    )
    found = Evaluation(
        evaluator=EvaluatorRef("openai/clip-vit-large-patch14", "f" * 32),
        reference=vector(1024),
        curve=curve,
        thumbnails=(largest_thumbnail(),) * len(points),
    )
    size = len(replace(TRAINED, evaluation=found).to_bytes())
    assert 80_000 < size <= 100_000
