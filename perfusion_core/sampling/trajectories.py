"""Trajectories and batches of them. A trajectory is one image that is being denoised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from perfusion_core.attention import Observer
from perfusion_core.editing.window import Window
from perfusion_core.sampling.attention_maps import AttentionMaps, observer_of
from perfusion_core.sampling.edits import KnownLatents
from perfusion_core.sampling.subject_matte import SubjectMatte


@dataclass(kw_only=True, eq=False)
class Trajectory:
    """One image being denoised. `latents` is (1, c, h, w) in float32."""

    seed: int
    latents: Tensor
    scheduler: Any  # its tables are on the CPU: numbers that are passed with a kernel's launch
    timesteps: Tensor  # (S,) in float32 on the device, the scheduler's
    guidance_scale: float
    packed: Tensor  # (rows, N, 2 Σ d_l): [negative, prompt], or the prompt alone
    added: dict[str, Tensor]  # SDXL's extra conditions, one row each; empty otherwise
    guidance_rescale: float = 0.0
    guidance_input: Tensor | None = None  # (1, c), for U-Nets that take the guidance as an input
    step_options: Mapping[str, Any] = field(default_factory=dict)  # the image's own source of noise
    maps: AttentionMaps | None = None  # if the request asked for maps
    known: KnownLatents | None = None  # of an edit
    subject: SubjectMatte | None = None  # of an edit that keeps the background
    skipped_steps: int = 0  # of the scheduler's, since an edit may begin later
    step_index: int = 0
    predicted: Tensor | None = None  # (1, c, h, w), the finished latents as the last step saw them

    @property
    def total_steps(self) -> int:
        """The number of denoising steps of the image."""
        return len(self.scheduler.timesteps) - self.skipped_steps

    @property
    def timesteps_left(self) -> Tensor:
        """The scheduler's timesteps of the steps that are left."""
        timesteps: Tensor = self.scheduler.timesteps[self.skipped_steps + self.step_index :]
        return timesteps

    @property
    def steps_left(self) -> int:
        """The number of denoising steps that are left."""
        return self.total_steps - self.step_index

    @property
    def finished(self) -> bool:
        """Return whether all denoising steps are done."""
        return self.steps_left == 0

    @property
    def window(self) -> Window | None:
        """The part of the image that is sampled, if the image is a masked edit."""
        masked = None if self.known is None else self.known.edit.masked
        return None if masked is None else masked.window

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of the latents, which must be equal for trajectories to share a step."""
        return tuple(self.latents.shape[1:])

    @property
    def rows(self) -> int:
        """The number of rows of this image in a U-Net batch: 2 with guidance, else 1."""
        return len(self.packed)


class Batch:
    """Trajectories of one latent shape that step together, with their Keys and Values joined.

    Keys and Values are copied once, when the batch is made, and not in every step. So another set
    of trajectories needs a new batch.

    A row's result depends on the number of rows in the row's batch, because kernels are chosen by
    shape, but not on the content of the other rows. With `rows`, a smaller batch is padded to
    `rows` rows, so that all batches give the same bits. The padding is copies of the batch's last
    row, and the results of these copies are discarded.
    """

    def __init__(self, trajectories: Sequence[Trajectory], *, rows: int = 0) -> None:
        self.trajectories = tuple(trajectories)
        self._padding = max(0, rows - sum(trajectory.rows for trajectory in self.trajectories))
        self.packed = self.padded([trajectory.packed for trajectory in self.trajectories])
        self.added = {
            name: self.padded([trajectory.added[name] for trajectory in self.trajectories])
            for name in self.trajectories[0].added
        }
        inputs = [
            trajectory.guidance_input
            for trajectory in self.trajectories
            if trajectory.guidance_input is not None
        ]
        self.guidance_input = self.padded(inputs) if inputs else None

    def padded(self, parts: Sequence[Tensor]) -> Tensor:
        """Join the rows of all parts, and append copies of the last row up to the batch's size."""
        return torch.cat([*parts, *[parts[-1][-1:]] * self._padding])

    def observer(self) -> Observer | None:
        """Return an observer of the prompt's row (the last one) of each trajectory with maps."""
        recorded: dict[int, list[AttentionMaps]] = {}
        end = 0
        for trajectory in self.trajectories:
            end += trajectory.rows
            maps = [trajectory.maps] if trajectory.maps is not None else []
            if trajectory.subject is not None and trajectory.subject.found is None:
                maps.append(trajectory.subject.maps)
            for each in maps:
                each.begin_step()
            if maps:
                recorded[end - 1] = maps
        return observer_of(recorded) if recorded else None
