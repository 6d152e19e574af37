"""The weights of Min-SNR: those of diffusers' training scripts, and finite everywhere."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.training_utils import compute_snr

from perfusion_core.base_model import BaseModel
from perfusion_core.conditioning import keys_and_values
from perfusion_core.sampling.schedulers import make_scheduler
from perfusion_core.training.min_snr import min_snr_weights
from tests.unit.perfusion_core.training.conftest import SHORT, begin
from tests.unit.perfusion_core.training.test_masked_loss import with_lopsided_mask

GAMMA = 5.0
T = torch.arange(1000)


def scheduler(prediction: str, *, zero_snr: bool = False) -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        prediction_type=prediction, rescale_betas_zero_snr=zero_snr,
    )  # fmt: skip


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_weights_are_those_of_diffusers_training_scripts(prediction: str) -> None:
    made = scheduler(prediction)
    snr = compute_snr(made, T)
    expected = snr.clamp(max=GAMMA) / (snr if prediction == "epsilon" else snr + 1)
    assert torch.allclose(min_snr_weights(made, T, gamma=GAMMA), expected, rtol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_schedule_that_ends_in_pure_noise_has_finite_weights(prediction: str) -> None:
    made = scheduler(prediction, zero_snr=True)
    assert float(made.alphas_cumprod[-1]) == 0
    weights = min_snr_weights(made, T, gamma=GAMMA)
    assert bool(weights.isfinite().all()) and float(weights[-1]) == (prediction == "epsilon")
    assert bool((weights >= 0).all()) and float(weights.max()) <= GAMMA


def test_the_loss_weights_each_example_by_its_own_time_on_and_around_the_object(
    base: BaseModel,
) -> None:
    def single(gamma: float | None) -> tuple[float, float]:
        """The loss of a batch of one example, and its weight."""
        config = replace(SHORT, train_batch_size=1, background_weight=3.0, min_snr_gamma=gamma)
        training = with_lopsided_mask(base, config)
        t = training._batches.of(0).t
        made = make_scheduler(base, "ddim")
        return next(training).loss, float(min_snr_weights(made, t, gamma=0.5))

    plain, weight = single(None)
    assert weight < 0.9
    assert single(0.5)[0] == pytest.approx(weight * plain, rel=1e-4)


def test_a_batch_has_the_mean_of_its_weighted_examples(base: BaseModel) -> None:
    training = begin(base, replace(SHORT, train_batch_size=6, min_snr_gamma=0.5))
    batch = training._batches.of(0)
    prompts = batch.prompts
    encoding = base.text.encode(prompts.ids, prompts.replacements(training.embeddings))
    packed = keys_and_values(base, encoding.e, [training._target()])
    weighted = training.loss.backward(batch, packed, None)
    training.loss._gamma = None
    with torch.no_grad():
        leaf = packed.detach()
        weights = min_snr_weights(make_scheduler(base, "ddim"), batch.t, gamma=0.5)
        each = [
            float(training.loss._squares(batch, slice(k, k + 1), [leaf], None)) for k in range(6)
        ]
    expected = sum(w * s for w, s in zip(weights.tolist(), each, strict=True))
    assert len(set(weights.tolist())) > 1
    assert float(weighted) == pytest.approx(expected / batch.noise.numel(), rel=1e-4)
