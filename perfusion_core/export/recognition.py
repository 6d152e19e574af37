"""Tell what a file is: a concept, a LoRA, an embedding, a zip, or none of them.

Only the header of a safetensors file is read. A pickle is recognised and never opened. Does not
import torch.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from perfusion_core.errors import ConceptFileError
from perfusion_core.export.embedding import SDXL_KEYS
from perfusion_core.export.metadata import KIND
from perfusion_core.export.share_zip import concept_of_zip, is_zip

Kind = Literal["concept", "lora", "embedding", "zip", "safetensors", "pickle", "other", "damaged"]

MOST_HEADER_BYTES = 32 * 1024 * 1024
"""The largest header of a safetensors file that is read."""
_LORA_ENDS = (".lora_down.weight", ".lora_up.weight", ".lora_A.weight", ".lora_B.weight")
_EMBEDDING_KEYS = {"emb_params", "string_to_param", *SDXL_KEYS}
_MOST_VECTORS = 256
_SENTENCES: Mapping[Kind, str] = {
    "lora": "This is a LoRA and not a concept file: a LoRA does not hold what a concept's gate "
    "needs. Take the concept file that it was exported from, or teach the subject here.",
    "embedding": "This is an embedding and not a concept file: it holds a word, and nothing of the "
    "Values. Take the concept file that it was exported from, or teach the subject here.",
    "safetensors": "This safetensors file holds neither a concept nor a LoRA nor an embedding.",
    "pickle": "This is a pickle, which may run code when it is read, so it is not read: take a "
    "safetensors file.",
    "other": "This is neither a safetensors file nor a zip: take the .safetensors file of a "
    "concept, whole.",
    "damaged": "This safetensors file is damaged or was cut short: download it again.",
}


@dataclass(frozen=True)
class Recognised:
    """What a file is, and what its header says; `shapes` are of the tensors by name."""

    kind: Kind
    metadata: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: frozenset[str] = frozenset()

    @property
    def is_own(self) -> bool:
        """Return whether Perfusion exported it."""
        return KIND in self.metadata

    @property
    def sentence(self) -> str:
        """Why this is no concept, and what to do; empty for a concept or a zip."""
        return _SENTENCES.get(self.kind, "")


def recognise(data: bytes, *, size_bytes: int | None = None) -> Recognised:
    """Return what a file is by its content; the file's name does not count.

    `data` may be the first MOST_HEADER_BYTES and some more of a file of `size_bytes`.
    """
    if is_zip(data):
        # torch saves a zip, too.
        return Recognised("pickle" if b"/data.pkl" in data[:1024] else "zip")
    if data[:2] in (b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        return Recognised("pickle")
    length = int.from_bytes(data[:8], "little")
    if len(data) < 9 or data[8:9] != b"{" or length > MOST_HEADER_BYTES:
        return Recognised("other")
    try:
        header = json.loads(data[8 : 8 + length])
        metadata = {str(k): str(v) for k, v in header.pop("__metadata__", {}).items()}
        shapes = {name: tuple(map(int, tensor["shape"])) for name, tensor in header.items()}
        dtypes = frozenset(str(tensor["dtype"]) for tensor in header.values())
        ends = [int(tensor["data_offsets"][1]) for tensor in header.values()]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return Recognised("damaged")
    whole = 8 + length + max(ends, default=0) == (len(data) if size_bytes is None else size_bytes)
    kind = _kind(metadata, shapes) if whole else "damaged"
    return Recognised(kind, metadata, shapes, dtypes)


def concept_bytes(data: bytes) -> bytes:
    """Return the concept file in `data`, which is one or a zip to share.

    Raises ConceptFileError for a file of another kind, with what it is and what to do. The
    returned bytes may still be damaged, see `Concept.from_bytes`.
    """
    found = recognise(data)
    if found.kind == "zip":
        return concept_of_zip(data)
    if found.kind in ("lora", "embedding", "pickle"):
        raise ConceptFileError(found.sentence)
    return data


def _kind(metadata: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> Kind:
    if "perfusion.format_version" in metadata:
        return "concept"
    if any(name.endswith(_LORA_ENDS) or ".lora." in name for name in shapes):
        return "lora"
    if set(shapes) & _EMBEDDING_KEYS or (len(shapes) == 1 and _is_word(*shapes.values())):
        return "embedding"
    return "safetensors"


def _is_word(shape: tuple[int, ...]) -> bool:
    vectors = math.prod(shape[:-1])
    return 1 <= len(shape) <= 2 and vectors <= _MOST_VECTORS


def rank_of(found: Recognised) -> int | None:
    """Return the highest rank of a LoRA's matrices."""
    ranks = [
        shape[0]
        for name, shape in found.shapes.items()
        if name.endswith((".lora_down.weight", ".lora_A.weight")) and shape
    ]
    return max(ranks, default=None)
