"""What an evaluator found out travels in the concept file, and nothing else does in its place."""

import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load, save

from perfusion_core.concept import Concept
from perfusion_core.errors import ConceptFileError
from perfusion_core.evaluation.curve import STRENGTHS, Curve, Point, Proof, Similarity
from perfusion_core.evaluation.record import Evaluation, EvaluatorRef
from perfusion_core.imaging.thumbnails import MAX_THUMBNAIL_BYTES, is_thumbnail, thumbnail
from tests.unit.perfusion_core.test_concept import SD15, metadata

noise = np.random.default_rng(5)


def noisy(side: int) -> Image.Image:
    return Image.fromarray(noise.integers(0, 255, (side, side, 3), dtype=np.uint8))


FOUND = Evaluation(
    evaluator=EvaluatorRef("clip", "f" * 32),
    reference=noise.standard_normal(768).astype(np.float32),
    curve=Curve(
        prompts=("a photo of a {} on the beach", "a photo of a {} at night"),
        superclass=Similarity(0.5, 0.25),
        ceiling=0.8125,
        points=tuple(Point(s, Similarity(s, 0.25)) for s in STRENGTHS),
        proof=Proof(
            judging="0123456789abcdef",
            images=(0.5, 0.75),
            windows=(0.625, 0.875),
            text=0.25,
            superclass=Similarity(0.375, 0.25),
        ),
    ),
    thumbnails=tuple(thumbnail(noisy(512)) for _ in STRENGTHS),
)
JUDGED = replace(SD15, evaluation=FOUND)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_evaluation_is_read_as_it_was_written(dtype: Any) -> None:
    read = Concept.from_bytes(JUDGED.to_bytes(dtype))
    assert read.curve == FOUND.curve
    assert read.evaluation is not None and read.reference is not None
    assert read.evaluation.evaluator == FOUND.evaluator
    assert read.evaluation.thumbnails == FOUND.thumbnails
    assert np.array_equal(read.reference, FOUND.reference)  # whole, in half files too


def test_a_concept_keeps_its_evaluation_under_another_name() -> None:
    renamed = Concept.from_bytes(JUDGED.to_bytes()).renamed("other")
    assert Concept.from_bytes(renamed.to_bytes()).curve == FOUND.curve


def test_a_curve_without_a_proof_is_one_of_an_earlier_release() -> None:
    assert FOUND.curve is not None
    earlier = replace(SD15, evaluation=replace(FOUND, curve=replace(FOUND.curve, proof=None)))
    assert "proof" not in json.loads(metadata(earlier.to_bytes())["perfusion.curve"])
    read = Concept.from_bytes(earlier.to_bytes())
    assert read.curve is not None and read.curve.proof is None


def test_a_concept_that_nobody_judged_has_none() -> None:
    read = Concept.from_bytes(SD15.to_bytes())
    assert (read.evaluation, read.curve, read.reference) == (None, None, None)


def test_the_pictures_embedding_may_come_without_a_curve() -> None:
    found = replace(FOUND, curve=None, thumbnails=())
    read = Concept.from_bytes(replace(SD15, evaluation=found).to_bytes())
    assert read.reference is not None and read.curve is None


def test_a_text_floor_is_read_as_it_was_written_and_a_file_without_one_has_none() -> None:
    assert FOUND.curve is not None and FOUND.curve.text_floor == 0
    assert "perfusion.text_floor" not in metadata(JUDGED.to_bytes())
    curve = replace(FOUND.curve, text_floor=0.15)
    written = replace(SD15, evaluation=replace(FOUND, curve=curve)).to_bytes()
    assert Concept.from_bytes(written).curve == curve
    # The previous release refuses a curve with another key, and ignores unknown metadata.
    assert set(json.loads(metadata(written)["perfusion.curve"])) == {
        "prompts", "superclass", "ceiling", "points", "proof",
    }  # fmt: skip


def test_the_same_evaluation_gives_the_same_bytes() -> None:
    again = Concept.from_bytes(JUDGED.to_bytes()).to_bytes()
    assert again == JUDGED.to_bytes()
    uneven = replace(FOUND.curve, ceiling=1 / 3) if FOUND.curve else None
    written = replace(SD15, evaluation=replace(FOUND, curve=uneven)).to_bytes()
    assert Concept.from_bytes(written).to_bytes() == written


def test_a_thumbnail_of_a_soft_image_of_the_shipped_models_size_loses_no_pixel() -> None:
    image = Image.radial_gradient("L").resize((128, 128)).convert("RGB")
    assert Image.open(io.BytesIO(thumbnail(image))).size == image.size


@pytest.mark.parametrize("side", [16, 64, 512])
def test_a_thumbnail_of_anything_is_small(side: int) -> None:
    for image in (noisy(side), Image.new("RGBA", (side, side // 2), (255, 0, 0, 10))):
        data = thumbnail(image)
        assert is_thumbnail(data) and len(data) <= MAX_THUMBNAIL_BYTES


def changed(*, of_curve: dict[str, Any] | None = None, **strings: str | None) -> bytes:
    """JUDGED with its metadata changed; None takes a key out."""
    data = JUDGED.to_bytes()
    said: dict[str, Any] = metadata(data)
    if of_curve:
        said["perfusion.curve"] = json.dumps(json.loads(said["perfusion.curve"]) | of_curve)
    said |= {f"perfusion.{name}": value for name, value in strings.items()}
    return save(load(data), metadata={k: v for k, v in said.items() if v is not None})


def with_tensors(**tensors: Any) -> bytes:
    data = JUDGED.to_bytes()
    kept = {name: tensor for name, tensor in (load(data) | tensors).items() if tensor is not None}
    return save(kept, metadata=metadata(data))


def points(**change: Any) -> dict[str, Any]:
    told = json.loads(metadata(JUDGED.to_bytes())["perfusion.curve"])["points"]
    return {"points": [{**told[0], **change}, *told[1:]]}


def proof(**change: Any) -> dict[str, Any]:
    told = json.loads(metadata(JUDGED.to_bytes())["perfusion.curve"])["proof"]
    return {"proof": {**told, **change}}


DAMAGED = {
    "a proof of nothing": changed(of_curve={"proof": None}),
    "a proof without images": changed(of_curve=proof(images=[], windows=[])),
    "a proof of too many images": changed(of_curve=proof(images=[0.5] * 99, windows=[0.5] * 99)),
    "a proof with an image that has no window": changed(of_curve=proof(windows=[0.5])),
    "a proof of words": changed(of_curve=proof(images=["a", "b"])),
    "a proof of no version": changed(of_curve=proof(judging="")),
    "a proof with more": changed(of_curve=proof(more=1)),
    "curve that is no JSON": changed(curve="{"),
    "curve that is a list": changed(curve="[]"),
    "curve without end": changed(curve="[" * 50_000),
    "curve without its evaluator": changed(evaluator=None),
    "thumbnails without a curve": changed(curve=None),
    "evaluator without a name": changed(evaluator='{"name": "", "fingerprint": "f"}'),
    "evaluator with a bell": changed(evaluator='{"name": "\\u0007", "fingerprint": "f"}'),
    "evaluator with half a pair": changed(evaluator='{"name": "\\ud800", "fingerprint": "f"}'),
    "evaluator with more": changed(evaluator='{"name": "a", "fingerprint": "f", "x": 1}'),
    "no points": changed(of_curve={"points": []}),
    "too many points": changed(of_curve={"points": [points()["points"][0]] * 99}),
    "strengths that fall": changed(of_curve=points(strength=0.95)),
    "a strength of 0": changed(of_curve=points(strength=0)),
    "a similarity of 2": changed(of_curve=points(image=2)),
    "a similarity that is no number": changed(of_curve=points(text=float("nan"))),
    "a similarity that is true": changed(of_curve=points(text=True)),
    "a similarity without end": changed(of_curve=points(text=10**400)),
    "no similarity": changed(of_curve=points(image=None)),
    "a text floor of words": changed(text_floor='"low"'),
    "a text floor of 2": changed(text_floor="2"),
    "a ceiling of words": changed(of_curve={"ceiling": "high"}),
    "a prompt for nobody": changed(of_curve={"prompts": ["a beach"]}),
    "a prompt that reads attributes": changed(of_curve={"prompts": ["{0.__class__}"]}),
    "a long prompt": changed(of_curve={"prompts": ["{}" + "x" * 999]}),
    "thumbnails cut short": changed(of_curve=points(thumbnail_bytes=10**6)),
    "thumbnails of nothing": changed(of_curve=points(thumbnail_bytes=0)),
    "thumbnails that are text": with_tensors(curve_thumbnails=np.full(200, 65, np.uint8)),
    "thumbnails of floats": with_tensors(curve_thumbnails=np.ones(200, np.float32)),
    "no thumbnails": with_tensors(curve_thumbnails=None),
    "no reference": with_tensors(reference=None),
    "a reference that is not finite": with_tensors(reference=np.full(4, np.nan, np.float32)),
    "a reference of halves": with_tensors(reference=np.ones(4, np.float16)),
    "a reference that is a matrix": with_tensors(reference=np.ones((2, 2), np.float32)),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_evaluation_is_refused_as_any_damage_is(what: str) -> None:
    with pytest.raises(ConceptFileError, match=r"^The concept file is damaged \(.+\): .+\.$"):
        Concept.from_bytes(DAMAGED[what])


def test_an_evaluation_in_a_file_that_names_none_is_refused() -> None:
    with pytest.raises(ConceptFileError, match="damaged"):
        Concept.from_bytes(save(load(JUDGED.to_bytes()), metadata=metadata(SD15.to_bytes())))
