"""Stores the images of a generation before the job's row names them.

Each image has a thumbnail, and attention maps if the request asks for them.
"""

import hashlib

from perfusion_core.base_model import BaseModel
from perfusion_core.imaging import thumbnails
from perfusion_core.sampling import overlays, png
from perfusion_core.sampling.sample import Sample
from service.blobs import keys
from service.execution.leases import ClaimedJob, NewAttentionMap, NewImage
from worker.context import WorkerContext
from worker.jobs.cells import Cell


def store(
    context: WorkerContext,
    claimed: ClaimedJob,
    sample: Sample,
    *,
    index: int,
    cell: Cell,
    base: BaseModel,
) -> NewImage:
    """Store the image of a cell under the attempt's prefix; return what to record."""
    data = png.encode(
        sample,
        request=cell.request,
        concept_hashes=cell.concept_hashes,
        base=base,
        metadata=context.metadata,
    )
    blob_key = keys.image_key(claimed.id, claimed.attempt, index=index)
    context.service.blobs.put_new(blob_key, data)
    thumbnail_key = keys.thumbnail_key(claimed.id, claimed.attempt, index=index)
    thumbnail = thumbnails.of_png(data)
    context.service.blobs.put_new(thumbnail_key, thumbnail)
    maps, maps_bytes = _store_maps(context, claimed, sample, index=index, cell=cell)
    return NewImage(
        index=index,
        seed=sample.seed,
        width=sample.image.width,
        height=sample.image.height,
        blob_key=blob_key,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data) + len(thumbnail) + maps_bytes,
        thumbnail_key=thumbnail_key,
        prompt=cell.request.prompt,
        concept_refs=tuple(ref for used in cell.concepts for ref in (used.id, used.name)),
        cell=cell.position,
        attention_maps=maps,
    )


def _store_maps(
    context: WorkerContext, claimed: ClaimedJob, sample: Sample, *, index: int, cell: Cell
) -> tuple[tuple[NewAttentionMap, ...] | None, int]:
    """Store an image's maps; return the maps and the size of the maps in bytes."""
    if sample.maps is None:
        return None, 0
    stored, size_bytes = [], 0
    for number, word_map in enumerate(sample.maps):
        data = overlays.draw(sample.image, word_map.share, window=sample.window)
        blob_key = keys.attention_map_key(claimed.id, claimed.attempt, index=index, number=number)
        context.service.blobs.put_new(blob_key, data)
        size_bytes += len(data)
        stored.append(
            NewAttentionMap(
                word=word_map.word.text,
                concept_id=cell.concept_ids.get(word_map.word.concept or ""),
                coverage=round(word_map.coverage, 4),
                blob_key=blob_key,
                sha256=hashlib.sha256(data).hexdigest(),
            )
        )
    return tuple(stored), size_bytes
