"""Evaluates a concept during and after its training: draws images of eval prompts, scores them.

The images of eval prompts share no batch with the images of other requests. In a shared batch,
rounding would make a training's result depend on other requests. The batches of an evaluation are
always the same. Each step of a batch is passed to `run_on_device`, like a step of the training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.callbacks import Check, RunOnDevice
from perfusion_core.concept import Concept
from perfusion_core.conditioning import ConceptUse
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
    LOCKING,
    PROOF,
    SCENE_PROMPTS,
    EvalPrompt,
    image_config,
    judging_of,
)
from perfusion_core.evaluation.record import Evaluation, as_written
from perfusion_core.evaluation.workload import batches_of
from perfusion_core.evaluators.presence import best_window
from perfusion_core.evaluators.similarity import Evaluator
from perfusion_core.imaging.thumbnails import thumbnail
from perfusion_core.sampling import sampler
from perfusion_core.sampling.sampler import ImageRequest
from perfusion_core.sampling.trajectories import Batch
from perfusion_core.strength import DEFAULT_BETA, beta_from_strength

# Images by their batch of eval prompts: the same batch always gives the same images.
_Drawn = dict[tuple[EvalPrompt, ...], list[Image.Image]]


@dataclass(frozen=True, eq=False)
class EmbeddedPictures:
    """All that an evaluation needs of the training pictures: a concept file contains both."""

    mean: npt.NDArray[np.float32]  # (p,), of the pictures' unit embeddings
    ceiling: float | None  # the pictures' mean cosine to each other; None for one picture

    @classmethod
    def of(cls, evaluation: Evaluation) -> "EmbeddedPictures":
        """Return the pictures that an earlier evaluation embedded, by the same evaluator."""
        kept = evaluation.of_pictures()
        return cls(kept.reference, kept.ceiling)


def measures_text_floor(base: BaseModel, evaluator: Evaluator) -> bool:
    """Return whether this evaluator's judging on the base model measures the text floor.

    It does, unless the base model's calibration was fitted without a text floor: the thresholds of
    such a calibration hold only for figures without one (docs/decisions/0013).
    """
    found = base.calibration
    without = (base.fingerprint, evaluator.ref.fingerprint, judging_of(base.defaults))
    return found is None or (found.base_model, found.evaluator, found.judging) != without


class ConceptEvaluator:
    """Draws images of a superclass or a concept, and compares them with pictures and prompts."""

    def __init__(
        self,
        evaluator: Evaluator,
        base: BaseModel,
        *,
        pictures: Sequence[Image.Image] | EmbeddedPictures,
        superclass: str,
        run_on_device: RunOnDevice,
        check: Check,
    ) -> None:
        """Embed the pictures, unless they are embedded; `reference` becomes their mean."""
        self._evaluator = evaluator
        self._base = base
        self._superclass = superclass
        self._run_on_device: RunOnDevice = run_on_device
        self._check = check
        self._measures_text_floor = measures_text_floor(base, evaluator)
        self._superclasses: dict[tuple[EvalPrompt, ...], Similarity] = {}
        self._text_floors: dict[tuple[EvalPrompt, ...], float] = {}
        self._plain_images: _Drawn = {}
        # Every tensor operation runs in the device's thread, since even a tiny product would create
        # a second pool of OpenMP threads for this thread. With more threads than cores, the pool of
        # the device's thread sleeps between operations.
        if not isinstance(pictures, EmbeddedPictures):
            pictures = run_on_device(partial(_embed, evaluator, pictures))
        self.reference, self.ceiling = pictures.mean, pictures.ceiling

    @property
    def name(self) -> str:
        """The identity of the scores: with equal names, equal images get equal scores."""
        fingerprint = self._evaluator.ref.fingerprint
        return f"{fingerprint}, text floor" if self._measures_text_floor else fingerprint

    def score(self, concept: Concept, eval_prompts: Sequence[EvalPrompt]) -> float:
        """Return the concept's `balance` (see curve.py) at the default strength."""
        images = self._images(eval_prompts, ConceptUse(concept, beta=DEFAULT_BETA[LOCKING]), {})
        measured = self._similarity(images, eval_prompts)
        return balance(
            measured,
            superclass=self._plain(eval_prompts),
            ceiling=self.ceiling,
            text_floor=self._text_floor(eval_prompts),
        )

    def evaluate(
        self,
        concept: Concept,
        eval_prompts: Sequence[EvalPrompt],
        *,
        measured: Callable[[int], None] = lambda _count: None,
    ) -> Evaluation:
        """Measure the operating curve, with a thumbnail for each point, and the proof.

        `measured` is called with the number of points measured so far, after each point.
        """
        superclass = self._plain(eval_prompts)
        points, thumbnails = [], []
        drawn: dict[float, _Drawn] = {strength: {} for strength in STRENGTHS}
        for strength, kept in drawn.items():
            use = ConceptUse(concept, beta=beta_from_strength(strength))
            images = self._images(eval_prompts, use, kept)
            points.append(Point(strength, self._similarity(images, eval_prompts)))
            thumbnails.append(thumbnail(images[0]))
            measured(len(points))
        curve = as_written(
            Curve(
                prompts=tuple(dict.fromkeys(eval_prompt.prompt for eval_prompt in eval_prompts)),
                superclass=superclass,
                ceiling=self.ceiling,
                points=tuple(points),
                # The proof's images are the same for all options of a training.
                text_floor=self._text_floor(PROOF),
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
            judging=judging_of(self._base.defaults, text_floor=self._measures_text_floor),
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

    def _text_floor(self, eval_prompts: Sequence[EvalPrompt]) -> float:
        """Return the mean cosine of the plain superclass's images to other scenes; cached.

        No image is compared with the prompt without a scene, because every image of the superclass
        follows that prompt.
        """
        if not self._measures_text_floor:
            return 0.0
        key = tuple(eval_prompts)
        if key not in self._text_floors:
            images = self._images(eval_prompts, None, self._plain_images)
            texts = [prompt.format(self._superclass) for prompt in SCENE_PROMPTS]
            other = [[t.prompt != prompt for prompt in SCENE_PROMPTS] for t in eval_prompts]

            def compare() -> float:
                seen = self._evaluator.embed_images(images)  # (m, p)
                read = self._evaluator.embed_texts(texts)  # (s, p)
                cosines = seen @ read.T  # (m, s)
                return float(cosines[torch.tensor(other, device=cosines.device)].mean())

            self._text_floors[key] = self._run_on_device(compare)
        return self._text_floors[key]

    def _images(
        self, eval_prompts: Sequence[EvalPrompt], use: ConceptUse | None, kept: _Drawn
    ) -> list[Image.Image]:
        """Return an image of each eval prompt; batches that are in `kept` are not drawn again."""
        images: list[Image.Image] = []
        for batch in batches_of(eval_prompts):
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
            # The mean cosine to the pictures is the product with the mean of their embeddings.
            similarities: list[float] = (seen @ torch.as_tensor(self.reference).to(seen)).tolist()
            return similarities, float((seen * read).sum(-1).mean())

        return self._run_on_device(compare)

    def _request(self, eval_prompt: EvalPrompt, use: ConceptUse | None) -> ImageRequest:
        config = image_config(self._base.defaults, seed=eval_prompt.seed)
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
        while not batch.trajectories[0].finished:  # all have equally many steps
            self._check()
            run_on_device(lambda: sampler.step(base, batch))
        return run_on_device(
            lambda: [sampler.decode(base, trajectory) for trajectory in batch.trajectories]
        )


def _embed(evaluator: Evaluator, pictures: Sequence[Image.Image]) -> EmbeddedPictures:
    n, mean = len(pictures), evaluator.embed_images(pictures).mean(0).cpu().numpy()  # (p,)
    if n < 2:
        return EmbeddedPictures(mean, None)
    # The squared length of the sum of unit embeddings is the sum of all cosines; n of these are
    # cosines of a picture with itself.
    mean_of_all = float(np.square(mean, dtype=np.float64).sum())
    return EmbeddedPictures(mean, (n * mean_of_all - 1) / (n - 1))
