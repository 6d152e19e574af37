"""A frozen text-to-image model that concepts can edit: any SD 1.x, SD 2.x or SDXL pipeline."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perfusion_core import downloads
from perfusion_core.attention import attach, cross_attention_layers, packed_width
from perfusion_core.backends.backend import Backend, EagerBackend
from perfusion_core.backends.choice import choose_backend
from perfusion_core.checkpoints.fetching import fetch
from perfusion_core.checkpoints.reading import read_checkpoint
from perfusion_core.concept import Concept, has_direction
from perfusion_core.config import BaseModelDefaults, Positions, read_defaults
from perfusion_core.covariance.caption_encodings import content_positions, encode_captions
from perfusion_core.covariance.captions import captions
from perfusion_core.covariance.estimate import CAPTION_COUNT, Covariance, estimate
from perfusion_core.covariance.once import once
from perfusion_core.defaults import noise_schedule
from perfusion_core.defaults.families import family_of
from perfusion_core.devices.options import AUTO, DeviceOptions, device_of, dtype_of
from perfusion_core.devices.placement import place
from perfusion_core.errors import BaseModelError, ConceptFileError
from perfusion_core.evaluation.calibration import Calibration, read_calibration
from perfusion_core.fingerprint import fingerprints_of_base_model
from perfusion_core.rank_one import Metric
from perfusion_core.shared_parts import SharedParts
from perfusion_core.siblings import BaseModelIdentity, adapt
from perfusion_core.text.encoders import TextEncoders
from perfusion_core.text.tokenization import whole_words

COVARIANCE_FILE = "covariance.safetensors"
Progress = Callable[[int], None]


class BaseModel:
    """A frozen pipeline's parts, its cross-attention layers and its covariance.

    With ordinary encodings the U-Net gives the same results as in the original pipeline, bit for
    bit.
    """

    def __init__(
        self, pipeline: Any, *, name: str, device: torch.device, dtype: torch.dtype,
        device_options: DeviceOptions = AUTO,
    ) -> None:  # fmt: skip
        """Take over a diffusers pipeline on the CPU; see `load` and `from_pipeline`."""
        self.name, self.device, self.dtype = name, device, dtype
        self.family = family_of(pipeline)
        encoders = [pipeline.text_encoder]
        self.tokenizers: list[Any] = [pipeline.tokenizer]
        if self.family == "sdxl":
            encoders.append(pipeline.text_encoder_2)
            self.tokenizers.append(pipeline.tokenizer_2)
        for module in (pipeline.unet, pipeline.vae, *encoders):
            module.requires_grad_(False).eval()
        self.unet: Any = pipeline.unet
        layers = cross_attention_layers(self.unet)
        self.fingerprint, of_encoders = fingerprints_of_base_model(encoders, layers)
        self.shared_parts = SharedParts(of_encoders, tuple(layer.width for layer in layers))
        # The text encoders stay in float32, because the edit's similarities need the precision. The
        # cost is small, since they run once per prompt.
        self.vae: Any = pipeline.vae
        self.placed = place(
            self.unet, self.vae, encoders, device=device, dtype=dtype, options=device_options,
            pixels=self.default_resolution**2,
        )  # fmt: skip
        self.text = TextEncoders(
            encoders, penultimate=self.family == "sdxl", offloading=self.placed.offloading
        )
        self.scheduler_config = noise_schedule.read(pipeline, family=self.family)
        self.zeros_for_no_prompt = bool(pipeline.config.get("force_zeros_for_empty_prompt"))
        self.layers = cross_attention_layers(self.unet)
        attach(self.unet, self.layers, fused=self.placed.attention == "sdpa")
        self.eager = EagerBackend(self.unet)
        self.backend: Backend = self.eager
        self.override_defaults(BaseModelDefaults())
        self.calibration: Calibration | None = None
        self.superclass_encodings: dict[tuple[str, tuple[str, ...]], Tensor] = {}
        self._covariance: Covariance | None = None

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        device: str = "auto",
        device_options: DeviceOptions = AUTO,
        covariance_dir: Path | None = None,
        progress: Progress | None = None,
        fetch_progress: downloads.Progress | None = None,
        estimate: Callable[["BaseModel"], None] | None = None,
    ) -> "BaseModel":
        """Load a diffusers folder, or a hub's NAME or NAME@REVISION, with its covariance.

        The covariance is read from `covariance_dir`, or else from the model's folder. If neither
        contains a covariance, the covariance is estimated from built-in captions (minutes on a CPU
        for SD 1.5) and saved to `covariance_dir` if one is given. `progress` is called with the
        number of captions done, `fetch_progress` with the bytes of a download. `estimate` gives the
        model its covariance in place of all this. Raises BaseModelError if loading fails.
        """
        where = device_of(device)
        device_options.check(where)  # before anything is fetched
        path = fetch(name_or_path, progress=fetch_progress)
        shown = path.name if Path(name_or_path).exists() else str(name_or_path)
        # Fingerprints are of float16 weights, so a U-Net in half precision is read in float16: then
        # the machine never holds it in float32.
        full = dtype_of(device_options.dtype, where) == torch.float32
        pipeline = read_checkpoint(
            path, name=str(name_or_path), unet_dtype=torch.float32 if full else torch.float16
        )
        # Half of a step's time goes to convolutions, so on a CPU this layout makes a step 5 to 10 %
        # faster.
        pipeline.unet.to(memory_format=torch.channels_last)
        base = cls.from_pipeline(pipeline, name=shown, device=device, device_options=device_options)
        base.override_defaults(read_defaults(path))
        base.backend = choose_backend(
            base.unet, device_options, device=where, packed_width=base.packed_width,
            leaves_device=base.placed.offloading.covers("unet"),
        )  # fmt: skip
        if path.is_dir():
            base.calibration = read_calibration(path)
        if estimate is not None:
            estimate(base)
            return base
        # `perfusion prepare --captions` writes into `covariance_dir`, so that file comes first.
        candidates = [] if covariance_dir is None else [base.covariance_path(covariance_dir)]
        candidates += [path / COVARIANCE_FILE] if path.is_dir() else []
        for file in candidates:
            if file.is_file():
                base.covariance = Covariance.load(file)
                return base
        estimated = partial(base.estimate_covariance, progress=progress)
        base.covariance = once(candidates[0], estimated) if covariance_dir else estimated()
        return base

    @classmethod
    def from_pipeline(
        cls,
        pipeline: Any,
        *,
        name: str,
        device: str = "auto",
        dtype: torch.dtype | None = None,
        device_options: DeviceOptions = AUTO,
    ) -> "BaseModel":
        """Wrap a loaded pipeline. The caller sets or estimates the covariance later.

        A `dtype` takes precedence over that of `device_options`. Raises BaseModelError if the
        device cannot do what the options ask for.
        """
        where = device_of(device)
        device_options.check(where)
        return cls(
            pipeline, name=name, device=where, device_options=device_options,
            dtype=dtype or dtype_of(device_options.dtype, where),
        )  # fmt: skip

    def override_defaults(self, own: BaseModelDefaults) -> None:
        """Set the defaults: those of family and scheduler, then the base model's own."""
        self.scheduler_config, self.defaults = noise_schedule.corrected(
            self.scheduler_config, own, unet_config=self.unet.config, family=self.family
        )

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
    def identity(self) -> BaseModelIdentity:
        """The facts that bind concepts to this base model."""
        return BaseModelIdentity(
            name=self.name,
            fingerprint=self.fingerprint,
            covariance_fingerprint=self.covariance_fingerprint,
            shared_parts=self.shared_parts,
        )

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
        positions: Positions = "all",
    ) -> Covariance:
        """Estimate C from captions (default: the built-in ones) and use the result from then on."""
        source = captions_from or captions(
            count, known=self.knows_word, words=whole_words(self.tokenizers[0])
        )
        with self.placed.offloading.using("text"):
            self.covariance = estimate(
                source,
                partial(encode_captions, self.text, self.tokenizers),
                base_model_fingerprint=self.fingerprint,
                positions=positions,
                content=partial(content_positions, self.tokenizers[0]),
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

    def adapt(self, concept: Concept) -> Concept:
        """Return a concept of a sibling base model for this one; raises FingerprintMismatch.

        The concept's images here are not measured yet, so it has no curve.
        """
        adapted = adapt(concept, self.identity)
        self.check(adapted)
        return adapted

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
            "shared_parts": self.shared_parts.to_json(),
            "encoding_width": self.encoding_width,
            "value_width": self.packed_width // 2,
            "embedding_widths": [table.shape[1] for table in self.text.tables],
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "backend": f"{self.backend.name} {self.backend.precision}",
            "defaults": {"train": self.defaults.train, "generate": self.defaults.generate},
            "known_superclasses": self.defaults.known_superclasses,
            "calibration": None if self.calibration is None else self.calibration.to_json(),
        }
