"""`perfusion inspect`: what a file is, what it belongs to, and what to do with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from api.cli.base_model import BaseModelOption, ModelOptions, load
from api.cli.errors import CommandError
from perfusion_core import siblings
from perfusion_core.concept import Concept
from perfusion_core.errors import ConceptFileError
from perfusion_core.evaluation.calibration import Calibration
from perfusion_core.evaluation.verdict import figures_of, verdict
from perfusion_core.export.metadata import lora_scale
from perfusion_core.export.recognition import MOST_HEADER_BYTES, Recognised, rank_of, recognise
from perfusion_core.export.share_zip import concept_of_zip
from perfusion_core.siblings import BaseModelIdentity
from perfusion_core.strength import beta_from_strength
from service import base_models, wiring
from service.errors import Unavailable
from service.settings import environment

_WHAT = {
    "concept": "a concept of Perfusion",
    "lora": "a LoRA",
    "embedding": "an embedding (textual inversion)",
    "zip": "a zip",
    "safetensors": "a safetensors file",
    "pickle": "a pickle",
    "other": "no file that Perfusion knows",
    "damaged": "a damaged safetensors file",
}

Known = tuple[BaseModelIdentity, Calibration | None]


def inspect(
    file: Annotated[Path, typer.Argument(help="Concept, LoRA, embedding, zip, or anything else.")],
    *,
    base_model: BaseModelOption = None,
) -> None:
    """Say everything about a file: what it is, its base model, and whether it can be used here.

    Without --base-model it is compared with the base model that this machine's server serves, and
    nothing is loaded. The exit code is 1 for a damaged concept file.
    """
    if not file.is_file():
        raise CommandError(f"There is no file {file}.")
    with file.open("rb") as opened:
        data = opened.read(MOST_HEADER_BYTES + 1024)  # a checkpoint may have gigabytes
    size_bytes = file.stat().st_size
    found = recognise(data, size_bytes=size_bytes)
    _tell("file", f"{file}, {size_bytes} bytes")
    _tell("what it is", _WHAT[found.kind])
    if found.kind == "zip":
        data = concept_of_zip(data)
        _tell("in it", f"a concept file of {len(data)} bytes")
        found = recognise(data)
    if found.kind != "concept":
        _tell_of_others(found)
        return
    try:
        concept = Concept.from_bytes(data)
    except ConceptFileError as error:
        raise CommandError(str(error)) from None
    known = _given(base_model) if base_model is not None else _served()
    for name, text in _facts(concept, found, known):
        _tell(name, text)


def _tell_of_others(found: Recognised) -> None:
    """Say what the header of another file says, and what to do with it."""
    for key in ("modelspec.title", "modelspec.trigger_phrase", "modelspec.architecture"):
        if key in found.metadata:
            _tell(key.removeprefix("modelspec.").replace("_", " "), found.metadata[key])
    if found.is_own:
        _tell("made by", "`perfusion export`")
        for key in ("base_model", "base_model_fingerprint", "lora_scale"):
            if (told := found.metadata.get(f"perfusion.{key}")) is not None:
                _tell(key.replace("_", " "), told)
    elif "ss_base_model_version" in found.metadata:
        _tell("base model", found.metadata["ss_base_model_version"])
    if (rank := rank_of(found)) is not None:
        _tell("rank", str(rank))
    if found.shapes:
        dtypes = ", ".join(sorted(found.dtypes))
        _tell("tensors", f"{len(found.shapes)} ({dtypes})")
    if found.kind == "embedding":
        _tell("vectors", ", ".join(f"{name}: {shape}" for name, shape in found.shapes.items()))
    _tell("what to do", found.sentence)


def _facts(concept: Concept, found: Recognised, known: Known | None) -> Iterator[tuple[str, str]]:
    yield "placeholder", f"{concept.placeholder}, {concept.superclass}"
    yield "format", f"{concept.format_version}, {', '.join(sorted(found.dtypes))}"
    yield "base model", f"{concept.base_model_name} ({concept.family})"
    yield "fingerprint", concept.base_model_fingerprint
    yield "covariance", concept.covariance_fingerprint
    if concept.shared_parts is not None:
        widths = concept.shared_parts.layer_widths
        yield "text encoders", concept.shared_parts.text_encoders_fingerprint
        yield "layers", f"{len(widths)}, of the widths {', '.join(map(str, widths))}"
    yield "Values", f"{concept.o_v.size} numbers, for encodings of {concept.i_star.size}"
    yield "masks", concept.mask_source
    for name, value in sorted(concept.training.items()):
        yield f"training, {name}", str(value)
    yield from _measured(concept, known)
    yield "LoRA scale", f"{lora_scale(concept):g} for `perfusion export --format lora`"
    yield "can be used", _usable(concept, known[0] if known else None)


def _measured(concept: Concept, known: Known | None) -> Iterator[tuple[str, str]]:
    found = concept.evaluation
    figures = None if found is None else figures_of(found)
    if found is None or figures is None:
        yield "verdict", "none, since it was not measured"
        return
    yield "evaluator", f"{found.evaluator.name}, {found.evaluator.fingerprint}"
    strength, beta = figures.strength, beta_from_strength(figures.strength)
    yield "recommended strength", f"{strength:g} (β = {beta:.2f})"
    judged = verdict(
        figures,
        superclass=concept.superclass,
        base_model=concept.base_model_fingerprint,
        calibration=known[1] if known else None,
    )
    yield "verdict", f"{judged.quality}. {' '.join(judged.reasons)}"


def _usable(concept: Concept, here: BaseModelIdentity | None) -> str:
    """Return whether a base model can use the concept, and what to do."""
    if here is None:
        return "unknown, since no base model was served here yet: name one by --base-model"
    named = f"{here.name}, {here.fingerprint}"
    if siblings.fits(concept, here):
        return f"yes, by {named}"
    if (reason := siblings.why_not_sibling(concept, here)) is None:
        return (
            f"yes, by its sibling {named}, with a warning: import it with adapt=true, or generate "
            "with --adapt"
        )
    return f"no, not by {named}. {reason}"


def _given(base_model: str) -> Known:
    base = load(ModelOptions(base_model=base_model, device="cpu").settings())
    return base.identity, base.calibration


def _served() -> Known | None:
    """Return what the server's database knows of the served base model; None if there is none."""
    service = wiring.build(environment.load())
    try:
        served = base_models.current_base_model(service)
    except Unavailable:
        return None
    finally:
        service.close()
    if served is None:
        return None
    return base_models.identity(served), base_models.calibration(served)


def _tell(name: str, text: str) -> None:
    typer.echo(f"{name}: {text}")
