"""A frozen text-to-image model that concepts can edit: any SD 1.x, SD 2.x or SDXL pipeline."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perfusion_core.attention import attach, cross_attention_layers, packed_width
from perfusion_core.concept import Concept, has_direction
from perfusion_core.config import BaseModelDefaults, read_defaults
from perfusion_core.covariance.captions import captions
from perfusion_core.covariance.estimate import CAPTION_COUNT, Covariance, estimate
from perfusion_core.errors import BaseModelError, ConceptFileError
from perfusion_core.evaluation.calibration import Calibration, read_calibration
from perfusion_core.fingerprint import fingerprint_of_base_model
from perfusion_core.hub import refuse_adapters, split_revision
from perfusion_core.rank_one import Metric
from perfusion_core.text.encoders import TextEncoders

COVARIANCE_FILE = "covariance.safetensors"
Progress = Callable[[int], None]


class BaseModel:
    """A frozen pipeline's parts, its cross-attention layers and its covariance.

    With ordinary encodings the U-Net gives the same results as in the original pipeline, bit for
    bit.
    """

    def __init__(
        self, pipeline: Any, *, name: str, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Take over a diffusers pipeline loaded in float32; see `load` and `from_pipeline`."""
        self.name, self.device, self.dtype = name, device, dtype
        self.family = _family(pipeline)
        encoders = [pipeline.text_encoder]
        self.tokenizers: list[Any] = [pipeline.tokenizer]
        if self.family == "sdxl":
            encoders.append(pipeline.text_encoder_2)
            self.tokenizers.append(pipeline.tokenizer_2)
        for module in (pipeline.unet, pipeline.vae, *encoders):
            module.requires_grad_(False).eval()
        self.unet: Any = pipeline.unet
        self.fingerprint = fingerprint_of_base_model(encoders, cross_attention_layers(self.unet))
        self.unet = self.unet.to(device)
        if dtype != torch.float32:
            self.unet = self.unet.to(dtype)
        # Encoders and VAE stay in float32, because the edit's similarities and the VAE's range need
        # the precision. The cost is small: encoders run once per prompt, the VAE once per picture
        # or image.
        self.vae: Any = pipeline.vae.to(device)
        self.text = TextEncoders(
            [encoder.to(device) for encoder in encoders],
            penultimate=self.family == "sdxl",
        )
        self.scheduler_config: dict[str, Any] = dict(pipeline.scheduler.config)
        self.layers = cross_attention_layers(self.unet)
        attach(self.unet, self.layers)
        self.defaults = BaseModelDefaults()
        self.calibration: Calibration | None = None
        self.superclass_encodings: dict[tuple[str, tuple[str, ...]], Tensor] = {}
        self._covariance: Covariance | None = None

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        device: str = "auto",
        dtype: torch.dtype | None = None,
        covariance_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> "BaseModel":
        """Load a diffusers folder, or a hub's NAME or NAME@REVISION, with its covariance.

        The covariance is read from `covariance_dir`, or else from the model's folder. If neither
        contains a covariance, the covariance is estimated from built-in captions (minutes on a CPU
        for SD 1.5) and saved to `covariance_dir` if one is given. `progress` is called with the
        number of captions done. Raises BaseModelError if the model cannot be loaded.
        """
        from diffusers import DiffusionPipeline

        where = Path(name_or_path)
        if where.is_dir():
            refuse_adapters(where)
        name, revision = split_revision(name_or_path)
        try:
            pipeline = DiffusionPipeline.from_pretrained(
                name, revision=revision, dtype=torch.float32, use_safetensors=True
            )
        except (OSError, ValueError, AttributeError, KeyError) as error:
            raise BaseModelError(
                f"The base model {str(name_or_path)!r} cannot be loaded: name a folder written by "
                "diffusers' save_pretrained with safetensors weights, or a hub model that this "
                "machine can download."
            ) from error
        base = cls.from_pipeline(
            pipeline, name=where.name if where.is_dir() else str(name_or_path), device=device,
            dtype=dtype,
        )  # fmt: skip
        # Half of a step's time goes to convolutions, so on a CPU this layout makes a step 5 to 10 %
        # faster.
        base.unet.to(memory_format=torch.channels_last)
        if where.is_dir():
            base.defaults = read_defaults(where)
            base.calibration = read_calibration(where)
        candidates = [where / COVARIANCE_FILE] if where.is_dir() else []
        if covariance_dir is not None:
            # This path comes first, so that the covariance of `perfusion prepare --captions` is
            # preferred to the one in the model's folder.
            candidates.insert(0, base.covariance_path(covariance_dir))
        for file in candidates:
            if file.is_file():
                base.covariance = Covariance.load(file)
                return base
        base.estimate_covariance(progress=progress)
        if covariance_dir is not None:
            base.covariance.save(base.covariance_path(covariance_dir))
        return base

    @classmethod
    def from_pipeline(
        cls, pipeline: Any, *, name: str, device: str = "auto", dtype: torch.dtype | None = None
    ) -> "BaseModel":
        """Wrap a loaded float32 pipeline. The caller sets or estimates the covariance later."""
        where = _device(device)
        return cls(pipeline, name=name, device=where, dtype=dtype or _dtype(where))

    @property
    def covariance(self) -> Covariance:
        """The covariance C and its metric; raises BaseModelError until C is read or estimated."""
        if self._covariance is None:
            raise BaseModelError("This base model has no covariance yet: call estimate_covariance.")
        return self._covariance

    @covariance.setter
    def covariance(self, covariance: Covariance) -> None:
        if len(covariance.C) != self.encoding_width:
            raise BaseModelError(
                f"The covariance is of {len(covariance.C)} dimensions, but this base model's "
                f"encodings have {self.encoding_width}: it belongs to another model."
            )
        if self.device.type == "cuda":
            # The factor is moved to the device, since each step would otherwise wait for copies to
            # and from the CPU. MPS has no float64.
            factor = covariance.metric.factor.to(self.device)
            covariance = replace(covariance, metric=Metric(factor))
        self._covariance = covariance

    @property
    def covariance_fingerprint(self) -> str:
        """The fingerprint of C."""
        return self.covariance.fingerprint

    @property
    def encoding_width(self) -> int:
        """d, the width of the encodings that cross-attention receives."""
        return self.layers[0].W_K.shape[1]

    @property
    def packed_width(self) -> int:
        """The last dimension of packed Keys and Values, 2 Σ d_l."""
        return packed_width(self.layers)

    @property
    def vae_factor(self) -> int:
        """Pixels per latent, along each side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def default_resolution(self) -> int:
        """The side, in pixels, of the images that the base model was trained on."""
        return int(self.unet.config.sample_size) * self.vae_factor

    def covariance_path(self, folder: Path) -> Path:
        """Return the path of this base model's covariance file inside `folder`."""
        return folder / f"covariance-{self.fingerprint}.safetensors"

    def estimate_covariance(
        self,
        captions_from: Iterable[str] | None = None,
        *,
        progress: Progress | None = None,
        count: int = CAPTION_COUNT,
    ) -> Covariance:
        """Estimate C from captions (default: the built-in ones) and use the result from then on."""
        source = captions_from or captions(count, known=self.knows_word)
        self.covariance = estimate(
            source,
            self._encode_captions,
            base_model_fingerprint=self.fingerprint,
            progress=progress,
        )
        return self.covariance

    def knows_word(self, word: str) -> bool:
        """Return whether the tokenizer encodes the word as one token."""
        return len(self.tokenizers[0](word, add_special_tokens=False).input_ids) == 1

    def check(self, concept: Concept) -> None:
        """Raise unless the concept fits this base model: fingerprints, covariance and shapes."""
        concept.check_compatible(
            base_model=self.fingerprint, covariance=self.covariance_fingerprint
        )
        widths = tuple(table.shape[1] for table in self.text.tables)
        if (
            len(concept.o_v) * 2 != self.packed_width
            or len(concept.i_star) != self.encoding_width
            or (concept.e_super is not None and len(concept.e_super) != self.encoding_width)
            or tuple(len(vector) for vector in concept.embeddings) != widths
        ):
            raise ConceptFileError(
                f"The concept {concept.placeholder} has vectors of other sizes than this base "
                "model's: its file is damaged."
            )
        if not has_direction(concept.i_star):
            raise ConceptFileError(
                f"The concept {concept.placeholder} has no direction, since its i* is zero: "
                "download or train it again."
            )

    def describe(self) -> dict[str, Any]:
        """Return the facts that the service records about this base model, as plain JSON."""
        return {
            "name": self.name,
            "family": self.family,
            "fingerprint": self.fingerprint,
            "covariance_fingerprint": self.covariance_fingerprint,
            "covariance_condition_number": self.covariance.condition_number,
            "resolution": self.default_resolution,
            "cross_attention_layers": len(self.layers),
            "encoding_width": self.encoding_width,
            "value_width": self.packed_width // 2,
            "embedding_widths": [table.shape[1] for table in self.text.tables],
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "defaults": {"train": self.defaults.train, "generate": self.defaults.generate},
            "calibration": None if self.calibration is None else self.calibration.to_json(),
        }

    @torch.no_grad()
    def _encode_captions(self, batch: list[str]) -> Tensor:
        ids = [
            tokenizer(
                batch, padding="max_length", max_length=tokenizer.model_max_length, truncation=True
            ).input_ids
            for tokenizer in self.tokenizers
        ]
        return self.text.encode(ids).e


def _family(pipeline: Any) -> str:
    if not hasattr(pipeline, "unet") or not hasattr(pipeline, "text_encoder"):
        raise BaseModelError(
            f"{type(pipeline).__name__} is not supported: use a model of the Stable Diffusion "
            "1.x, 2.x or XL families."
        )
    if getattr(pipeline, "text_encoder_2", None) is not None:
        return "sdxl"
    return "sd2" if pipeline.unet.config.cross_attention_dim == 1024 else "sd1"


def _device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(device: torch.device) -> torch.dtype:
    if device.type != "cuda":
        return torch.float32
    # GPUs before Ampere only emulate bfloat16, which is slow; their tensor cores support float16.
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16
