"""Warnings about what a concept is taught from, known before the first step of its training."""

from collections.abc import Sequence
from typing import Any

from perfusion_core.base_model import BaseModel
from perfusion_core.pictures.findings import Finding
from perfusion_core.pictures.inspection import WITHOUT_MASK, find_problems
from perfusion_core.text.superclasses import superclass_sentence
from perfusion_core.training.trainer import Training
from service.errors import problem


def warnings(training: Training, *, searched: bool, concept_id: str | None) -> list[dict[str, Any]]:
    """Return warnings about the superclass, about pictures without a mask, and about all else.

    `searched` says whether a segmenter looked for the object.
    """
    found = find_problems(
        training.examples.prepared,
        searched=training.superclass if searched else None,
        resolution=training.config.resolution or training.base.default_resolution,
    )
    numbered = [(number, finding) for number, own in enumerate(found, 1) for finding in own]
    unmasked = [item for item in numbered if item[1].code in WITHOUT_MASK]
    others = [item for item in numbered if item[1].code not in WITHOUT_MASK]
    told = about_superclass(training.base, training.superclass)
    if unmasked:
        told.append(problem("uniform-masks", _sentences(unmasked)))
    if others:
        told.append(problem("picture-findings", _sentences(others)))
    concept = {"id": concept_id, "name": training.name}
    return [{**warning, "concepts": [concept]} for warning in told]


def about_superclass(base: BaseModel, superclass: str) -> list[dict[str, Any]]:
    """Return the warning about a superclass that the base model does not know well, if any."""
    sentence = superclass_sentence(
        superclass, known=base.defaults.known_superclasses, tokenizer=base.tokenizers[0]
    )
    if sentence is None:
        return []
    return [{**problem("unfamiliar-superclass", sentence), "concepts": []}]


def _sentences(numbered: Sequence[tuple[int, Finding]]) -> str:
    """Return each problem once, with the numbers of its pictures, and what to do about it."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for number, finding in numbered:
        numbers.setdefault((finding.detail, finding.remedy), []).append(number)
    return " ".join(
        f"{_pictures(pictures)}: {detail} {remedy}"
        for (detail, remedy), pictures in numbers.items()
    )


def _pictures(numbers: Sequence[int]) -> str:
    word = "Picture" if len(numbers) == 1 else "Pictures"
    return f"{word} {', '.join(map(str, numbers))}"
