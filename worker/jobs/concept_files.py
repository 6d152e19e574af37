"""Store the concept file that a training or a judgement made, under its attempt's prefix."""

import hashlib

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from service.blobs import keys
from service.concepts import files
from service.execution.leases import ClaimedJob, TrainedConcept
from worker.context import WorkerContext


def store(
    context: WorkerContext, claimed: ClaimedJob, base: BaseModel, concept: Concept
) -> TrainedConcept:
    """Write the file to the blobs; return what its row records about it."""
    data = concept.to_bytes()
    written = Concept.from_bytes(data)  # with rounded numbers, as the API reads them
    blob_key = f"{keys.attempt_prefix(claimed.id, claimed.attempt)}concept.safetensors"
    context.service.blobs.put_new(blob_key, data)
    return TrainedConcept(
        blob_key=blob_key,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        base_model_name=base.name,
        base_model_fingerprint=base.fingerprint,
        covariance_fingerprint=base.covariance_fingerprint,
        mask_source=concept.mask_source,
        training=dict(concept.training),
        judgement=files.judgement_of(written, base.calibration),
        standing=files.standing_of(written, base.calibration),
    )
