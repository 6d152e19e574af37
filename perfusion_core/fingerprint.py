"""Fingerprints of weights, independent of the names that a library gives them.

A fingerprint must not change when a library is upgraded. The same weights are the same model, even
if parameter names or the order of registration change. So no parameter name is hashed.

Within one text encoder (or evaluator) the tensors are sorted by shape and content. Any changed
weight changes the fingerprint. An exchange of two whole tensors of one shape does not change the
fingerprint, but no real checkpoints differ only by such an exchange of tensors. Orders that do not
depend on names are part of the fingerprint. The encoders are hashed in the pipeline's order. The
cross-attention layers are hashed in the order in which the U-Net runs the layers (as in a concept's
o*). Within a layer W_K comes before W_V.

Weights are hashed in float16, so that a model's float16 and float32 releases have the same
fingerprint.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import Tensor, float16

from perfusion_core.attention import Layer

_DIGITS = 32

_Identity = tuple[list[int], str]
"""A tensor's shape and the SHA-256 of its float16 bytes."""


class Fingerprints(NamedTuple):
    """The fingerprints of one base model."""

    base_model: str
    text_encoders: str


def fingerprints_of_base_model(encoders: Iterable[Any], layers: Iterable[Layer]) -> Fingerprints:
    """Hash the weights that a concept depends on: the text encoders, and every W_K and W_V.

    The text encoders also have a fingerprint of their own, which siblings share (siblings.py).
    """
    text_encoders = [_sorted_identities(encoder) for encoder in encoders]
    weights = {
        "text_encoders": text_encoders,
        "cross_attention": [[_identity(layer.W_K), _identity(layer.W_V)] for layer in layers],
    }
    return Fingerprints(base_model=_digest(weights), text_encoders=_digest(text_encoders))


def fingerprint_of_module(module: Any) -> str:
    """Hash all weights of one module, such as an evaluator."""
    return _digest(_sorted_identities(module))


def _sorted_identities(module: Any) -> list[_Identity]:
    return sorted(_identity(parameter) for parameter in module.parameters())


def _identity(tensor: Tensor) -> _Identity:
    data = tensor.detach().to("cpu", float16).contiguous().numpy().tobytes()
    return list(tensor.shape), hashlib.sha256(data).hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_DIGITS]
