import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image

from models.maker.__main__ import STAGES, run_stage
from models.maker.checkpoints import Checkpoints
from models.maker.recipe import Recipe, recipe_of, rescheduled
from models.maker.report.questions import load_base
from models.maker.report.timing import time_one_image
from models.maker.scenes.catalogue import SUBJECTS
from models.maker.scenes.scene import Facts
from models.maker.stages.returned import draw_mixed, load_returned
from models.maker.stream import tools
from perfusion_core.config import BaseModelDefaults, read_defaults
from perfusion_core.evaluators.similarity import Evaluator

pytestmark = pytest.mark.long  # runs every stage


@pytest.fixture(scope="module")
def made(art_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Run every stage at tiny size, as `all --dry-run` does."""
    cache = tmp_path_factory.mktemp("maker") / "dry-run"
    cache.mkdir()
    (cache.parent / "art.npz").symlink_to(art_file)
    recipe = recipe_of("dry-run", cache, "cpu", None)
    for stage in STAGES[1:]:
        run_stage(stage, recipe, art_file)
    return recipe


def test_the_exported_folder_is_a_pipeline_that_plain_diffusers_runs(made: Recipe) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(made.cache / "export", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a photo of a teddy", num_inference_steps=2).images[0]
    assert picture.size == (128, 128)


def test_the_export_names_its_held_out_looks_and_its_data(made: Recipe) -> None:
    described = json.loads((made.cache / "export" / "data.json").read_text())
    assert "teddy/fluent-emoji-3d/teddy" in described["held_out_looks"]
    assert len(described["subjects"]) == 64


def test_the_export_names_no_folder_of_the_machine_that_made_it(made: Recipe) -> None:
    files = sorted((made.cache / "export").rglob("*.json"))
    assert len(files) >= 8
    assert [file.name for file in files if str(made.cache.parent) in file.read_text()] == []


def test_the_export_has_the_shipped_models_defaults(made: Recipe) -> None:
    shipped = Path(__file__).parents[3] / "models" / "base"
    exported = read_defaults(made.cache / "export")
    assert exported == read_defaults(shipped)
    assert exported.known_superclasses == list(SUBJECTS)


def test_the_card_states_a_figure_of_every_kind(made: Recipe) -> None:
    figures = json.loads((made.cache / "figures.json").read_text())
    for name in (
        "autoencoder, dB",
        "right super-category",
        "right place",
        "right colour",
        "both objects",
        "all three objects",
        "wearer and worn",
        "classifier: all of three named",
        "classifier: held-out looks named, outlined",
        "evaluator: text to image top-1 of 64, held-out looks",
        "evaluator: same look nearer, held-out looks, outlined",
    ):
        assert 0 <= figures[name] < 100
    assert figures["one image, s"] > 0 and "float32" in figures["one image, on"]
    assert (made.cache / "sheets" / "seed-0.webp").exists()


def test_the_cards_table_sets_each_judged_figure_beside_its_judges_own(made: Recipe) -> None:
    rows = (made.cache / "card.md").read_text().splitlines()
    figures = json.loads((made.cache / "figures.json").read_text())
    judged = next(row for row in rows if row.startswith("| all three objects |"))
    assert f"| {figures['all three objects']:.1%} |" in judged
    assert f"all of three named {figures['classifier: all of three named']:.0%}" in judged
    # An untrained classifier does not name three objects.
    assert judged.endswith("; limited by its judge |")
    assert any(row.startswith("| one image, 2 guided steps, 1 thread(s), float32,") for row in rows)


def test_one_image_is_timed_through_the_engine_and_the_threads_are_left_as_they_were(
    made: Recipe,
) -> None:
    base, before = load_base(made), torch.get_num_threads()
    rows: list[int] = []
    base.unet.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    timing = time_one_image(base, steps=3, threads=1, runs=2)
    assert rows == [2] * 3 * 3  # two rows per guided step; the first run is a warm-up
    assert 0 < timing.seconds < 60
    assert timing.conditions.startswith("3 guided steps, 1 thread(s), float32, ")
    assert torch.get_num_threads() == before


def test_a_model_without_guidance_is_not_timed_as_guided(made: Recipe) -> None:
    base = load_base(made)
    base.defaults = BaseModelDefaults(generate={"guidance_scale": 1.0})
    with pytest.raises(ValueError, match="guides nothing"):
        time_one_image(base)


def test_a_figure_by_a_judge_that_errs_is_marked_as_limited_by_it(made: Recipe) -> None:
    # After four steps the classifier errs on nearly everything.
    figures = json.loads((made.cache / "figures.json").read_text())
    assert "all three objects" in figures["limited by their judge"]


def test_scenes_come_back_with_all_that_is_known_of_them(made: Recipe, art_file: Path) -> None:
    returned = load_returned(made)
    painter, _ = tools(art_file)
    assert returned.pictures.shape == (made.returned, 128, 128, 3)
    assert all(isinstance(facts, Facts) for facts in returned.facts)
    drawn = [draw_mixed([made.seed, 77, k], made, painter.art) for k in range(made.returned)]
    assert list(returned.facts) == drawn


def test_the_saved_evaluator_judges_whole_images_as_clip_does(made: Recipe) -> None:
    folder = made.cache / "evaluator"
    evaluator = Evaluator(folder)
    image = Image.new("RGB", (128, 128), (200, 40, 40))
    seen, told = evaluator.embed_images([image, image]), evaluator.embed_texts(["a red cat"])
    assert seen.shape == (2, 128) and told.shape == (1, 128)
    assert (folder / "model.safetensors").stat().st_size < 4_000_000


def _with_own_denoiser(made: Recipe, cache: Path) -> Recipe:
    """Return the same recipe with its own denoiser and the finished autoencoder."""
    (cache / "vae").symlink_to(made.cache / "vae")
    return replace(made, cache=cache)


def _denoiser(recipe: Recipe) -> dict[str, torch.Tensor]:
    state = torch.load(recipe.cache / "unet.ckpt", weights_only=True)
    assert state["seen"] == recipe.unet.samples
    average = {f"average {k}": kept for k, kept in enumerate(state["average"])}
    return {**state["unet"], **state["text"], **average}


def _equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_training_that_was_stopped_and_resumed_equals_one_that_was_not(
    art_file: Path, made: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _with_own_denoiser(made, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "due", lambda self: self._stop() or True)
        with pytest.raises(SystemExit):
            run_stage("unet", recipe, art_file)
    run_stage("unet", recipe, art_file)
    assert _equal(_denoiser(recipe), _denoiser(made))


def test_a_training_goes_on_past_the_end_that_it_had_as_if_it_had_none(
    art_file: Path, made: Recipe, tmp_path: Path
) -> None:
    recipe = _with_own_denoiser(made, tmp_path)
    ending = rescheduled(recipe, processes=None, samples=48, decay_from=48)
    run_stage("unet", ending, art_file)
    run_stage("unet", recipe, art_file)
    assert _equal(_denoiser(recipe), _denoiser(made))


def test_two_processes_train_one_denoiser(art_file: Path, made: Recipe, tmp_path: Path) -> None:
    recipe = _with_own_denoiser(made, tmp_path)
    recipe = rescheduled(recipe, processes=2, samples=64, decay_from=64)
    run_stage("unet", recipe, art_file)
    trained = _denoiser(recipe)  # two steps of twice 16 samples
    assert all(weight.isfinite().all() for weight in trained.values())
    assert not _equal(trained, _denoiser(made))


def test_training_the_decoder_alone_leaves_the_latents_as_they_were(made: Recipe) -> None:
    before = AutoencoderKL.from_pretrained(made.cache / "vae")
    after = AutoencoderKL.from_pretrained(made.cache / "vae-decoder")
    pictures = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    same = before.encode(pictures).latent_dist.mode() == after.encode(pictures).latent_dist.mode()
    assert same.all()
    assert not torch.equal(before.decoder.conv_out.weight, after.decoder.conv_out.weight)
    assert before.config.scaling_factor == after.config.scaling_factor
