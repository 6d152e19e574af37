"""The evaluator: a dual encoder (any CLIPModel) for image similarity and text similarity.

Image similarity is the mean cosine between generated images and the training pictures, text
similarity the mean cosine between images and the prompt with the superclass in the concept's place
(METHOD 7). One similarity alone proves little, so always use both.
"""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from perfusion_core.downloads import Progress
from perfusion_core.errors import BaseModelError
from perfusion_core.evaluation.record import EvaluatorRef
from perfusion_core.fingerprint import fingerprint_of_module
from perfusion_core.hub import find_folder, has_safetensors
from perfusion_core.imaging.pixels import opaque


class Evaluator:
    """A CLIP-like model that embeds images and texts in one space."""

    def __init__(
        self, name_or_path: str | Path, *, device: str = "cpu", progress: Progress | None = None
    ) -> None:
        """Load a folder, or a hub's NAME or NAME@REVISION, with transformers' CLIPModel.

        `progress` follows a download. Raises BaseModelError if loading fails.
        """
        from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

        where = str(name_or_path)
        files = find_folder(name_or_path, role="evaluator", progress=progress)
        try:
            model: Any = CLIPModel.from_pretrained(
                files, use_safetensors=has_safetensors(files), weights_only=True
            )
            self._model: Any = model.float().eval().to(device)
            self._processor: Any = CLIPImageProcessorPil.from_pretrained(files)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(files)
        except (OSError, ValueError, UnpicklingError) as error:
            raise BaseModelError(
                f"The evaluator {where!r} cannot be loaded: name a CLIP model's folder or hub name."
            ) from error
        folder = Path(name_or_path)
        self.ref = EvaluatorRef(
            name=folder.resolve().name if folder.is_dir() else where,
            fingerprint=fingerprint_of_module(self._model),
        )

    @torch.no_grad()
    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Return unit vectors (n, p), one for each image."""
        pixels = self._processor([opaque(image) for image in images], return_tensors="pt")
        out = self._model.get_image_features(**pixels.to(self._model.device))
        return _unit(out)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors (n, p), one for each text."""
        tokens = self._tokenizer(
            list(texts), padding="max_length", truncation=True, return_tensors="pt"
        )
        out = self._model.get_text_features(**tokens.to(self._model.device))
        return _unit(out)


def _unit(out: Any) -> Tensor:
    features: Tensor = out if isinstance(out, Tensor) else out.pooler_output
    return normalize(features, dim=-1)
