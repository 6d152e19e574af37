"""What the loss asks for: on the object by its mask, and around it."""

from dataclasses import replace

import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from perfusion_core.base_model import BaseModel
from perfusion_core.conditioning import keys_and_values, plain_keys_and_values
from perfusion_core.config import TrainConfig
from perfusion_core.sampling.schedulers import make_scheduler
from perfusion_core.training.batches import TrainingBatch
from perfusion_core.training.loss import wanted_prediction
from perfusion_core.training.trainer import Training, train
from tests.unit.perfusion_core.training.conftest import SHORT, begin, picture


def lopsided(colour: str) -> Image.Image:
    image = picture(colour)
    image.paste("yellow", (4, 20, 24, 44))
    return image


EIGHT = replace(SHORT, train_batch_size=8)


def with_lopsided_mask(base: BaseModel, config: TrainConfig = EIGHT) -> Training:
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (4, 20, 24, 44))
    mask.paste(128, (24, 20, 40, 30))
    pictures = [lopsided("purple"), lopsided("red")]
    return train(base, pictures, name="x", superclass="teddy", masks=[mask, None], config=config)


def encodings(training: Training, batch: TrainingBatch) -> Tensor:
    """Of the batch's prompts, (P, N, d), with what the training has learned so far."""
    prompts = batch.prompts
    replacements = prompts.replacements(training.embeddings)
    return training.base.text.encode(prompts.ids, replacements).e


def test_a_mirrored_picture_has_a_mirrored_mask_and_each_example_its_own(
    base: BaseModel,
) -> None:
    training = with_lopsided_mask(base)
    examples, batch = training.examples, training._batches.of(0)
    assert len(examples.masks) == len(examples.latents) == 4
    assert torch.equal(examples.masks[2:], examples.masks[:2].flip(-1))
    assert not torch.equal(examples.masks[0], examples.masks[2])
    mirrored = [ImageOps.mirror(picture.square) for picture in examples.prepared]
    plain = train(base, mirrored, name="x", superclass="teddy", config=replace(SHORT, flip=False))
    assert torch.allclose(examples.latents[2:], plain.examples.latents, atol=1e-4)
    for latents, mask in zip(batch.latents, batch.masks, strict=True):
        (k,) = [k for k in range(4) if torch.equal(latents, examples.latents[k])]
        assert torch.equal(mask, examples.masks[k])


def test_the_loss_is_the_mean_square_of_the_masked_error(base: BaseModel) -> None:
    """METHOD 5: mean(|| M ⊙ (target − prediction) ||²), of an untrained concept's first step."""
    training = with_lopsided_mask(base)
    batch = training._batches.of(0)
    e = encodings(training, batch)
    own = e.detach()[torch.arange(len(e)), batch.prompts.places][batch.prompt]
    i_star = 0.99 * training.i_star + 0.01 * own.mean(0)
    target = replace(training._target(), i_star=i_star)
    packed = keys_and_values(base, e, [target])[batch.prompt]
    scheduler = make_scheduler(base, "ddim")
    kept = scheduler.alphas_cumprod[batch.t][:, None, None, None]
    noisy = kept.sqrt() * batch.latents + (1 - kept).sqrt() * batch.noise
    with torch.no_grad():
        prediction = base.unet(noisy, batch.t, encoder_hidden_states=packed).sample
    wanted = wanted_prediction(scheduler, batch.latents, batch.noise, batch.t)
    squares = (batch.masks * (wanted - prediction)) ** 2
    assert next(training).loss == pytest.approx(float(squares.mean()), rel=1e-4)
    everywhere = float(((wanted - prediction) ** 2).mean())
    assert float(squares.mean()) < 0.7 * everywhere


def test_around_the_object_the_loss_asks_for_what_the_superclasss_word_would_give(
    base: BaseModel,
) -> None:
    """w mean(|| (1 − M) ⊙ (plain − prediction) ||²) is what `background_weight` w adds."""
    config = replace(EIGHT, background_weight=3.0)
    free, keeping = with_lopsided_mask(base), with_lopsided_mask(base, config)
    batch = free._batches.of(0)
    e = encodings(free, batch)
    own = e.detach()[torch.arange(len(e)), batch.prompts.places][batch.prompt]
    i_star = 0.99 * free.i_star + 0.01 * own.mean(0)
    target = replace(free._target(), i_star=i_star)
    packed = keys_and_values(base, e, [target])[batch.prompt]
    # A superclass of one word, and nothing learned yet: its prompts encode as those written out.
    noisy = make_scheduler(base, "ddim").add_noise(batch.latents, batch.noise, batch.t)
    with torch.no_grad():
        prediction = base.unet(noisy, batch.t, encoder_hidden_states=packed).sample
        kept = base.unet(noisy, batch.t, encoder_hidden_states=e[batch.prompt]).sample
    around = float((((1 - batch.masks) * (kept - prediction)) ** 2).mean())
    assert around > 0
    added = next(keeping).loss - next(free).loss
    assert added == pytest.approx(3 * around, rel=1e-3)


def test_what_surrounds_the_object_stays_nearer_to_plain_the_more_it_weighs(
    base: BaseModel,
) -> None:
    strayed = [
        strayed_background(base, replace(EIGHT, learning_rate=0.3, background_weight=weight))
        for weight in (0.0, 1.0, 100.0)
    ]
    assert strayed[0] > strayed[1] > strayed[2] > 0


def strayed_background(base: BaseModel, config: TrainConfig) -> float:
    """How far a concept just learned moves the prediction around its object."""
    training = with_lopsided_mask(base, config)
    batch = training._batches.of(0)
    for _ in training:
        pass
    noisy = make_scheduler(base, "ddim").add_noise(batch.latents, batch.noise, batch.t)
    with torch.no_grad():
        packed = keys_and_values(base, encodings(training, batch), [training._target()])
        plain = plain_keys_and_values(base, batch.prompts.written).packed
        own, frozen = (
            base.unet(noisy, batch.t, encoder_hidden_states=told[batch.prompt]).sample
            for told in (packed, plain)
        )
    return float(((1 - batch.masks) * (own - frozen)).square().mean())


def test_where_a_mask_is_uniform_there_is_no_background_to_keep(base: BaseModel) -> None:
    passes: list[int] = []
    hook = base.unet.register_forward_pre_hook(lambda _module, _args: passes.append(1))
    try:
        next(begin(base, replace(SHORT, background_weight=3.0)))
        assert len(passes) == 1
        next(with_lopsided_mask(base, replace(SHORT, background_weight=3.0)))
        assert len(passes) == 3
    finally:
        hook.remove()
