"""`perfusion prepare`: make this machine ready for a base model, and show that it works.

Everything that a worker needs is fetched into the caches that workers use, and estimated into the
data folder that they use. Running the command again does only what is still missing.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.base_model import ComputeOptions
from api.cli.errors import CommandError
from api.cli.options import with_groups
from api.cli.progress import loading_bar, progress_bar, shown_size
from perfusion_core.config import Positions
from perfusion_core.errors import PerfusionError
from service import log
from service.settings import environment
from service.settings.environment import Settings

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel
    from worker.models.phases import Report

_PROMPT = "a photo of a dog"
_STEPS = 8
_SEED = 1


@with_groups
def prepare(
    model: Annotated[
        str | None,
        typer.Argument(help="Folder, file or hub name. Default: PERFUSION_BASE_MODEL."),
    ] = None,
    evaluator: Annotated[
        str | None, typer.Option(help="CLIP model that judges. Default: PERFUSION_EVALUATOR.")
    ] = None,
    segmenter: Annotated[
        str | None, typer.Option(help="CLIPSeg that masks. Default: PERFUSION_SEGMENTER.")
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(help="Text file, one caption a line. Default: captions made by Perfusion."),
    ] = None,
    positions: Annotated[
        Positions | None, typer.Option(help="What counts in the covariance. Default: all.")
    ] = None,
    *,
    device: ComputeOptions,
) -> None:
    """Fetch a base model, its evaluator and segmenter; estimate its covariance; check an image."""
    if captions is not None and not captions.is_file():
        raise CommandError(f"There is no caption file {captions}.")
    given = {"base_model": model, "evaluator": evaluator, "segmenter": segmenter}
    chosen = environment.load()
    chosen = chosen.model_copy(update={name: value for name, value in given.items() if value})
    chosen = device.over(chosen)
    log.configure(chosen.model_copy(update={"log_level": "error"}), for_command=True)
    _Preparation(chosen, captions=captions, positions=positions).run()


@dataclass
class _Preparation:
    """One run of the command, which goes on with the other parts if a part fails."""

    settings: Settings
    captions: Path | None
    positions: Positions | None
    _problems: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Do all of it. Raises CommandError at the end if a part failed."""
        from worker.models import evaluators

        judge = evaluators.name_of(self.settings)
        masks = None if self.settings.segmenter == "none" else self.settings.segmenter
        self._tell_sizes({"evaluator": judge, "segmenter": masks})
        base = self._load()
        for name, value in base.describe().items():
            if isinstance(value, (str, int, float)):
                shown = f"{value:.4g}" if isinstance(value, float) else value
                typer.echo(f"{name.replace('_', ' ')}: {shown}")
        if judge is not None:
            self._attempt("evaluator", lambda: self._check_evaluator(base, judge))
        if masks is not None:
            self._attempt("segmenter", lambda: self._check_segmenter(base, masks))
        self._attempt("image", lambda: self._check_image(base))
        self._tell_memory(base)
        if self._problems:
            raise CommandError(
                f"Not ready: {', '.join(self._problems)} (see above). The rest is ready; run the "
                "command again to go on. --evaluator none and --segmenter none do without."
            )
        typer.echo(f"{self.settings.base_model} is ready.")

    def _attempt(self, part: str, act: Callable[[], str]) -> None:
        try:
            typer.echo(f"{part}: {act()}")
        except PerfusionError as error:
            typer.echo(f"{part}: failed. {error}", err=True)
            self._problems.append(part)

    def _tell_sizes(self, models: dict[str, str | None]) -> None:
        """Say what will be fetched; raise CommandError if the disk is too small for it."""
        from huggingface_hub import constants

        from perfusion_core.checkpoints.fetching import sizes_of_base_model
        from perfusion_core.hub import sizes_of

        sizes = {"base model": partial(sizes_of_base_model, self.settings.base_model)}
        sizes |= {role: partial(sizes_of, name, role=role) for role, name in models.items() if name}
        names = {"base model": self.settings.base_model, **models}
        missing_in_all = 0
        for role, name in names.items():
            try:
                total, missing = sizes[role]() if role in sizes else (0, 0)
            except PerfusionError as error:
                if role == "base model" and not isinstance(error.__cause__, OSError):
                    raise  # there is no such model, whatever else is to be fetched
                typer.echo(f"{role}: {name}, whose size is unknown", err=True)
                continue
            missing_in_all += missing
            to_fetch = f", {shown_size(missing)} of {shown_size(total)} to fetch" if missing else ""
            typer.echo(f"{role}: {name or 'none'}{to_fetch}", err=True)
        cache = Path(constants.HF_HUB_CACHE)
        folder = next(each for each in (cache, *cache.parents) if each.exists())
        free = shutil.disk_usage(folder).free
        if missing_in_all > free:
            raise CommandError(
                f"{shown_size(missing_in_all)} are to be fetched and {folder} has "
                f"{shown_size(free)} left: free some, or set HF_HOME to a larger disk."
            )

    def _load(self) -> "BaseModel":
        from worker.models import base_model

        with loading_bar() as report:
            if self.captions is None and self.positions is None:
                return base_model.load(self.settings, report=report)
            return base_model.load(
                self.settings, report=report, estimate=partial(self._estimate, report)
            )

    def _estimate(self, report: "Report", base: "BaseModel") -> None:
        """Estimate the covariance as asked, in place of the built-in way, and save it."""
        from perfusion_core.covariance.estimate import CAPTION_COUNT
        from worker.models import phases
        from worker.models.base_model import covariance_folder

        lines = None
        if self.captions is not None:
            text = self.captions.read_text(encoding="utf-8", errors="replace")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
        total = CAPTION_COUNT if lines is None else max(1, len(lines))
        base.estimate_covariance(
            lines,
            positions=self.positions or "all",
            progress=lambda captions: report(phases.estimating(captions, total)),
        )
        base.covariance.save(base.covariance_path(covariance_folder(self.settings)))

    def _check_evaluator(self, base: "BaseModel", name: str) -> str:
        from PIL import Image

        from perfusion_core.evaluators.similarity import Evaluator
        from worker.models import phases

        with loading_bar() as report:
            evaluator = Evaluator(
                name, device=base.placed.side_device, progress=phases.fetching("evaluator", report)
            )
        grey = evaluator.embed_images([Image.new("RGB", (64, 64), "grey")])
        cosine = float(grey @ evaluator.embed_texts(["a grey picture"]).T)
        _require(abs(cosine) <= 1, f"The evaluator {name!r} computes no finite vectors.")
        return f"{evaluator.ref.name} works"

    def _check_segmenter(self, base: "BaseModel", name: str) -> str:
        from PIL import Image

        from perfusion_core.hub import find_folder
        from perfusion_core.pictures.masks import Segmenter
        from worker.models import phases

        with loading_bar() as report:
            find_folder(name, role="segmenter", progress=phases.fetching("segmenter", report))
        Segmenter(name, device=base.placed.side_device)(Image.new("RGB", (64, 64), "grey"), "dog")
        return f"{name} works"

    def _check_image(self, base: "BaseModel") -> str:
        """Make one image in a few steps, and save it for a person to look at."""
        from perfusion_core.sampling.sampler import ImageRequest, decode, start, step

        config = base.defaults.generate_config({"seed": _SEED, "num_images": 1})
        steps = min(config.num_inference_steps, _STEPS)
        config = replace(config, num_inference_steps=steps)
        (trajectory,) = start(base, ImageRequest(prompt=_PROMPT, config=config))
        with progress_bar("Checking one image", total=trajectory.total_steps) as advance:
            while not trajectory.finished:
                step(base, [trajectory])
                advance(trajectory.step_index)
        image = decode(base, trajectory)  # raises ImageDiverged if it is not finite
        _require(
            image.getcolors(maxcolors=1) is None,
            "The image is of one colour: the checkpoint is damaged, or its precision too low "
            "(PERFUSION_DTYPE=float32 is the safest).",
        )
        file = Path(self.settings.data_dir) / f"prepared-{base.fingerprint[:8]}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)
        return f"{file}, {steps} steps of {_PROMPT!r}: look at it"

    def _tell_memory(self, base: "BaseModel") -> None:
        """Say what the parts need, and what is left on this device with them loaded."""
        from perfusion_core.memory import free_bytes

        needs, pixels = base.placed.needs, base.default_resolution**2
        parts = {
            "U-Net": needs.unet,
            "text encoders": needs.text,
            "VAE": needs.vae,
            "one image": needs.step(pixels) + needs.decoding(min(pixels, 512**2)),
            "training one picture": needs.training(pixels) + needs.text_graph,
            "the same, computing activations twice": needs.recomputing(pixels) + needs.text_graph,
        }
        typer.echo("memory, reckoned:")
        for part, size in parts.items():
            typer.echo(f"  {part}: {shown_size(size)}")
        free = free_bytes(base.device)
        where = f"{base.device} in {str(base.dtype).removeprefix('torch.')}"
        if free is None:
            typer.echo(f"device: {where}")
            return
        weights = 0 if base.placed.offload != "none" else needs.unet + needs.text + needs.vae
        fits = {
            "images": free > parts["one image"],
            "training": free > parts["the same, computing activations twice"],
        }
        cannot = [what for what, fit in fits.items() if not fit]
        typer.echo(
            f"device: {where}, {shown_size(free)} free next to {shown_size(weights)} of weights, "
            f"offloaded: {base.placed.offload}. "
            + (f"Too little for {' and '.join(cannot)}." if cannot else "Enough for both.")
        )


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise PerfusionError(sentence)
