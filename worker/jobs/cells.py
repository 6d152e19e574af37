"""The cells of a generation job: each is one request of the sampler, with its own images.

A plain generation has one cell without a position.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from perfusion_core.base_model import BaseModel
from perfusion_core.conditioning import ConceptUse
from perfusion_core.editing.edit import Edit
from perfusion_core.sampling.sampler import ImageRequest
from service.concepts import rows
from service.jobs import cells
from service.jobs.payloads import GeneratePayload, PromptedConcept
from worker.context import WorkerContext
from worker.errors import FileGone
from worker.jobs import options
from worker.jobs.sizes import check_size


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """What the sampler needs for the images of a cell, and what is recorded with these images."""

    request: ImageRequest
    concepts: tuple[PromptedConcept, ...]
    position: tuple[int, int] | None = None  # column and row, from 0; None: not of a sweep

    @property
    def concept_ids(self) -> dict[str, str]:
        """The ids of the cell's concepts, by name."""
        return {concept.name: concept.id for concept in self.concepts}

    @property
    def concept_hashes(self) -> dict[str, str]:
        """The SHA-256 of the files of the cell's concepts, by name."""
        return {concept.name: concept.sha256 for concept in self.concepts}


def cells_of(
    context: WorkerContext, payload: GeneratePayload, base: BaseModel, *, edit: Edit | None
) -> list[Cell]:
    """Return the cells of a job, in the order of the job's images; all start from `edit`."""
    found = []
    for cell in cells.cells_of(payload):
        config = options.generate_config(base.defaults, cell.options)
        if edit is not None and edit.mask is not None:
            # The image has the size of its picture, whatever the base model's defaults say.
            config = replace(config, width=None, height=None)
        check_size(base, config)
        own = options.edit_config(cell.edit.options) if cell.edit is not None else None
        request = ImageRequest(
            prompt=cell.prompt,
            concepts=_uses(context, cell.concepts, base),
            config=config,
            attention_maps=payload.attention_maps,
            edit=replace(edit, config=own) if edit is not None and own is not None else edit,
        )
        found.append(Cell(request=request, concepts=cell.concepts, position=cell.position))
    return found


def check_concepts(context: WorkerContext, listed: Sequence[PromptedConcept]) -> None:
    """Raise FileGone if a concept's file was deleted; the cache may still contain the concept.

    If a concept was trained again after the request was accepted, the concept file of the request
    is kept as the previous file. Only a second replacement deletes the previous file.
    """
    if not listed:
        return
    named = rows.named_hashes(context.service, [concept.id for concept in listed])
    gone = [concept.name for concept in listed if concept.sha256 not in named.get(concept.id, ())]
    if gone:
        names = ", ".join(f"<{name}>" for name in gone)
        raise FileGone(
            "A concept of this prompt was deleted, or trained again twice, before the job started: "
            f"{names}. Ask again, or without it."
        )


def _uses(
    context: WorkerContext, listed: Sequence[PromptedConcept], base: BaseModel
) -> dict[str, ConceptUse]:
    uses: dict[str, ConceptUse] = {}
    for named in listed:
        concept = context.concepts.get(named.sha256, blob_key=named.blob_key)
        # The owner may rename a concept, so the file may contain an older name.
        concept = concept.renamed(named.name)
        base.check(concept)
        uses[named.name] = ConceptUse(concept, beta=named.beta, tau=named.tau)
    return uses
