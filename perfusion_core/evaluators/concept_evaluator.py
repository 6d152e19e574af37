"""Evaluates a concept during and after its training: draws images of eval prompts, scores them.

The images of eval prompts share no batch with the images of other requests. In a shared batch,
rounding would make a training's result depend on other requests. The batches of an evaluation are
always the same. Each step of a batch is passed to `run_on_device`, like a step of the training.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from perfusion_core.base_model import BaseModel
from perfusion_core.callbacks import Check, RunOnDevice
from perfusion_core.concept import Concept
from perfusion_core.conditioning import ConceptUse
from perfusion_core.errors import ImageDiverged
from perfusion_core.evaluation.curve import (
    STRENGTHS,
    Curve,
    Point,
    Proof,
    Similarity,
    balance,
    recommended,
)
from perfusion_core.evaluation.eval_prompts import (
    IMAGES_AT_ONCE,
    INFERENCE_STEPS,
    LOCKING,
    OPTIONS,
    PROOF,
    EvalPrompt,
    judging_of,
)
from perfusion_core.evaluation.record import Evaluation, as_written
from perfusion_core.evaluators.presence import best_window
from perfusion_core.evaluators.similarity import Evaluator
from perfusion_core.imaging.thumbnails import thumbnail
from perfusion_core.sampling import sampler
from perfusion_core.sampling.sampler import Batch, ImageRequest, Trajectory
from perfusion_core.strength import DEFAULT_BETA, beta_from_strength

# Images by their batch of eval prompts: the same batch always gives the same images.
_Drawn = dict[tuple[EvalPrompt, ...], list[Image.Image]]


class ConceptEvaluator:
    """Draws images of a superclass or a concept, and compares them with pictures and prompts."""

    def __init__(
        self,
        evaluator: Evaluator,
        base: BaseModel,
        *,
        pictures: Sequence[Image.Image],
        superclass: str,
        run_on_device: RunOnDevice,
        check: Check,
    ) -> None:
        """Embed the pictures; `reference` becomes the mean of their unit embeddings."""
        self._evaluator = evaluator
        self._base = base
        self._superclass = superclass
        self._run_on_device: RunOnDevice = run_on_device
        self._check = check
        self._superclasses: dict[tuple[EvalPrompt, ...], Similarity] = {}
        self._plain_images: _Drawn = {}

        def embed() -> tuple[Tensor, npt.NDArray[np.float32]]:
            own = evaluator.embed_images(pictures)
            return own, own.mean(0).cpu().numpy()

        # Unit embeddings (n, p) and their mean (p,). Every tensor operation runs in the device's
        # thread, since even a tiny product would create a second pool of OpenMP threads for this
        # thread. With more threads than cores, the pool of the device's thread sleeps between
        # operations.
        self._pictures, self.reference = run_on_device(embed)

    @property
    def name(self) -> str:
        """The identity of the scores: with equal names, equal images get equal scores."""
        return self._evaluator.ref.fingerprint

    @property
    def ceiling(self) -> float | None:
        """The pictures' mean similarity to each other; None if there is only one picture."""
        n = len(self._pictures)
        if n < 2:
            return None
        # The squared length of the sum of unit embeddings is the sum of all cosines; n of these are
        # cosines of a picture with itself.
        mean_of_all = float(np.square(self.reference, dtype=np.float64).sum())
        return (n * mean_of_all - 1) / (n - 1)

    def score(self, concept: Concept, eval_prompts: Sequence[EvalPrompt]) -> float:
        """Return the concept's `balance` (see curve.py) at the default strength."""
        images = self._images(eval_prompts, ConceptUse(concept, beta=DEFAULT_BETA[LOCKING]), {})
        measured = self._similarity(images, eval_prompts)
        return balance(measured, superclass=self._plain(eval_prompts), ceiling=self.ceiling)

    def evaluate(self, concept: Concept, eval_prompts: Sequence[EvalPrompt]) -> Evaluation:
        """Measure the operating curve, with a thumbnail for each point, and the proof."""
        superclass = self._plain(eval_prompts)
        points, thumbnails = [], []
        drawn: dict[float, _Drawn] = {strength: {} for strength in STRENGTHS}
        for strength, kept in drawn.items():
            use = ConceptUse(concept, beta=beta_from_strength(strength))
            images = self._images(eval_prompts, use, kept)
            points.append(Point(strength, self._similarity(images, eval_prompts)))
            thumbnails.append(thumbnail(images[0]))
        curve = as_written(
            Curve(
                prompts=tuple(dict.fromkeys(eval_prompt.prompt for eval_prompt in eval_prompts)),
                superclass=superclass,
                ceiling=self.ceiling,
                points=tuple(points),
            )
        )
        best = recommended(curve).strength
        proof = self._prove(ConceptUse(concept, beta=beta_from_strength(best)), drawn[best])
        return Evaluation(
            evaluator=self._evaluator.ref,
            reference=self.reference,
            curve=replace(curve, proof=proof),
            thumbnails=tuple(thumbnails),
        )

    def _prove(self, use: ConceptUse, kept: _Drawn) -> Proof:
        images = self._images(PROOF, use, kept)
        similarities, text = self._compare(images, PROOF)
        windows = []
        for image in images:
            self._check()
            windows.append(
                self._run_on_device(partial(best_window, self._evaluator, image, self.reference))
            )
        return Proof(
            judging=judging_of(self._base.defaults),
            images=tuple(similarities),
            windows=tuple(windows),
            text=text,
            superclass=self._plain(PROOF),
        )

    def _plain(self, eval_prompts: Sequence[EvalPrompt]) -> Similarity:
        """Return the plain superclass's similarities for the same eval prompts; cached."""
        key = tuple(eval_prompts)
        if key not in self._superclasses:
            images = self._images(eval_prompts, None, self._plain_images)
            self._superclasses[key] = self._similarity(images, eval_prompts)
        return self._superclasses[key]

    def _images(
        self, eval_prompts: Sequence[EvalPrompt], use: ConceptUse | None, kept: _Drawn
    ) -> list[Image.Image]:
        """Return an image of each eval prompt; batches that are in `kept` are not drawn again."""
        images: list[Image.Image] = []
        for first in range(0, len(eval_prompts), IMAGES_AT_ONCE):
            batch = tuple(eval_prompts[first : first + IMAGES_AT_ONCE])
            if batch not in kept:
                kept[batch] = self._draw([self._request(eval_prompt, use) for eval_prompt in batch])
            images += kept[batch]
        return images

    def _similarity(
        self, images: Sequence[Image.Image], eval_prompts: Sequence[EvalPrompt]
    ) -> Similarity:
        similarities, text = self._compare(images, eval_prompts)
        return Similarity(fmean(similarities), text)

    def _compare(
        self, images: Sequence[Image.Image], eval_prompts: Sequence[EvalPrompt]
    ) -> tuple[list[float], float]:
        """Return each image's mean cosine to the pictures, and the mean cosine to prompts."""
        texts = [eval_prompt.prompt.format(self._superclass) for eval_prompt in eval_prompts]

        def compare() -> tuple[list[float], float]:
            seen = self._evaluator.embed_images(images)  # (m, p)
            read = self._evaluator.embed_texts(texts)  # (m, p)
            similarities: list[float] = (seen @ self._pictures.T).mean(-1).tolist()
            return similarities, float((seen * read).sum(-1).mean())

        return self._run_on_device(compare)

    def _request(self, eval_prompt: EvalPrompt, use: ConceptUse | None) -> ImageRequest:
        config = self._base.defaults.generate_config({**OPTIONS, "seed": eval_prompt.seed})
        if use is None:
            return ImageRequest(prompt=eval_prompt.prompt.format(self._superclass), config=config)
        return ImageRequest(
            prompt=eval_prompt.prompt.format(use.concept.placeholder),
            concepts={use.concept.name: use},
            config=config,
        )

    def _draw(self, requests: Sequence[ImageRequest]) -> list[Image.Image]:
        """Return images of the requests, drawn in one batch; every step is its own device call."""
        base, run_on_device = self._base, self._run_on_device
        batch = run_on_device(
            lambda: Batch([begun for request in requests for begun in sampler.start(base, request)])
        )
        for _ in range(INFERENCE_STEPS):
            self._check()
            run_on_device(lambda: sampler.step(base, batch))
        return run_on_device(
            lambda: [_decoded(base, trajectory) for trajectory in batch.trajectories]
        )


def _decoded(base: BaseModel, trajectory: Trajectory) -> Image.Image:
    if not bool(trajectory.latents.isfinite().all()):
        raise ImageDiverged("An image that evaluates the concept diverged.")
    return sampler.decode(base, trajectory)
