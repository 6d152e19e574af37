"""Training of a concept: an iterator of steps over a frozen base model (METHOD 5).

Each layer's o*_V and the placeholder's word embedding are learned. i* is a moving average; e_super
and the Keys are fixed. Gradients flow through the U-Net to the Keys and Values; the U-Net's weights
have no gradient buffers. All randomness of a step depends only on the seed and the step's number,
so a resumed training gives the same concept as an uninterrupted training.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from perfusion_core.callbacks import RunOnDevice, run_at_once
from perfusion_core.concept import Concept
from perfusion_core.conditioning import Target, edit_of, keys_and_values, plain_keys_and_values
from perfusion_core.config import TrainConfig
from perfusion_core.edit_strategy import APART, EditStrategy
from perfusion_core.encodings import placeholder_encoding, superclass_encoding
from perfusion_core.errors import TrainingDiverged
from perfusion_core.pictures.cropping import Crop
from perfusion_core.pictures.masks import FindObject
from perfusion_core.sampling.schedulers import make_scheduler
from perfusion_core.text.templates import TEMPLATES
from perfusion_core.text.training_prompts import TrainingPrompts
from perfusion_core.training import checkpoint
from perfusion_core.training.batches import TrainingBatch, TrainingBatches
from perfusion_core.training.early_stopping import EarlyStopping
from perfusion_core.training.embeddings import embedding_rates, hold_norms, start_embeddings
from perfusion_core.training.examples import Examples, encode_pictures
from perfusion_core.training.loss import MaskedLoss

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel

_EXPLODED = 1e3
"""A training counts as diverged if its o*_V has grown by this factor."""


@dataclass(frozen=True)
class Step:
    """A finished optimiser step: its number (from 1), its loss, and the concept's mean gate."""

    step: int
    total_steps: int
    loss: float
    gate: float


def train(
    base: "BaseModel",
    pictures: Sequence[Image.Image],
    *,
    name: str,
    superclass: str,
    config: TrainConfig | None = None,
    masks: Sequence[Image.Image | None] | None = None,
    crops: Sequence[Crop | None] | None = None,
    segmenter: FindObject | None = None,
    state: bytes | None = None,
    run_on_device: RunOnDevice = run_at_once,
    templates: Sequence[str] = TEMPLATES,
    strategy: EditStrategy = APART,
) -> "Training":
    """Begin training a concept, or resume it from `state`; iterate over the result to train.

    Pictures are turned as their EXIF orientation says, and converted to sRGB. The alpha channel of
    `pictures` may serve as a mask; `masks` (white = the object) take precedence over alpha. The
    training sees a square around the mask with a margin (see cropping.py); `crops`, in pixels of
    the upright pictures, replace the crops that are not None. The default config is the base
    model's own. `run_on_device` is called with short pieces of work, so that others can use the
    device in between. `templates` are the training prompts, and `strategy` says how the concept
    edits Keys and Values. Raises PictureError, SuperclassError, TrainingStateError.
    """
    config = config or base.defaults.train_config()
    examples = encode_pictures(
        base,
        pictures,
        config,
        superclass=superclass,
        masks=masks,
        crops=crops,
        segmenter=segmenter,
        run_on_device=run_on_device,
    )

    def begin() -> Training:
        training = Training(
            base,
            examples,
            name=name,
            superclass=superclass,
            config=config,
            templates=templates,
            strategy=strategy,
        )
        if state is not None:
            training.restore(state)
        return training

    return run_on_device(begin)


class Training(Iterator[Step]):
    """A training in progress. Iterate over it for steps; get the concept or state at any time."""

    def __init__(
        self,
        base: "BaseModel",
        examples: Examples,
        *,
        name: str,
        superclass: str,
        config: TrainConfig,
        templates: Sequence[str],
        strategy: EditStrategy,
    ) -> None:
        """Start from the superclass's Values and word embedding, and the embedding's encoding."""
        self.base, self.name, self.superclass = base, name, superclass
        self.config, self.mask_source = config, examples.mask_source
        self.step, self._finished = 0, False
        self._best = EarlyStopping(config)
        self.examples, self._templates, self._strategy = examples, templates, strategy
        prompts = TrainingPrompts.of(base.tokenizers, templates, superclass=superclass)
        self._batches = TrainingBatches(base, examples, prompts=prompts, config=config)
        self._ahead: TrainingBatch | None = None
        self.loss = MaskedLoss(
            base,
            make_scheduler(base, "ddim"),
            side=config.resolution or base.default_resolution,
            batch_size=config.train_batch_size,
            background_weight=config.background_weight,
            min_snr_gamma=config.min_snr_gamma,
        )
        # With uniform masks nothing lies outside the object.
        self._keeps_background = config.background_weight > 0 and bool((examples.masks < 1).any())
        self.e_super = superclass_encoding(base, superclass, templates=templates)  # (d,)
        with torch.no_grad():
            start = torch.cat([layer.W_V.float() @ self.e_super for layer in base.layers])
        self.o_v = start.clone().requires_grad_()  # (Σ d_l,)
        self._start_norm = float(start.norm())
        self.embeddings = start_embeddings(
            base, prompts, superclass=superclass, fitted=config.fit_embedding
        )
        self._start_norms = [embedding.detach().norm() for embedding in self.embeddings]
        # If a superclass is several tokens, the placeholder starts with the last token's embedding
        # alone. With i* = e_super, the encoding of the whole superclass, the placeholder's gate
        # would then start half closed.
        self.i_star = placeholder_encoding(base, prompts, embeddings=self.embeddings)  # (d,)
        rates = embedding_rates(config, base.text.tables)
        groups = zip((self.o_v, *self.embeddings), (config.learning_rate, *rates), strict=True)
        self._optimizer = torch.optim.AdamW(
            [{"params": [learned], "lr": rate} for learned, rate in groups],
            weight_decay=0.0,  # weight decay would shrink o*_V towards 0
        )

    def __next__(self) -> Step:
        """Do one step. After TrainingDiverged only an earlier saved state is usable."""
        if self.steps_left == 0:
            raise StopIteration
        batch = self._ahead or self._batches.of(self.step)
        self._optimizer.zero_grad(set_to_none=True)
        loss, gate = self._backward(batch)
        self._optimizer.step()
        if self.config.hold_embedding_norm:
            hold_norms(self.embeddings, self._start_norms)
        sizes = [learned.detach().norm() for learned in (self.o_v, *self.embeddings)]
        # The device is still busy, so drawing the next batch now costs no extra time.
        self._ahead = self._batches.of(self.step + 1)
        # This is the only place where a step waits for the device.
        loss_now, gate_now, size, *others = torch.stack([loss, gate, *sizes]).tolist()
        if not all(math.isfinite(number) for number in (loss_now, size, *others)):
            raise TrainingDiverged(self._diverged("its loss or gradient is not a finite number"))
        if size > _EXPLODED * self._start_norm:
            raise TrainingDiverged(self._diverged("its Values grew without bound"))
        self.step += 1
        return Step(self.step, self.config.max_train_steps, loss=loss_now, gate=gate_now)

    def watch(self, evaluator: str | None) -> None:
        """Expect scores of `evaluator` from now on; None, as at the start, expects no scores.

        Scores of another evaluator, from before an interruption, are discarded.
        """
        self._best.watch(evaluator)

    def finish(self) -> None:
        """End the training now: no step and no score follows, and the best state is kept."""
        self._finished = True

    @property
    def steps_left(self) -> int:
        """The steps until the end, as long as the scores improve; 0: the training has ended."""
        ended = self._finished or self._best.stopped
        return 0 if ended else self.config.max_train_steps - self.step

    @property
    def is_evaluation_due(self) -> bool:
        """Return whether to score the concept now; depends on step and options, never on time."""
        return self._best.is_due(self.step) and not self._finished

    def record_score(self, score: float) -> None:
        """Record the present concept's score; a high score is good. The best state is kept."""
        self._best.record(self.step, score, self._learned())

    @property
    def stopped_early(self) -> bool:
        """Return whether the training ended early because its scores no longer improved."""
        return self._best.stopped and self.step < self.config.max_train_steps

    def concept(self) -> Concept:
        """Return the present concept; this method works at every step."""
        return self._concept(self._learned(), step=self.step)

    def best(self) -> Concept:
        """Return the concept of the best score (the first of equals), or the present concept."""
        step = self._best.step
        return self.concept() if step is None else self._concept(self._best.tensors, step=step)

    def state(self) -> bytes:
        """Return everything that the remaining training depends on, as safetensors bytes."""
        moments = checkpoint.moments(self._optimizer, self._parameters())
        early_stopping, best = self._best.saved()
        tensors = self._learned() | moments | best
        return checkpoint.pack(
            tensors, step=self.step, early_stopping=early_stopping, identity=self._identity()
        )

    def restore(self, state: bytes) -> None:
        """Resume from `state`; raises TrainingStateError if it belongs to another training."""
        with checkpoint.damage_is_named():
            saved = checkpoint.unpack(state, identity=self._identity())
            tensors = saved.tensors
            self.i_star = tensors["i_star"].to(self.base.device)
            for key, parameter in self._parameters().items():
                parameter.data.copy_(tensors[key])
            checkpoint.set_moments(self._optimizer, self._parameters(), tensors)
            self._best.restore(saved.early_stopping, tensors)
            self.step, self._ahead = saved.step, None

    def _concept(self, learned: Mapping[str, Tensor], *, step: int) -> Concept:
        base, config = self.base, asdict(self.config)
        config["resolution"] = self.config.resolution or base.default_resolution
        vectors = {name: tensor.cpu().numpy().copy() for name, tensor in learned.items()}
        return Concept(
            name=self.name,
            superclass=self.superclass,
            family=base.family,
            base_model_name=base.name,
            base_model_fingerprint=base.fingerprint,
            covariance_fingerprint=base.covariance_fingerprint,
            o_v=vectors["o_v"],
            i_star=vectors["i_star"],
            e_super=self.e_super.cpu().numpy().copy(),
            shared_parts=base.shared_parts,
            embeddings=tuple(vectors[f"embedding{k}"] for k in range(len(self.embeddings))),
            mask_source=self.mask_source,
            training=config | {"steps": step, "stopped_early": self.stopped_early},
        )

    def _backward(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Return the loss and the mean gate of a batch; add its gradient to the parameters."""
        base, prompts = self.base, batch.prompts
        encoding = base.text.encode(prompts.ids, prompts.replacements(self.embeddings))
        own = prompts.at_concept(encoding.e.detach())[batch.prompt]  # (B, d)
        # i* ← 0.99 i* + 0.01 mean_batch(e at the concept's token)
        self.i_star = torch.lerp(own.mean(0), self.i_star, self.config.ema_decay)
        targets, strategy = [self._target()], self._strategy
        packed = keys_and_values(base, encoding.e, targets, strategy=strategy)  # (P, N, 2 Σ d_l)
        plain = plain_keys_and_values(base, prompts.written) if self._keeps_background else None
        loss = self.loss.backward(batch, packed, encoding.pooled, plain=plain)
        return loss, edit_of(base, own, targets, strategy=strategy).gate.mean()

    def _target(self) -> Target:
        return Target(
            superclass=self.superclass,
            embeddings=self.embeddings,
            i_star=self.i_star,
            e_super=self.e_super,
            o_v=self.o_v,
            beta=self.config.beta,
            tau=self.config.tau,
        )

    def _parameters(self) -> dict[str, Tensor]:
        names = (f"embedding{k}" for k in range(len(self.embeddings)))
        return {"o_v": self.o_v} | dict(zip(names, self.embeddings, strict=True))

    def _learned(self) -> dict[str, Tensor]:
        """Return the learned tensors of the concept."""
        parameters = {key: value.detach() for key, value in self._parameters().items()}
        return {"i_star": self.i_star} | parameters

    def _identity(self) -> str:
        return checkpoint.identity_of(
            self.base,
            self.config,
            superclass=self.superclass,
            pictures=self.examples.digest,
            templates=self._templates,
        )

    def _diverged(self, why: str) -> str:
        return (
            f"Training diverged at step {self.step + 1}: {why}. "
            f"Try a learning_rate below {self.config.learning_rate:g}."
        )
