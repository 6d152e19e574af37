"""Move a concept to a sibling of the base model that it was trained on. Does not import torch.

Siblings have the same text encoders, and cross-attention layers of the same widths: fine-tunes of
one base model, for example. A concept's embeddings, i* and e_super belong to the text encoders, so
they hold on every sibling. Keys are locked to W_K e_super and are computed with the sibling's own
W_K. The target outputs o*_V were learned for the W_V of the first base model and stay as they are:
the correction (W'_V - W_V) e_super would need the first base model's weights, which a concept file
does not contain. The sibling's C may differ, and with it the gates. So images differ from those of
the first base model, and all measurements of images are dropped. The pictures' mean embedding
stays, since it is of the pictures alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from perfusion_core.concept import Concept
from perfusion_core.errors import FingerprintMismatch
from perfusion_core.shared_parts import SharedParts


@dataclass(frozen=True, kw_only=True)
class BaseModelIdentity:
    """The facts about a base model that bind concepts to it."""

    name: str
    fingerprint: str
    covariance_fingerprint: str
    shared_parts: SharedParts | None  # None if a worker of an earlier release described it


def adapt(concept: Concept, base_model: BaseModelIdentity) -> Concept:
    """Return the concept for a sibling, without curve and recommended strength.

    `training["adapted_from"]` names the base model that the concept was trained on. A concept of
    this very base model is returned as it is, with the parts that siblings share. Raises
    FingerprintMismatch, naming both fingerprints, if the concept cannot be used here.
    """
    if fits(concept, base_model):
        return replace(concept, shared_parts=base_model.shared_parts or concept.shared_parts)
    if (reason := why_not_sibling(concept, base_model)) is not None:
        raise FingerprintMismatch(
            f"The concept {concept.placeholder} was trained with the base model "
            f"{concept.base_model_fingerprint}, and the base model here is "
            f"{base_model.fingerprint}. {reason}"
        )
    training = dict(concept.training)
    first = training.setdefault("adapted_from", _named(_own(concept)))
    if first == _named(base_model):  # back where it was trained
        del training["adapted_from"]
    return replace(
        concept,
        base_model_name=base_model.name,
        base_model_fingerprint=base_model.fingerprint,
        covariance_fingerprint=base_model.covariance_fingerprint,
        shared_parts=base_model.shared_parts or concept.shared_parts,
        training=training,
        evaluation=concept.evaluation.of_pictures() if concept.evaluation else None,
    )


def fits(concept: Concept, base_model: BaseModelIdentity) -> bool:
    """Return whether a concept belongs to this base model and its covariance."""
    return (concept.base_model_fingerprint, concept.covariance_fingerprint) == (
        base_model.fingerprint,
        base_model.covariance_fingerprint,
    )


def why_not_sibling(concept: Concept, base_model: BaseModelIdentity) -> str | None:
    """Return why the base model is no sibling of the concept's own, and what to do; else None."""
    if concept.base_model_fingerprint == base_model.fingerprint:
        return None  # it differs at most in its covariance
    own, here = concept.shared_parts, base_model.shared_parts
    if own is None:
        return (
            "The concept file does not say which text encoders it was trained with, since an "
            "earlier release wrote it. Import it where its own base model is served and fetch it "
            "from there, or train it again here."
        )
    if here is None:
        return (
            "The text encoders here are not known yet, since a worker of an earlier release runs. "
            "Try again after its upgrade."
        )
    if own.text_encoders_fingerprint != here.text_encoders_fingerprint:
        return (
            f"Their text encoders differ ({own.text_encoders_fingerprint} and "
            f"{here.text_encoders_fingerprint}), so they are no siblings: train it again here."
        )
    if own.layer_widths != here.layer_widths:
        return (
            "Their cross-attention layers have other shapes, so they are no siblings: train it "
            "again here."
        )
    return None


def warning(training: Mapping[str, Any], *, is_measured: bool) -> str | None:
    """Return the sentence that warns of an adapted concept; None for any other concept."""
    told = training.get("adapted_from")
    if not isinstance(told, dict):
        return None
    measured = "was measured on this one" if is_measured else "is not measured on this one yet"
    return (
        f"It was trained on another base model or covariance ({told.get('name')}, base model "
        f"{told.get('fingerprint')}, covariance {told.get('covariance_fingerprint')}). "
        f"Its likeness {measured}."
    )


def _own(concept: Concept) -> BaseModelIdentity:
    return BaseModelIdentity(
        name=concept.base_model_name,
        fingerprint=concept.base_model_fingerprint,
        covariance_fingerprint=concept.covariance_fingerprint,
        shared_parts=concept.shared_parts,
    )


def _named(base_model: BaseModelIdentity) -> dict[str, Any]:
    return {
        "name": base_model.name,
        "fingerprint": base_model.fingerprint,
        "covariance_fingerprint": base_model.covariance_fingerprint,
    }
