"""The evaluation of a concept, and its form in a concept file. Does not import torch.

| in the file | type | meaning |
| --- | --- | --- |
| `perfusion.evaluator` | JSON in the metadata | the evaluator of the embeddings and similarities |
| `reference` | float32 (p,) | the mean of the training pictures' unit embeddings |
| `perfusion.ceiling` | JSON in the metadata | the curve's ceiling, in a file without a curve |
| `perfusion.curve` | JSON in the metadata | the operating curve, its proof, thumbnails' lengths |
| `perfusion.text_floor` | JSON in the metadata | the curve's text floor; missing if it is 0 |
| `curve_thumbnails` | uint8 | one WebP picture for each point, one behind the other |

The image similarity of an image is its cosine to a picture, averaged over the pictures. The image
similarity equals the dot product of the image's unit embedding and `reference`, so it can be
computed without the pictures. The text floor is not inside `perfusion.curve`, because earlier
releases refuse a curve with a key that they do not know, and ignore unknown metadata.
"""

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from perfusion_core.evaluation.curve import Curve, Point, Proof, Similarity
from perfusion_core.imaging.thumbnails import is_thumbnail

TENSORS = frozenset({"reference", "curve_thumbnails"})
_EVALUATOR, _CURVE = "perfusion.evaluator", "perfusion.curve"
_CEILING = "perfusion.ceiling"
_TEXT_FLOOR = "perfusion.text_floor"
_MOST_POINTS = 16
_MOST_PROMPTS = 16
_MOST_PROOF_IMAGES = 16
_MAX_TEXT_LENGTH = 200
_MAX_WIDTH = 8192
_DECIMALS = 4
# In half precision a cosine may be slightly above 1.
_MAX_COSINE = 1.01


@dataclass(frozen=True)
class EvaluatorRef:
    """An evaluator's identity: only similarities with equal fingerprints can be compared."""

    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """An evaluator's measurements of a concept. A curve has a thumbnail for each of its points."""

    evaluator: EvaluatorRef
    reference: npt.NDArray[np.float32]  # (p,)
    curve: Curve | None = None
    thumbnails: tuple[bytes, ...] = ()
    ceiling: float | None = None  # the curve's, which stays when the curve is dropped

    def of_pictures(self) -> "Evaluation":
        """Return only what was measured of the training pictures, without any images."""
        ceiling = self.curve.ceiling if self.curve is not None else self.ceiling
        return Evaluation(evaluator=self.evaluator, reference=self.reference, ceiling=ceiling)


def as_written(curve: Curve) -> Curve:
    """Return the curve rounded as in a file; rounding may change the recommended strength.

    A proof's numbers are not rounded, because the proof is made later, at the strength that the
    rounded curve recommends.
    """

    def rounded(similarity: Similarity) -> Similarity:
        return Similarity(**_figures(similarity))

    return replace(
        curve,
        superclass=rounded(curve.superclass),
        ceiling=None if curve.ceiling is None else round(curve.ceiling, _DECIMALS),
        points=tuple(replace(p, similarity=rounded(p.similarity)) for p in curve.points),
        text_floor=round(curve.text_floor, _DECIMALS),
    )


def write(found: Evaluation) -> tuple[dict[str, str], dict[str, npt.NDArray[Any]]]:
    """Return the metadata and tensors that represent an evaluation in a file."""
    evaluator = {"name": found.evaluator.name, "fingerprint": found.evaluator.fingerprint}
    metadata = {_EVALUATOR: _dump(evaluator)}
    tensors: dict[str, npt.NDArray[Any]] = {
        "reference": np.ascontiguousarray(found.reference, np.float32)
    }
    curve = found.curve
    if curve is None and found.ceiling is not None:
        metadata[_CEILING] = _dump(round(found.ceiling, _DECIMALS))
    if curve is not None:
        points = zip(curve.points, found.thumbnails, strict=True)
        told = {
            "prompts": list(curve.prompts),
            "superclass": _figures(curve.superclass),
            "ceiling": None if curve.ceiling is None else round(curve.ceiling, _DECIMALS),
            "points": [
                {"strength": p.strength, **_figures(p.similarity), "thumbnail_bytes": len(data)}
                for p, data in points
            ],
        }
        if curve.proof is not None:
            told["proof"] = _write_proof(curve.proof)
        metadata[_CURVE] = _dump(told)
        if (text_floor := round(curve.text_floor, _DECIMALS)) != 0:
            metadata[_TEXT_FLOOR] = _dump(text_floor)
        tensors["curve_thumbnails"] = np.frombuffer(b"".join(found.thumbnails), np.uint8)
    return metadata, tensors


def read(metadata: Mapping[str, str], tensors: Mapping[str, npt.NDArray[Any]]) -> Evaluation | None:
    """Return the evaluation in a file, or None; raises ValueError with the reason if it is bad."""
    names = {"reference": _EVALUATOR in metadata, "curve_thumbnails": _CURVE in metadata}
    if any((name in tensors) is not expected for name, expected in names.items()):
        raise ValueError("its evaluation is not complete")
    if _EVALUATOR not in metadata:
        if _CURVE in metadata:
            raise ValueError("its curve names no evaluator")
        return None
    evaluator = _parse(metadata[_EVALUATOR], {"name", "fingerprint"})
    curve: Curve | None = None
    thumbnails: tuple[bytes, ...] = ()
    ceiling = _cosine(json.loads(metadata[_CEILING])) if _CEILING in metadata else None
    if _CURVE in metadata:
        curve, thumbnails = _read_curve(metadata[_CURVE], tensors["curve_thumbnails"])
        curve = replace(curve, text_floor=_cosine(json.loads(metadata.get(_TEXT_FLOOR, "0"))))
    return Evaluation(
        evaluator=EvaluatorRef(_text(evaluator["name"]), _text(evaluator["fingerprint"])),
        reference=_read_reference(tensors["reference"]),
        curve=curve,
        thumbnails=thumbnails,
        ceiling=ceiling,
    )


def _read_reference(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    plain = array.ndim == 1 and array.dtype == np.float32 and 0 < array.size <= _MAX_WIDTH
    if not plain or not np.isfinite(array).all():
        raise ValueError("its reference is not one vector of finite float32")
    return array.astype(np.float32)


def _read_curve(text: str, packed: npt.NDArray[Any]) -> tuple[Curve, tuple[bytes, ...]]:
    told = _parse(text, {"prompts", "superclass", "ceiling", "points"}, perhaps={"proof"})
    prompts, points, lengths = told["prompts"], [], []
    if not isinstance(prompts, list) or not 1 <= len(prompts) <= _MOST_PROMPTS:
        raise ValueError("its curve has no prompts")
    if not isinstance(told["points"], list) or not 1 <= len(told["points"]) <= _MOST_POINTS:
        raise ValueError("its curve has no points")
    for point in told["points"]:
        _check_keys(point, {"strength", "image", "text", "thumbnail_bytes"})
        points.append(Point(_number(point["strength"], low=0, high=1), _similarity(point)))
        lengths.append(point["thumbnail_bytes"])
    strengths = [point.strength for point in points]
    if strengths != sorted(set(strengths)) or strengths[0] <= 0 or strengths[-1] >= 1:
        raise ValueError("its curve's strengths do not rise between 0 and 1")
    _check_keys(told["superclass"], {"image", "text"})
    ceiling = told["ceiling"]
    curve = Curve(
        prompts=tuple(_prompt(prompt) for prompt in prompts),
        superclass=_similarity(told["superclass"]),
        ceiling=None if ceiling is None else _cosine(ceiling),
        points=tuple(points),
        proof=_read_proof(told["proof"]) if "proof" in told else None,
    )
    return curve, _cut(packed, lengths)


def _write_proof(proof: Proof) -> dict[str, Any]:
    return {
        "judging": proof.judging,
        "images": [round(image, _DECIMALS) for image in proof.images],
        "windows": [round(window, _DECIMALS) for window in proof.windows],
        "text": round(proof.text, _DECIMALS),
        "superclass": _figures(proof.superclass),
    }


def _read_proof(value: Any) -> Proof:
    _check_keys(value, {"judging", "images", "windows", "text", "superclass"})
    images, windows = value["images"], value["windows"]
    lists = isinstance(images, list) and isinstance(windows, list)
    if not lists or not 1 <= len(images) == len(windows) <= _MOST_PROOF_IMAGES:
        raise ValueError("its proof has no images")
    _check_keys(value["superclass"], {"image", "text"})
    return Proof(
        judging=_text(value["judging"]),
        images=tuple(_cosine(image) for image in images),
        windows=tuple(_cosine(window) for window in windows),
        text=_cosine(value["text"]),
        superclass=_similarity(value["superclass"]),
    )


def _cut(packed: npt.NDArray[Any], lengths: list[Any]) -> tuple[bytes, ...]:
    """Return the thumbnails, which are concatenated in `packed`."""
    if packed.ndim != 1 or packed.dtype != np.uint8:
        raise ValueError("its thumbnails are no bytes")
    data, thumbnails = packed.tobytes(), []
    for length in lengths:
        if type(length) is not int or not 0 < length <= len(data):
            raise ValueError("its thumbnails are cut short")
        thumbnails.append(data[:length])
        data = data[length:]
    if data or not all(is_thumbnail(thumbnail) for thumbnail in thumbnails):
        raise ValueError("its thumbnails are no small WebP pictures")
    return tuple(thumbnails)


def _parse(text: str, keys: set[str], *, perhaps: Set[str] = frozenset()) -> dict[str, Any]:
    value = json.loads(text)
    if isinstance(value, dict):
        keys = keys | (perhaps & set(value))
    _check_keys(value, keys)
    return dict(value)


def _check_keys(value: Any, keys: set[str]) -> None:
    if not isinstance(value, dict) or set(value) != keys:
        raise ValueError(f"its evaluation should hold exactly {sorted(keys)}")


def _similarity(value: Mapping[str, Any]) -> Similarity:
    return Similarity(_cosine(value["image"]), _cosine(value["text"]))


def _cosine(value: Any) -> float:
    return _number(value, low=-_MAX_COSINE, high=_MAX_COSINE)


def _number(value: Any, *, low: float, high: float) -> float:
    # This comparison also refuses NaN.
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError("its evaluation holds a number out of bounds")
    return float(value)


def _prompt(value: Any) -> str:
    text = _text(value)
    if text.count("{}") != 1 or text.count("{") != 1 or text.count("}") != 1:
        raise ValueError("a prompt of its curve has no place for the concept")
    return text


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT_LENGTH:
        raise ValueError("its evaluation holds a text that is none")
    if not value.isprintable():  # neither control characters nor halves of surrogate pairs
        raise ValueError("its evaluation holds a text that cannot be shown")
    return value


def _figures(similarity: Similarity) -> dict[str, float]:
    return {"image": round(similarity.image, _DECIMALS), "text": round(similarity.text, _DECIMALS)}


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
