"""The concept file: the result of a training, as a safetensors file of some tens of kilobytes.

| tensor | shape | meaning |
| --- | --- | --- |
| `o_v` | Σ d_l | target outputs o*_V, one vector per cross-attention layer, in the U-Net's order |
| `i_star` | d | target input i* |
| `e_super` | d | the superclass's encoding, from which the locked Keys are made; since format 2 |
| `embedding`, `embedding_2` | width of each text encoder | the placeholder's word embedding |

The file may also contain an evaluator's measurements, such as the operating curve (see
evaluation/record.py), and what the base model shares with its siblings (see shared_parts.py).

Keys are locked, so the file does not store a layer's o*_K, which is `W_K e_super`. A file of format
1 does not contain e_super either. For format 1, e_super is computed from the prompts that every
concept of format 1 was trained with (see text/templates.py). A concept file keeps its format when
the concept is written again. Fingerprints in the concept file identify the base model and the
covariance that the concept fits. This module does not import torch.
"""

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from perfusion_core import shared_parts
from perfusion_core.errors import ConceptFileError, FingerprintMismatch
from perfusion_core.evaluation import record as evaluations
from perfusion_core.evaluation.curve import Curve
from perfusion_core.evaluation.record import Evaluation
from perfusion_core.shared_parts import SharedParts
from perfusion_core.text.prompt import NAME_PATTERN

FORMAT_VERSION = "2"
"""The format that a training writes, in which the concept file contains e_super."""
_FORMAT_1 = "1"
MAX_CONCEPT_BYTES = 2 * 1024 * 1024
"""The size limit of a concept file. A concept of any supported family is smaller (SDXL in float32:
about 0.35 MB)."""
MAX_TRAINING_BYTES = 16 * 1024
"""The size limit of a training's options and findings as JSON, which take about 1 KiB."""

# The least length of i*. Encodings have lengths of about 1 to 100, and the inverse of this length
# is still a finite float32.
_LEAST_LENGTH = 1e-6
Vector = npt.NDArray[np.float32]
_EMBEDDINGS = ("embedding", "embedding_2")
ARCHITECTURES = {
    "sd1": "stable-diffusion-v1",
    "sd2": "stable-diffusion-v2",
    "sdxl": "stable-diffusion-xl-v1-base",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Concept:
    """A learned concept. Arrays are float32; Σ d_l is the sum of cross-attention widths."""

    name: str
    superclass: str
    family: str
    base_model_name: str
    base_model_fingerprint: str
    covariance_fingerprint: str
    o_v: Vector  # (Σ d_l,)
    i_star: Vector  # (d,)
    embeddings: tuple[Vector, ...]  # one per text encoder
    mask_source: str
    e_super: Vector | None = None  # (d,); None in a concept of format 1
    shared_parts: SharedParts | None = None  # None in a file of an earlier release
    training: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Evaluation | None = None  # None without an evaluator

    @property
    def placeholder(self) -> str:
        """The text that names the concept in a prompt."""
        return f"<{self.name}>"

    @property
    def format_version(self) -> str:
        """The version of the concept's file; it stays the same in every rewritten file."""
        return _FORMAT_1 if self.e_super is None else FORMAT_VERSION

    @property
    def curve(self) -> Curve | None:
        """The operating curve of the concept, if one was made."""
        return self.evaluation.curve if self.evaluation else None

    @property
    def reference(self) -> Vector | None:
        """The mean of the pictures' unit embeddings, which `evaluation.evaluator` made."""
        return self.evaluation.reference if self.evaluation else None

    def renamed(self, name: str) -> "Concept":
        """Return the same concept under another name."""
        return replace(self, name=name)

    def check_compatible(self, *, base_model: str, covariance: str) -> None:
        """Raise FingerprintMismatch unless both fingerprints equal those of the concept."""
        for what, own, other in (
            ("base model", self.base_model_fingerprint, base_model),
            ("covariance", self.covariance_fingerprint, covariance),
        ):
            if own != other:
                raise FingerprintMismatch(
                    f"The concept {self.placeholder} was trained with the {what} {own}, but the "
                    f"{what} here is {other}. Load that {what}, or train the concept again."
                )

    def to_bytes(self, dtype: Literal["float32", "float16"] = "float32") -> bytes:
        """Return the concept file's bytes; the same concept always gives the same bytes."""
        tensors = {"o_v": self.o_v, "i_star": self.i_star}
        tensors |= dict(zip(_EMBEDDINGS, self.embeddings, strict=False))
        if self.e_super is not None:
            tensors["e_super"] = self.e_super
        stored = {name: np.ascontiguousarray(array, dtype) for name, array in tensors.items()}
        metadata = self._metadata()
        if self.shared_parts is not None:
            metadata |= shared_parts.write(self.shared_parts)
        if self.evaluation is not None:
            # The reference stays in float32, because figures are compared with it and it is small.
            more_metadata, more_tensors = evaluations.write(self.evaluation)
            metadata, stored = metadata | more_metadata, stored | more_tensors
        return sort_header(save_tensors(stored, metadata=metadata))

    def save(self, path: str | Path, dtype: Literal["float32", "float16"] = "float32") -> None:
        """Write the concept file atomically: after an error, no partial file is left at `path`."""
        path = Path(path)
        # `tempfile` is not used, because only the owner may read its files.
        scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            with scratch.open("xb") as file:
                file.write(self.to_bytes(dtype))
            scratch.replace(path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | Path) -> "Concept":
        """Read a concept file; raises ConceptFileError if it is not a concept file, or OSError."""
        if Path(path).stat().st_size > MAX_CONCEPT_BYTES:
            raise ConceptFileError(_too_large())
        return cls.from_bytes(Path(path).read_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> "Concept":
        """Read a concept from bytes, checking sizes, shapes, types and finiteness first.

        Raises ConceptFileError with the reason. Only safetensors is parsed; a pickle is refused
        without being read. `check_compatible` checks the fingerprints against a base model.
        """
        if len(data) > MAX_CONCEPT_BYTES:
            raise ConceptFileError(_too_large())
        metadata = _read_metadata(data)
        try:
            tensors = load_tensors(data)
        except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise ConceptFileError(_damaged("its tensors cannot be read")) from error
        count = 2 if metadata.get("perfusion.family") == "sdxl" else 1
        expected = {"o_v", "i_star", *_EMBEDDINGS[:count]}
        if metadata["perfusion.format_version"] != _FORMAT_1:
            expected.add("e_super")
        if set(tensors) - evaluations.TENSORS != expected:
            raise ConceptFileError(_damaged(f"it should hold exactly {sorted(expected)}"))
        vectors = {name: _vector(name, tensors[name]) for name in expected}
        if not has_direction(vectors["i_star"]):
            raise ConceptFileError(_damaged("i_star is zero"))
        e_super = vectors.get("e_super")
        if e_super is not None and e_super.size != vectors["i_star"].size:
            raise ConceptFileError(_damaged("e_super and i_star are not of one length"))
        try:
            evaluation = evaluations.read(metadata, tensors)
        except (ValueError, RecursionError) as error:
            raise ConceptFileError(_damaged(_reason(error))) from error
        written = metadata.get("perfusion.training", "{}")
        if len(written.encode("utf-8", "surrogatepass")) > MAX_TRAINING_BYTES:
            raise ConceptFileError(
                f"The concept file's training options are over {MAX_TRAINING_BYTES} bytes, which "
                "no training writes: download or train it again."
            )
        try:
            training = json.loads(written)
            if not isinstance(training, dict):
                raise ValueError("training is no object")
            concept = cls(
                name=metadata["perfusion.name"],
                superclass=metadata["perfusion.superclass"],
                family=metadata["perfusion.family"],
                base_model_name=metadata["perfusion.base_model"],
                base_model_fingerprint=metadata["perfusion.base_model_fingerprint"],
                covariance_fingerprint=metadata["perfusion.covariance_fingerprint"],
                mask_source=metadata["perfusion.mask_source"],
                training=training,
                o_v=vectors["o_v"],
                i_star=vectors["i_star"],
                e_super=e_super,
                shared_parts=shared_parts.read(metadata, value_width=vectors["o_v"].size),
                embeddings=tuple(vectors[name] for name in _EMBEDDINGS[:count]),
                evaluation=evaluation,
            )
        except (KeyError, ValueError, RecursionError) as error:
            raise ConceptFileError(_damaged("its metadata is incomplete")) from error
        if not re.fullmatch(NAME_PATTERN, concept.name) or not 0 < len(concept.superclass) <= 200:
            raise ConceptFileError(_damaged("its name or superclass is not valid"))
        return concept

    def _metadata(self) -> dict[str, str]:
        architecture = ARCHITECTURES.get(self.family, self.family)
        return {
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.architecture": f"{architecture}/perfusion",
            "modelspec.implementation": "perfusion",
            "modelspec.title": self.name,
            "modelspec.trigger_phrase": self.placeholder,
            "modelspec.resolution": "{0}x{0}".format(self.training.get("resolution", "unknown")),
            "perfusion.format_version": self.format_version,
            "perfusion.name": self.name,
            "perfusion.superclass": self.superclass,
            "perfusion.family": self.family,
            "perfusion.base_model": self.base_model_name,
            "perfusion.base_model_fingerprint": self.base_model_fingerprint,
            "perfusion.covariance_fingerprint": self.covariance_fingerprint,
            "perfusion.mask_source": self.mask_source,
            "perfusion.training": json.dumps(dict(self.training), separators=(",", ":")),
        }


def has_direction(i_star: Vector) -> bool:
    """Return whether equation (1), which divides by the squared length of i*, stays finite."""
    return float(np.linalg.norm(i_star.astype(np.float64))) > _LEAST_LENGTH


def sort_header(data: bytes) -> bytes:
    """Return the same safetensors file with a sorted header; safetensors writes unsorted headers.

    A concept's hash is its identity, so equal concepts must be equal files.
    """
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":"))
    header += " " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header.encode() + data[8 + size :]


def _read_metadata(data: bytes) -> dict[str, str]:
    """Return the `__metadata__` of a safetensors file: eight bytes of length, then JSON."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise ConceptFileError(
            "This is not a concept file: upload the .safetensors file of a trained concept, whole."
        )
    try:
        header = json.loads(data[8 : 8 + size])
        metadata = header["__metadata__"]
        version = metadata["perfusion.format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConceptFileError(
            "This safetensors file holds no Perfusion concept: its metadata does not name one."
        ) from error
    if version not in (_FORMAT_1, FORMAT_VERSION):
        raise ConceptFileError(
            f"This concept file has the format version {str(version)[:20]!r}, and this release "
            f"reads the versions {_FORMAT_1} and {FORMAT_VERSION}: use the release that wrote it, "
            "or train again."
        )
    return {str(key): str(value) for key, value in metadata.items()}


def _vector(name: str, array: npt.NDArray[Any]) -> Vector:
    if array.ndim != 1 or array.size == 0 or array.dtype not in (np.float32, np.float16):
        raise ConceptFileError(_damaged(f"{name} is not one vector of float32 or float16"))
    if not np.isfinite(array).all():
        raise ConceptFileError(_damaged(f"{name} holds numbers that are not finite"))
    return array.astype(np.float32)


def _reason(error: Exception) -> str:
    """Return the reason that evaluation/record.py gave; a parser's message does not help users."""
    mine = type(error) is ValueError
    return str(error) if mine else "its evaluation cannot be read"


def _damaged(reason: str) -> str:
    return f"The concept file is damaged ({reason}): download or train it again."


def _too_large() -> str:
    return f"A concept file is at most {MAX_CONCEPT_BYTES} bytes; this is something else."
