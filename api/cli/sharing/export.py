"""`perfusion export`: a concept file as a LoRA, an embedding, or a zip with a card."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from api.cli.base_model import BaseModelOption, DeviceOption, ModelOptions, load
from api.cli.errors import CommandError
from perfusion_core.concept import Concept
from perfusion_core.evaluation.verdict import figures_of, verdict
from perfusion_core.export.card import DEFAULT_LICENSE
from perfusion_core.export.embedding import export_embedding
from perfusion_core.export.metadata import Precision, lora_scale
from perfusion_core.export.names import FileNames
from perfusion_core.export.recognition import concept_bytes
from perfusion_core.export.share_zip import pack, share_files

LicenseOption = Annotated[
    str,
    typer.Option(
        "--license", help="The card's licence, as a hub writes it: cc-by-4.0, other, unknown."
    ),
]
HalfOption = Annotated[bool, typer.Option("--half", help="Write float16: half the size.")]


def export(
    file: Annotated[Path, typer.Argument(help="A concept file, or a zip with one.")],
    *,
    file_format: Annotated[
        Literal["lora", "embedding", "zip"],
        typer.Option("--format", help="lora and embedding belong together; zip holds everything."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Default: NAME.lora.safetensors, NAME.embedding.safetensors, NAME.zip."),
    ] = None,
    half: HalfOption = False,
    license_: LicenseOption = DEFAULT_LICENSE,
    base_model: BaseModelOption = None,
    device: DeviceOption = None,
) -> None:
    """Write a concept for diffusers, ComfyUI, A1111 and InvokeAI; a LoRA needs its base model."""
    data, concept = read_concept_file(file)
    names = FileNames(concept.name)
    usual = {"lora": names.lora, "embedding": names.embedding, "zip": names.zip}
    target = out or Path(usual[file_format])
    if not target.parent.is_dir():
        raise CommandError(f"There is no folder {target.parent} to write {target.name} into.")
    if target.resolve() == file.resolve():
        raise CommandError(f"{target} is the concept file itself: name another file by --out.")
    dtype: Precision = "float16" if half else "float32"
    if file_format == "embedding":
        written = export_embedding(concept, dtype=dtype)
    else:
        files = make_files(
            data, concept, dtype=dtype, license=license_, base_model=base_model, device=device
        )
        written = files[names.lora] if file_format == "lora" else pack(files)
    target.write_bytes(written)
    typer.echo(f"{target}: {concept.placeholder}, {len(written)} bytes.")
    if file_format != "embedding":
        typer.echo(
            f"At LoRA scale {lora_scale(concept):g}, with the embedding, its images look like "
            "Perfusion's."
        )


def read_concept_file(file: Path) -> tuple[bytes, Concept]:
    """Return a concept file's bytes and its concept; a zip to share is unpacked.

    Raises CommandError if there is no such file, and ConceptFileError for a file of another kind.
    """
    if not file.is_file():
        raise CommandError(f"There is no file {file}.")
    data = concept_bytes(file.read_bytes())
    return data, Concept.from_bytes(data)


def make_files(
    data: bytes,
    concept: Concept,
    *,
    dtype: Precision,
    license: str,
    base_model: str | None,
    device: str | None,
) -> dict[str, bytes]:
    """Return all files to share by name; loads the base model for the LoRA."""
    base = load(ModelOptions(base_model=base_model, device=device).settings())

    from perfusion_core.export.lora import export_lora

    judged = None
    if concept.evaluation is not None:
        judged = verdict(
            figures_of(concept.evaluation),
            superclass=concept.superclass,
            base_model=concept.base_model_fingerprint,
            calibration=base.calibration,
        )
    lora = export_lora(base, concept, dtype=dtype)
    return share_files(
        concept, concept_file=data, lora=lora, dtype=dtype, judged=judged, license=license
    )
