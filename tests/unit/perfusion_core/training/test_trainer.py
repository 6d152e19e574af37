"""Training: what learns, what stays, and that an interruption changes nothing."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, TypeVar, cast

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from perfusion_core.base_model import BaseModel
from perfusion_core.conditioning import encode, keys_and_values, plain, superclass_encoding
from perfusion_core.config import TrainConfig
from perfusion_core.diffusion import wanted_prediction
from perfusion_core.errors import PictureError, TrainingDiverged, TrainingStateError
from perfusion_core.sampling.sampler import make_scheduler
from perfusion_core.text.templates import FORMAT_1_TEMPLATES, TEMPLATES
from perfusion_core.text.tokenization import superclass_ids
from perfusion_core.training import checkpoint
from perfusion_core.training import trainer as training_module
from perfusion_core.training.masks import Segmenter, choose_masks, to_soft_mask
from perfusion_core.training.trainer import Training, train

T = TypeVar("T")
SHORT = TrainConfig(max_train_steps=6, train_batch_size=2, seed=4)


def picture(colour: str = "purple") -> Image.Image:
    image = Image.new("RGB", (64, 64), "skyblue")
    image.paste(Image.new("RGB", (32, 40), colour), (16, 12))
    return image


def begin(base: BaseModel, config: TrainConfig = SHORT, state: bytes | None = None) -> Training:
    return train(base, [picture()], name="x", superclass="teddy", config=config, state=state)


def test_values_and_embedding_learn_and_everything_else_stays(base: BaseModel) -> None:
    before = {n: p.clone() for n, p in base.unet.named_parameters()}
    table = base.text.tables[0].clone()
    training = begin(base)
    start_o_v = training.o_v.detach().clone()
    start_embedding = training.embeddings[0].detach().clone()
    e_super = training.e_super.clone()
    for step in training:
        assert step.loss > 0 and 0 < step.gate < 1
    assert float((training.o_v.detach() - start_o_v).abs().min()) > 0  # every layer, every number
    assert float((training.embeddings[0].detach() - start_embedding).abs().max()) > 1e-3
    assert torch.equal(training.e_super, e_super)  # the locked Key's input
    assert not training.i_star.requires_grad
    assert all(p.grad is None and torch.equal(p, before[n])
               for n, p in base.unet.named_parameters())  # fmt: skip
    assert torch.equal(base.text.tables[0], table) and base.text.tables[0].grad is None


def test_it_starts_from_the_superclass(base: BaseModel) -> None:
    concept = begin(base).concept()
    e_super = superclass_encoding(base, "teddy")
    o_v = torch.cat([layer.W_V @ e_super for layer in base.layers])
    assert np.allclose(concept.o_v, o_v.numpy()) and np.allclose(concept.i_star, e_super.numpy())
    assert np.array_equal(concept.e_super, e_super.numpy())


def test_the_gate_starts_as_open_for_a_superclass_of_several_tokens_as_for_one(
    tiny: Callable[[str], BaseModel],
) -> None:
    """i* starts at what the placeholder encodes to, not at what the whole superclass does."""
    base, config = tiny("sd1"), replace(SHORT, train_batch_size=32)

    def first_gate(superclass: str) -> float:
        training = train(base, [picture()], name="x", superclass=superclass, config=config)
        assert torch.equal(training.i_star, training.e_super) is (superclass == "cat")
        return next(training).gate

    assert len(superclass_ids(base.tokenizers[0], "black cat")) == 2
    assert first_gate("black cat") == pytest.approx(first_gate("cat"), abs=1e-3)


def test_a_new_concept_holds_the_encoding_of_its_superclass_in_the_training_prompts(
    tiny: Callable[[str], BaseModel],
) -> None:
    base = tiny("sd1")
    tokenizer = base.tokenizers[0]
    rows = [
        tokenizer(t.format("black cat"), padding="max_length", max_length=32).input_ids
        for t in TEMPLATES
    ]
    _, last = superclass_ids(tokenizer, "black cat")
    e = base.text.encode([rows]).e
    mean = torch.stack([row[ids.index(last)] for row, ids in zip(e, rows, strict=True)]).mean(0)
    training = train(base, [picture()], name="x", superclass="black cat", config=SHORT)
    list(training)
    concept = training.concept()
    assert concept.format_version == "2" and concept.e_super is not None
    assert np.allclose(concept.e_super, mean.numpy(), atol=1e-6)


def test_a_training_begun_with_other_prompts_is_another_training(
    tiny: Callable[[str], BaseModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny("sd1")
    monkeypatch.setattr(training_module, "TEMPLATES", FORMAT_1_TEMPLATES)
    state = begin(base).state()
    monkeypatch.undo()
    with pytest.raises(TrainingStateError, match="start the training anew"):
        begin(base, state=state)


@pytest.mark.parametrize("decay", [0.99, 0.5])
def test_i_star_is_the_moving_average_of_the_concepts_encoding(
    base: BaseModel, decay: float
) -> None:
    training = begin(base, replace(SHORT, train_batch_size=5, ema_decay=decay))
    expected = training.i_star
    for step in range(3):
        batch = training._batches.of(step)
        embeddings = {"x": training._target()}
        e = encode(base, batch.tokens, embeddings).e.detach()
        own = [e[k, batch.tokens[0][k].places[0][0]] for k in batch.prompt.tolist()]
        expected = decay * expected + (1 - decay) * torch.stack(own).mean(0)
        next(training)
        assert torch.allclose(training.i_star, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(training.i_star, training.e_super, atol=1e-3)


@pytest.mark.parametrize("interrupted_after", [0, 1, 4])
def test_a_resumed_training_ends_as_one_never_interrupted(
    base: BaseModel, interrupted_after: int
) -> None:
    whole = begin(base)
    list(whole)
    first = begin(base)
    for _ in range(interrupted_after):
        next(first)
    second = begin(base, state=first.state())
    assert second.step == interrupted_after
    assert [step.step for step in second] == list(range(interrupted_after + 1, 7))
    assert second.concept().to_bytes() == whole.concept().to_bytes()


def test_each_picture_is_a_piece_of_work_of_its_own_and_the_concept_is_the_same(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[int] = []  # pictures that each encodes
    encode = base.vae.encode

    def counted(pixels: Tensor) -> Any:
        pieces[-1] += len(pixels)
        return encode(pixels)

    def run(act: Callable[[], T], /) -> T:
        pieces.append(0)
        return act()

    pictures = [picture(), picture("red"), picture("green")]
    whole = train(base, pictures, name="x", superclass="teddy", config=SHORT)
    monkeypatch.setattr(base.vae, "encode", counted)
    pieced = train(base, pictures, name="x", superclass="teddy", config=SHORT, run_on_device=run)
    assert [each for each in pieces if each] == [2, 2, 2]  # each with its mirror image
    for training in (whole, pieced):
        for _ in training:
            pass
    assert whole.concept().to_bytes() == pieced.concept().to_bytes()


def test_the_seed_decides_the_concept(base: BaseModel) -> None:
    def trained(seed: int) -> bytes:
        training = begin(base, replace(SHORT, max_train_steps=2, seed=seed))
        list(training)
        return training.concept().to_bytes()

    assert trained(1) == trained(1) != trained(2)


def test_with_several_threads_the_same_training_still_gives_the_same_bytes(
    tiny: Callable[[str], BaseModel],
) -> None:
    # So large a batch has prompts that many pictures share: their gradients must add up in order.
    base, config = tiny("sd1"), TrainConfig(max_train_steps=4, train_batch_size=64)

    def trained() -> bytes:
        training = begin(base, config)
        list(training)
        return training.concept().to_bytes()

    usual = torch.get_num_threads()
    torch.set_num_threads(max(2, usual))
    try:
        first = trained()
        assert all(trained() == first for _ in range(3))
    finally:
        torch.set_num_threads(usual)


def test_a_state_of_another_training_is_refused(base: BaseModel) -> None:
    state = begin(base).state()
    with pytest.raises(TrainingStateError, match="start the training anew"):
        begin(base, replace(SHORT, learning_rate=0.5), state=state)
    with pytest.raises(TrainingStateError, match="start the training anew"):
        train(base, [picture("red")], name="x", superclass="teddy", config=SHORT, state=state)
    for damaged in (b"", state[:50], state[:-10], b"\x80\x04pickle"):
        with pytest.raises(TrainingStateError, match="damaged"):
            begin(base, state=damaged)


def test_a_training_resumes_on_another_device_whose_segmenter_finds_nearly_the_same(
    base: BaseModel,
) -> None:
    def finds(level: int) -> Callable[[Image.Image, str], Image.Image]:
        mask = Image.new("L", (64, 64), 20)
        mask.paste(level, (16, 16, 48, 48))
        return lambda picture, superclass: mask

    def training(level: int | None, state: bytes | None = None) -> Training:
        segmenter = None if level is None else finds(level)
        named = {"name": "x", "superclass": "teddy", "config": SHORT}
        return train(base, [picture()], segmenter=segmenter, state=state, **named)  # type: ignore[arg-type]

    begun = training(200)
    next(begun)
    assert training(201, begun.state()).step == 1
    # Without any mask it is another training.
    with pytest.raises(TrainingStateError, match="start the training anew"):
        training(None, begun.state())


def test_a_device_without_memory_is_no_damage_of_the_state(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = begin(base).state()

    def full(_: bytes) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(checkpoint, "load", full)
    with pytest.raises(torch.OutOfMemoryError):
        begin(base, state=state)


def test_divergence_ends_in_a_named_error(base: BaseModel) -> None:
    with pytest.raises(TrainingDiverged, match=r"grew without bound.*learning_rate below"):
        training = begin(base)
        training.o_v.data *= 1e4
        next(training)
    with pytest.raises(TrainingDiverged, match="step 1: its loss"):
        training = begin(base)
        training.o_v.data[0] = float("nan")
        next(training)


def test_without_pictures_there_is_nothing_to_teach(base: BaseModel) -> None:
    with pytest.raises(PictureError, match="at least one picture"):
        train(base, [], name="x", superclass="teddy")


def test_the_record_names_options_and_the_source_of_masks(base: BaseModel) -> None:
    concept = begin(base).concept()
    assert concept.mask_source == "uniform" and concept.training["resolution"] == 16
    assert concept.training.items() >= (asdict(SHORT) | {"resolution": 16, "steps": 0}).items()


def lopsided(colour: str) -> Image.Image:
    image = picture(colour)
    image.paste("yellow", (4, 20, 24, 44))
    return image


def with_lopsided_mask(base: BaseModel, config: TrainConfig = SHORT) -> Training:
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (4, 20, 24, 44))
    mask.paste(128, (24, 20, 40, 30))
    config = replace(config, train_batch_size=8, flip=True)
    pictures = [lopsided("purple"), lopsided("red")]
    return train(base, pictures, name="x", superclass="teddy", masks=[mask, None], config=config)


def test_a_mirrored_picture_has_a_mirrored_mask_and_each_example_its_own(
    base: BaseModel,
) -> None:
    training = with_lopsided_mask(base)
    examples, batch = training._examples, training._batches.of(0)
    assert len(examples.masks) == len(examples.latents) == 4
    assert torch.equal(examples.masks[2:], examples.masks[:2].flip(-1))
    assert not torch.equal(examples.masks[0], examples.masks[2])
    mirrored = [ImageOps.mirror(lopsided(colour)) for colour in ("purple", "red")]
    plain = train(base, mirrored, name="x", superclass="teddy", config=replace(SHORT, flip=False))
    assert torch.allclose(examples.latents[2:], plain._examples.latents, atol=1e-4)
    for latents, mask in zip(batch.latents, batch.masks, strict=True):
        (k,) = [k for k in range(4) if torch.equal(latents, examples.latents[k])]
        assert torch.equal(mask, examples.masks[k])


def test_the_loss_is_the_mean_square_of_the_masked_error(base: BaseModel) -> None:
    """METHOD 5: mean(|| M ⊙ (target − prediction) ||²), of an untrained concept's first step."""
    training = with_lopsided_mask(base)
    batch = training._batches.of(0)
    target = training._target()
    e = encode(base, batch.tokens, {"x": target}).e
    own = e.detach()[torch.arange(len(e)), batch.places][batch.prompt]
    i_star = 0.99 * training.i_star + 0.01 * own.mean(0)
    packed = keys_and_values(base, e, [replace(target, i_star=i_star)])[batch.prompt]
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
    config = replace(SHORT, background_weight=3.0)
    free, keeping = with_lopsided_mask(base), with_lopsided_mask(base, config)
    batch = free._batches.of(0)
    target = free._target()
    e = encode(base, batch.tokens, {"x": target}).e
    own = e.detach()[torch.arange(len(e)), batch.places][batch.prompt]
    i_star = 0.99 * free.i_star + 0.01 * own.mean(0)
    packed = keys_and_values(base, e, [replace(target, i_star=i_star)])[batch.prompt]
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
        strayed_background(base, replace(SHORT, learning_rate=0.3, background_weight=weight))
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
    target = training._target()
    with torch.no_grad():
        e = encode(base, batch.tokens, {"x": target}).e
        told = (keys_and_values(base, e, [target]), plain(base, batch.tokens).packed)
        own, frozen = (
            base.unet(noisy, batch.t, encoder_hidden_states=one[batch.prompt]).sample
            for one in told
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


def test_masks_come_from_uploads_first_then_alpha_then_nowhere() -> None:
    plain = picture()
    clear = picture().convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize((64, 64)))
    opaque = picture().convert("RGBA")
    white = Image.new("L", (64, 64), 255)

    def source(pictures: list[Image.Image], masks: list[Image.Image | None] | None = None) -> str:
        return choose_masks(pictures, uploaded=masks, segmenter=None, superclass="teddy")[1]

    assert source([plain]) == "uniform"
    assert source([clear]) == "alpha"
    assert source([opaque]) == "uniform"  # an alpha channel that says nothing
    assert source([clear], [white]) == "upload"
    assert source([clear, plain]) == "uniform"  # the weakest is named
    with pytest.raises(PictureError, match="picture 1 is all black"):
        source([plain], [Image.new("L", (64, 64), 0)])


def test_a_mask_of_another_size_than_its_picture_is_refused_with_both_sizes() -> None:
    mask = Image.new("L", (64, 32), 255)
    with pytest.raises(PictureError, match="picture 2 has 64 x 32 pixels and the picture 64 x 64"):
        choose_masks(
            [picture(), picture()], uploaded=[None, mask], segmenter=None, superclass="teddy"
        )


def test_a_segmenter_that_finds_nothing_leaves_the_mask_uniform() -> None:
    def found(most: int, box: tuple[int, int, int, int]) -> tuple[bool, str]:
        mask = Image.new("L", (128, 64), 2)
        mask.paste(most, box)

        def segmenter(picture: Image.Image, superclass: str) -> Image.Image:
            return mask

        masks, source = choose_masks(
            [picture().resize((128, 64))],
            uploaded=None,
            segmenter=cast(Segmenter, segmenter),
            superclass="teddy",
        )
        return masks == [mask], source

    assert found(200, (50, 20, 70, 40)) == (True, "segmenter")
    assert found(20, (50, 20, 70, 40)) == (False, "uniform")  # doubt
    assert found(200, (0, 20, 20, 40)) == (False, "uniform")  # outside of what is trained on


def test_a_soft_mask_is_scaled_to_a_maximum_of_one_per_image() -> None:
    faint = Image.new("L", (64, 64), 0)
    faint.paste(51, (16, 16, 48, 48))
    M = to_soft_mask(faint, side=64, latent_side=16)
    assert M.shape == (1, 16, 16) and float(M.max()) == 1.0 and float(M.min()) == 0.0
