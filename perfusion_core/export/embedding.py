"""A concept's word as a textual-inversion file. Does not import torch.

| family | tensors | read by |
| --- | --- | --- |
| SD 1.x, SD 2.x | `<name>` (d,) | diffusers, which takes the key as the token; A1111, ComfyUI and InvokeAI, which take the file's name |
| SDXL | `clip_l` (1, 768), `clip_g` (1, 1280) | all of them; diffusers is given each text encoder's |
"""  # noqa: E501

import numpy as np
from safetensors.numpy import save as save_tensors

from perfusion_core.concept import Concept, sort_header
from perfusion_core.export.metadata import Precision, embedding_metadata

SDXL_KEYS = ("clip_l", "clip_g")
"""The keys of both text encoders' embeddings, in the pipeline's order."""


def export_embedding(concept: Concept, *, dtype: Precision = "float32") -> bytes:
    """Return the embedding's safetensors file; equal concepts give equal bytes."""
    arrays = [np.ascontiguousarray(vector, dtype) for vector in concept.embeddings]
    if len(arrays) == 1:
        tensors = {concept.placeholder: arrays[0]}
    else:
        tensors = {key: a[None] for key, a in zip(SDXL_KEYS, arrays, strict=True)}
    return sort_header(save_tensors(tensors, metadata=embedding_metadata(concept)))
