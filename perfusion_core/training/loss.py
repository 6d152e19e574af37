"""The loss of a batch and its gradient, computed in parts if memory does not suffice.

The U-Net's pass takes nearly all of a step's memory, so only the U-Net's pass is split. The text of
a batch is encoded once. The sum of the parts' gradients with respect to the Keys and Values is the
gradient of the whole batch.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from perfusion_core.backends.backend import UNetInput
from perfusion_core.conditioning import Plain, added_conditions
from perfusion_core.devices.plans import plan_training
from perfusion_core.memory import free_bytes, free_memory, is_out_of_memory
from perfusion_core.sampling.schedulers import guidance_input
from perfusion_core.text.templates import TEMPLATES
from perfusion_core.training.batches import TrainingBatch
from perfusion_core.training.min_snr import min_snr_weights

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel

_log = logging.getLogger("perfusion.training")


class MaskedLoss:
    """The loss of noise prediction on the object, given by its mask (METHOD 5), and around it.

    `mean(‖M ⊙ (target − prediction)‖² + w ‖(1 − M) ⊙ (plain − prediction)‖²)`, where `plain` is the
    frozen model's prediction for the same latents with the superclass's word in the prompt.
    """

    def __init__(
        self,
        base: "BaseModel",
        scheduler: Any,
        *,
        side: int,
        batch_size: int,
        background_weight: float = 0.0,
        min_snr_gamma: float | None = None,
    ) -> None:
        """`scheduler` adds the noise; `side` is the pictures' size in pixels, an input of SDXL.

        `background_weight` is w; with w = 0 the loss is the paper's loss. `min_snr_gamma` weights
        each example by its time (min_snr.py). The device's free memory decides in how many passes a
        batch of `batch_size` is computed.
        """
        self._base, self._scheduler, self._side = base, scheduler, side
        self._background_weight, self._gamma = background_weight, min_snr_gamma
        # Where sampling in bfloat16 was faster when it was measured, training is faster too.
        self._in_bfloat16 = base.device.type == "cpu" and base.backend.precision == "bfloat16"
        # On a GPU a training's batch gains nothing from a graph, which takes memory from it.
        self._predict = base.backend if base.device.type == "cpu" else base.eager
        # A distilled U-Net expects its guidance as an input; its images have the default guidance.
        scale = base.defaults.generate_config().guidance_scale
        self._guidance = guidance_input(base, scale)  # (1, c)
        plan = plan_training(
            base.placed.needs,
            pixels=side**2,
            batch_size=batch_size,
            free=free_bytes(base.device),
            # Text encoders that leave the device keep nothing (perfusion_core.text.encoders).
            prompts=0 if base.placed.offload != "none" else min(batch_size, len(TEMPLATES)),
        )
        self.parts = plan.parts
        """The number of passes per batch. It grows when memory does not suffice for fewer
        passes."""
        self.recomputes = plan.recomputes
        """True if the backward pass computes activations again instead of keeping them."""

    def backward(
        self,
        batch: TrainingBatch,
        packed: Tensor,
        pooled: Tensor | None,
        *,
        plain: Plain | None = None,
    ) -> Tensor:
        """Return the batch's loss; add its gradient to the parameters behind `packed` and `pooled`.

        `packed` (P, N, 2 Σ d_l) and `pooled` (P, p) belong to the batch's prompts, and `plain` to
        the same prompts with the superclass's word; without `plain` the loss is the paper's loss.
        """
        told = [packed] if pooled is None else [packed, pooled]
        while True:
            # The gradients of all parts are summed in these leaves, in float32.
            leaves = [tensor.detach().requires_grad_() for tensor in told]
            try:
                loss = self._in_parts(batch, leaves, plain)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or not self._can_do_with_less(len(batch.t)):
                    raise
            # Memory is freed after the handler, because the error refers to the failed pass and its
            # memory.
            free_memory()
            self._do_with_less(len(batch.t))
        n = batch.noise.numel()
        torch.autograd.backward(told, [leaf.grad / n for leaf in leaves if leaf.grad is not None])
        return loss / n

    def _in_parts(
        self, batch: TrainingBatch, leaves: Sequence[Tensor], plain: Plain | None
    ) -> Tensor:
        """Return the sum of the squares; add the gradient of this sum to `leaves`.

        The sum is used because the gradients of the mean would be too small for float16's range.
        """
        total = torch.zeros((), device=self._base.device)
        with self._recomputing():
            for rows in torch.arange(len(batch.t)).tensor_split(self.parts):
                part = slice(int(rows[0]), int(rows[-1]) + 1)
                squares = self._squares(batch, part, leaves, plain)
                squares.backward()
                total += squares.detach()
        return total

    def _squares(
        self, batch: TrainingBatch, part: slice, leaves: Sequence[Tensor], plain: Plain | None
    ) -> Tensor:
        latents, noise, t = batch.latents[part], batch.noise[part], batch.t[part]
        noisy = self._scheduler.add_noise(latents, noise, t)  # (B, c, h, w)
        prompt, M = batch.prompt[part], batch.masks[part]
        given = self._input(noisy, t, [_of_prompts(leaf, prompt) for leaf in leaves])
        with torch.autocast("cpu", torch.bfloat16, enabled=self._in_bfloat16):
            prediction = self._base.eager.with_gradients(given)
        wanted = wanted_prediction(self._scheduler, latents, noise, t)
        scale: Tensor | float = 1.0
        if self._gamma is not None:
            weights = min_snr_weights(self._scheduler, t, gamma=self._gamma)
            scale = weights.sqrt()[:, None, None, None]  # (B, 1, 1, 1)
        squares: Tensor = (scale * M * (wanted - prediction)).square().sum()
        if plain is not None:
            # This differs from the paper. The paper's loss ignores the surroundings of the object,
            # so nothing bounds the effect of o*_V on them, and a background that attends to the
            # concept's word becomes speckled.
            told = [plain.packed] if plain.pooled is None else [plain.packed, plain.pooled]
            given = self._input(noisy, t, [_of_prompts(each, prompt) for each in told])
            kept = self._predict(given)
            around = (scale * (1 - M) * (kept - prediction)).square().sum()
            squares = squares + self._background_weight * around
        return squares

    def _input(self, noisy: Tensor, t: Tensor, told: Sequence[Tensor]) -> UNetInput:
        """Return the U-Net's input; `told` is [packed] or, for SDXL, [packed, pooled]."""
        packed, *pooled = told
        return UNetInput(
            latents=noisy,
            timesteps=t,
            packed=packed.to(self._base.dtype),
            guidance=None if self._guidance is None else self._guidance.expand(len(noisy), -1),
            added=added_conditions(
                pooled[0] if pooled else None,
                width=self._side,
                height=self._side,
                dtype=self._base.dtype,
            ),
        )

    def _can_do_with_less(self, examples: int) -> bool:
        return self.parts < examples or not self.recomputes

    def _do_with_less(self, examples: int) -> None:
        """Halve the size of the parts; if they are single examples, set `recomputes`."""
        if self.parts < examples:
            self.parts = min(2 * self.parts, examples)
        else:
            self.recomputes = True
        _log.warning(
            "out of memory in a training step: from here on a batch of %d takes %d passes%s, "
            "with the same total",
            examples, self.parts, ", computing activations twice" if self.recomputes else "",
        )  # fmt: skip

    @contextmanager
    def _recomputing(self) -> Iterator[None]:
        unet = self._base.unet
        if not self.recomputes:
            yield
            return
        unet.enable_gradient_checkpointing()
        try:
            yield
        finally:
            unet.disable_gradient_checkpointing()


def wanted_prediction(scheduler: Any, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return the U-Net's target for noised latents: noise, velocity or sample."""
    match scheduler.config.prediction_type:
        case "v_prediction":
            velocity: Tensor = scheduler.get_velocity(latents, noise, t)
            return velocity
        case "sample":
            return latents
        case _:
            return noise


def _of_prompts(encodings: Tensor, prompts: Tensor) -> Tensor:
    """Return the rows of `encodings` (P, ...) whose indices are `prompts` (B,).

    If examples share a prompt, their gradients are summed in a fixed order, so that the same
    training gives the same concept. On a CPU only `index_select` guarantees a fixed order of the
    sum, on CUDA only indexing. torch.use_deterministic_algorithms documents the other operation of
    each device as nondeterministic.
    """
    return encodings[prompts] if encodings.is_cuda else encodings.index_select(0, prompts)
